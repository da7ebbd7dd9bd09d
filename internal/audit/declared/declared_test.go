package declared_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/declared"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
)

func raise(name string, rules ...auditapi.PolicyRule) *auditapi.AuditPolicy {
	return &auditapi.AuditPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: auditapi.PolicySpec{Rules: rules}}
}

func TestPoliciesRaiseAndNeverLower(t *testing.T) {
	t.Parallel()
	base, err := policy.Parse([]byte(`{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [RequestReceived], rules: [
	  {level: None, users: [noisy]}, {level: Request, resources: [{group: "", resources: [pods]}]}, {level: Metadata}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r := declared.NewRaised(base, func(name string, err error) { t.Errorf("%s: %v", name, err) })
	pods := &policy.Request{HasUser: true, User: "jane", Verb: "get", Resource: true, Plural: "pods"}
	noisy := &policy.Request{HasUser: true, User: "noisy", Verb: "get", Resource: true, Plural: "leases"}
	expect := func(when string, q *policy.Request, level audit.Level) {
		t.Helper()
		if got := r.Evaluate(q).Level; got != level {
			t.Errorf("%s: %s of %s: level %s, want %s", when, q.Plural, q.User, got, level)
		}
	}
	expect("base", pods, audit.LevelRequest)
	expect("base", noisy, audit.LevelNone)

	none := raise("none", auditapi.PolicyRule{Level: "None"})
	r.Put(none)
	expect("None added", pods, audit.LevelRequest)
	lower := raise("lower", auditapi.PolicyRule{Level: "Metadata", OmitStages: []string{"ResponseComplete"}})
	r.Put(lower)
	expect("Metadata added", pods, audit.LevelRequest)
	expect("Metadata added", noisy, audit.LevelMetadata)
	if d := r.Evaluate(pods); !d.Records(audit.StageResponseComplete) {
		t.Error("a stage of the static policy was left out")
	}
	if d := r.Evaluate(pods); !d.Records(audit.StageRequestReceived) {
		t.Error("a stage was not added")
	}
	r.Put(raise("lower", auditapi.PolicyRule{Level: "RequestResponse", Users: []string{"jane"}}))
	expect("changed", pods, audit.LevelRequestResponse)
	expect("changed", noisy, audit.LevelNone)
	r.Delete(raise("lower"))
	expect("removed", pods, audit.LevelRequest)
	r.Replace([]*auditapi.AuditPolicy{raise("a", auditapi.PolicyRule{Level: "RequestResponse"})})
	expect("replaced", noisy, audit.LevelRequestResponse)
	r.Replace(nil)
	expect("all gone", noisy, audit.LevelNone)
}

func tenants() *declared.Tenants {
	t := declared.NewTenants()
	t.SetNamespace("a-web", "a")
	t.SetNamespace("a-db", "a")
	t.SetNamespace("b-web", "b")
	t.SetNamespace("plain", "")
	declared.Sites{Tenants: t}.Put(&federationapi.Site{
		ObjectMeta: metav1.ObjectMeta{Name: "blue"},
		Spec:       federationapi.SiteSpec{OwnerNamespace: "b-web", NamespaceMap: map[string]string{"shop": "a-web"}},
	})
	return t
}

func about(user, resource, namespace, name string) *audit.Event {
	return &audit.Event{User: audit.UserInfo{Username: user}, ObjectRef: &audit.ObjectReference{Resource: resource, Namespace: namespace, Name: name}}
}

// TestTenantsSeeTheirs is the table of who may see what. Its adversary is a
// namespace name that means one thing at a site and another here.
func TestTenantsSeeTheirs(t *testing.T) {
	t.Parallel()
	forged := about("eve", "pods", "b-web", "p")
	forged.Annotations = map[string]string{audit.AnnotationDomain: "a", audit.AnnotationNamespace: "a-web"}
	for name, c := range map[string]struct {
		site      string
		event     *audit.Event
		namespace string
		domain    string
	}{
		"own":                               {"", about("jane", "pods", "a-web", "p"), "a-web", "a"},
		"the other's":                       {"", about("jane", "pods", "b-web", "p"), "b-web", "b"},
		"without label":                     {"", about("jane", "pods", "plain", "p"), "plain", "default"},
		"cluster-wide list":                 {"", about("jane", "pods", "", ""), "", ""},
		"the namespace itself":              {"", about("jane", "namespaces", "", "a-db"), "a-db", "a"},
		"no object":                         {"", &audit.Event{User: audit.UserInfo{Username: "jane"}}, "", ""},
		"unknown namespace":                 {"", about("jane", "pods", "gone", "p"), "gone", ""},
		"mapped at a site":                  {"blue", about("kim", "pods", "shop", "p"), "a-web", "a"},
		"same name as ours, at a site":      {"blue", about("kim", "pods", "a-db", "p"), "b-web", "b"},
		"cluster-scoped at a site":          {"blue", about("kim", "nodes", "", "n"), "b-web", "b"},
		"no object at a site":               {"blue", &audit.Event{}, "b-web", "b"},
		"unknown site":                      {"red", about("kim", "pods", "a-web", "p"), "", ""},
		"question of a site":                {"", about("system:site:blue", "pods", "a-db", "p"), "b-web", "b"},
		"mapped question of a site":         {"", about("system:site:blue", "pods", "shop", "p"), "a-web", "a"},
		"forged when it was to be recorded": {"", forged, "b-web", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			track := tenants()
			e := *c.event
			track.Attribute(c.site, &e)
			if namespace, domain := track.Of(c.site, &e); namespace != c.namespace || domain != c.domain {
				t.Errorf("recorded as %q of %q, want %q of %q", namespace, domain, c.namespace, c.domain)
			}
			for _, d := range []string{"a", "b", "default"} {
				if got := track.Allow(declared.Scope{Domain: d})(c.site, &e); got != (d == c.domain) {
					t.Errorf("domain %s sees it: %v", d, got)
				}
			}
			for _, n := range []string{"a-web", "a-db", "b-web", "plain", ""} {
				if got := track.Allow(declared.Scope{Namespaces: []string{n}})(c.site, &e); got != (n != "" && n == c.namespace) {
					t.Errorf("namespace %q sees it: %v", n, got)
				}
			}
		})
	}
}

// What was recorded of a namespace stays its domain's when it goes or changes
// hands; what was recorded before it was known is the present domain's.
func TestRecordedDomainStays(t *testing.T) {
	t.Parallel()
	track := tenants()
	e, early := about("jane", "pods", "a-web", "p"), about("jane", "namespaces", "", "new")
	track.Attribute("", e)
	track.Attribute("", early)
	track.SetNamespace("a-web", "b")
	track.SetNamespace("new", "a")
	if _, domain := track.Of("", e); domain != "a" {
		t.Errorf("after a change of hands it belongs to %q", domain)
	}
	track.KeepNamespaces(map[string]bool{"new": true})
	if _, domain := track.Of("", e); domain != "a" {
		t.Errorf("after the namespace went it belongs to %q", domain)
	}
	if _, domain := track.Of("", early); domain != "a" {
		t.Errorf("the birth of a namespace belongs to %q", domain)
	}
	if got := (declared.ScopeOf(&auditapi.AuditSinkSpec{Scope: &auditapi.SinkScope{Domain: "a"}})); got == nil || got.Domain != "a" {
		t.Errorf("scope %+v", got)
	}
}

func TestAttributeLeavesTheCallersEventAlone(t *testing.T) {
	t.Parallel()
	track := tenants()
	e := about("jane", "pods", "a-web", "p")
	e.Annotations = map[string]string{"k": "v"}
	copied := *e
	track.Attribute("", &copied)
	if len(e.Annotations) != 1 || copied.Annotations[audit.AnnotationDomain] != "a" || copied.Annotations["k"] != "v" {
		t.Errorf("caller's %v, recorded %v", e.Annotations, copied.Annotations)
	}
}
