package question_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/question"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

// told renders an impact, one line a subject.
func told(i question.Impact) string {
	var lines []string
	for _, s := range i.Subjects {
		line := string(s.Subject.Kind) + "/" + strings.TrimPrefix(s.Subject.Namespace+"/"+s.Subject.Name, "/")
		if s.MemberOf != "" {
			line += " of " + s.MemberOf
		}
		for sign, list := range map[string][]question.ImpactRule{"+": s.Gains, "-": s.Loses} {
			for _, r := range list {
				for _, one := range r.Rules {
					line += " " + sign + r.Namespace + "{" + rbac.Words(one) + "}"
				}
				if r.Limits != nil {
					line += " within " + r.Limits.Name
				}
				if len(r.Except) > 0 {
					line += fmt.Sprint(" except ", r.Except)
				}
				line += fmt.Sprint(" by ", r.By)
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func TestImpact(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	view := &rbacv1.ClusterRole{ObjectMeta: named("view"), AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"to-view": "true"}}}}}
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"}
	for _, c := range []access.Change{
		{Object: &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "base", Labels: map[string]string{"to-view": "true"}}, Rules: []rbacv1.PolicyRule{rule("get", "pods")}}},
		{Object: func() *rbacv1.ClusterRole {
			v := view.DeepCopy()
			v.Rules = []rbacv1.PolicyRule{rule("get", "pods")}
			return v
		}()},
		{Object: &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "devs", Namespace: "n0"}, RoleRef: ref, Subjects: []rbacv1.Subject{{Kind: "Group", Name: "dev"}}}},
		{Object: &rbacv1.ClusterRoleBinding{ObjectMeta: named("bots"), RoleRef: ref, Subjects: []rbacv1.Subject{{Kind: "Group", Name: "system:serviceaccounts:n1"}}}},
		{Object: policy("label", accessv1alpha1.EffectAllow, rule("list", "nodes"), accessv1alpha1.Subject{Kind: "User", Name: "ada"})},
	} {
		w.apply(c)
	}
	for _, name := range []string{"a", "b"} {
		w.asker.Accounts.Put(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n1"}})
	}
	gold := policy("gold", accessv1alpha1.EffectAllow, rule("get", "jobs"), accessv1alpha1.Subject{Kind: "ServiceAccount", Domain: "blue"})
	byLabel := policy("staging", accessv1alpha1.EffectAllow, rule("delete", "pods"), accessv1alpha1.Subject{Kind: "User", Name: "ada"})
	byLabel.Spec.Namespaces = &accessv1alpha1.NamespaceScope{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"stage": "test"}}}
	w.apply(access.Change{Object: gold})
	w.apply(access.Change{Object: byLabel})
	limited := policy("limited", accessv1alpha1.EffectAllow, rule("list", "secrets"), accessv1alpha1.Subject{Kind: "User", Name: "ada"})
	limited.Spec.LabelSelector = []metav1.LabelSelectorRequirement{{Key: "team", Operator: metav1.LabelSelectorOpIn, Values: []string{"a"}}}

	for _, tc := range []struct {
		name   string
		change access.Change
		want   string
		notes  string
	}{
		{"a role that others aggregate", access.Change{Object: &rbacv1.ClusterRole{ObjectMeta: named("more"), Rules: []rbacv1.PolicyRule{rule("get", "secrets")}}}, "", ""},
		{"and one with the label", access.Change{Object: &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "more", Labels: map[string]string{"to-view": "true"}}, Rules: []rbacv1.PolicyRule{rule("get", "secrets")}}},
			`Group/dev +n0{get secrets} by [RoleBinding/n0/devs]
Group/system:serviceaccounts:n1 +{get secrets} by [ClusterRoleBinding/bots]
ServiceAccount/n1/a of system:serviceaccounts:n1 +{get secrets} by [ClusterRoleBinding/bots]
ServiceAccount/n1/b of system:serviceaccounts:n1 +{get secrets} by [ClusterRoleBinding/bots]`, "members of group dev are not known"},
		{"a binding deleted", access.Change{Delete: true, Object: &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "devs", Namespace: "n0"}}}, "Group/dev -n0{get pods} by [RoleBinding/n0/devs]", ""},
		{"what is held already", access.Change{Object: &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "again", Namespace: "n0"}, RoleRef: ref, Subjects: []rbacv1.Subject{{Kind: "Group", Name: "dev"}}}}, "", ""},
		{"a denial for everybody", access.Change{Object: policy("no", accessv1alpha1.EffectDeny, rule("*", "*"), accessv1alpha1.Subject{Kind: "Group", Name: "dev"})},
			"Group/dev -n0{get pods} by [AccessPolicy/no RoleBinding/n0/devs]", ""},
		{"a ban of one account", access.Change{Object: &accessv1alpha1.Ban{ObjectMeta: named("out"), Spec: accessv1alpha1.BanSpec{Reason: "r", Subject: &accessv1alpha1.BanSubject{Kind: "ServiceAccount", Namespace: "n1", Name: "a"}}}},
			"ServiceAccount/n1/a -{get pods} by [Ban/out ClusterRoleBinding/bots]", ""},
		{"a limited grant", access.Change{Object: limited}, "User/ada +{list secrets} within limited by [AccessPolicy/limited]", "groups of users are not known"},
		{"a namespace comes into a domain", access.Change{Object: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"gatehouse.dev/domain": "blue"}}}},
			`Group/system:serviceaccounts:n1 +{get jobs} by [AccessPolicy/gold]
ServiceAccount/n1/a of system:serviceaccounts:n1 +{get jobs} by [AccessPolicy/gold]
ServiceAccount/n1/b of system:serviceaccounts:n1 +{get jobs} by [AccessPolicy/gold]`, ""},
		{"a namespace gets a label", access.Change{Object: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n0", Labels: map[string]string{"stage": "test"}}}},
			"User/ada +n0{delete pods} by [AccessPolicy/staging]", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			impact, err := w.asker.Impact(t.Context(), []access.Change{tc.change})
			if err != nil {
				t.Fatal(err)
			}
			if got := told(impact); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
			if !strings.Contains(strings.Join(impact.Notes, "\n"), tc.notes) {
				t.Errorf("notes: %q", impact.Notes)
			}
		})
	}
	// Nothing of it happened.
	d, err := w.asker.Access.Decide(t.Context(), access.Subject{Name: "x", Groups: []string{"dev"}}, authz.Request{ResourceRequest: true, Verb: "get", Resource: "pods", Namespace: "n0"})
	if err != nil || !d.Allowed() {
		t.Errorf("%v %v", d.Reason(), err)
	}
	if _, err := w.asker.Impact(t.Context(), []access.Change{{Object: &corev1.Secret{}}}); err == nil {
		t.Error("a secret is no policy")
	}
}

// Members of groups and of domains are named where they are known, and those
// that are denied stand apart.
func TestWhoCanNamesMembers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"a", "b"} {
		w.asker.Accounts.Put(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n1"}})
	}
	w.apply(access.Change{Object: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"gatehouse.dev/domain": "blue"}}}})
	w.apply(access.Change{Object: policy("gold", accessv1alpha1.EffectAllow, rule("get", "jobs"), accessv1alpha1.Subject{Kind: "ServiceAccount", Domain: "blue"})})
	w.apply(access.Change{Object: policy("empty", accessv1alpha1.EffectAllow, rule("get", "jobs"), accessv1alpha1.Subject{Kind: "ServiceAccount", Domain: "nowhere"})})
	w.apply(access.Change{Object: &accessv1alpha1.Ban{ObjectMeta: named("out"), Spec: accessv1alpha1.BanSpec{Reason: "r", Subject: &accessv1alpha1.BanSubject{Kind: "ServiceAccount", Namespace: "n1", Name: "a"}}}})
	holders, refused, err := w.asker.WhoCan(t.Context(), authz.Request{ResourceRequest: true, Verb: "get", Resource: "jobs", Namespace: "n0"})
	if err != nil || len(holders) != 2 || holders[1].Domain != "blue" || len(holders[1].Members) != 1 || holders[1].Members[0].Name != "b" {
		t.Errorf("%+v %v", holders, err)
	}
	if len(refused) != 1 || refused[0].Subject.Name != "a" || !strings.Contains(refused[0].Reason, `Ban "out"`) {
		t.Errorf("%+v", refused)
	}
}

// Policies are among the nearest rules, with what they lack.
func TestExplainNamesPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	limited := policy("limited", accessv1alpha1.EffectAllow, rule("list", "secrets"), accessv1alpha1.Subject{Kind: "User", Name: "ada"})
	limited.Spec.LabelSelector = []metav1.LabelSelectorRequirement{{Key: "team", Operator: metav1.LabelSelectorOpIn, Values: []string{"a"}}}
	limited.Spec.Namespaces = &accessv1alpha1.NamespaceScope{Names: []string{"n1"}}
	w.apply(access.Change{Object: limited})
	e, err := w.asker.Explain(t.Context(), access.Subject{Name: "ada"}, authz.Request{ResourceRequest: true, Verb: "list", Resource: "secrets", Namespace: "n0"})
	if err != nil || len(e.Nearest) != 1 || e.Nearest[0].Policy == nil || e.Nearest[0].Policy.Name != "limited" ||
		!slices.Equal(e.Nearest[0].Lacks, []authz.Lack{authz.LacksNamespace, authz.LacksSelector}) {
		t.Errorf("%+v %v", e, err)
	}
}
