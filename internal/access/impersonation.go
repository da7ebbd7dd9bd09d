package access

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const (
	impersonate         = "impersonate"
	authenticationGroup = "authentication.k8s.io"
	serviceAccountUser  = "system:serviceaccount:"
)

// CheckImpersonation refuses, with an error of kind Denied, a requester who
// may not act under every name of target: its user (or service account), each
// of its groups, its UID and each value of its extra, with the verb
// impersonate on each. target holds what the requester asked for, without
// groups that follow from the user name.
//
// It is for what lasts, a credential or a grant in the name of target, so that
// what was only delegated to the requester does not count: that ends.
//
// Names of sites are refused to everybody, superusers included: a site is
// recognised by its certificate and by nothing else. A target without a user
// name is invalid.
func (a *Authorizer) CheckImpersonation(_ context.Context, requester, target Subject) error {
	if target.Name == "" {
		return fault.New(fault.Invalid, "groups, UID and extra cannot be impersonated without a user")
	}
	if sitename.Reserved(target.Name) || slices.ContainsFunc(target.Groups, sitename.Reserved) {
		return fault.New(fault.Denied, reservedNameReason)
	}
	if err := a.Ready(); err != nil {
		return err
	}
	snapshot := a.config.Policy.Snapshot()
	for _, q := range impersonationRequests(&target) {
		q.Time = a.config.Now()
		if d := decide(snapshot, &requester, q); d.Allowed() && len(d.Delegations()) == 0 {
			continue
		}
		what := q.Resource
		if q.Subresource != "" {
			what += "/" + q.Subresource
		}
		return fault.Newf(fault.Denied, "user %q cannot impersonate resource %q in API group %q, name %q, namespace %q",
			requester.Name, what, q.APIGroup, q.Name, q.Namespace)
	}
	return nil
}

func impersonationRequests(target *Subject) []authz.Request {
	ask := func(group, resource, subresource, namespace, name string) authz.Request {
		return authz.Request{Verb: impersonate, ResourceRequest: true,
			APIGroup: group, Resource: resource, Subresource: subresource, Namespace: namespace, Name: name}
	}
	var requests []authz.Request
	if namespace, name, ok := splitServiceAccount(target.Name); ok {
		requests = append(requests, ask("", "serviceaccounts", "", namespace, name))
	} else {
		requests = append(requests, ask("", "users", "", "", target.Name))
	}
	for _, group := range target.Groups {
		requests = append(requests, ask("", "groups", "", "", group))
	}
	for _, k := range slices.Sorted(maps.Keys(target.Extra)) {
		for _, value := range target.Extra[k] {
			requests = append(requests, ask(authenticationGroup, "userextras", k, "", value))
		}
	}
	if target.UID != "" {
		requests = append(requests, ask(authenticationGroup, "uids", "", "", target.UID))
	}
	return requests
}

// splitServiceAccount reads the user name of a service account. Anything that
// is not in its grammar is a user, so that a permission on service accounts
// of one namespace cannot be stretched by a crafted name.
func splitServiceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, serviceAccountUser)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	if !ok || !sitename.IsServiceAccount(user) {
		return "", "", false
	}
	return namespace, name, true
}
