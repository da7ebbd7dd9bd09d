package grantstatus

import (
	"errors"
	"fmt"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

type world struct {
	engine *authz.Engine
	now    time.Time
	roles  map[string][]authz.Rule
	*Tracker
}

func newWorld() *world {
	w := &world{engine: authz.New(), now: noon, roles: map[string][]authz.Rule{"view": {{Verbs: []string{"get"}}, {Verbs: []string{"list"}}}}}
	w.Tracker = New(Config{
		Snapshot:  w.engine.Snapshot,
		RoleRules: func(name string) ([]authz.Rule, bool) { r, ok := w.roles[name]; return r, ok },
		CheckCondition: func(_ accessv1alpha1.Effect, text string) error {
			if text == "wrong" {
				return errors.New("does not type-check")
			}
			return nil
		},
		Now: func() time.Time { return w.now },
	})
	return w
}

// put writes a policy as the feeds do.
func (w *world) put(p *accessv1alpha1.AccessPolicy) {
	w.Policies.Put(p)
	x := authz.Policy{Name: p.Name, Effect: authz.Allow, Message: fmt.Sprint(w.engine.Snapshot().Number())}
	for range p.Spec.Subjects {
		x.Subjects = append(x.Subjects, authz.PolicySubject{})
	}
	w.engine.Update(func(t *authz.Tx) { t.PutPolicy(x) })
}

// settle writes what is to be written, as the server does, and says it.
func (w *world) settle(t *testing.T) Changes {
	t.Helper()
	c := w.Take()
	for name, s := range c.Policies {
		for _, p := range w.Policies.Sorted() {
			if p.Name == name {
				p = p.DeepCopy()
				p.Status = s
				w.put(p)
			}
		}
	}
	for name, s := range c.Delegations {
		for _, d := range w.Delegations.Sorted() {
			if d.Name == name {
				d = d.DeepCopy()
				d.Status = s
				w.Delegations.Put(d)
			}
		}
	}
	if again := w.Take(); len(again.Policies)+len(again.Delegations) > 0 && len(c.Policies)+len(c.Delegations) < most {
		t.Fatalf("the same is to be written again: %+v", again)
	}
	w.Again() // what was taken to look at it is not lost
	return c
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	at := func(hours int) *metav1.Time { return &metav1.Time{Time: noon.Add(time.Duration(hours) * time.Hour)} }
	for name, tc := range map[string]struct {
		change func(*accessv1alpha1.AccessPolicySpec)
		want   string
		rules  int32
	}{
		"good":            {func(*accessv1alpha1.AccessPolicySpec) {}, "NoCondition Found InForce", 3},
		"a condition":     {func(s *accessv1alpha1.AccessPolicySpec) { s.Condition = "true" }, "Compiled Found InForce", 3},
		"a wrong one":     {func(s *accessv1alpha1.AccessPolicySpec) { s.Condition = "wrong" }, "DoesNotCompile Found DoesNotCompile", 3},
		"a wrong deny":    {func(s *accessv1alpha1.AccessPolicySpec) { s.Condition, s.Effect = "wrong", "Deny" }, "DoesNotCompile Found InForce", 3},
		"a missing role":  {func(s *accessv1alpha1.AccessPolicySpec) { s.Roles = []string{"gone", "view"} }, "NoCondition RoleNotFound InForce", 3},
		"only such":       {func(s *accessv1alpha1.AccessPolicySpec) { s.Roles, s.Rules = []string{"gone"}, nil }, "NoCondition RoleNotFound NoRules", 0},
		"not begun":       {func(s *accessv1alpha1.AccessPolicySpec) { s.NotBefore = at(1) }, "NoCondition Found NotYet", 3},
		"ended":           {func(s *accessv1alpha1.AccessPolicySpec) { s.NotAfter = at(0) }, "NoCondition Found Ended", 3},
		"nobody is meant": {func(s *accessv1alpha1.AccessPolicySpec) { s.Subjects = nil }, "NoCondition Found NobodyMatches", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			p := &accessv1alpha1.AccessPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p", Generation: 7}, Spec: accessv1alpha1.AccessPolicySpec{
				Effect: "Allow", Subjects: make([]accessv1alpha1.Subject, 2), Roles: []string{"view"}, Rules: make([]rbacv1.PolicyRule, 1)}}
			tc.change(&p.Spec)
			w.put(p)
			s := w.settle(t).Policies["p"]
			got := ""
			for _, kind := range []string{Compiled, RolesFound, InForce} {
				if c := meta.FindStatusCondition(s.Conditions, kind); c != nil {
					got += c.Reason + " "
				}
			}
			if got != tc.want+" " || s.Rules != tc.rules || s.ObservedGeneration != 7 || int(s.MatchedSubjects) != len(p.Spec.Subjects) {
				t.Errorf("%s%+v, want %s", got, s, tc.want)
			}
		})
	}
}

// Time alone changes a status, and nothing is looked at before.
func TestTimePasses(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.put(&accessv1alpha1.AccessPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: accessv1alpha1.AccessPolicySpec{Effect: "Allow",
		Subjects: make([]accessv1alpha1.Subject, 1), Roles: []string{"view"}, NotAfter: &metav1.Time{Time: noon.Add(time.Hour)}}})
	if s := w.settle(t).Policies["p"]; !meta.IsStatusConditionTrue(s.Conditions, InForce) {
		t.Fatalf("%+v", s)
	}
	w.now = noon.Add(time.Hour - 1)
	if c := w.settle(t); len(c.Policies) > 0 {
		t.Fatalf("too early: %+v", c)
	}
	w.now = noon.Add(time.Hour)
	s := w.settle(t).Policies["p"]
	if c := meta.FindStatusCondition(s.Conditions, InForce); c == nil || c.Reason != "Ended" || !c.LastTransitionTime.Equal(&metav1.Time{Time: w.now}) {
		t.Fatalf("%+v", s)
	}
}

func TestManyChangesComeInParts(t *testing.T) {
	t.Parallel()
	w := newWorld()
	for i := range 2*most + 1 {
		w.put(&accessv1alpha1.AccessPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(i)}, Spec: accessv1alpha1.AccessPolicySpec{Effect: "Deny", Roles: []string{"view"}}})
	}
	for i, want := range []int{most, most, 1, 0} {
		if got := len(w.settle(t).Policies); got != want {
			t.Errorf("part %d has %d changes, want %d", i, got, want)
		}
	}
}

func TestDelegations(t *testing.T) {
	t.Parallel()
	pods := []authz.Rule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}
	hand := func(name, from, to, parent string) authz.Delegation {
		return authz.Delegation{Name: name, ID: name, Parent: parent, ParentID: parent, Giver: authz.Giver{User: from}, To: authz.Subject{Kind: authz.User, Name: to},
			Rules: pods, Sites: []string{"gatehouse"}, NotAfter: noon.Add(time.Hour), MayDelegate: true}
	}
	ban := func(user string) authz.Ban {
		return authz.Ban{Name: "b", Sites: []string{"*"}, Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.User, Name: user}}}}
	}
	for name, tc := range map[string]struct {
		change func(*authz.Tx)
		want   string
	}{
		"held":              {func(*authz.Tx) {}, "Held"},
		"the giver lost it": {func(t *authz.Tx) { t.DeleteBinding("", "x") }, "GiverLacks"},
		"one is denied": {func(t *authz.Tx) {
			t.PutPolicy(authz.Policy{Name: "p", Effect: authz.Deny, Sites: []string{"*"}, Rules: pods, Subjects: ban("bob").Subjects})
		}, "GiverLacks"},
		"one is banned":      {func(t *authz.Tx) { t.PutBan(ban("alice")) }, "GiverBanned"},
		"the parent is gone": {func(t *authz.Tx) { t.DeleteDelegation("d1") }, "ParentGone"},
		"the parent ended":   {func(t *authz.Tx) { d := hand("d1", "alice", "bob", ""); d.NotAfter = noon; t.PutDelegation(d) }, "Ended"},
		"it begins later": {func(t *authz.Tx) {
			d := hand("d2", "bob", "carol", "d1")
			d.NotBefore = noon.Add(1)
			t.PutDelegation(d)
		}, "NotYet"},
		"not in the engine": {func(t *authz.Tx) { t.DeleteDelegation("d2") }, "GiverGone"},
		"a circle":          {func(t *authz.Tx) { t.PutDelegation(hand("d1", "carol", "bob", "d2")) }, "ParentGone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			w.engine.Update(func(t *authz.Tx) {
				t.PutRole(authz.Role{Name: "reader", Rules: pods})
				t.PutBinding(authz.Binding{Name: "x", RoleKind: "ClusterRole", RoleName: "reader", Subjects: []authz.Subject{{Kind: authz.User, Name: "alice"}}})
				t.PutDelegation(hand("d1", "alice", "bob", ""))
				t.PutDelegation(hand("d2", "bob", "carol", "d1"))
			})
			w.engine.Update(tc.change)
			w.Delegations.Put(&accessv1alpha1.Delegation{ObjectMeta: metav1.ObjectMeta{Name: "d2"}})
			s := w.settle(t).Delegations["d2"]
			c := meta.FindStatusCondition(s.Conditions, InForce)
			if c == nil || c.Reason != tc.want || (c.Status == metav1.ConditionTrue) != (tc.want == "Held") {
				t.Errorf("%+v, want %s", s, tc.want)
			}
			if tc.want == "Held" && fmt.Sprint(s.Chain) != "[carol bob alice]" {
				t.Errorf("chain %v", s.Chain)
			}
		})
	}
}
