package question_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/held"
	"github.com/gatehouse-dev/gatehouse/internal/access/question"
)

// world is random policy, with everything that follows it.
type world struct {
	policy       *access.Policy
	grants       *access.Grants
	asker        question.Asker
	policies     map[string]*accessv1alpha1.AccessPolicy
	clusterRoles map[string]*rbacv1.ClusterRole
	spaces       map[string]*corev1.Namespace
}

func newWorld(t *testing.T) *world {
	t.Helper()
	p := access.NewPolicy()
	w := &world{policy: p, grants: p.WithGrants(nil), policies: map[string]*accessv1alpha1.AccessPolicy{},
		clusterRoles: map[string]*rbacv1.ClusterRole{}, spaces: map[string]*corev1.Namespace{}}
	p.Roles.Replace(nil)
	p.ClusterRoles.Replace(nil)
	p.RoleBindings.Replace(nil)
	p.ClusterRoleBindings.Replace(nil)
	p.Sites.Replace(nil)
	w.grants.Bans.Replace(nil)
	w.grants.Delegations.Replace(nil)
	w.grants.Accounts.Replace(nil)
	w.grants.AccessPolicies.Replace(nil)
	w.grants.Namespaces.Replace(nil)
	a, err := access.New(access.Config{Policy: p, Now: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	w.asker = question.Asker{Access: a, Policy: p, Policies: question.NewPolicies(), Accounts: question.NewAccounts(),
		ClusterRoles: held.New[*rbacv1.ClusterRole](), Namespaces: held.New[*corev1.Namespace]()}
	for _, n := range spaces[1:] {
		w.apply(access.Change{Object: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n}}})
	}
	return w
}

// apply makes a change as the watch would.
func (w *world) apply(c access.Change) {
	switch o := c.Object.(type) {
	case *rbacv1.ClusterRole:
		feed(c, o, w.policy.ClusterRoles, w.asker.ClusterRoles)
	case *rbacv1.Role:
		feed(c, o, w.policy.Roles)
	case *rbacv1.RoleBinding:
		feed(c, o, w.policy.RoleBindings)
	case *rbacv1.ClusterRoleBinding:
		feed(c, o, w.policy.ClusterRoleBindings)
	case *accessv1alpha1.AccessPolicy:
		feed(c, o, w.grants.AccessPolicies, w.asker.Policies)
	case *accessv1alpha1.Ban:
		feed(c, o, w.grants.Bans)
	case *corev1.Namespace:
		feed(c, o, w.grants.Namespaces, w.asker.Namespaces)
	}
}

type sink[T any] interface {
	Put(T)
	Delete(T)
}

func feed[T any](c access.Change, o T, to ...sink[T]) {
	for _, f := range to {
		if c.Delete {
			f.Delete(o)
		} else {
			f.Put(o)
		}
	}
}

var (
	spaces    = []string{"", "n0", "n1"}
	users     = []string{"u0", "u1", "u2"}
	groups    = []string{"g0", "g1"}
	verbs     = []string{"get", "list", "delete"}
	resources = []string{"pods", "secrets", "pods/log"}
)

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func randomRule(r *rand.Rand) rbacv1.PolicyRule {
	if r.IntN(8) == 0 {
		return rbacv1.PolicyRule{Verbs: []string{pick(r, []string{"get", "*"})}, NonResourceURLs: []string{pick(r, []string{"/a", "/a/*", "*"})}}
	}
	out := rbacv1.PolicyRule{Verbs: []string{pick(r, append(verbs, "*"))}, APIGroups: []string{pick(r, []string{"", "apps", "*"})}, Resources: []string{pick(r, append(resources, "*", "*/log"))}}
	if r.IntN(4) == 0 {
		out.ResourceNames = []string{pick(r, []string{"a", "b"})}
	}
	return out
}

func randomSubject(r *rand.Rand) accessv1alpha1.Subject {
	if r.IntN(3) == 0 {
		return accessv1alpha1.Subject{Kind: "Group", Name: pick(r, groups)}
	}
	return accessv1alpha1.Subject{Kind: "User", Name: pick(r, users)}
}

func randomChange(r *rand.Rand) access.Change {
	c := access.Change{Delete: r.IntN(4) == 0}
	meta := metav1.ObjectMeta{Name: fmt.Sprintf("o%d", r.IntN(4))}
	s := randomSubject(r)
	subjects := []rbacv1.Subject{{Kind: string(s.Kind), Name: s.Name}}
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: fmt.Sprintf("o%d", r.IntN(4))}
	rules := []rbacv1.PolicyRule{randomRule(r), randomRule(r)}
	switch r.IntN(7) {
	case 0:
		c.Object = &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}
	case 1:
		meta.Namespace = pick(r, spaces[1:])
		c.Object = &rbacv1.Role{ObjectMeta: meta, Rules: rules}
	case 2:
		meta.Namespace = pick(r, spaces[1:])
		ref.Kind = pick(r, []string{"Role", "ClusterRole"})
		c.Object = &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects}
	case 3:
		c.Object = &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects}
	case 4, 5:
		p := &accessv1alpha1.AccessPolicy{ObjectMeta: meta, Spec: accessv1alpha1.AccessPolicySpec{Effect: pick(r, []accessv1alpha1.Effect{"Allow", "Deny"}),
			Sites: []string{"gatehouse"}, Subjects: []accessv1alpha1.Subject{s}, Rules: rules[:1]}}
		if r.IntN(2) == 0 {
			p.Spec.Roles = []string{ref.Name}
		}
		if r.IntN(2) == 0 {
			p.Spec.Namespaces = &accessv1alpha1.NamespaceScope{Names: []string{pick(r, []string{"n0", "n1", "n*"})}}
		}
		if r.IntN(4) == 0 {
			p.Spec.LabelSelector = []metav1.LabelSelectorRequirement{{Key: "team", Operator: metav1.LabelSelectorOpIn, Values: []string{"a"}}}
		}
		c.Object = p
	case 6:
		c.Object = &accessv1alpha1.Ban{ObjectMeta: meta, Spec: accessv1alpha1.BanSpec{Reason: "r", Subject: &accessv1alpha1.BanSubject{Kind: s.Kind, Name: s.Name}}}
	}
	return c
}

// every single question of the universe, without the caller.
func everyQuestion() (out []authz.Request) {
	for _, v := range append(slices.Clone(verbs), "watch") {
		for _, path := range []string{"/a", "/a/b", "/c"} {
			out = append(out, authz.Request{Verb: v, Path: path})
		}
		for _, g := range []string{"", "apps", "batch"} {
			for _, res := range [][2]string{{"pods", ""}, {"secrets", ""}, {"pods", "log"}, {"jobs", "log"}} {
				for _, n := range []string{"", "a", "c"} {
					for _, ns := range spaces {
						out = append(out, authz.Request{ResourceRequest: true, Verb: v, APIGroup: g, Resource: res[0], Subresource: res[1], Name: n, Namespace: ns})
					}
				}
			}
		}
	}
	return out
}

// plain is the plain reading of a list of entitlements: the first that the
// request meets decides.
func plain(has question.Has, q *authz.Request, labelled bool) authz.Effect {
	for _, e := range has.Entitlements {
		met := false
		for _, rule := range e.Rules {
			nameless := rule
			if e.Effect == authz.Deny && q.Name == "" {
				nameless.ResourceNames = nil // could touch
			}
			met = met || nameless.Allows(q)
		}
		if p := e.Policy; p != nil && met {
			inside := len(p.Namespaces) == 0 || q.ResourceRequest && slices.ContainsFunc(p.Namespaces, func(n string) bool {
				return n == q.Namespace || n == "n*" && q.Namespace != "" || q.Namespace == "" && e.Effect == authz.Deny
			})
			selects := len(p.LabelSelector) == 0 || q.ResourceRequest && (e.Effect == authz.Deny || labelled)
			met = inside && selects
		}
		if met {
			return e.Effect
		}
	}
	return authz.NoOpinion
}

// TestWhatCanIsBruteForce: the list, read plainly, says of every single
// question what the decision says.
func TestWhatCanIsBruteForce(t *testing.T) {
	t.Parallel()
	effects := map[authz.Effect]int{}
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(t)
		for range 30 {
			w.apply(randomChange(r))
		}
		all := everyQuestion()
		for _, user := range users {
			who := access.Subject{Name: user, Groups: []string{pick(r, groups)}}
			if seed == 0 {
				who.Groups = append(who.Groups, access.SuperuserGroup)
			}
			for _, ns := range spaces {
				has, err := w.asker.WhatCan(who, ns)
				if err != nil {
					t.Fatal(err)
				}
				for _, q := range all {
					if q.Namespace != ns {
						continue
					}
					for _, labelled := range []bool{false, true} {
						if labelled && q.ResourceRequest {
							q.LabelSelector = []authz.Requirement{{Key: "team", Operator: authz.In, Values: []string{"a"}}}
						}
						d, err := w.asker.Access.Decide(t.Context(), who, q)
						if err != nil {
							t.Fatal(err)
						}
						effects[d.Effect()]++
						if got := plain(has, &q, labelled); got != d.Effect() {
							t.Fatalf("seed %d: %v asks %+v: the list says %s, the decision %s (%s)\n%+v", seed, who, q, got, d.Effect(), d.Reason(), has)
						}
					}
				}
			}
		}
	}
	if effects[authz.Allow] < 1000 || effects[authz.Deny] < 1000 || effects[authz.NoOpinion] < 1000 {
		t.Fatalf("too little of something: %v", effects)
	}
}

// TestImpactIsBruteForce: what is said to change changes, and what changes is
// said to, subject by subject and question by question.
func TestImpactIsBruteForce(t *testing.T) {
	t.Parallel()
	questions := everyQuestion()
	reported, changed := 0, 0
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 7))
		w := newWorld(t)
		for range 16 {
			w.apply(randomChange(r))
		}
		var changes []access.Change
		for range 1 + r.IntN(3) {
			changes = append(changes, randomChange(r))
		}
		impact, err := w.asker.Impact(t.Context(), changes)
		if err != nil {
			t.Fatal(err)
		}
		decide := func() map[string][]authz.Effect {
			out := map[string][]authz.Effect{}
			for _, name := range append(slices.Clone(users), groups...) {
				who := access.Subject{Name: name, Groups: []string{"system:authenticated"}}
				if slices.Contains(groups, name) {
					who = access.Subject{Groups: []string{name, "system:authenticated"}}
				}
				for _, q := range questions {
					d, err := w.asker.Access.Decide(t.Context(), who, q)
					if err != nil {
						t.Fatal(err)
					}
					out[name] = append(out[name], d.Effect())
				}
			}
			return out
		}
		before := decide()
		for _, c := range changes {
			w.apply(c)
		}
		after := decide()
		for _, name := range append(slices.Clone(users), groups...) {
			i := slices.IndexFunc(impact.Subjects, func(s question.SubjectImpact) bool { return s.Subject.Name == name })
			var said question.SubjectImpact
			if i >= 0 {
				said = impact.Subjects[i]
				reported++
			}
			for k := range questions {
				q := &questions[k]
				was, will := before[name][k] == authz.Allow, after[name][k] == authz.Allow
				if was != will {
					changed++
				}
				gain, lose := covers(said.Gains, q), covers(said.Loses, q)
				// A denial for names or for namespaces refuses nameless and
				// wide requests too, which a note says.
				wide := q.ResourceRequest && (q.Name == "" || q.Namespace == "")
				if !was && will && !gain && !wide || was && !will && !lose && !wide {
					t.Fatalf("seed %d: %s, %+v: was %v, will be %v, said: %+v\n%s", seed, name, *q, was, will, said, describe(changes))
				}
				if was == will && (exactly(said.Gains, q) || exactly(said.Loses, q)) && !wide {
					t.Fatalf("seed %d: %s, %+v: stays %v, said: %+v\n%s", seed, name, *q, was, said, describe(changes))
				}
			}
		}
	}
	if reported < 25 || changed < 800 {
		t.Fatalf("%d subjects reported, %d answers changed: too few to show anything", reported, changed)
	}
}

func describe(changes []access.Change) string {
	text := ""
	for _, c := range changes {
		text += fmt.Sprintf("%T delete=%v %+v\n", c.Object, c.Delete, c.Object)
	}
	return text
}

// covers reports whether a request is among the rules.
func covers(list []question.ImpactRule, q *authz.Request) bool {
	return slices.ContainsFunc(list, func(x question.ImpactRule) bool {
		return (x.Namespace == "" || x.Namespace == q.Namespace) && slices.ContainsFunc(x.Rules, func(r authz.Rule) bool { return r.Allows(q) })
	})
}

// exactly is covers by a rule for this one thing, without limits or exceptions.
func exactly(list []question.ImpactRule, q *authz.Request) bool {
	return slices.ContainsFunc(list, func(x question.ImpactRule) bool {
		return x.Limits == nil && len(x.Except) == 0 && x.Namespace == q.Namespace && slices.ContainsFunc(x.Rules, func(r authz.Rule) bool {
			for _, words := range [][]string{r.Verbs, r.APIGroups, r.Resources, r.NonResourceURLs} {
				for _, word := range words {
					if word != "" && (word == "*" || word[0] == '*' || word[len(word)-1] == '*') {
						return false
					}
				}
			}
			return len(r.ResourceNames) == 0 == (q.Name == "") && r.Allows(q)
		})
	})
}
