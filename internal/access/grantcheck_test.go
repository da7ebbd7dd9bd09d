package access_test

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

func TestChecksOnAccessPolicies(t *testing.T) {
	t.Parallel()
	w := authors()
	w.clusterRoles = append(w.clusterRoles, clusterRole("policy-escalator", rule("escalate", "access.gatehouse.dev", "accesspolicies")))
	w.clusterRoleBindings = append(w.clusterRoleBindings, clusterBind("policy-escalator", "User:policy-escalator"))
	c := access.Checks{Access: w.authorizer(t)}
	names := func(n ...string) *accessv1alpha1.NamespaceScope { return &accessv1alpha1.NamespaceScope{Names: n} }
	pods := []rbacv1.PolicyRule{rule("get", "", "pods")}
	for _, tc := range []struct {
		name string
		spec accessv1alpha1.AccessPolicySpec
		want verdicts
	}{
		{"in a namespace", accessv1alpha1.AccessPolicySpec{Effect: "Allow", Rules: pods, Namespaces: names("ns")},
			verdicts{"ns-getter": true, "getter": true, "nobody": false, "root,system:masters": true, "policy-escalator": true, "escalator": false}},
		{"in two namespaces", accessv1alpha1.AccessPolicySpec{Effect: "Allow", Rules: pods, Namespaces: names("ns", "other")},
			verdicts{"ns-getter": false, "getter": true}},
		{"by prefix", accessv1alpha1.AccessPolicySpec{Effect: "Allow", Rules: pods, Namespaces: names("ns", "ns*")},
			verdicts{"ns-getter": false, "getter": true}},
		{"by label", accessv1alpha1.AccessPolicySpec{Effect: "Allow", Rules: pods, Namespaces: &accessv1alpha1.NamespaceScope{Selector: &metav1.LabelSelector{}}},
			verdicts{"ns-getter": false, "getter": true}},
		{"everywhere", accessv1alpha1.AccessPolicySpec{Effect: "Allow", Rules: pods},
			verdicts{"ns-getter": false, "getter": true}},
		{"by a role", accessv1alpha1.AccessPolicySpec{Effect: "Allow", Rules: pods, Roles: []string{"all"}, Namespaces: names("ns")},
			verdicts{"ns-getter": false, "getter": false, "ns-admin": true, "admin": true}},
		{"an effect that is not known gives", accessv1alpha1.AccessPolicySpec{Rules: pods}, verdicts{"nobody": false}},
		{"a deny gives nothing", accessv1alpha1.AccessPolicySpec{Effect: "Deny", Roles: []string{"all"}}, verdicts{"nobody": true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.want.check(t, func(author access.Subject) error {
				return c.AccessPolicy(t.Context(), author, &accessv1alpha1.AccessPolicy{Spec: tc.spec}, nil)
			})
			// Turning a deny into an allow is a grant like a new one.
			old := &accessv1alpha1.AccessPolicy{Spec: tc.spec}
			old.Spec.Effect = accessv1alpha1.EffectDeny
			if tc.spec.Effect == accessv1alpha1.EffectAllow {
				tc.want.check(t, func(author access.Subject) error {
					return c.AccessPolicy(t.Context(), author, &accessv1alpha1.AccessPolicy{Spec: tc.spec}, old)
				})
			}
		})
	}
	unknown := &accessv1alpha1.AccessPolicy{Spec: accessv1alpha1.AccessPolicySpec{Effect: "Allow", Roles: []string{"gone"}}}
	if err := c.AccessPolicy(t.Context(), user("getter"), unknown, nil); fault.KindOf(err) != fault.Invalid {
		t.Errorf("an unknown role: %v", err)
	}
}

func TestChecksOnDelegations(t *testing.T) {
	t.Parallel()
	w := authors()
	w.clusterRoles = append(w.clusterRoles, clusterRole("stand-in", named(rule("impersonate", "", "users"), "ns-getter"), named(rule("impersonate", "", "groups"), "getters"),
		rule("get", "", "pods")))
	w.clusterRoleBindings = append(w.clusterRoleBindings, clusterBind("stand-in", "User:stand-in"))
	c := access.Checks{Access: w.authorizer(t)}
	parent := &accessv1alpha1.Delegation{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "p-1"}, Spec: accessv1alpha1.DelegationSpec{
		From: access.Giver(user("admin")), To: accessv1alpha1.DelegationReceiver{Kind: "User", Name: "nobody"}, MayDelegate: true}}
	find := func(name string) (*accessv1alpha1.Delegation, bool) { return parent, name == "p" }
	write := func(author access.Subject, change func(*accessv1alpha1.DelegationSpec)) error {
		d := &accessv1alpha1.Delegation{Spec: accessv1alpha1.DelegationSpec{From: access.Giver(author), Sites: []string{"gatehouse"},
			Rules: []rbacv1.PolicyRule{rule("get", "", "pods")}, Namespaces: &accessv1alpha1.NamespaceScope{Names: []string{"ns"}}}}
		change(&d.Spec)
		return c.Delegation(t.Context(), author, d, find)
	}
	nothing := func(*accessv1alpha1.DelegationSpec) {}
	verdicts{"ns-getter": true, "x,getters": true, "getter": true, "nobody": false, "escalator": false, "root,system:masters": true}.check(t,
		func(author access.Subject) error { return write(author, nothing) })
	for name, change := range map[string]func(*accessv1alpha1.DelegationSpec){
		"another giver":             func(s *accessv1alpha1.DelegationSpec) { s.From.User = "admin" },
		"more than it holds":        func(s *accessv1alpha1.DelegationSpec) { s.Roles = []string{"all"} },
		"where it does not":         func(s *accessv1alpha1.DelegationSpec) { s.Namespaces = nil },
		"at a site":                 func(s *accessv1alpha1.DelegationSpec) { s.Sites = []string{"gatehouse", "edge"} },
		"everywhere":                func(s *accessv1alpha1.DelegationSpec) { s.Sites = []string{"*"} },
		"a parent of a stolen name": func(s *accessv1alpha1.DelegationSpec) { s.Parent, s.ParentUID, s.From.User = "p", "p-1", "admin" },
		"a parent that was there":   func(s *accessv1alpha1.DelegationSpec) { s.Parent, s.ParentUID = "p", "p-0" },
		"no parent":                 func(s *accessv1alpha1.DelegationSpec) { s.Parent, s.ParentUID = "q", "p-1" },
	} {
		if err := write(user("ns-getter"), change); fault.KindOf(err) != fault.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := write(user("nobody"), func(s *accessv1alpha1.DelegationSpec) { s.Parent, s.ParentUID = "p", "p-1" }); err != nil {
		t.Errorf("with a parent: %v", err)
	}
	onBehalf := func(giver accessv1alpha1.DelegationGiver) error {
		return write(user("stand-in"), func(s *accessv1alpha1.DelegationSpec) { s.From = access.OnBehalf(user("stand-in"), giver) })
	}
	if err := onBehalf(accessv1alpha1.DelegationGiver{User: "ns-getter", Groups: []string{"getters"}}); err != nil {
		t.Errorf("on behalf of somebody: %v", err)
	}
	for name, giver := range map[string]accessv1alpha1.DelegationGiver{
		"somebody else":     {User: "admin"},
		"in a group":        {User: "ns-getter", Groups: []string{"system:masters"}},
		"with a UID":        {User: "ns-getter", UID: "1"},
		"a site":            {User: "system:site:edge"},
		"a service account": {User: "system:serviceaccount:ns:robot"},
	} {
		if err := onBehalf(giver); fault.KindOf(err) != fault.Denied {
			t.Errorf("on behalf of %s: %v", name, err)
		}
	}
}
