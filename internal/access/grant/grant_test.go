package grant_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
)

var now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

func at(hours int) *metav1.Time {
	t := metav1.NewTime(now.Add(time.Duration(hours) * time.Hour))
	return &t
}

func rule(verbs, resources string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: strings.Split(verbs, ","), APIGroups: []string{""}, Resources: strings.Split(resources, ",")}
}

func validator(stored ...*accessv1alpha1.Delegation) grant.Validator {
	return grant.Validator{
		RoleRules: func(name string) ([]authz.Rule, bool) {
			roles := map[string][]authz.Rule{
				"view":  {{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}},
				"empty": nil,
			}
			rules, ok := roles[name]
			return rules, ok
		},
		FindDelegation: func(name string) (*accessv1alpha1.Delegation, bool) {
			i := slices.IndexFunc(stored, func(d *accessv1alpha1.Delegation) bool { return d.Name == name })
			if i < 0 {
				return nil, false
			}
			return stored[i], true
		},
		CheckCondition: func(effect accessv1alpha1.Effect, expression string) error {
			if strings.Contains(expression, "bad") {
				return fmt.Errorf("undeclared reference to 'bad' in %s", effect)
			}
			return nil
		},
		Now: func() time.Time { return now },
	}
}

// faults checks that exactly the wanted errors are reported, each given as
// "path: a part of the text".
func faults(t *testing.T, errs field.ErrorList, want ...string) {
	t.Helper()
	var got []string
	for _, e := range errs {
		got = append(got, e.Error())
	}
	if len(got) != len(want) {
		t.Errorf("got %d faults %q, want %q", len(got), got, want)
		return
	}
	for i, w := range want {
		path, text, _ := strings.Cut(w, ": ")
		if errs[i].Field != path || !strings.Contains(got[i], text) {
			t.Errorf("got %q, want %q", got[i], w)
		}
	}
}

func policy(change func(*accessv1alpha1.AccessPolicySpec)) *accessv1alpha1.AccessPolicy {
	p := &accessv1alpha1.AccessPolicy{Spec: accessv1alpha1.AccessPolicySpec{
		Effect:   accessv1alpha1.EffectAllow,
		Subjects: []accessv1alpha1.Subject{{Kind: accessv1alpha1.SubjectUser, Name: "alice"}},
		Roles:    []string{"view"},
		Sites:    []string{"gatehouse"},
	}}
	change(&p.Spec)
	return p
}

type spec = accessv1alpha1.AccessPolicySpec

func TestAccessPolicy(t *testing.T) {
	t.Parallel()
	subjects := func(list ...accessv1alpha1.Subject) func(*spec) { return func(s *spec) { s.Subjects = list } }
	sites := func(list ...string) func(*spec) { return func(s *spec) { s.Sites = list } }
	names := func(list ...string) func(*spec) {
		return func(s *spec) { s.Namespaces = &accessv1alpha1.NamespaceScope{Names: list} }
	}
	for _, tc := range []struct {
		name   string
		change func(*spec)
		want   []string
	}{
		{"good", func(*spec) {}, nil},
		{"everything good", func(s *spec) {
			s.Effect = accessv1alpha1.EffectDeny
			s.Subjects = []accessv1alpha1.Subject{
				{Kind: "Group", NamePrefix: "system:"}, {Kind: "ServiceAccount", Namespace: "ns", Name: "robot"}, {Kind: "ServiceAccount", Namespace: "ns", NamePrefix: "ci-"},
				{Kind: "ServiceAccount", Domain: "research"}, {Kind: "Site", Name: "berlin"}, {Kind: "Site", NamePrefix: "eu-"}, {Kind: "Site", Domain: "research"},
				{Kind: "User", NamePrefix: "oidc:"}, {Kind: "Group", Name: "system:masters"}}
			s.Rules = []rbacv1.PolicyRule{rule("list,watch", "secrets")}
			s.Sites = []string{"gatehouse", "berlin", "eu-*", "us*"}
			s.Namespaces = &accessv1alpha1.NamespaceScope{Names: []string{"prod", "team-*"}}
			s.FieldSelector = []metav1.FieldSelectorRequirement{{Key: "spec.nodeName", Operator: "In", Values: []string{"n1", "n2"}}}
			s.LabelSelector = []metav1.LabelSelectorRequirement{{Key: "team", Operator: "In", Values: []string{"a"}}, {Key: "x", Operator: "Exists"}}
			s.NotBefore, s.NotAfter = at(1), at(2)
			s.Condition, s.Message = "request.user.name != ''", "ask the team"
		}, nil},
		{"every namespace by label", func(s *spec) {
			s.Namespaces = &accessv1alpha1.NamespaceScope{Selector: &metav1.LabelSelector{}}
		}, nil},
		{"no effect", func(s *spec) { s.Effect = "" }, []string{"spec.effect: must be Allow or Deny"}},
		{"another effect", func(s *spec) { s.Effect = "Audit" }, []string{`spec.effect: supported values: "Allow", "Deny"`}},
		{"no subjects", subjects(), []string{"spec.subjects: at least one"}},
		{"a subject without kind", subjects(accessv1alpha1.Subject{Name: "a"}), []string{"spec.subjects[0].kind: supported values"}},
		{"a subject without name", subjects(accessv1alpha1.Subject{Kind: "User"}), []string{"spec.subjects[0]: exactly one of"}},
		{"a subject with two", subjects(accessv1alpha1.Subject{Kind: "User", Name: "a", NamePrefix: "b"}), []string{"spec.subjects[0]: exactly one of"}},
		{"a site as user", subjects(accessv1alpha1.Subject{Kind: "User", Name: "system:site:berlin"}), []string{"spec.subjects[0].name: names of sites are given with kind Site"}},
		{"sites as group", subjects(accessv1alpha1.Subject{Kind: "Group", Name: "system:sites"}), []string{"spec.subjects[0].name: names of sites are given with kind Site"}},
		{"an allow by a reserved prefix", subjects(accessv1alpha1.Subject{Kind: "User", NamePrefix: "system:node:"}), []string{`spec.subjects[0].namePrefix: an allow cannot reach names that begin with "system:"`}},
		{"an allow by a prefix of the reserved one", subjects(accessv1alpha1.Subject{Kind: "Group", NamePrefix: "s"}), []string{`spec.subjects[0].namePrefix: an allow cannot reach names that begin with "system:"`}},
		{"a namespace of a user", subjects(accessv1alpha1.Subject{Kind: "User", Name: "a", Namespace: "ns"}), []string{"spec.subjects[0].namespace: belongs to service accounts only"}},
		{"a service account without namespace", subjects(accessv1alpha1.Subject{Kind: "ServiceAccount", Name: "a"}), []string{"spec.subjects[0].namespace: must be given"}},
		{"a service account outside the grammar", subjects(accessv1alpha1.Subject{Kind: "ServiceAccount", Name: "A:b", Namespace: "n:s"}),
			[]string{"spec.subjects[0].name: RFC 1123", "spec.subjects[0].namespace: RFC 1123"}},
		{"a service account prefix outside the grammar", subjects(accessv1alpha1.Subject{Kind: "ServiceAccount", NamePrefix: "a:", Namespace: "ns"}), []string{"spec.subjects[0].namePrefix: must be the beginning of a name"}},
		{"a domain of a user", subjects(accessv1alpha1.Subject{Kind: "User", Domain: "d"}), []string{"spec.subjects[0].domain: only service accounts and sites"}},
		{"a domain and a namespace", subjects(accessv1alpha1.Subject{Kind: "ServiceAccount", Domain: "d", Namespace: "ns"}), []string{"spec.subjects[0].namespace: cannot stand beside domain"}},
		{"a domain that is no label", subjects(accessv1alpha1.Subject{Kind: "Site", Domain: "not a label"}), []string{"spec.subjects[0].domain: a valid label must"}},
		{"a name that is too long", subjects(accessv1alpha1.Subject{Kind: "User", Name: strings.Repeat("a", 1025)}), []string{"spec.subjects[0].name: may not be more than 1024 bytes"}},
		{"too many subjects", subjects(slices.Repeat([]accessv1alpha1.Subject{{Kind: "User", Name: "a"}}, 1001)...), []string{"spec.subjects: must have at most 1000 items"}},
		{"an unknown role", func(s *spec) { s.Roles = []string{"view", "gone"} }, []string{`spec.roles[1]: Not found: "gone"`}},
		{"no rules at all", func(s *spec) { s.Roles = nil }, []string{"spec.rules: at least one of roles and rules"}},
		{"a rule of nothing", func(s *spec) { s.Rules = []rbacv1.PolicyRule{{}} },
			[]string{"spec.rules[0].verbs: at least one", "spec.rules[0].apiGroups: at least one", "spec.rules[0].resources: at least one"}},
		{"URLs with resources", func(s *spec) {
			r := rule("get", "pods")
			r.NonResourceURLs = []string{"/"}
			s.Rules = []rbacv1.PolicyRule{r}
		}, []string{"spec.rules[0].nonResourceURLs: cannot stand in one rule with resources"}},
		{"URLs in namespaces", func(s *spec) {
			names("prod")(s)
			s.Rules = []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/x"}}}
		}, []string{"spec.rules[0].nonResourceURLs: in no namespace"}},
		{"URLs beside selectors", func(s *spec) {
			s.LabelSelector = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Exists"}}
			s.Rules = []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/x"}}}
		}, []string{"spec.rules[0].nonResourceURLs: selects no objects"}},
		{"a rule that is a bomb", func(s *spec) {
			long := strings.TrimSuffix(strings.Repeat("x,", 1000), ",")
			s.Rules = []rbacv1.PolicyRule{rule(long, long)}
		}, []string{"spec.rules: at most 100000 single actions"}},
		{"no sites", sites(), []string{"spec.sites: name sites"}},
		{"everything and more", sites("berlin", "*"), []string{"spec.sites[1]: already means every site"}},
		{"a star inside", sites("a*b"), []string{"spec.sites[0]: must be a name, or the beginning"}},
		{"a star in front", sites("*b"), []string{"spec.sites[0]: must be a name, or the beginning"}},
		{"two stars", sites("a**"), []string{"spec.sites[0]: must be a name, or the beginning"}},
		{"no name", sites(""), []string{"spec.sites[0]: must be a name, or the beginning"}},
		{"a name in capitals", sites("Berlin"), []string{"spec.sites[0]: must be a name, or the beginning"}},
		{"an unbounded namespace", names("prod", "*"), []string{"spec.namespaces.names[1]: leave namespaces out to mean everywhere"}},
		{"a namespace with a star inside", names("a*b"), []string{"spec.namespaces.names[0]: must be a name, or the beginning"}},
		{"an empty scope", names(), []string{"spec.namespaces: names or selector"}},
		{"names and selector", func(s *spec) {
			s.Namespaces = &accessv1alpha1.NamespaceScope{Names: []string{"a"}, Selector: &metav1.LabelSelector{}}
		}, []string{"spec.namespaces.selector: cannot stand beside names"}},
		{"a selector that cannot be", func(s *spec) {
			s.Namespaces = &accessv1alpha1.NamespaceScope{Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}}
		}, []string{"spec.namespaces.selector.matchExpressions[0].operator: not a valid selector operator"}},
		{"field requirements", func(s *spec) {
			s.FieldSelector = []metav1.FieldSelectorRequirement{{Key: "a", Operator: "Near"}, {Key: "a", Operator: "Exists"}, {Operator: "In", Values: []string{"x"}}}
		}, []string{"spec.fieldSelector[0].operator: not a valid selector operator", `spec.fieldSelector[1].operator: supported values: "In", "NotIn"`, "spec.fieldSelector[2].key: must be specified"}},
		{"label requirements", func(s *spec) {
			s.LabelSelector = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}, {Key: "a", Operator: "In"}}
		}, []string{"spec.labelSelector[0].operator: not a valid selector operator", "spec.labelSelector[1].values: must be specified"}},
		{"an end before the start", func(s *spec) { s.NotBefore, s.NotAfter = at(2), at(1) }, []string{"spec.notAfter: must be after notBefore"}},
		{"an end at the start", func(s *spec) { s.NotBefore, s.NotAfter = at(2), at(2) }, []string{"spec.notAfter: must be after notBefore"}},
		{"a condition that is wrong", func(s *spec) { s.Condition = "bad == 1" }, []string{"spec.condition: undeclared reference to 'bad' in Allow"}},
		{"a condition that is too long", func(s *spec) { s.Condition = strings.Repeat("x", 4097) }, []string{"spec.condition: may not be more than 4096 bytes"}},
		{"a message that is too long", func(s *spec) { s.Message = strings.Repeat("x", 1025) }, []string{"spec.message: may not be more than 1024 bytes"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			faults(t, validator().AccessPolicy(policy(tc.change)), tc.want...)
		})
	}
}

// Without an evaluator a condition would be a promise that nobody keeps.
func TestConditionsNeedAnEvaluator(t *testing.T) {
	t.Parallel()
	v := validator()
	v.CheckCondition = nil
	faults(t, v.AccessPolicy(policy(func(s *spec) { s.Condition = "true" })), "spec.condition: conditions are not evaluated here")
	faults(t, v.AccessPolicy(policy(func(*spec) {})))
	v.CheckCondition = func(accessv1alpha1.Effect, string) error { return errors.New("too costly") }
	faults(t, v.AccessPolicy(policy(func(s *spec) { s.Condition = "true" })), "spec.condition: too costly")
}

func TestBan(t *testing.T) {
	t.Parallel()
	alice := &accessv1alpha1.BanSubject{Kind: accessv1alpha1.SubjectUser, Name: "alice"}
	for _, tc := range []struct {
		name string
		spec accessv1alpha1.BanSpec
		want []string
	}{
		{"a subject", accessv1alpha1.BanSpec{Subject: alice, Reason: "left"}, nil},
		{"a credential at one site until tomorrow", accessv1alpha1.BanSpec{CredentialID: "JTI=1", Reason: "leaked", Sites: []string{"berlin"}, NotAfter: at(24)}, nil},
		{"a group", accessv1alpha1.BanSpec{Subject: &accessv1alpha1.BanSubject{Kind: "Group", Name: "system:masters"}, Reason: "r"}, nil},
		{"a site", accessv1alpha1.BanSpec{Subject: &accessv1alpha1.BanSubject{Kind: "Site", Name: "berlin"}, Reason: "r"}, nil},
		{"nobody", accessv1alpha1.BanSpec{Reason: "r"}, []string{"spec: one of subject, credentialID and issuerKey"}},
		{"a token without a jti", accessv1alpha1.BanSpec{CredentialID: "JWTSHA256=00ff", Reason: "leaked"}, nil},
		{"a token in a Secret", accessv1alpha1.BanSpec{CredentialID: "SECRET=lab/robot-token", Reason: "leaked"}, nil},
		{"a bootstrap token", accessv1alpha1.BanSpec{CredentialID: "BOOTSTRAP=abcdef", Reason: "leaked"}, nil},
		{"both", accessv1alpha1.BanSpec{Subject: alice, CredentialID: "JTI=1", Reason: "r"}, []string{"spec.credentialID: cannot stand beside subject"}},
		{"a key", accessv1alpha1.BanSpec{IssuerKey: "kid-1", Reason: "leaked"}, nil},
		{"a key and a subject", accessv1alpha1.BanSpec{IssuerKey: "kid-1", Subject: alice, Reason: "r"}, []string{"spec.issuerKey: must stand alone"}},
		{"a key at a site", accessv1alpha1.BanSpec{IssuerKey: "kid-1", Sites: []string{"berlin"}, Reason: "r"}, []string{"spec.sites: the ban of a key holds everywhere"}},
		{"no reason", accessv1alpha1.BanSpec{Subject: alice, Reason: " \n"}, []string{"spec.reason: is recorded"}},
		{"a subject without a name", accessv1alpha1.BanSpec{Subject: &accessv1alpha1.BanSubject{Kind: "User"}, Reason: "r"}, []string{"spec.subject.name: must be given"}},
		{"a subject without a kind", accessv1alpha1.BanSpec{Subject: &accessv1alpha1.BanSubject{Name: "a"}, Reason: "r"}, []string{"spec.subject.kind: supported values"}},
		{"a service account without namespace", accessv1alpha1.BanSpec{Subject: &accessv1alpha1.BanSubject{Kind: "ServiceAccount", Name: "a"}, Reason: "r"}, []string{"spec.subject.namespace: must be given"}},
		{"a credential of no kind", accessv1alpha1.BanSpec{CredentialID: "1234", Reason: "r"}, []string{"spec.credentialID: must begin with one of"}},
		{"a kind without a credential", accessv1alpha1.BanSpec{CredentialID: "JTI=", Reason: "r"}, []string{"spec.credentialID: must begin with one of"}},
		{"a bad site", accessv1alpha1.BanSpec{Subject: alice, Reason: "r", Sites: []string{"a*b"}}, []string{"spec.sites[0]: must be a name"}},
		{"already over", accessv1alpha1.BanSpec{Subject: alice, Reason: "r", NotAfter: at(0)}, []string{"spec.notAfter: is already past"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			faults(t, validator().Ban(&accessv1alpha1.Ban{Spec: tc.spec}), tc.want...)
		})
	}
}

func TestBanUpdate(t *testing.T) {
	t.Parallel()
	old := &accessv1alpha1.Ban{Spec: accessv1alpha1.BanSpec{CredentialID: "JTI=1", Reason: "r", Sites: []string{"berlin"}}}
	change := func(f func(*accessv1alpha1.BanSpec)) *accessv1alpha1.Ban {
		b := old.DeepCopy()
		f(&b.Spec)
		return b
	}
	v := validator()
	faults(t, v.BanUpdate(change(func(s *accessv1alpha1.BanSpec) { s.Reason, s.NotAfter = "other", at(-1) }), old))
	faults(t, v.BanUpdate(change(func(s *accessv1alpha1.BanSpec) { s.CredentialID = "JTI=2" }), old), "spec.credentialID: cannot be changed")
	faults(t, v.BanUpdate(change(func(s *accessv1alpha1.BanSpec) { s.Sites = nil }), old), "spec.sites: cannot be changed")
	faults(t, v.BanUpdate(change(func(s *accessv1alpha1.BanSpec) {
		s.CredentialID, s.Subject = "", &accessv1alpha1.BanSubject{Kind: "User", Name: "alice"}
	}), old), "spec.subject: cannot be changed", "spec.credentialID: cannot be changed")
}

func delegation(name, from, to, parent string, change ...func(*accessv1alpha1.DelegationSpec)) *accessv1alpha1.Delegation {
	d := &accessv1alpha1.Delegation{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: accessv1alpha1.DelegationSpec{
		From:        accessv1alpha1.DelegationGiver{User: from},
		To:          accessv1alpha1.DelegationReceiver{Kind: accessv1alpha1.SubjectUser, Name: to},
		Rules:       []rbacv1.PolicyRule{rule("get,list", "pods,configmaps")},
		Sites:       []string{"gatehouse", "eu-*"},
		Namespaces:  &accessv1alpha1.NamespaceScope{Names: []string{"prod", "team-*"}},
		NotAfter:    *at(10),
		MayDelegate: true,
		Parent:      parent,
	}}
	for _, f := range change {
		f(&d.Spec)
	}
	return d
}

func TestDelegation(t *testing.T) {
	t.Parallel()
	type s = accessv1alpha1.DelegationSpec
	for _, tc := range []struct {
		name   string
		change func(*s)
		want   []string
	}{
		{"good", func(*s) {}, nil},
		{"to a service account", func(d *s) {
			d.To = accessv1alpha1.DelegationReceiver{Kind: "ServiceAccount", Namespace: "ns", Name: "robot"}
		}, nil},
		{"by role", func(d *s) { d.Rules, d.Roles = nil, []string{"view"} }, nil},
		{"without a giver", func(d *s) { d.From.User = "" }, []string{"spec.from.user: is filled in"}},
		{"to oneself", func(d *s) { d.To.Name = "alice" }, []string{"spec.to.name: somebody other"}},
		{"to oneself, a service account", func(d *s) {
			d.From.User = "system:serviceaccount:ns:robot"
			d.To = accessv1alpha1.DelegationReceiver{Kind: "ServiceAccount", Namespace: "ns", Name: "robot"}
		}, []string{"spec.to.name: somebody other"}},
		{"to a group", func(d *s) { d.To.Kind = "Group" }, []string{`spec.to.kind: supported values: "User", "ServiceAccount"`}},
		{"to a site", func(d *s) { d.To.Kind = "Site" }, []string{`spec.to.kind: supported values: "User", "ServiceAccount"`}},
		{"to a site's name", func(d *s) { d.To.Name = "system:site:berlin" }, []string{"spec.to.name: names of sites"}},
		{"for ever", func(d *s) { d.NotAfter = metav1.Time{} }, []string{"spec.notAfter: must end"}},
		{"for years", func(d *s) { d.NotAfter = *at(24 * 400) }, []string{"spec.notAfter: at most 90 days ahead"}},
		{"already over", func(d *s) { d.NotAfter = *at(-1) }, []string{"spec.notAfter: is already past"}},
		{"an end before its start", func(d *s) { d.NotBefore, d.NotAfter = at(3), *at(2) }, []string{"spec.notAfter: must be after notBefore"}},
		{"from a site", func(d *s) { d.From.User = "system:site:berlin" }, []string{"spec.from: a site hands on nothing"}},
		{"from a giver of long groups", func(d *s) { d.From.Groups = []string{"a", strings.Repeat("g", 1025)} }, []string{"spec.from.groups[1]: Too long"}},
		{"nowhere", func(d *s) { d.Sites = nil }, []string{"spec.sites: name sites"}},
		{"of nothing", func(d *s) { d.Rules = nil }, []string{"spec.rules: at least one of roles and rules"}},
		{"of an unknown role", func(d *s) { d.Roles = []string{"gone"} }, []string{"spec.roles[0]: Not found"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			faults(t, validator().Delegation(delegation("d", "alice", "bob", "", tc.change)), tc.want...)
		})
	}
	d := delegation("d", "alice", "bob", "")
	faults(t, validator().DelegationUpdate(d.DeepCopy(), d))
	faults(t, validator().DelegationUpdate(delegation("d", "alice", "eve", ""), d), "spec: cannot be changed")
}

func TestDelegationStaysInsideItsParent(t *testing.T) {
	t.Parallel()
	type s = accessv1alpha1.DelegationSpec
	parent := delegation("parent", "alice", "bob", "", func(d *s) { d.NotBefore = at(-1) })
	for _, tc := range []struct {
		name   string
		change func(*s)
		want   []string
	}{
		{"the same", func(*s) {}, nil},
		{"less", func(d *s) {
			d.Rules, d.Sites, d.NotAfter = []rbacv1.PolicyRule{rule("get", "pods")}, []string{"eu-berlin"}, *at(1)
			d.Namespaces = &accessv1alpha1.NamespaceScope{Names: []string{"team-a", "team-b*"}}
		}, nil},
		{"a role inside", func(d *s) { d.Rules, d.Roles = nil, []string{"view"} }, nil},
		{"more verbs", func(d *s) { d.Rules = []rbacv1.PolicyRule{rule("get,delete", "pods")} },
			[]string{`spec.rules: {APIGroups:[""], Resources:["pods"], Verbs:["delete"]}`}},
		{"longer", func(d *s) { d.NotAfter = *at(11) }, []string{"spec.notAfter: must not be after the end of the parent"}},
		{"sooner", func(d *s) { d.NotBefore = at(-2) }, []string{"spec.notBefore: must not be before the beginning of the parent"}},
		{"another site", func(d *s) { d.Sites = []string{"us-east"} }, []string{"spec.sites: must lie inside"}},
		{"a wider site", func(d *s) { d.Sites = []string{"e*"} }, []string{"spec.sites: must lie inside"}},
		{"every site", func(d *s) { d.Sites = []string{"*"} }, []string{"spec.sites: must lie inside"}},
		{"another namespace", func(d *s) { d.Namespaces = &accessv1alpha1.NamespaceScope{Names: []string{"prod2"}} }, []string{"spec.namespaces: must lie inside"}},
		{"no namespaces", func(d *s) { d.Namespaces = nil }, []string{"spec.namespaces: must lie inside"}},
		{"a selector", func(d *s) { d.Namespaces = &accessv1alpha1.NamespaceScope{Selector: &metav1.LabelSelector{}} }, []string{"spec.namespaces: must lie inside"}},
		{"not the receiver's", func(d *s) { d.From.User = "mallory" }, []string{"spec.parent: was not given to the author"}},
		{"an unknown parent", func(d *s) { d.Parent = "gone" }, []string{`spec.parent: Not found: "gone"`}},
		{"back to the giver", func(d *s) { d.To.Name = "alice" }, []string{"spec.to.name: already stands in the chain"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			faults(t, validator(parent).Delegation(delegation("d", "bob", "carol", "parent", tc.change)), tc.want...)
		})
	}
	another := parent.DeepCopy()
	another.UID = "2"
	faults(t, validator(another).Delegation(delegation("d", "bob", "carol", "parent")), "spec.parent: has just been replaced")
	closed := delegation("parent", "alice", "bob", "", func(d *s) { d.MayDelegate = false })
	faults(t, validator(closed).Delegation(delegation("d", "bob", "carol", "parent")), "spec.parent: may not be handed on")
	later := delegation("parent", "alice", "bob", "", func(d *s) { d.NotBefore = at(5) })
	faults(t, validator(later).Delegation(delegation("d", "bob", "carol", "parent")), "spec.notBefore: must not be before the beginning of the parent")
}

func TestDelegationChains(t *testing.T) {
	t.Parallel()
	var stored []*accessv1alpha1.Delegation
	name := func(i int) string { return fmt.Sprintf("u%d", i) }
	parent := ""
	for i := range 12 {
		d := delegation(fmt.Sprintf("d%d", i), name(i), name(i+1), parent)
		stored = append(stored, d)
		parent = d.Name
	}
	next := func(i int, to string) *accessv1alpha1.Delegation {
		return delegation("new", name(i+1), to, fmt.Sprintf("d%d", i))
	}
	v := validator(stored...)
	faults(t, v.Delegation(next(6, "new")))
	faults(t, v.Delegation(next(7, "new")), "spec.parent: at most 8 delegations")
	faults(t, v.Delegation(next(5, "u0")), "spec.to.name: already stands in the chain")
	faults(t, v.Delegation(next(5, "u3")), "spec.to.name: already stands in the chain")
	faults(t, validator(stored[6]).Delegation(next(6, "new")), `spec.parent: Not found: "d5"`)
	// Two that name each other cannot be written, but must not hang the check.
	a, b := delegation("a", "x", "y", "b"), delegation("b", "y", "x", "a")
	faults(t, validator(a, b).Delegation(delegation("new", "y", "z", "a")), "spec.parent: at most 8 delegations")
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"a*", "a", true}, {"a*", "ab", true}, {"a*", "b", false}, {"*", "", true}, {"*", "x", true}, {"", "", true}, {"", "x", false},
	} {
		if got := grant.Pattern(tc.pattern).Matches(tc.name); got != tc.want {
			t.Errorf("%q matches %q: %v", tc.pattern, tc.name, got)
		}
	}
}

// FuzzWithin: a name that the inner scope includes, the outer one includes.
func FuzzWithin(f *testing.F) {
	f.Add("team-a*", "team-*", "team-a1")
	f.Add("*", "a*", "b")
	f.Fuzz(func(t *testing.T, inner, outer, name string) {
		if grant.Within([]string{inner}, []string{outer}) && grant.Pattern(inner).Matches(name) && !grant.Pattern(outer).Matches(name) {
			t.Fatalf("%q is within %q, but %q is not", inner, outer, name)
		}
	})
}
