package access

import (
	"context"
	"slices"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/limit"
	"github.com/gatehouse-dev/gatehouse/internal/access/selector"
	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
)

// SiteView is a site as its certificate and its Site object establish it,
// never as a question claims.
type SiteView struct {
	// Name is that of the Site object. The site must have been fed to the
	// policy; what its spec shares is read there.
	Name string
}

// DecideForSite answers a site's question about a caller at that site.
//
// What grants at a site: its own policies, and, where the Site says so, the
// RBAC objects of the control plane, read as if the site's namespaces were
// the control plane's namespaces of the same names. Roles and bindings named
// system:, bindings labelled as bootstrap and the binding cluster-admin are
// left out; the roles admin, edit, view and cluster-admin answer wherever
// somebody bound them on purpose.
//
// Of the caller's names only those count that the control plane could have
// told the site (see package sitename). No group makes a superuser, UID and
// extra give no right of their own, though a ban finds a credential by its id there, and a question that names neither or both kinds of
// attributes is answered with no opinion. A deny is looked for under all
// names of the question, because a name that we did not give must not help to
// escape one.
func (a *Authorizer) DecideForSite(_ context.Context, site SiteView, spec *authorizationv1.SubjectAccessReviewSpec) (Decision, error) {
	if err := a.Ready(); err != nil {
		return Decision{}, err
	}
	return ReviewAtSite(a.config.Policy.Snapshot(), site.Name, spec, a.config.Now()), nil
}

// ReviewAtSite is [Authorizer.DecideForSite] on one state of the policy, which
// may be the part of it that was restricted to the site: a local decision
// point decides by the same lines.
func ReviewAtSite(snapshot *authz.Snapshot, site string, spec *authorizationv1.SubjectAccessReviewSpec, now time.Time) Decision {
	q, ok := RequestFrom(spec.ResourceAttributes, spec.NonResourceAttributes)
	if !ok {
		return Decision{}
	}
	q.User, q.Groups, q.UID, q.Extra, q.Site, q.Time = spec.User, spec.Groups, spec.UID, extraOf(spec.Extra), site, now
	return DecideAtSite(snapshot, &q)
}

// DecideAtSite decides a question of a site, all of which is read; q is not
// kept, and its groups are not changed.
func DecideAtSite(snapshot *authz.Snapshot, q *authz.Request) Decision {
	if q.Site == "" || q.User == "" && len(q.Groups) == 0 {
		return Decision{}
	}
	if limit.Check(q) != nil {
		return Decision{ruling: byLength}
	}
	d := ask(snapshot, q)
	if d.Effect() != authz.Allow {
		return Decision{engine: d}
	}
	_, known := sitename.Incoming(q.User, nil)
	if _, byBinding := d.Grant(); !known && (byBinding || len(d.Delegations()) > 0) {
		// The caller is the site's own; that it shares a group with people of
		// the control plane, system:authenticated for one, gives it nothing.
		return Decision{}
	}
	for _, group := range q.Groups {
		if sitename.Forged(q.User, group) {
			less := *q
			less.Groups = slices.DeleteFunc(slices.Clone(q.Groups), func(group string) bool { return sitename.Forged(q.User, group) })
			d = ask(snapshot, &less)
			break
		}
	}
	return Decision{engine: d}
}

// BannedAtSite reports whether a ban holds for a subject at a site, by the
// names that the site knows; see [Authorizer.Banned].
func BannedAtSite(snapshot *authz.Snapshot, site string, subject Subject, now time.Time) (reason string, banned bool) {
	// A question about nothing: only bans look at the caller alone.
	d := ask(snapshot, &authz.Request{User: subject.Name, Groups: subject.Groups, UID: subject.UID, Extra: subject.Extra, Site: site, Time: now})
	if _, ok := d.Ban(); !ok {
		return "", false
	}
	return d.Reason(), true
}

// CheckLength refuses a question with an attribute that is too long; see package
// limit.
func CheckLength(spec *authorizationv1.SubjectAccessReviewSpec) error {
	q, ok := RequestFrom(spec.ResourceAttributes, spec.NonResourceAttributes)
	if !ok {
		return nil
	}
	q.User, q.Groups, q.UID, q.Extra = spec.User, spec.Groups, spec.UID, extraOf(spec.Extra)
	return limit.Check(&q)
}

func extraOf(extra map[string]authorizationv1.ExtraValue) map[string][]string {
	if len(extra) == 0 {
		return nil
	}
	out := make(map[string][]string, len(extra))
	for k, v := range extra {
		out[k] = v
	}
	return out
}

// RequestFrom translates the attributes of a review; exactly one must be
// given. The API version does not influence decisions and is dropped.
func RequestFrom(resource *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) (q authz.Request, ok bool) {
	switch {
	case resource != nil && path == nil:
		q = authz.Request{
			ResourceRequest: true,
			Verb:            resource.Verb,
			APIGroup:        resource.Group,
			Resource:        resource.Resource,
			Subresource:     resource.Subresource,
			Namespace:       resource.Namespace,
			Name:            resource.Name,
		}
		if resource.FieldSelector != nil || resource.LabelSelector != nil {
			s := selector.Parse(resource)
			q.FieldSelector, q.LabelSelector = selector.Fields(s.Fields), selector.Labels(s.Labels)
		}
		return q, true
	case path != nil && resource == nil:
		return authz.Request{Verb: path.Verb, Path: path.Path}, true
	default:
		return authz.Request{}, false
	}
}
