package authz

import (
	"reflect"
	"strings"
	"testing"
)

// The cases of this file are those of the upstream tests of
// plugin/pkg/auth/authorizer/rbac (authorizer, subject locator),
// pkg/registry/rbac/validation (rule resolver) and
// component-helpers/auth/rbac/validation (escalation).

// rule4 makes a rule from comma-separated lists. As in the upstream cases an
// empty list holds the empty word.
func rule4(verbs, groups, resources, urls string) Rule {
	split := func(s string) []string { return strings.Split(s, ",") }
	return Rule{Verbs: split(verbs), APIGroups: split(groups), Resources: split(resources), NonResourceURLs: split(urls)}
}

// to parses "User:a Group:b ServiceAccount:ns/name".
func to(list string) []Subject {
	var out []Subject
	for _, f := range strings.Fields(list) {
		kind, name, _ := strings.Cut(f, ":")
		s := Subject{Kind: SubjectKind(kind), Name: name}
		if s.Kind == ServiceAccount {
			s.Namespace, s.Name, _ = strings.Cut(name, "/")
		}
		out = append(out, s)
	}
	return out
}

func clusterRole(name string, rules ...Rule) Role { return Role{Name: name, Rules: rules} }

func bind(namespace, name, kind, role, subjects string) Binding {
	return Binding{Namespace: namespace, Name: name, RoleKind: kind, RoleName: role, Subjects: to(subjects)}
}

func snapshot(roles []Role, bindings []Binding) *Snapshot {
	return New().Update(func(t *Tx) {
		for _, r := range roles {
			t.PutRole(r)
		}
		for _, b := range bindings {
			t.PutBinding(b)
		}
	})
}

func res(user, groups, verb, resource, sub, namespace string) *Request {
	return &Request{User: user, Groups: strings.Split(groups, ","), Verb: verb, ResourceRequest: true, Resource: resource, Subresource: sub, Namespace: namespace}
}

func url(user, groups, verb, path string) *Request {
	return &Request{User: user, Groups: strings.Fields(groups), Verb: verb, Path: path}
}

func TestUpstreamAuthorizerCases(t *testing.T) {
	t.Parallel()
	inNS1 := func(rules ...Rule) *Snapshot {
		return snapshot([]Role{clusterRole("admin", rules...)}, []Binding{bind("ns1", "b", ClusterRoleKind, "admin", "User:admin Group:admins")})
	}
	for _, tc := range []struct {
		name       string
		s          *Snapshot
		pass, fail []*Request
	}{
		{
			name: "cluster role bound in one namespace",
			s:    inNS1(rule4("*", "*", "*", "*")),
			pass: []*Request{
				res("admin", "", "get", "Pods", "", "ns1"), res("admin", "", "watch", "Pods", "", "ns1"),
				res("admin", "group1", "watch", "Foobar", "", "ns1"), res("joe", "admins", "watch", "Foobar", "", "ns1"),
				res("joe", "group1,admins", "watch", "Foobar", "", "ns1"),
			},
			fail: []*Request{
				res("admin", "", "GET", "Pods", "", "ns2"), res("admin", "", "GET", "Nodes", "", ""),
				res("admin", "admins", "GET", "Pods", "", "ns2"), res("admin", "admins", "GET", "Nodes", "", ""),
			},
		},
		{
			name: "URLs",
			s: snapshot([]Role{
				clusterRole("getter", rule4("get", "", "", "/apis")),
				clusterRole("all-verbs", rule4("*", "", "", "/apis")),
				clusterRole("prefix", rule4("get", "", "", "/apis/*")),
			}, []Binding{
				bind("", "1", ClusterRoleKind, "getter", "User:foo Group:bar"),
				bind("", "2", ClusterRoleKind, "all-verbs", "User:admin Group:admin"),
				bind("", "3", ClusterRoleKind, "prefix", "User:prefixed Group:prefixed"),
			}),
			pass: []*Request{
				url("foo", "", "get", "/apis"), url("", "bar", "get", "/apis"),
				url("admin", "", "get", "/apis"), url("", "admin", "get", "/apis"),
				url("admin", "", "watch", "/apis"), url("", "admin", "watch", "/apis"),
				url("prefixed", "", "get", "/apis/v1"), url("", "prefixed", "get", "/apis/v1"),
				url("prefixed", "", "get", "/apis/v1/foobar"), url("", "prefixed", "get", "/apis/v1/foorbar"),
			},
			fail: []*Request{
				url("foo", "", "watch", "/apis"), url("", "bar", "watch", "/apis"),
				url("foo", "", "get", "/api/v1"), url("", "bar", "get", "/api/v1"),
				url("admin", "", "get", "/api/v1"), url("", "admin", "get", "/api/v1"),
				url("prefixed", "", "get", "/api/v1"), url("", "prefixed", "get", "/api/v1"),
			},
		},
		{
			name: "a resource is not its subresources",
			s:    inNS1(rule4("*", "*", "pods", "*")),
			pass: []*Request{res("admin", "", "get", "pods", "", "ns1")},
			fail: []*Request{res("admin", "", "get", "pods", "status", "ns1")},
		},
		{
			name: "subresources",
			s:    inNS1(rule4("*", "*", "pods/status", "*"), rule4("*", "*", "*/scale", "*")),
			pass: []*Request{
				res("admin", "", "get", "pods", "status", "ns1"), res("admin", "", "get", "pods", "scale", "ns1"),
				res("admin", "", "get", "deployments", "scale", "ns1"), res("admin", "", "get", "anything", "scale", "ns1"),
			},
			fail: []*Request{res("admin", "", "get", "pods", "", "ns1")},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, q := range tc.pass {
				if d := tc.s.Decide(q); !d.Allowed() {
					t.Errorf("refused %+v", q)
				}
			}
			for _, q := range tc.fail {
				if d := tc.s.Decide(q); d.Effect() != NoOpinion {
					t.Errorf("allowed %+v: %s", q, d.Reason())
				}
			}
		})
	}
}

// TestUpstreamRuleCases asks every rule of the upstream table both by itself
// and through the index.
func TestUpstreamRuleCases(t *testing.T) {
	t.Parallel()
	grid := func(verbs, groups, resources string) (out []*Request) {
		for _, v := range strings.Fields(verbs) {
			for _, g := range strings.Fields(groups) {
				for _, r := range strings.Fields(resources) {
					q := &Request{User: "u", Verb: v, APIGroup: g, ResourceRequest: true}
					q.Resource, q.Subresource, _ = strings.Cut(r, "/")
					out = append(out, q)
				}
			}
		}
		return out
	}
	paths := func(verbs, list string) (out []*Request) {
		for _, v := range strings.Fields(verbs) {
			for _, p := range strings.Fields(list) {
				out = append(out, url("u", "", v, p))
			}
		}
		return out
	}
	const vs, gs, rs = "verb1 verb2", "group1 group2", "resource1 resource2"
	for _, tc := range []struct {
		name string
		rule Rule
		asks []*Request
		want func(q *Request) bool
	}{
		{"star verb", Rule{Verbs: []string{"*"}, APIGroups: []string{"group1"}, Resources: []string{"resource1"}}, grid(vs, gs, rs),
			func(q *Request) bool { return q.APIGroup == "group1" && q.Resource == "resource1" }},
		{"star group", Rule{Verbs: []string{"verb1"}, APIGroups: []string{"*"}, Resources: []string{"resource1"}}, grid(vs, gs, rs),
			func(q *Request) bool { return q.Verb == "verb1" && q.Resource == "resource1" }},
		{"star resource", Rule{Verbs: []string{"verb1"}, APIGroups: []string{"group1"}, Resources: []string{"*"}}, grid(vs, gs, rs),
			func(q *Request) bool { return q.Verb == "verb1" && q.APIGroup == "group1" }},
		{"tuples", Rule{Verbs: strings.Fields(vs), APIGroups: strings.Fields(gs), Resources: strings.Fields(rs)}, grid(vs, gs, rs),
			func(*Request) bool { return true }},
		{"subresource", Rule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"resource1/subresource1"}},
			grid(vs, gs, "resource1/subresource1 resource1/subresource2 resource2/subresource1"),
			func(q *Request) bool { return q.Resource == "resource1" && q.Subresource == "subresource1" }},
		{"star URL", Rule{Verbs: []string{"verb1"}, NonResourceURLs: []string{"*"}}, paths(vs, "/foo /foo/bar /foo/baz /foo/bar/one /foo/baz/one"),
			func(q *Request) bool { return q.Verb == "verb1" }},
		{"URL prefix", Rule{Verbs: []string{"verb1"}, NonResourceURLs: []string{"/foo/*"}}, paths("verb1", "/foo /foo/bar /foo/baz /foo/bar/one /foo/baz/one /notfoo /notfoo/bar /notfoo/baz/one"),
			func(q *Request) bool { return strings.HasPrefix(q.Path, "/foo/") }},
		{"exact URLs", Rule{Verbs: []string{"*"}, NonResourceURLs: []string{"/foo", "/foo/bar/one"}}, paths(vs, "/foo /foo/bar /foo/baz /foo/bar/one /foo/baz/one"),
			func(q *Request) bool { return q.Path == "/foo" || q.Path == "/foo/bar/one" }},
	} {
		s := snapshot([]Role{clusterRole("r", tc.rule)}, []Binding{bind("", "b", ClusterRoleKind, "r", "User:u")})
		for _, q := range tc.asks {
			if got, want := tc.rule.Allows(q), tc.want(q); got != want {
				t.Errorf("%s: rule says %v to %+v", tc.name, got, q)
			}
			if got, want := s.Decide(q).Allowed(), tc.want(q); got != want {
				t.Errorf("%s: index says %v to %+v", tc.name, got, q)
			}
		}
	}
}

func TestUpstreamRulesForCases(t *testing.T) {
	t.Parallel()
	rule := func(verbs, resource string) Rule {
		return Rule{Verbs: strings.Split(verbs, ","), APIGroups: []string{"v1"}, Resources: []string{resource}}
	}
	pods, services := rule("GET,WATCH", "pods"), rule("GET,WATCH", "services")
	admin := Rule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}
	s := snapshot([]Role{
		{Namespace: "namespace1", Name: "readthings", Rules: []Rule{pods, services}},
		clusterRole("cluster-admin", admin),
		clusterRole("write-nodes", rule("PUT,CREATE,UPDATE", "nodes")),
	}, []Binding{
		bind("namespace1", "b", RoleKind, "readthings", "User:foobar Group:group1"),
		bind("", "b", ClusterRoleKind, "cluster-admin", "User:admin Group:admin"),
	})
	for _, tc := range []struct {
		q    Request
		want []Rule
	}{
		{Request{User: "foobar", Namespace: "namespace1"}, []Rule{pods, services}},
		{Request{User: "foobar", Namespace: "namespace2"}, nil},
		{Request{User: "foobar", Groups: []string{"admin"}}, []Rule{admin}},
		{Request{}, nil},
	} {
		var got []Rule
		granted, missing := s.RulesFor(&tc.q)
		for _, g := range granted {
			got = append(got, g.Rule)
		}
		if !reflect.DeepEqual(got, tc.want) || missing != nil {
			t.Errorf("%+v: got %v (missing %v), want %v", tc.q, got, missing, tc.want)
		}
	}
}

func TestUpstreamSubjectCases(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		subjects, user, groups, namespace string
		want                              int // the subject that matches, -1 none
	}{
		{"User:foobar", "foobar", "", "", 0},
		{"User:barfoo User:foobar", "foobar", "", "", 1},
		{"User:barfoo User:foobar", "zimzam", "", "", -1},
		{"User:barfoo Group:foobar", "zimzam", "foobar", "", 1},
		{"User:barfoo Group:foobar", "zimzam", "foobar", "namespace1", 1},
		{"User:barfoo Group:foobar ServiceAccount:kube-system/default", "system:serviceaccount:kube-system:default", "", "default", 2},
		{"User:*", "foobar", "", "default", -1},
		{"Group:system:authenticated Group:system:unauthenticated", "foobar", "system:authenticated", "default", 0},
		{"Group:system:authenticated Group:system:unauthenticated", "system:anonymous", "system:unauthenticated", "default", 1},
		// Not upstream's table, but upstream's code: a service account
		// without namespace is one of the binding's, if that has one.
		{"ServiceAccount:/sa", "system:serviceaccount:default:sa", "", "default", 0},
		{"ServiceAccount:/sa", "system:serviceaccount::sa", "", "", -1},
	} {
		b := bind(tc.namespace, "b", ClusterRoleKind, "r", tc.subjects)
		s := snapshot([]Role{clusterRole("r", rule4("*", "*", "*", "*"))}, []Binding{b})
		q := res(tc.user, tc.groups, "get", "pods", "", tc.namespace)
		got := -1
		if g, ok := s.Decide(q).Grant(); ok {
			for i, sub := range b.Subjects {
				if sub.Kind == g.Subject.Kind && sub.Name == g.Subject.Name {
					got = i
					break
				}
			}
		}
		if got != tc.want {
			t.Errorf("%q to user %q groups %q in %q: matches %d, want %d", tc.subjects, tc.user, tc.groups, tc.namespace, got, tc.want)
		}
	}
}

func TestUpstreamSubjectLocatorCases(t *testing.T) {
	t.Parallel()
	cluster := bind("", "c", ClusterRoleKind, "admin", "User:super-admin Group:super-admins")
	super, both := "User super-admin,Group super-admins", "User super-admin,Group super-admins,User admin,Group admins"
	global := snapshot([]Role{clusterRole("admin", rule4("*", "*", "*", "*"))},
		[]Binding{cluster, bind("ns1", "b", ClusterRoleKind, "admin", "User:admin Group:admins")})
	local := snapshot([]Role{clusterRole("admin", rule4("*", "*", "*", "*")), {Namespace: "ns1", Name: "admin", Rules: []Rule{rule4("get", "*", "Pods", "*")}}},
		[]Binding{cluster, bind("ns1", "b", RoleKind, "admin", "User:admin Group:admins")})
	for _, tc := range []struct {
		s    *Snapshot
		q    *Request
		want string
	}{
		{global, res("", "", "get", "Pods", "", "ns1"), both},
		{global, res("", "", "*", "Pods", "", "*"), super},
		{global, res("", "", "*", "Pods", "", ""), super},
		{local, res("", "", "get", "Pods", "", "ns1"), both},
		{local, res("", "", "create", "Pods", "", "ns1"), super},
		{local, res("", "", "get", "Pods", "", "ns2"), super},
	} {
		var got []string
		h := tc.s.WhoCan(tc.q)
		for i := range h.Len() {
			sub := h.At(i).Grant.Subject
			got = append(got, string(sub.Kind)+" "+sub.Name)
		}
		if strings.Join(got, ",") != tc.want {
			t.Errorf("who can %+v: %q, want %q", tc.q, got, tc.want)
		}
	}
}

// TestReason holds the texts that audit and reviews show, word for word those
// of upstream.
func TestReason(t *testing.T) {
	t.Parallel()
	roles := []Role{clusterRole("view", rule4("get", "", "pods", "")), {Namespace: "ns", Name: "view", Rules: []Rule{rule4("get", "", "pods", "")}}}
	for _, tc := range []struct {
		b    Binding
		user string
		want string
	}{
		{bind("", "x", ClusterRoleKind, "view", "User:u"), "u", `RBAC: allowed by ClusterRoleBinding "x" of ClusterRole "view" to User "u"`},
		{bind("ns", "x", ClusterRoleKind, "view", "Group:g"), "other", `RBAC: allowed by RoleBinding "x/ns" of ClusterRole "view" to Group "g"`},
		{bind("ns", "x", RoleKind, "view", "ServiceAccount:/sa"), "system:serviceaccount:ns:sa", `RBAC: allowed by RoleBinding "x/ns" of Role "view" to ServiceAccount "sa/ns"`},
		{bind("ns", `x"y`, RoleKind, "view", "User:u"), "u", `RBAC: allowed by RoleBinding "x\"y/ns" of Role "view" to User "u"`},
		{bind("ns", "x", RoleKind, "absent", "User:u"), "u", ""},
	} {
		d := snapshot(roles, []Binding{tc.b}).Decide(res(tc.user, "g", "get", "pods", "", "ns"))
		if got := d.Reason(); got != tc.want {
			t.Errorf("reason %q, want %q", got, tc.want)
		}
	}
	if zero := (Decision{}); zero.Allowed() || zero.Effect() != NoOpinion || zero.Reason() != "" || zero.Rule() != -1 {
		t.Error("the zero Decision is more than a refusal")
	}
}
