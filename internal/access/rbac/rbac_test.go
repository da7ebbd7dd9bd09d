package rbac_test

import (
	"reflect"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

func TestTranslateBinding(t *testing.T) {
	t.Parallel()
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"}
	for _, tc := range []struct {
		name string
		in   authz.Binding
		want authz.Binding
	}{
		{
			name: "every kind of subject",
			in: rbac.RoleBinding(&rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "b"}, RoleRef: ref,
				Subjects: []rbacv1.Subject{
					{Kind: "User", APIGroup: rbacv1.GroupName, Name: "alice", Namespace: "ignored"},
					{Kind: "Group", APIGroup: rbacv1.GroupName, Name: "dev"},
					{Kind: "ServiceAccount", Name: "robot"},
					{Kind: "ServiceAccount", Name: "robot", Namespace: "other"},
				},
			}),
			want: authz.Binding{Namespace: "ns", Name: "b", RoleKind: "ClusterRole", RoleName: "edit", Subjects: []authz.Subject{
				{Kind: authz.User, Name: "alice"},
				{Kind: authz.Group, Name: "dev"},
				{Kind: authz.ServiceAccount, Name: "robot"},
				{Kind: authz.ServiceAccount, Name: "robot", Namespace: "other"},
			}},
		},
		{
			name: "subjects that mean nobody",
			in: rbac.ClusterRoleBinding(&rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "b"}, RoleRef: ref,
				Subjects: []rbacv1.Subject{{Kind: "User"}, {Kind: "Group"}, {Kind: "Robot", Name: "r"}, {Kind: "user", Name: "alice"}},
			}),
			want: authz.Binding{Name: "b", RoleKind: "ClusterRole", RoleName: "edit", Subjects: []authz.Subject{}},
		},
		{
			name: "a role of another group",
			in: rbac.ClusterRoleBinding(&rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "b"}, RoleRef: rbacv1.RoleRef{APIGroup: "example.com", Kind: "ClusterRole", Name: "edit"}}),
			want: authz.Binding{Name: "b", RoleName: "edit", Subjects: []authz.Subject{}},
		},
		{
			name: "a kind that is no role",
			in: rbac.RoleBinding(&rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "b"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Secret", Name: "edit"}}),
			want: authz.Binding{Namespace: "ns", Name: "b", RoleName: "edit", Subjects: []authz.Subject{}},
		},
		{
			name: "cluster-admin is bootstrap by name, whatever its labels say",
			in:   rbac.ClusterRoleBinding(&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "cluster-admin"}, RoleRef: ref}),
			want: authz.Binding{Name: "cluster-admin", RoleKind: "ClusterRole", RoleName: "edit", Bootstrap: true, Subjects: []authz.Subject{}},
		},
		{
			name: "a namespaced binding of that name is not",
			in: rbac.RoleBinding(&rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "cluster-admin"}, RoleRef: ref}),
			want: authz.Binding{Namespace: "ns", Name: "cluster-admin", RoleKind: "ClusterRole", RoleName: "edit", Subjects: []authz.Subject{}},
		},
		{
			name: "the label marks bootstrap bindings",
			in: rbac.ClusterRoleBinding(&rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "b", Labels: map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"}}, RoleRef: ref}),
			want: authz.Binding{Name: "b", RoleKind: "ClusterRole", RoleName: "edit", Bootstrap: true, Subjects: []authz.Subject{}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if !reflect.DeepEqual(tc.in, tc.want) {
				t.Errorf("got  %+v\nwant %+v", tc.in, tc.want)
			}
		})
	}
}

// TestRulesKeepEveryField fails when the API or the engine gets a field that
// the translation does not carry.
func TestRulesKeepEveryField(t *testing.T) {
	t.Parallel()
	var in rbacv1.PolicyRule
	v := reflect.ValueOf(&in).Elem()
	for i := range v.NumField() {
		v.Field(i).Set(reflect.ValueOf([]string{v.Type().Field(i).Name}))
	}
	out := rbac.Rules([]rbacv1.PolicyRule{in})
	o := reflect.ValueOf(out[0])
	for i := range o.NumField() {
		name := o.Type().Field(i).Name
		if got, ok := o.Field(i).Interface().([]string); !ok || len(got) != 1 || got[0] != name {
			t.Errorf("field %s became %v", name, o.Field(i))
		}
	}
	if back := rbac.PolicyRules(out); !reflect.DeepEqual(back[0], in) {
		t.Errorf("came back as %v", back)
	}
	if rbac.Rules(nil) != nil || rbac.PolicyRules(nil) != nil {
		t.Error("no rules became some")
	}
}

func rule(verbs, groups, resources []string, names ...string) authz.Rule {
	return authz.Rule{Verbs: verbs, APIGroups: groups, Resources: resources, ResourceNames: names}
}

func TestCompact(t *testing.T) {
	t.Parallel()
	s := func(v ...string) []string { return v }
	for _, tc := range []struct {
		name     string
		in, want []authz.Rule
	}{
		{name: "nothing"},
		{
			name: "verbs of one resource",
			in: []authz.Rule{
				rule(s("get"), s(""), s("builds")),
				rule(s("create"), s("extensions"), s("daemonsets")),
				rule(s("update", "patch"), s(""), s("builds")),
				rule(s("delete"), s("extensions"), s("daemonsets")),
				rule(s("patch"), s("extensions"), s("daemonsets"), ""),
				rule(s("get"), s("extensions"), s("daemonsets"), "foo"),
				rule(s("list"), s("extensions"), s("daemonsets"), "foo"),
				rule(nil, s(""), s("pods")),
				rule(s("create"), s(""), s("pods")),
				rule(nil, s(""), s("pirates")),
			},
			want: []authz.Rule{
				rule(s("get", "update", "patch"), s(""), s("builds")),
				rule(s("create", "delete"), s("extensions"), s("daemonsets")),
				rule(s("patch"), s("extensions"), s("daemonsets"), ""),
				rule(s("get", "list"), s("extensions"), s("daemonsets"), "foo"),
				rule(s("create"), s(""), s("pods")),
				rule(nil, s(""), s("pirates")),
			},
		},
		{
			name: "several groups, resources, names or URLs stay apart",
			in: []authz.Rule{
				rule(s("get"), s("", "x"), s("builds")), rule(s("list"), s("", "x"), s("builds")),
				rule(s("get"), s(""), s("builds", "images")), rule(s("list"), s(""), s("builds", "images")),
				rule(s("get"), s(""), s("builds"), "a", "b"), rule(s("list"), s(""), s("builds"), "a", "b"),
				{Verbs: s("get"), APIGroups: s(""), Resources: s("builds"), NonResourceURLs: s("/")},
				{Verbs: s("list"), APIGroups: s(""), Resources: s("builds"), NonResourceURLs: s("/")},
			},
			want: []authz.Rule{
				rule(s("get"), s("", "x"), s("builds")), rule(s("list"), s("", "x"), s("builds")),
				rule(s("get"), s(""), s("builds", "images")), rule(s("list"), s(""), s("builds", "images")),
				rule(s("get"), s(""), s("builds"), "a", "b"), rule(s("list"), s(""), s("builds"), "a", "b"),
				{Verbs: s("get"), APIGroups: s(""), Resources: s("builds"), NonResourceURLs: s("/")},
				{Verbs: s("list"), APIGroups: s(""), Resources: s("builds"), NonResourceURLs: s("/")},
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := rbac.Compact(tc.in)
			if len(got) != len(tc.want) {
				t.Fatalf("got %d rules %v, want %d", len(got), got, len(tc.want))
			}
			for i := range got {
				if rbac.Describe(got[i]) != rbac.Describe(tc.want[i]) {
					t.Errorf("rule %d: got %s, want %s", i, rbac.Describe(got[i]), rbac.Describe(tc.want[i]))
				}
			}
			if ok, missing := authz.Covers(got, tc.in); !ok {
				t.Errorf("lost %v", missing)
			}
			if ok, missing := authz.Covers(tc.in, got); !ok {
				t.Errorf("gained %v", missing)
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]authz.Rule{
		`{}`: {},
		`{APIGroups:["" "apps"], Resources:["pods" "deployments"], ResourceNames:["a"], Verbs:["get" "list"]}`: rule(
			[]string{"get", "list"}, []string{"", "apps"}, []string{"pods", "deployments"}, "a"),
		`{NonResourceURLs:["/x\n"], Verbs:["*"]}`: {Verbs: []string{"*"}, NonResourceURLs: []string{"/x\n"}},
	} {
		if got := rbac.Describe(r); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	pods := rbacv1.PolicyRule{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"pods"}}
	secrets := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}}
	if got := rbac.Missing([]rbacv1.PolicyRule{pods}, []rbacv1.PolicyRule{pods}); len(got) != 0 {
		t.Errorf("missing %v of the same", got)
	}
	if got := rbac.Missing([]rbacv1.PolicyRule{pods}, []rbacv1.PolicyRule{pods, secrets}); !reflect.DeepEqual(got, []rbacv1.PolicyRule{secrets}) {
		t.Errorf("missing %v", got)
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	distinct := []authz.Rule{
		{}, {Verbs: []string{""}}, {Verbs: []string{"a"}}, {Verbs: []string{"a", "b"}}, {Verbs: []string{"b", "a"}}, {Verbs: []string{`a""b`}},
		{APIGroups: []string{"a"}}, {Resources: []string{"a"}}, {ResourceNames: []string{"a"}}, {NonResourceURLs: []string{"a"}}, {Verbs: []string{"a;1"}},
	}
	seen := map[string]int{}
	for i, r := range distinct {
		if j, ok := seen[rbac.Key(r)]; ok {
			t.Errorf("%v and %v have one key", r, distinct[j])
		}
		seen[rbac.Key(r)] = i
	}
	if rbac.Key(authz.Rule{Verbs: []string{}}) != rbac.Key(authz.Rule{}) {
		t.Error("an empty list is not an absent one")
	}
}
