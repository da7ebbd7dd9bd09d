package question_test

import (
	"fmt"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/question"
)

func rule(verbs, resources string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: strings.Split(verbs, ","), APIGroups: []string{""}, Resources: strings.Split(resources, ","), ResourceNames: names}
}

func asker(t *testing.T, policies []*accessv1alpha1.AccessPolicy, bans ...*accessv1alpha1.Ban) question.Asker {
	t.Helper()
	p := access.NewPolicy()
	g := p.WithGrants(nil)
	bind := func(name, role string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
		return &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}}
	}
	p.ClusterRoles.Replace([]*rbacv1.ClusterRole{
		{ObjectMeta: metav1.ObjectMeta{Name: "reader"}, Rules: []rbacv1.PolicyRule{rule("list", "services"), rule("get,list", "pods")}},
		{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Rules: []rbacv1.PolicyRule{rule("get", "pods", "web")}},
	})
	p.ClusterRoleBindings.Replace([]*rbacv1.ClusterRoleBinding{
		bind("readers", "reader", rbacv1.Subject{Kind: "User", Name: "alice"}, rbacv1.Subject{Kind: "Group", Name: "dev"}, rbacv1.Subject{Kind: "User", Name: "mallory"}),
		bind("ones", "one", rbacv1.Subject{Kind: "User", Name: "bob"}),
		bind("dangling", "no-such", rbacv1.Subject{Kind: "User", Name: "bob"}),
	})
	p.Roles.Replace(nil)
	p.RoleBindings.Replace(nil)
	p.Sites.Replace(nil)
	g.Namespaces.Replace(nil)
	g.Bans.Replace(bans)
	g.Delegations.Replace(nil)
	g.Accounts.Replace(nil)
	g.AccessPolicies.Replace(policies)
	a, err := access.New(access.Config{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	list := question.NewPolicies()
	list.Replace(policies)
	return question.Asker{Access: a, Policy: p, Policies: list}
}

func policy(name string, effect accessv1alpha1.Effect, rule rbacv1.PolicyRule, subjects ...accessv1alpha1.Subject) *accessv1alpha1.AccessPolicy {
	return &accessv1alpha1.AccessPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: accessv1alpha1.AccessPolicySpec{
		Effect: effect, Subjects: subjects, Rules: []rbacv1.PolicyRule{rule}, Sites: []string{"gatehouse"}}}
}

func get(resource, name string) authz.Request {
	return authz.Request{ResourceRequest: true, Verb: "get", Resource: resource, Namespace: "ns", Name: name}
}

func render(holders []question.Holder) string {
	var out []string
	for _, h := range holders {
		text := string(h.Subject.Kind) + ":" + h.Subject.Name
		if h.Prefix {
			text += "*"
		}
		if len(h.ResourceNames) > 0 {
			text += fmt.Sprint(h.ResourceNames)
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func TestWhoCan(t *testing.T) {
	t.Parallel()
	a := asker(t, []*accessv1alpha1.AccessPolicy{
		policy("more", accessv1alpha1.EffectAllow, rule("get", "pods"),
			accessv1alpha1.Subject{Kind: "User", Name: "carol"}, accessv1alpha1.Subject{Kind: "Group", NamePrefix: "team-"},
			accessv1alpha1.Subject{Kind: "ServiceAccount", Namespace: "ci", Name: "bot"}, accessv1alpha1.Subject{Kind: "Site", Name: "blue"}),
		policy("other", accessv1alpha1.EffectAllow, rule("get", "secrets"), accessv1alpha1.Subject{Kind: "User", Name: "dave"}),
		policy("no", accessv1alpha1.EffectDeny, rule("get", "pods"), accessv1alpha1.Subject{Kind: "Group", Name: "dev"}),
	}, &accessv1alpha1.Ban{ObjectMeta: metav1.ObjectMeta{Name: "out"}, Spec: accessv1alpha1.BanSpec{Subject: &accessv1alpha1.BanSubject{Kind: "User", Name: "mallory"}, Reason: "r"}})
	for _, tc := range []struct{ name, holders, refused string }{
		{"web", "Group:system:masters User:alice User:bob User:carol Group:team-* ServiceAccount:bot", "Group:dev User:mallory"},
		{"db", "Group:system:masters User:alice User:carol Group:team-* ServiceAccount:bot", "Group:dev User:mallory"},
		{"", "Group:system:masters User:alice User:bob[web] User:carol Group:team-* ServiceAccount:bot", "Group:dev User:mallory"},
	} {
		holders, refused, err := a.WhoCan(t.Context(), get("pods", tc.name))
		if err != nil {
			t.Fatal(err)
		}
		if sorted(render(holders)) != sorted(tc.holders) || sorted(render(refused)) != sorted(tc.refused) {
			t.Errorf("get pods %q:\n got %s, refused %s\nwant %s, refused %s", tc.name, render(holders), render(refused), tc.holders, tc.refused)
		}
		for _, h := range append(holders, refused...) {
			if h.Reason == "" {
				t.Errorf("%v has no reason", h)
			}
		}
	}
}

func sorted(s string) string {
	words := strings.Fields(s)
	for i := range words {
		for j := range i {
			if words[i] < words[j] {
				words[i], words[j] = words[j], words[i]
			}
		}
	}
	return strings.Join(words, " ")
}

func TestExplain(t *testing.T) {
	t.Parallel()
	a := asker(t, []*accessv1alpha1.AccessPolicy{
		policy("no", accessv1alpha1.EffectDeny, rule("get", "secrets"), accessv1alpha1.Subject{Kind: "User", Name: "alice"}),
	})
	alice, bob := access.Subject{Name: "alice"}, access.Subject{Name: "bob"}
	e, err := a.Explain(t.Context(), alice, get("pods", "x"))
	if err != nil || !e.Decision.Allowed() || e.Rule == nil || e.Rule.Resources[0] != "pods" || len(e.Nearest) != 0 {
		t.Errorf("allowed: %+v %v", e, err)
	}
	e, err = a.Explain(t.Context(), alice, get("secrets", "x"))
	if p, ok := e.Decision.AccessPolicy(); err != nil || !ok || p.Name != "no" || e.Rule == nil || e.Rule.Resources[0] != "secrets" || len(e.Nearest) != 0 {
		t.Errorf("denied: %+v %v", e, err)
	}
	nearest := func(who access.Subject, q authz.Request) string {
		t.Helper()
		e, err := a.Explain(t.Context(), who, q)
		if err != nil || e.Decision.Effect() != authz.NoOpinion {
			t.Fatalf("%+v %v", e, err)
		}
		var out []string
		for _, n := range e.Nearest {
			by := ""
			if n.Policy != nil {
				by = n.Policy.Name
			} else {
				by = n.Grant.Name
			}
			out = append(out, fmt.Sprint(n.Rule.Resources, by, n.Lacks))
		}
		return strings.Join(out, " ") + " " + strings.Join(e.MissingRoles, ",")
	}
	for _, tc := range []struct {
		who  access.Subject
		q    authz.Request
		want string
	}{
		{alice, get("services", "x"), "[services]readers[verb] [pods]readers[resource] "},
		{bob, get("pods", "db"), "[pods]ones[resourceName] [pods]readers[subject] ClusterRole/no-such"},
		{bob, authz.Request{ResourceRequest: true, Verb: "delete", Resource: "pods", Namespace: "ns", Name: "db"}, "[pods]ones[verb resourceName] ClusterRole/no-such"},
		{alice, authz.Request{Verb: "get", Path: "/metrics"}, " "},
	} {
		if got := nearest(tc.who, tc.q); got != tc.want {
			t.Errorf("%s %+v: got %q, want %q", tc.who.Name, tc.q, got, tc.want)
		}
	}
}

func TestMentioned(t *testing.T) {
	t.Parallel()
	a := asker(t, []*accessv1alpha1.AccessPolicy{
		policy("p", accessv1alpha1.EffectAllow, rule("view,*", "pods", "db"), accessv1alpha1.Subject{Kind: "User", Name: "x"}),
		policy("all", accessv1alpha1.EffectAllow, rule("*", "*", "any"), accessv1alpha1.Subject{Kind: "User", Name: "x"}),
		policy("deny", accessv1alpha1.EffectDeny, rule("never", "pods", "gone"), accessv1alpha1.Subject{Kind: "User", Name: "x"}),
	})
	if got := fmt.Sprint(a.Mentioned("", "pods")); got != "{[any db web] [get list view]}" {
		t.Errorf("got %s", got)
	}
	if got := fmt.Sprint(a.Mentioned("apps", "pods")); got != "{[] []}" {
		t.Errorf("of another group: %s", got)
	}
}

func TestPoliciesFollow(t *testing.T) {
	t.Parallel()
	a := asker(t, nil)
	one := policy("p", accessv1alpha1.EffectAllow, rule("view", "pods", "db"), accessv1alpha1.Subject{Kind: "User", Name: "x"})
	a.Policies.Put(one)
	if got := a.Mentioned("", "pods").Verbs; len(got) != 3 {
		t.Errorf("after put: %v", got)
	}
	a.Policies.Delete(one)
	if got := a.Mentioned("", "pods").Verbs; len(got) != 2 {
		t.Errorf("after delete: %v", got)
	}
}
