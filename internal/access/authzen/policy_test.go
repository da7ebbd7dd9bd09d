package authzen_test

import (
	"fmt"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/authzen"
	"github.com/gatehouse-dev/gatehouse/internal/access/question"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

func policy(t *testing.T) authzen.Policy {
	t.Helper()
	p := access.NewPolicy()
	bind := func(name, role string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
		return &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}}
	}
	rule := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}
	one := rule
	one.ResourceNames = []string{"web"}
	p.ClusterRoles.Replace([]*rbacv1.ClusterRole{
		{ObjectMeta: metav1.ObjectMeta{Name: "reader"}, Rules: []rbacv1.PolicyRule{rule}},
		{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Rules: []rbacv1.PolicyRule{one}},
	})
	p.ClusterRoleBindings.Replace([]*rbacv1.ClusterRoleBinding{
		bind("a", "reader", rbacv1.Subject{Kind: "User", Name: "alice"}, rbacv1.Subject{Kind: "Group", Name: "dev"}),
		bind("b", "one", rbacv1.Subject{Kind: "User", Name: "bob"}, rbacv1.Subject{Kind: "User", Name: "alice"},
			rbacv1.Subject{Kind: "ServiceAccount", Namespace: "ns", Name: "robot"}, rbacv1.Subject{Kind: "ServiceAccount", Namespace: "NS", Name: "not:valid"}),
	})
	p.Roles.Replace(nil)
	p.RoleBindings.Replace(nil)
	p.Sites.Replace(nil)
	a, err := access.New(access.Config{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	return authzen.Policy{Asker: question.Asker{Access: a, Policy: p, Policies: question.NewPolicies()}}
}

func TestPolicyDecides(t *testing.T) {
	t.Parallel()
	p := policy(t)
	for body, want := range map[string]string{
		good: `true RBAC: allowed by ClusterRoleBinding "a" of ClusterRole "reader" to User "alice"`,
		`{"subject":{"type":"user","id":"x","properties":{"groups":["dev"]}},"action":{"name":"get"},"resource":{"type":"pods","id":"ns/web"}}`: `true RBAC: allowed by ClusterRoleBinding "a" of ClusterRole "reader" to Group "dev"`,
		`{"subject":{"type":"user","id":"x"},"action":{"name":"get"},"resource":{"type":"pods","id":"ns/web"}}`:                                 `false `,
		`{"subject":{"type":"user","id":"bob"},"action":{"name":"get"},"resource":{"type":"pods","id":"ns/"}}`:                                  `false `,
	} {
		e, err := authzen.ParseEvaluation([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		q, err := authzen.Map(&e)
		if err != nil {
			t.Fatal(err)
		}
		allowed, reason, err := p.Decide(t.Context(), &q)
		if got := fmt.Sprint(allowed, " ", reason); err != nil || got != want {
			t.Errorf("%s: got %s %v, want %s", body, got, err, want)
		}
	}
}

func TestSearchSubjects(t *testing.T) {
	t.Parallel()
	p := policy(t)
	for _, tc := range []struct{ kind, id, want string }{
		{"user", "ns/web", "[alice bob]"},
		{"user", "ns/db", "[alice]"},
		{"user", "ns/", "[alice]"}, // bob may get one pod, not any
		{"group", "ns/web", "[dev system:masters]"},
		{"serviceaccount", "ns/web", "[ns/robot]"},
		{"robot", "ns/web", "[]"},
	} {
		s, err := authzen.ParseSubjectSearch(fmt.Appendf(nil, `{"subject":{"type":%q},"action":{"name":"get"},"resource":{"type":"pods","id":%q}}`, tc.kind, tc.id))
		if err != nil {
			t.Fatal(err)
		}
		results, err := p.SearchSubjects(t.Context(), &s)
		if err != nil {
			t.Fatal(err)
		}
		ids := []string{}
		for _, e := range results.Results {
			ids = append(ids, e.ID)
		}
		if got := fmt.Sprint(ids); got != tc.want {
			t.Errorf("%s of %s: got %s, want %s", tc.kind, tc.id, got, tc.want)
		}
	}
	waiting, err := access.New(access.Config{Policy: access.NewPolicy()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (authzen.Policy{Asker: question.Asker{Access: waiting}}).SearchSubjects(t.Context(), &authzen.Search{}); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("without policy: %v", err)
	}
}
