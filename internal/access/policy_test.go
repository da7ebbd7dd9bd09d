package access_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	federationv1alpha1 "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// world is a policy from lists.
type world struct {
	roles               []*rbacv1.Role
	clusterRoles        []*rbacv1.ClusterRole
	roleBindings        []*rbacv1.RoleBinding
	clusterRoleBindings []*rbacv1.ClusterRoleBinding
	sites               []*federationv1alpha1.Site
}

func (w world) policy() *access.Policy {
	p := access.NewPolicy()
	p.Roles.Replace(w.roles)
	p.ClusterRoles.Replace(w.clusterRoles)
	p.RoleBindings.Replace(w.roleBindings)
	p.ClusterRoleBindings.Replace(w.clusterRoleBindings)
	p.Sites.Replace(w.sites)
	return p
}

func (w world) authorizer(t testing.TB) *access.Authorizer {
	t.Helper()
	a, err := access.New(access.Config{Policy: w.policy()})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func rule(verbs, groups, resources string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: strings.Split(verbs, ","), APIGroups: strings.Split(groups, ","), Resources: strings.Split(resources, ",")}
}

func named(r rbacv1.PolicyRule, names ...string) rbacv1.PolicyRule {
	r.ResourceNames = names
	return r
}

func paths(verb string, urls ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: urls}
}

func role(namespace, name string, rules ...rbacv1.PolicyRule) *rbacv1.Role {
	return &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Rules: rules}
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
}

// subjects reads "User:alice", "Group:dev" and "ServiceAccount:ns/name".
func subjects(list []string) []rbacv1.Subject {
	var out []rbacv1.Subject
	for _, s := range list {
		kind, name, _ := strings.Cut(s, ":")
		subject := rbacv1.Subject{Kind: kind, Name: name, APIGroup: rbacv1.GroupName}
		if kind == rbacv1.ServiceAccountKind {
			subject.APIGroup = ""
			subject.Namespace, subject.Name, _ = strings.Cut(name, "/")
		}
		out = append(out, subject)
	}
	return out
}

// bind names the binding after its role; ref is "Role/x" or "ClusterRole/x".
func bind(namespace, ref string, to ...string) *rbacv1.RoleBinding {
	kind, name, _ := strings.Cut(ref, "/")
	return &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}, Subjects: subjects(to)}
}

func clusterBind(name string, to ...string) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}, Subjects: subjects(to)}
}

func user(name string, groups ...string) access.Subject {
	return access.Subject{Name: name, Groups: groups}
}

// ask reads "verb group/resource[/sub] [namespace[/name]]", where the group core
// is the one without a name, or "verb /path".
func ask(q string) authz.Request {
	f := append(strings.Fields(q), "")
	if strings.HasPrefix(f[1], "/") {
		return authz.Request{Verb: f[0], Path: f[1]}
	}
	r := authz.Request{Verb: f[0], ResourceRequest: true}
	r.APIGroup, r.Resource, _ = strings.Cut(f[1], "/")
	if r.APIGroup == "core" {
		r.APIGroup = ""
	}
	r.Resource, r.Subresource, _ = strings.Cut(r.Resource, "/")
	r.Namespace, r.Name, _ = strings.Cut(f[2], "/")
	return r
}

func mustDecide(t testing.TB, a *access.Authorizer, who access.Subject, q string) access.Decision {
	t.Helper()
	d, err := a.Decide(t.Context(), who, ask(q))
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return d
}

func TestPolicyRefusesUntilEverythingIsListed(t *testing.T) {
	t.Parallel()
	p := access.NewPolicy()
	a, err := access.New(access.Config{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	master := user("root", "system:masters")
	for _, step := range []struct {
		missing string
		list    func()
	}{
		{"clusterrolebindings, clusterroles, rolebindings, roles, sites", func() { p.ClusterRoles.Replace(nil) }},
		{"clusterrolebindings, rolebindings, roles, sites", func() { p.Roles.Replace(nil) }},
		{"clusterrolebindings, rolebindings, sites", func() { p.RoleBindings.Replace(nil) }},
		{"clusterrolebindings, sites", func() {
			p.Sites.Put(&federationv1alpha1.Site{ObjectMeta: metav1.ObjectMeta{Name: "s"}})
			p.Sites.Replace(nil)
		}},
		{"clusterrolebindings", func() { p.ClusterRoleBindings.Replace(nil) }},
	} {
		d, err := a.Decide(t.Context(), master, ask("get core/pods ns"))
		if fault.KindOf(err) != fault.Unavailable || d.Allowed() {
			t.Fatalf("decided %v, error %v", d.Allowed(), err)
		}
		if want := "access policy is not loaded yet: waiting for " + step.missing; fault.Public(err) != want {
			t.Errorf("got %q, want %q", fault.Public(err), want)
		}
		if _, _, err := a.Rules(t.Context(), master, "ns"); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("rules: %v", err)
		}
		if err := a.CheckImpersonation(t.Context(), master, user("x")); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("impersonation: %v", err)
		}
		if _, err := a.DecideForSite(t.Context(), access.SiteView{Name: "s"}, sar("alice", nil, "get core/pods ns")); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("site: %v", err)
		}
		if err := (access.Checks{Access: a}).ClusterRole(t.Context(), master, clusterRole("x"), nil); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("check: %v", err)
		}
		step.list()
	}
	if !mustDecide(t, a, master, "get core/pods ns").Allowed() {
		t.Error("refused although everything is listed")
	}
}

func TestStalePolicyDecidesNothing(t *testing.T) {
	t.Parallel()
	stale := fault.New(fault.Unavailable, "no news from storage for 6s")
	a, err := access.New(access.Config{Policy: world{}.policy(), Fresh: func() error { return stale }})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := a.Decide(t.Context(), user("root", "system:masters"), ask("get core/pods ns")); !errors.Is(err, stale) || d.Allowed() {
		t.Errorf("decided %v, error %v", d.Allowed(), err)
	}
}

func TestFeedFollowsChanges(t *testing.T) {
	t.Parallel()
	read := rule("get", "", "pods")
	w := world{
		roles:        []*rbacv1.Role{role("ns", "reader", read), role("other", "reader", read)},
		clusterRoles: []*rbacv1.ClusterRole{clusterRole("reader", read)},
	}
	p := w.policy()
	a, err := access.New(access.Config{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	alice := user("alice")
	expect := func(step string, want bool) {
		t.Helper()
		if got := mustDecide(t, a, alice, "get core/pods ns").Allowed(); got != want {
			t.Fatalf("%s: allowed %v", step, got)
		}
	}
	expect("no binding", false)
	p.RoleBindings.Put(bind("ns", "Role/reader", "User:alice"))
	expect("bound", true)
	p.RoleBindings.Put(bind("ns", "Role/reader", "User:bob"))
	expect("bound to another", false)
	p.RoleBindings.Put(bind("ns", "Role/reader", "User:alice"))
	p.Roles.Delete(role("ns", "reader"))
	expect("role deleted", false)
	p.Roles.Put(role("ns", "reader", rule("list", "", "pods")))
	expect("role with other rules", false)
	p.Roles.Put(role("ns", "reader", read))
	expect("role back", true)
	p.RoleBindings.Replace([]*rbacv1.RoleBinding{bind("other", "Role/reader", "User:alice")})
	expect("binding gone in a new list", false)
	p.ClusterRoleBindings.Put(clusterBind("reader", "User:alice"))
	expect("bound everywhere", true)
	p.Roles.Replace(nil)
	expect("a list of roles leaves cluster roles alone", true)
	p.ClusterRoles.Replace(nil)
	expect("cluster role gone in a new list", false)
	p.ClusterRoles.Replace([]*rbacv1.ClusterRole{clusterRole("reader", read)})
	expect("cluster role back", true)
	p.ClusterRoleBindings.Delete(clusterBind("reader"))
	expect("binding deleted", false)
	p.ClusterRoleBindings.Delete(clusterBind("reader"))
	expect("binding deleted twice", false)
}

// A reader sees the whole of a change or nothing: alice always has exactly one
// of two bindings.
func TestReplaceIsAtomic(t *testing.T) {
	t.Parallel()
	w := world{clusterRoles: []*rbacv1.ClusterRole{clusterRole("a", rule("get", "", "pods")), clusterRole("b", rule("get", "", "pods"))},
		clusterRoleBindings: []*rbacv1.ClusterRoleBinding{clusterBind("a", "User:alice")}}
	p := w.policy()
	a, err := access.New(access.Config{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if d, err := a.Decide(t.Context(), user("alice"), ask("get core/pods ns")); err != nil || !d.Allowed() {
					t.Errorf("saw half a change: %v", err)
					return
				}
			}
		})
	}
	for i := range 200 {
		p.ClusterRoleBindings.Replace([]*rbacv1.ClusterRoleBinding{clusterBind([]string{"b", "a"}[i%2], "User:alice")})
	}
	close(stop)
	readers.Wait()
}

func TestNewNeedsAPolicy(t *testing.T) {
	t.Parallel()
	if _, err := access.New(access.Config{}); err == nil {
		t.Error("an authorizer without a policy was made")
	}
}

// TestDecide holds cases of the upstream RBAC authorizer.
func TestDecide(t *testing.T) {
	t.Parallel()
	everything := rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}, NonResourceURLs: []string{"*"}}
	for i, tc := range []struct {
		world
		pass, fail map[string][]string // "user[,group...]" -> questions
	}{
		{
			world: world{
				clusterRoles: []*rbacv1.ClusterRole{clusterRole("admin", everything)},
				roleBindings: []*rbacv1.RoleBinding{bind("ns1", "ClusterRole/admin", "User:admin", "Group:admins")},
			},
			pass: map[string][]string{
				"admin":             {"get core/Pods ns1", "watch core/Pods ns1"},
				"admin,group1":      {"watch core/Foobar ns1"},
				"joe,admins":        {"watch core/Foobar ns1"},
				"joe,group1,admins": {"watch core/Foobar ns1"},
			},
			fail: map[string][]string{
				"admin":        {"GET core/Pods ns2", "GET core/Nodes", "get /version"},
				"admin,admins": {"GET core/Pods ns2", "GET core/Nodes"},
				"joe":          {"watch core/Foobar ns1"},
				"admins":       {"watch core/Foobar ns1"},
			},
		},
		{
			world: world{
				clusterRoles: []*rbacv1.ClusterRole{
					clusterRole("getter", paths("get", "/apis")), clusterRole("all", paths("*", "/apis")), clusterRole("prefix", paths("get", "/apis/*")),
				},
				clusterRoleBindings: []*rbacv1.ClusterRoleBinding{
					clusterBind("getter", "User:foo", "Group:bar"), clusterBind("all", "User:admin", "Group:admin"), clusterBind("prefix", "User:prefixed", "Group:prefixed"),
				},
			},
			pass: map[string][]string{
				"foo": {"get /apis"}, ",bar": {"get /apis"}, "admin": {"get /apis", "watch /apis"}, ",admin": {"get /apis", "watch /apis"},
				"prefixed": {"get /apis/v1", "get /apis/v1/foobar"}, ",prefixed": {"get /apis/v1", "get /apis/v1/foobar"},
			},
			fail: map[string][]string{
				"foo": {"watch /apis", "get /api/v1"}, ",bar": {"watch /apis", "get /api/v1"}, "admin": {"get /api/v1"},
				"prefixed": {"get /api/v1", "get /apis"}, ",prefixed": {"get /api/v1"},
			},
		},
		{
			world: world{
				clusterRoles: []*rbacv1.ClusterRole{clusterRole("admin", rule("*", "*", "pods"))},
				roleBindings: []*rbacv1.RoleBinding{bind("ns1", "ClusterRole/admin", "User:admin")},
			},
			pass: map[string][]string{"admin": {"get core/pods ns1"}},
			fail: map[string][]string{"admin": {"get core/pods/status ns1"}},
		},
		{
			world: world{
				clusterRoles: []*rbacv1.ClusterRole{clusterRole("admin", rule("*", "*", "pods/status"), rule("*", "*", "*/scale"))},
				roleBindings: []*rbacv1.RoleBinding{bind("ns1", "ClusterRole/admin", "User:admin")},
			},
			pass: map[string][]string{"admin": {"get core/pods/status ns1", "get core/pods/scale ns1", "get apps/deployments/scale ns1", "get core/anything/scale ns1"}},
			fail: map[string][]string{"admin": {"get core/pods ns1", "get core/pods/log ns1"}},
		},
		{
			world: world{
				clusterRoles: []*rbacv1.ClusterRole{clusterRole("one", named(rule("get,list", "", "configmaps"), "settings"))},
				roleBindings: []*rbacv1.RoleBinding{bind("ns1", "ClusterRole/one", "ServiceAccount:ns1/robot", "ServiceAccount:/local")},
			},
			pass: map[string][]string{
				"system:serviceaccount:ns1:robot": {"get core/configmaps ns1/settings"},
				"system:serviceaccount:ns1:local": {"get core/configmaps ns1/settings"},
			},
			fail: map[string][]string{
				"system:serviceaccount:ns1:robot": {"get core/configmaps ns1/other", "list core/configmaps ns1", "update core/configmaps ns1/settings"},
				"system:serviceaccount:ns2:robot": {"get core/configmaps ns1/settings"},
				"system:serviceaccount:ns2:local": {"get core/configmaps ns1/settings"},
			},
		},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			a := tc.authorizer(t)
			for want, cases := range map[bool]map[string][]string{true: tc.pass, false: tc.fail} {
				for who, questions := range cases {
					f := strings.Split(who, ",")
					for _, q := range questions {
						d := mustDecide(t, a, user(f[0], f[1:]...), q)
						if d.Allowed() != want || d.Denied() || (d.Reason() == "") == want {
							t.Errorf("%q asks %q: allowed %v denied %v because %q", who, q, d.Allowed(), d.Denied(), d.Reason())
						}
					}
				}
			}
		})
	}
}

func TestDecideNamesItsReason(t *testing.T) {
	t.Parallel()
	a := world{
		clusterRoles: []*rbacv1.ClusterRole{clusterRole("reader", rule("get", "", "pods"))},
		roleBindings: []*rbacv1.RoleBinding{bind("ns", "ClusterRole/reader", "Group:dev")},
	}.authorizer(t)
	d := mustDecide(t, a, user("alice", "dev"), "get core/pods ns")
	if want := `RBAC: allowed by RoleBinding "reader/ns" of ClusterRole "reader" to Group "dev"`; d.Reason() != want {
		t.Errorf("got %q, want %q", d.Reason(), want)
	}
	if g, ok := d.Grant(); !ok || g.Name != "reader" || g.Namespace != "ns" {
		t.Errorf("grant %+v %v", g, ok)
	}
	d = mustDecide(t, a, user("root", "system:masters"), "escalate core/everything")
	if !d.Allowed() || d.Reason() != `allowed to members of group "system:masters"` {
		t.Errorf("superuser: %v because %q", d.Allowed(), d.Reason())
	}
	if _, ok := d.Grant(); ok {
		t.Error("a superuser needs no binding, but one is named")
	}
	if d := mustDecide(t, a, user("system:masters", "masters", "system:masters "), "get core/pods ns"); d.Allowed() {
		t.Error("a name that only looks like the group is a superuser")
	}
}

// The caller's own words about user, groups and site must not count.
func TestDecideTakesTheSubjectOnly(t *testing.T) {
	t.Parallel()
	a := world{
		clusterRoles:        []*rbacv1.ClusterRole{clusterRole("reader", rule("get", "", "pods"))},
		clusterRoleBindings: []*rbacv1.ClusterRoleBinding{clusterBind("reader", "User:alice", "Group:dev")},
	}.authorizer(t)
	q := ask("get core/pods ns")
	q.User, q.Groups = "alice", []string{"dev", "system:masters"}
	if d, err := a.Decide(t.Context(), user("mallory"), q); err != nil || d.Allowed() {
		t.Errorf("mallory: %v %v", d.Allowed(), err)
	}
	q.Site = "s"
	if d, err := a.Decide(t.Context(), user("alice"), q); err != nil || !d.Allowed() {
		t.Errorf("alice: %v %v", d.Allowed(), err)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	pods, services := rule("GET,WATCH", "v1", "pods"), rule("GET,WATCH", "v1", "services")
	a := world{
		roles:        []*rbacv1.Role{role("namespace1", "readthings", pods, services)},
		clusterRoles: []*rbacv1.ClusterRole{clusterRole("cluster-admin", rule("*", "*", "*"))},
		roleBindings: []*rbacv1.RoleBinding{bind("namespace1", "Role/readthings", "User:foobar", "Group:group1"),
			bind("namespace1", "Role/absent", "User:foobar")},
		clusterRoleBindings: []*rbacv1.ClusterRoleBinding{clusterBind("cluster-admin", "User:admin", "Group:admin")},
	}.authorizer(t)
	for _, tc := range []struct {
		who       access.Subject
		namespace string
		want      string
		missing   string
	}{
		{user("foobar"), "namespace1", "[{[GET WATCH] [v1] [pods] [] []} {[GET WATCH] [v1] [services] [] []}]", `roles.rbac.authorization.k8s.io "absent" not found`},
		{user("foobar"), "namespace2", "[]", "[]"},
		{user("foobar", "admin"), "", "[{[*] [*] [*] [] []}]", "[]"},
		{user(""), "namespace1", "[]", "[]"},
		{user("x", "system:masters"), "namespace1", "[{[*] [*] [*] [] []} {[*] [] [] [] [*]}]", "[]"},
	} {
		rules, missing, err := a.Rules(t.Context(), tc.who, tc.namespace)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(rules); got != tc.want {
			t.Errorf("%v in %q: got %s, want %s", tc.who, tc.namespace, got, tc.want)
		}
		if got := access.MissingRoles(missing); got != tc.missing {
			t.Errorf("%v in %q: missing %s, want %s", tc.who, tc.namespace, got, tc.missing)
		}
	}
}

func TestWhoCan(t *testing.T) {
	t.Parallel()
	a := world{
		clusterRoles: []*rbacv1.ClusterRole{
			clusterRole("reader", rule("get", "", "pods")),
			clusterRole("one", named(rule("get", "", "pods"), "web")),
			clusterRole("impersonator", rule("impersonate", "", "users")),
		},
		clusterRoleBindings: []*rbacv1.ClusterRoleBinding{clusterBind("reader", "User:alice", "Group:dev"), clusterBind("impersonator", "User:alice")},
		roleBindings:        []*rbacv1.RoleBinding{bind("ns", "ClusterRole/one", "ServiceAccount:ns/robot"), bind("other", "ClusterRole/reader", "User:bob")},
	}.authorizer(t)
	for q, want := range map[string]string{
		"get core/pods ns/web":                       "[Group system:masters Group dev ServiceAccount ns/robot User alice]",
		"get core/pods ns/db":                        "[Group system:masters Group dev User alice]",
		"get core/pods ns":                           "[Group system:masters Group dev ServiceAccount ns/robot [web] User alice]",
		"delete core/pods ns":                        "[Group system:masters]",
		"impersonate core/users /bob":                "[Group system:masters User alice]",
		"impersonate core/users /system:site:munich": "[]",
	} {
		holders, err := a.WhoCan(t.Context(), ask(q))
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, h := range holders {
			text := string(h.Subject.Kind) + " " + strings.TrimPrefix(h.Subject.Namespace+"/"+h.Subject.Name, "/")
			if len(h.ResourceNames) > 0 {
				text += fmt.Sprint(" ", h.ResourceNames)
			}
			got = append(got, text)
		}
		if len(got) > 1 {
			slices.Sort(got[1:])
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s: got %v, want %s", q, got, want)
		}
	}
}

func TestUnresolved(t *testing.T) {
	t.Parallel()
	w := world{
		clusterRoles: []*rbacv1.ClusterRole{clusterRole("reader", rule("get", "", "pods"))},
		roleBindings: []*rbacv1.RoleBinding{bind("ns", "ClusterRole/reader", "User:alice"), bind("ns", "Role/gone", "User:alice")},
	}
	p := w.policy()
	a, err := access.New(access.Config{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	for who, want := range map[string]string{"alice": `roles.rbac.authorization.k8s.io "gone" not found`, "bob": "[]"} {
		missing, err := a.Unresolved(t.Context(), user(who), "ns")
		if got := access.MissingRoles(missing); err != nil || got != want {
			t.Errorf("%s: %s %v", who, got, err)
		}
	}
	p.Roles.Put(role("ns", "gone"))
	if missing, err := a.Unresolved(t.Context(), user("alice"), "ns"); err != nil || missing != nil {
		t.Errorf("the role is back: %v %v", missing, err)
	}
}
