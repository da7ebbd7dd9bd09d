package authz

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
)

// TestChangesAgreeWithOracle applies random sequences of changes and compares,
// after each transaction, every kind of answer with the plain reading of the
// policy, of the changed snapshot and of one built anew.
func TestChangesAgreeWithOracle(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := world{Rand: rand.New(rand.NewPCG(seed, 7)), shape: int(seed % 3)}
			o, e := newOracle(), New()
			for round := range 40 {
				w.shrinking = round%20 >= 12
				e.Update(func(tx *Tx) {
					if w.IntN(50) == 0 {
						*o = *newOracle()
						tx.Clear()
					}
					n := 1 + w.IntN(4)
					if w.shape > 0 {
						n += w.IntN(120)
					}
					for range n {
						w.change(o, tx)
					}
				})
				fresh := w.build(o)
				if got, want := e.Snapshot().Counts(), fresh.Counts(); got != want {
					t.Fatalf("counts after changes %+v, built anew %+v", got, want)
				}
				for range 20 {
					q := w.request()
					for _, s := range []*Snapshot{e.Snapshot(), fresh} {
						compareAnswers(t, o, s, q)
					}
				}
			}
		})
	}
}

func compareAnswers(t *testing.T, o *oracle, s *Snapshot, q *Request) {
	t.Helper()
	if got, want := spell(s.Decide(q)), o.decide(q); got != want {
		t.Fatalf("decide %+v\n got %+v\nwant %+v", q, got, want)
	}
	rules, missing := s.RulesFor(q)
	wantRules, wantMissing := o.rulesFor(q)
	for i := range wantRules {
		clip(&wantRules[i].Rule)
	}
	if !reflect.DeepEqual(rules, wantRules) || !reflect.DeepEqual(missing, wantMissing) {
		t.Fatalf("rules for %+v\n got %+v %+v\nwant %+v %+v", q, rules, missing, wantRules, wantMissing)
	}
	if got, want := spellHolders(s.WhoCan(q)), o.whoCan(q); !reflect.DeepEqual(got, want) {
		t.Fatalf("who can %+v\n got %v\nwant %v", q, got, want)
	}
}

// clip makes empty lists nil.
func clip(r *Rule) {
	for _, l := range []*[]string{&r.Verbs, &r.APIGroups, &r.Resources, &r.ResourceNames, &r.NonResourceURLs} {
		if len(*l) == 0 {
			*l = nil
		}
	}
}
