package grant_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
)

type holds bool

func (h holds) Holds(*authz.Request) (bool, error) { return bool(h), nil }
func (holds) ReadsObject() bool                    { return false }

func translator() grant.Translator {
	return grant.Translator{
		NamespacesOf: func(domain string) []string {
			return map[string][]string{"research": {"lab", "lab2"}}[domain]
		},
		SitesOf: func(domain string) []string { return map[string][]string{"research": {"berlin"}}[domain] },
		Compile: func(_ accessv1alpha1.Effect, expression string) (authz.Condition, error) {
			switch expression {
			case "true", "false":
				return holds(expression == "true"), nil
			default:
				return nil, errors.New("does not compile")
			}
		},
	}
}

func TestTranslateSubjects(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		in   accessv1alpha1.Subject
		want string
	}{
		{accessv1alpha1.Subject{Kind: "User", Name: "alice"}, "User alice exact"},
		{accessv1alpha1.Subject{Kind: "Group", NamePrefix: "oidc:"}, "Group oidc: prefix"},
		{accessv1alpha1.Subject{Kind: "User", Name: "system:node:n1"}, "User system:node:n1 exact, User system:node:n1 exact own"},
		{accessv1alpha1.Subject{Kind: "Group", NamePrefix: "s"}, "Group s prefix, Group s prefix own"},
		{accessv1alpha1.Subject{Kind: "Group", NamePrefix: "system:n"}, "Group system:n prefix, Group system:n prefix own"},
		{accessv1alpha1.Subject{Kind: "ServiceAccount", Namespace: "ns", Name: "robot"}, "User system:serviceaccount:ns:robot exact"},
		{accessv1alpha1.Subject{Kind: "ServiceAccount", Namespace: "ns", NamePrefix: "ci-"}, "User system:serviceaccount:ns:ci- prefix"},
		{accessv1alpha1.Subject{Kind: "ServiceAccount", Domain: "research"}, "Group system:serviceaccounts:lab exact, Group system:serviceaccounts:lab2 exact"},
		{accessv1alpha1.Subject{Kind: "ServiceAccount", Domain: "empty"}, ""},
		{accessv1alpha1.Subject{Kind: "Site", Name: "berlin"}, "User system:site:berlin exact"},
		{accessv1alpha1.Subject{Kind: "Site", NamePrefix: "eu-"}, "User system:site:eu- prefix"},
		{accessv1alpha1.Subject{Kind: "Site", Domain: "research"}, "User system:site:berlin exact"},
		{accessv1alpha1.Subject{Kind: "User"}, ""},
		{accessv1alpha1.Subject{Kind: "ServiceAccount", Name: "robot"}, ""},
		{accessv1alpha1.Subject{Kind: "Site"}, ""},
		{accessv1alpha1.Subject{Kind: "Robot", Name: "r2"}, ""},
	} {
		p := translator().AccessPolicy(policy(func(s *spec) { s.Subjects = []accessv1alpha1.Subject{tc.in} }))
		var got []string
		for _, s := range p.Subjects {
			text := fmt.Sprint(s.Kind, " ", s.Name, " ", map[authz.NameMatch]string{authz.Exact: "exact", authz.Prefix: "prefix"}[s.Match])
			if s.SitesOwn {
				text += " own"
			}
			got = append(got, text)
		}
		if strings.Join(got, ", ") != tc.want {
			t.Errorf("%+v: got %v, want %s", tc.in, got, tc.want)
		}
	}
}

func TestTranslatePolicy(t *testing.T) {
	t.Parallel()
	p := policy(func(s *spec) {
		s.Effect = accessv1alpha1.EffectDeny
		s.Rules = []rbacv1.PolicyRule{rule("get", "secrets")}
		s.Sites = []string{"berlin", "eu-*"}
		s.Namespaces = &accessv1alpha1.NamespaceScope{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"b": "2", "a": "1"},
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "c", Operator: "DoesNotExist"}}}}
		s.LabelSelector = []metav1.LabelSelectorRequirement{{Key: "team", Operator: "NotIn", Values: []string{"x"}}, {Key: "y", Operator: "Exists"}}
		s.FieldSelector = []metav1.FieldSelectorRequirement{{Key: "spec.nodeName", Operator: "In", Values: []string{"n1"}}}
		s.NotBefore, s.NotAfter = at(1), at(2)
		s.Condition = "true"
	})
	p.Name = "p"
	want := authz.Policy{
		Name: "p", Effect: authz.Deny,
		Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.User, Name: "alice"}}},
		Rules:    []authz.Rule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}}},
		Roles:    []string{"view"}, Sites: []string{"berlin", "eu-*"},
		NamespaceLabels: []authz.Requirement{{Key: "a", Operator: authz.In, Values: []string{"1"}}, {Key: "b", Operator: authz.In, Values: []string{"2"}},
			{Key: "c", Operator: authz.DoesNotExist}},
		LabelSelector: []authz.Requirement{{Key: "team", Operator: authz.NotIn, Values: []string{"x"}}, {Key: "y", Operator: authz.Exists}},
		FieldSelector: []authz.Requirement{{Key: "spec.nodeName", Operator: authz.In, Values: []string{"n1"}}},
		NotBefore:     at(1).Time, NotAfter: at(2).Time, Condition: holds(true),
	}
	if got := translator().AccessPolicy(p); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	named := translator().AccessPolicy(policy(func(s *spec) { s.Namespaces = &accessv1alpha1.NamespaceScope{Names: []string{"prod", "team-*"}} }))
	if !reflect.DeepEqual(named.Namespaces, []string{"prod", "team-*"}) || named.Effect != authz.Allow || named.NamespaceLabels != nil {
		t.Errorf("got %+v", named)
	}
	// An empty selector is every namespace, but not what is outside of them.
	every := translator().AccessPolicy(policy(func(s *spec) { s.Namespaces = &accessv1alpha1.NamespaceScope{Selector: &metav1.LabelSelector{}} }))
	if !reflect.DeepEqual(every.Namespaces, []string{"*"}) {
		t.Errorf("got %+v", every.Namespaces)
	}
	if none := translator().AccessPolicy(policy(func(s *spec) { s.Effect = "Audit" })); none.Effect != authz.NoOpinion {
		t.Errorf("an unknown effect became %v", none.Effect)
	}
}

// A condition that cannot be compiled must fail when it is asked, never hold
// and never be left out.
func TestTranslateBrokenConditions(t *testing.T) {
	t.Parallel()
	without := translator()
	without.Compile = nil
	for name, tr := range map[string]grant.Translator{"does not compile": translator(), "no compiler": without} {
		p := tr.AccessPolicy(policy(func(s *spec) { s.Condition = "bad" }))
		if p.Condition == nil {
			t.Errorf("%s: the condition is gone", name)
			continue
		}
		if ok, err := p.Condition.Holds(&authz.Request{}); ok || err == nil {
			t.Errorf("%s: %v %v", name, ok, err)
		}
	}
}

func TestTranslateBan(t *testing.T) {
	t.Parallel()
	got := translator().Ban(&accessv1alpha1.Ban{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: accessv1alpha1.BanSpec{
		Subject: &accessv1alpha1.BanSubject{Kind: "ServiceAccount", Namespace: "ns", Name: "robot"}, Reason: "leaked", NotAfter: at(1)}})
	want := authz.Ban{Name: "b", Sites: []string{"*"}, Reason: "leaked", NotAfter: at(1).Time,
		Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.User, Name: "system:serviceaccount:ns:robot"}}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	got = translator().Ban(&accessv1alpha1.Ban{Spec: accessv1alpha1.BanSpec{CredentialID: "JTI=1", Sites: []string{"berlin"}}})
	if !reflect.DeepEqual(got.CredentialIDs, []string{"JTI=1"}) || got.Subjects != nil || !reflect.DeepEqual(got.Sites, []string{"berlin"}) {
		t.Errorf("got %+v", got)
	}
}
