package authz

import (
	"strings"
	"time"
)

// Request is one question: may this caller do this. It is read, never kept or
// changed. All fields are compared byte by byte.
type Request struct {
	// User is the caller's name as authentication established it.
	User string
	// Groups are the caller's groups. Order does not influence the decision.
	Groups []string

	// ResourceRequest chooses which of the following fields count: the
	// resource fields when true, Path when false. Verb counts always.
	ResourceRequest bool
	Verb            string

	APIGroup    string
	Resource    string
	Subresource string
	// Namespace is empty for cluster-scoped resources and for questions over
	// all namespaces; only cluster bindings answer those.
	Namespace string
	// Name is empty for requests that name no object, such as list and create.
	Name string

	// Path is the URL path of a request that is about no resource.
	Path string

	// Site is the connected platform that asks, empty for the control plane
	// itself. The names of a site's question must be passed as the site sent
	// them: the engine alone decides which of them may mean a subject of the
	// control plane (see [Snapshot.Decide]).
	Site string

	// The fields below are read by bans and access policies only.

	// ClusterScoped says that the resource is known to be in no namespace. A
	// request without a namespace is otherwise taken to be over all of them,
	// which touches denials for any.
	ClusterScoped bool
	// CredentialID names the credential the caller used, "JTI=…" or
	// "X509SHA256=…"; empty when there is none.
	CredentialID string
	// Origins names the credentials with which that one was made; a ban on one
	// of them counts as one on it.
	Origins []string
	// Time is when the question is asked. The zero time is unknown: policies
	// with a period then deny, and do not allow.
	Time time.Time
	// LabelSelector and FieldSelector are the request's selectors, all of
	// which must hold; nil selects everything.
	LabelSelector, FieldSelector []Requirement
	// UID and Extra are what authentication says of the caller beyond its
	// names, for conditions.
	UID   string
	Extra map[string][]string
	// Object and OldObject are the object as it would become and as it is, in
	// their JSON form; nil when there is none or it is not known yet.
	Object, OldObject map[string]any
	// ObjectLater promises that the question is asked again with the object
	// before anything happens, by an admission step that refuses when it
	// cannot ask. Conditions on the object then wait for that question. Without
	// the promise they grant nothing, and deny.
	ObjectLater bool
}

const (
	systemPrefix         = "system:"
	serviceAccountPrefix = "system:serviceaccount:"
	serviceAccountsGroup = "system:serviceaccounts"
	authenticatedGroup   = "system:authenticated"
	sitePrefix           = "gatehouse:"
)

// isBootstrapName tells whether an object of this name is reserved to the
// control plane itself.
func isBootstrapName(name string) bool { return strings.HasPrefix(name, systemPrefix) }

// controlPlaneUser maps a user name of a site's question to the control-plane
// subject it may stand for. A site's own service accounts, nodes and other
// system: names stand for none.
func controlPlaneUser(name string) (string, bool) {
	if rest, ok := strings.CutPrefix(name, sitePrefix); ok && strings.HasPrefix(rest, serviceAccountPrefix) {
		return rest, true
	}
	return name, !strings.HasPrefix(name, systemPrefix)
}

// controlPlaneGroup is controlPlaneUser for a group.
func controlPlaneGroup(name string) (string, bool) {
	if rest, ok := strings.CutPrefix(name, sitePrefix); ok {
		if tail, ok := strings.CutPrefix(rest, serviceAccountsGroup); ok && (tail == "" || tail[0] == ':') {
			return rest, true
		}
	}
	return name, name == authenticatedGroup || !strings.HasPrefix(name, systemPrefix)
}
