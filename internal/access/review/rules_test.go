package review_test

import (
	"fmt"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/review"
)

// What is denied leaves the rules and shows beside them, and no rule that is
// left is refused altogether.
func TestRulesReviewShowsDenials(t *testing.T) {
	t.Parallel()
	p := access.NewPolicy()
	g := p.WithGrants(nil)
	p.ClusterRoles.Replace([]*rbacv1.ClusterRole{
		{ObjectMeta: metav1.ObjectMeta{Name: "dev"}, Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"pods", "secrets"}},
			{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"services"}},
		}},
		{ObjectMeta: metav1.ObjectMeta{Name: "all"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}},
	})
	bind := func(name, role string, users ...string) *rbacv1.ClusterRoleBinding {
		b := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}}
		for _, u := range users {
			b.Subjects = append(b.Subjects, rbacv1.Subject{Kind: "User", Name: u})
		}
		return b
	}
	p.ClusterRoleBindings.Replace([]*rbacv1.ClusterRoleBinding{bind("dev", "dev", "ada", "carl"), bind("all", "all", "bob")})
	p.Roles.Replace(nil)
	p.RoleBindings.Replace(nil)
	p.Sites.Replace(nil)
	g.Namespaces.Replace([]*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}, {ObjectMeta: metav1.ObjectMeta{Name: "other"}}})
	g.Bans.Replace([]*accessv1alpha1.Ban{{ObjectMeta: metav1.ObjectMeta{Name: "out"}, Spec: accessv1alpha1.BanSpec{Reason: "left", Subject: &accessv1alpha1.BanSubject{Kind: "User", Name: "carl"}}}})
	g.Delegations.Replace(nil)
	g.Accounts.Replace(nil)
	policy := func(name string, effect accessv1alpha1.Effect, rule rbacv1.PolicyRule, change func(*accessv1alpha1.AccessPolicySpec), users ...string) *accessv1alpha1.AccessPolicy {
		x := &accessv1alpha1.AccessPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: accessv1alpha1.AccessPolicySpec{Effect: effect, Sites: []string{"gatehouse"}, Rules: []rbacv1.PolicyRule{rule}}}
		for _, u := range users {
			x.Spec.Subjects = append(x.Spec.Subjects, accessv1alpha1.Subject{Kind: "User", Name: u})
		}
		if change != nil {
			change(&x.Spec)
		}
		return x
	}
	secrets := rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{""}, Resources: []string{"secrets"}}
	g.AccessPolicies.Replace([]*accessv1alpha1.AccessPolicy{
		policy("no-secrets", accessv1alpha1.EffectDeny, secrets, func(s *accessv1alpha1.AccessPolicySpec) {
			s.Namespaces = &accessv1alpha1.NamespaceScope{Names: []string{"ns"}}
		}, "ada", "bob"),
		policy("jobs", accessv1alpha1.EffectAllow, rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{"batch"}, Resources: []string{"jobs"}}, nil, "ada"),
		policy("labelled", accessv1alpha1.EffectAllow, rbacv1.PolicyRule{Verbs: []string{"list"}, APIGroups: []string{""}, Resources: []string{"nodes"}}, func(s *accessv1alpha1.AccessPolicySpec) {
			s.LabelSelector = []metav1.LabelSelectorRequirement{{Key: "team", Operator: metav1.LabelSelectorOpIn, Values: []string{"a"}}}
		}, "ada"),
	})
	a, err := access.New(access.Config{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	r := review.Reviewer{Access: a}
	for _, tc := range []struct{ user, namespace, rules, note string }{
		{"ada", "ns", "get,list pods; get services; get jobs of batch; deny:* secrets",
			`denied by AccessPolicy "no-secrets": * secrets; allowed by AccessPolicy "labelled" (labels team in (a)): list nodes`},
		{"ada", "other", "get,list pods,secrets; get services; get jobs of batch", `allowed by AccessPolicy "labelled" (labels team in (a)): list nodes`},
		{"bob", "ns", "* * of *; deny:* secrets", `denied by AccessPolicy "no-secrets": * secrets`},
		{"bob", "other", "* * of *", ""},
		{"carl", "ns", "deny:* * of *; deny:* *", `everything is denied by Ban "out": left`},
	} {
		in := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: tc.namespace}}
		if err := r.SelfSubjectRulesReview(t.Context(), access.Subject{Name: tc.user}, in); err != nil {
			t.Fatal(err)
		}
		if got := rendered(&in.Status); got != tc.rules || in.Status.EvaluationError != tc.note || in.Status.Incomplete != (tc.note != "") {
			t.Errorf("%s in %s:\n got %s\n     %q %v\nwant %s\n     %q", tc.user, tc.namespace, got, in.Status.EvaluationError, in.Status.Incomplete, tc.rules, tc.note)
		}
		// Single questions agree: what is listed without a wildcard is allowed,
		// what is listed as denied is denied.
		for _, rule := range in.Status.ResourceRules {
			for _, verb := range rule.Verbs {
				for _, resource := range rule.Resources {
					verb, denied := strings.CutPrefix(verb, review.DenyVerb)
					if verb == "*" {
						verb = "get"
					}
					if !denied && resource == "*" {
						continue
					}
					d, err := a.Decide(t.Context(), access.Subject{Name: tc.user}, authz.Request{ResourceRequest: true, Verb: verb, APIGroup: strings.Replace(rule.APIGroups[0], "*", "", 1), Resource: resource, Namespace: tc.namespace})
					if err != nil || d.Denied() != denied || d.Allowed() == denied {
						t.Errorf("%s in %s: %s %s: %s, listed as denied: %v", tc.user, tc.namespace, verb, resource, d.Effect(), denied)
					}
				}
			}
		}
	}
}

func rendered(s *authorizationv1.SubjectRulesReviewStatus) string {
	var out []string
	for _, r := range s.ResourceRules {
		text := fmt.Sprintf("%s %s", strings.Join(r.Verbs, ","), strings.Join(r.Resources, ","))
		if g := strings.Join(r.APIGroups, ","); g != "" {
			text += " of " + g
		}
		out = append(out, text)
	}
	for _, r := range s.NonResourceRules {
		out = append(out, fmt.Sprintf("%s %s", strings.Join(r.Verbs, ","), strings.Join(r.NonResourceURLs, ",")))
	}
	return strings.Join(out, "; ")
}
