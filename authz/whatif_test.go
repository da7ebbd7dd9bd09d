package authz

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
)

// What would be is what is, once the change is made; and asking leaves no
// trace, whatever was asked before.
func TestWhatIfForesees(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 9))
	e := New()
	for round := range 300 {
		change := randomChange(random)
		before := e.Snapshot()
		was := before.Content()
		// Asked about first, and made never: it must not show below.
		other := e.WhatIf(randomChange(random))
		said := other.Content()
		foreseen := e.WhatIf(change)
		if e.Snapshot() != before || !reflect.DeepEqual(before.Content(), was) {
			t.Fatalf("round %d: asking changed the policy", round)
		}
		content := foreseen.Content()
		after := e.Update(change)
		if !reflect.DeepEqual(after.Content(), content) || !reflect.DeepEqual(foreseen.Content(), content) || !reflect.DeepEqual(other.Content(), said) {
			t.Fatalf("round %d: the change did something else than was foreseen", round)
		}
		for range 20 {
			q := Request{User: fmt.Sprintf("u%d", random.IntN(6)), ResourceRequest: true, Verb: "get", Resource: fmt.Sprintf("r%d", random.IntN(4)), Namespace: fmt.Sprintf("n%d", random.IntN(3))}
			if x, y := foreseen.Decide(&q), after.Decide(&q); x.Effect() != y.Effect() || x.Reason() != y.Reason() {
				t.Fatalf("round %d: %+v: foreseen %s, then %s", round, q, x.Reason(), y.Reason())
			}
		}
	}
}

func randomChange(random *rand.Rand) func(*Tx) {
	seed := random.Uint64()
	return func(tx *Tx) {
		r := rand.New(rand.NewPCG(seed, 1))
		for range 1 + r.IntN(12) {
			role := fmt.Sprintf("c%d", r.IntN(5))
			name, space := fmt.Sprintf("b%d", r.IntN(40)), []string{"", "n0", "n1", "n2"}[r.IntN(4)]
			rules := []Rule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{fmt.Sprintf("r%d", r.IntN(4))}}}
			who := Subject{Kind: User, Name: fmt.Sprintf("u%d", r.IntN(6))}
			switch r.IntN(7) {
			case 0:
				tx.PutRole(Role{Name: role, Rules: rules})
			case 1:
				tx.DeleteRole("", role)
			case 2:
				tx.DeleteBinding(space, name)
			case 3:
				tx.PutPolicy(Policy{Name: name, Effect: []Effect{Allow, Deny}[r.IntN(2)], Subjects: []PolicySubject{{Subject: who}}, Rules: rules, Sites: []string{ControlPlane}})
			case 4:
				tx.DeletePolicy(name)
			default:
				tx.PutBinding(Binding{Namespace: space, Name: name, RoleKind: ClusterRoleKind, RoleName: role, Subjects: []Subject{who}})
			}
		}
	}
}
