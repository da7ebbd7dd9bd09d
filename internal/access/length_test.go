package access_test

import (
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	federationv1alpha1 "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/limit"
)

// TestLengths: attributes up to the bound are decided as any other, longer
// ones are denied at every door, whoever asks.
func TestLengths(t *testing.T) {
	t.Parallel()
	const reason = "an attribute of the request is too long"
	a := world{
		clusterRoles:        []*rbacv1.ClusterRole{clusterRole("all", rule("*", "*", "*"), paths("*", "*"))},
		clusterRoleBindings: []*rbacv1.ClusterRoleBinding{clusterBind("all", "Group:all")},
		sites:               []*federationv1alpha1.Site{siteObject("shared", federationv1alpha1.SiteFull, federationv1alpha1.SiteRBACShared)},
	}.authorizer(t)
	for _, tc := range []struct {
		name string
		set  func(who *access.Subject, q *authz.Request, text string)
	}{
		{"user", func(who *access.Subject, _ *authz.Request, text string) { who.Name = text }},
		{"group", func(who *access.Subject, _ *authz.Request, text string) { who.Groups = append(who.Groups, text) }},
		{"verb", func(_ *access.Subject, q *authz.Request, text string) { q.Verb = text }},
		{"API group", func(_ *access.Subject, q *authz.Request, text string) { q.APIGroup = text }},
		{"resource", func(_ *access.Subject, q *authz.Request, text string) { q.Resource = text }},
		{"subresource", func(_ *access.Subject, q *authz.Request, text string) { q.Subresource = text }},
		{"namespace", func(_ *access.Subject, q *authz.Request, text string) { q.Namespace = text }},
		{"name", func(_ *access.Subject, q *authz.Request, text string) { q.Name = text }},
		{"path", func(_ *access.Subject, q *authz.Request, text string) {
			*q = authz.Request{Verb: "get", Path: "/" + text[1:]}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, group := range []string{"all", access.SuperuserGroup} {
				for n, allowed := range map[int]bool{limit.Attribute: true, limit.Attribute + 1: false} {
					who, q := user("alice", group), ask("get core/pods ns/web")
					tc.set(&who, &q, strings.Repeat("x", n))
					d, err := a.Decide(t.Context(), who, q)
					if err != nil || d.Allowed() != allowed || d.Denied() == allowed || !allowed && d.Reason() != reason {
						t.Errorf("%d bytes as %s: allowed %v, denied %v because %q, error %v", n, group, d.Allowed(), d.Denied(), d.Reason(), err)
					}
				}
			}
			for n, allowed := range map[int]bool{limit.Attribute: true, limit.Attribute + 1: false} {
				who, q := user("alice", "all"), ask("get core/pods ns/web")
				tc.set(&who, &q, strings.Repeat("x", n))
				spec := sar(who.Name, who.Groups, "get core/pods ns/web")
				if q.ResourceRequest {
					*spec.ResourceAttributes = *sar("", nil, "get core/pods").ResourceAttributes
					r := spec.ResourceAttributes
					r.Verb, r.Group, r.Resource, r.Subresource, r.Namespace, r.Name = q.Verb, q.APIGroup, q.Resource, q.Subresource, q.Namespace, q.Name
				} else {
					spec = sar(who.Name, who.Groups, q.Verb+" "+q.Path)
				}
				d, err := a.DecideForSite(t.Context(), access.SiteView{Name: "shared"}, spec)
				if err != nil || d.Allowed() != allowed || d.Denied() == allowed {
					t.Errorf("%d bytes from a site: allowed %v, denied %v, error %v", n, d.Allowed(), d.Denied(), err)
				}
			}
		})
	}
}
