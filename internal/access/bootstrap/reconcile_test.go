package bootstrap_test

import (
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access/bootstrap"
)

func role(rules []rbacv1.PolicyRule, labels, annotations map[string]string) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "r", Labels: labels, Annotations: annotations}, Rules: rules}
}

func get(resources ...string) []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for _, r := range resources {
		rules = append(rules, rbacv1.PolicyRule{APIGroups: []string{""}, Verbs: []string{"get"}, Resources: []string{r}})
	}
	return rules
}

func selecting(rules []rbacv1.PolicyRule, selectors ...map[string]string) *rbacv1.ClusterRole {
	r := role(rules, nil, nil)
	r.AggregationRule = &rbacv1.AggregationRule{}
	for _, s := range selectors {
		r.AggregationRule.ClusterRoleSelectors = append(r.AggregationRule.ClusterRoleSelectors, metav1.LabelSelector{MatchLabels: s})
	}
	return r
}

type m = map[string]string

func TestReconcileRole(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name       string
		want, have *rbacv1.ClusterRole
		update     *rbacv1.ClusterRole // nil: nothing to do
		protected  bool
	}{
		{name: "nothing", want: role(nil, nil, nil), have: role(nil, nil, nil)},
		{name: "the same", want: role(get("a"), m{"1": "a"}, m{"1": "a"}), have: role(get("a"), m{"1": "a"}, m{"1": "a"})},
		{name: "wider is left wide", want: role(get("a"), nil, nil), have: role(get("a", "b"), nil, nil)},
		{name: "a rule is added behind", want: role(get("a"), nil, nil), have: role(get("b"), nil, nil), update: role(get("b", "a"), nil, nil)},
		{name: "labels are joined", want: role(get("a"), m{"1": "a"}, nil), have: role(get("a"), m{"2": "b"}, nil),
			update: role(get("a"), m{"1": "a", "2": "b"}, nil)},
		{name: "an existing label wins", want: role(get("a"), m{"1": "a"}, nil), have: role(get("b"), m{"1": "b"}, nil),
			update: role(get("b", "a"), m{"1": "b"}, nil)},
		{name: "annotations are joined", want: role(get("a"), nil, m{"1": "a"}), have: role(get("a"), nil, m{"2": "b"}),
			update: role(get("a"), nil, m{"1": "a", "2": "b"})},
		{name: "an existing annotation wins", want: role(get("a"), nil, m{"1": "a"}), have: role(get("b"), nil, m{"1": "b"}),
			update: role(get("b", "a"), nil, m{"1": "b"})},
		{name: "everything at once",
			want:   role(get("pods", "nodes", "secrets"), m{"env": "prod", "color": "blue", "manager": "r"}, m{"description": "f", "system": "true"}),
			have:   role(get("nodes", "images", "projects"), m{"color": "red", "team": "pm"}, m{"system": "false", "owner": "a"}),
			update: role(get("nodes", "images", "projects", "pods", "secrets"), m{"env": "prod", "color": "red", "manager": "r", "team": "pm"}, m{"description": "f", "system": "false", "owner": "a"})},
		{name: "a selector is added", want: selecting(nil, m{"foo": "bar"}), have: selecting(nil, m{"a": "b"}), update: selecting(nil, m{"a": "b"}, m{"foo": "bar"})},
		{name: "the same selector", want: selecting(nil, m{"foo": "bar"}), have: selecting(get("x"), m{"foo": "bar"})},
		{name: "no selectors are no aggregation", want: selecting(nil), have: role(nil, nil, nil)},
		{name: "an aggregation appears", want: selecting(nil, m{"foo": "bar"}), have: role(get("x"), nil, nil), update: selecting(get("x"), m{"foo": "bar"})},
		{name: "an unexpected aggregation goes, its rules stay", want: role(get("a"), nil, nil), have: selecting(get("b"), m{"foo": "bar"}), update: role(get("b", "a"), nil, nil)},
		{name: "protected", want: role(get("a"), nil, nil), have: role(get("b"), nil, m{rbacv1.AutoUpdateAnnotationKey: "false"}), protected: true},
		{name: "protected and complete", want: role(get("a"), nil, nil), have: role(get("a"), nil, m{rbacv1.AutoUpdateAnnotationKey: "false"})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			want, have := tc.want.DeepCopy(), tc.have.DeepCopy()
			have.ResourceVersion = "7"
			before := have.DeepCopy()
			plan, err := bootstrap.Reconcile(bootstrap.Objects{ClusterRoles: []*rbacv1.ClusterRole{want}},
				bootstrap.Objects{ClusterRoles: []*rbacv1.ClusterRole{have}})
			if err != nil {
				t.Fatal(err)
			}
			if !equality.Semantic.DeepEqual(want, tc.want) || !equality.Semantic.DeepEqual(have, before) {
				t.Error("an argument was changed")
			}
			if got := slices.Equal(plan.Protected, []string{"clusterrole r"}); got != tc.protected {
				t.Errorf("protected %v, want %v", plan.Protected, tc.protected)
			}
			if tc.update == nil {
				if !plan.Empty() {
					t.Fatalf("plan %+v, want nothing", plan)
				}
				return
			}
			tc.update.ResourceVersion = "7"
			if len(plan.Update.ClusterRoles) != 1 || !equality.Semantic.DeepEqual(plan.Update.ClusterRoles[0], tc.update) {
				t.Errorf("got %v, want %v", plan.Update.ClusterRoles, tc.update)
			}
		})
	}
}

func TestReconcileBinding(t *testing.T) {
	t.Parallel()
	bind := func(role string, annotations m, users ...string) *rbacv1.ClusterRoleBinding {
		b := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "b", Annotations: annotations},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}}
		for _, u := range users {
			b.Subjects = append(b.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: u})
		}
		return b
	}
	off := m{rbacv1.AutoUpdateAnnotationKey: "false"}
	for _, tc := range []struct {
		name            string
		want, have      *rbacv1.ClusterRoleBinding
		update, replace *rbacv1.ClusterRoleBinding
		protected       bool
	}{
		{name: "the same", want: bind("a", nil, "u"), have: bind("a", nil, "u")},
		{name: "more subjects stay", want: bind("a", nil, "u"), have: bind("a", nil, "v", "u")},
		{name: "a subject is added behind", want: bind("a", nil, "u"), have: bind("a", nil, "v"), update: bind("a", nil, "v", "u")},
		{name: "another role", want: bind("a", nil, "u"), have: bind("evil", nil, "v"), replace: bind("a", nil, "u")},
		{name: "protected subjects", want: bind("a", nil, "u"), have: bind("a", off, "v"), protected: true},
		{name: "protected role", want: bind("a", nil, "u"), have: bind("b", off, "u"), protected: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			plan, err := bootstrap.Reconcile(bootstrap.Objects{ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{tc.want}},
				bootstrap.Objects{ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{tc.have}})
			if err != nil {
				t.Fatal(err)
			}
			check := func(kind string, got []*rbacv1.ClusterRoleBinding, want *rbacv1.ClusterRoleBinding) {
				if want == nil && len(got) > 0 || want != nil && (len(got) != 1 || !equality.Semantic.DeepEqual(got[0], want)) {
					t.Errorf("%s %v, want %v", kind, got, want)
				}
			}
			check("update", plan.Update.ClusterRoleBindings, tc.update)
			check("replace", plan.Replace, tc.replace)
			if got := slices.Equal(plan.Protected, []string{"clusterrolebinding b"}); got != tc.protected {
				t.Errorf("protected %v", plan.Protected)
			}
		})
	}
}

func TestReconcileFromNothingAndAgain(t *testing.T) {
	t.Parallel()
	plan, err := bootstrap.Reconcile(bootstrap.Default(), bootstrap.Objects{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(plan.Create.ClusterRoles), len(bootstrap.Default().ClusterRoles); got != want {
		t.Errorf("%d roles, want %d", got, want)
	}
	for _, r := range plan.Create.ClusterRoles {
		if len(r.Rules) == 0 {
			t.Errorf("cluster role %s would start without rules", r.Name)
		}
	}
	again, err := bootstrap.Reconcile(bootstrap.Default(), plan.Create)
	if err != nil || !again.Empty() || len(again.Protected) > 0 {
		t.Errorf("second pass: %+v %v", again, err)
	}
}

// An operator's role that is already aggregated into view shows in a view that
// had been deleted.
func TestReconcileFillsCreatedRolesFromExisting(t *testing.T) {
	t.Parallel()
	extra := role(get("widgets"), m{"rbac.authorization.k8s.io/aggregate-to-view": "true"}, nil)
	plan, err := bootstrap.Reconcile(bootstrap.Default(), bootstrap.Objects{ClusterRoles: []*rbacv1.ClusterRole{extra}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range plan.Create.ClusterRoles {
		has := slices.ContainsFunc(r.Rules, func(p rbacv1.PolicyRule) bool { return slices.Contains(p.Resources, "widgets") })
		if want := r.Name == "view" || r.Name == "edit" || r.Name == "admin"; has != want {
			t.Errorf("cluster role %s has widgets: %v", r.Name, has)
		}
	}
}

func TestReconcileReportsMalformedSelectors(t *testing.T) {
	t.Parallel()
	bad := selecting(nil, m{"a": "not a label value!"})
	plan, err := bootstrap.Reconcile(bootstrap.Default(), bootstrap.Objects{ClusterRoles: []*rbacv1.ClusterRole{bad}})
	if err == nil {
		t.Error("no error")
	}
	if len(plan.Create.ClusterRoles) != len(bootstrap.Default().ClusterRoles) {
		t.Error("the plan is incomplete")
	}
}
