package authz

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// Nothing that is added overrules a denial, and no request that could reach what
// is denied gets past it: not without a selector, not over all namespaces, not
// without a name, not with a wildcard. Whatever sequence of changes led there.
func TestNoSequenceOverridesADeny(t *testing.T) {
	t.Parallel()
	denied := 0
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 11))
		e := New()
		// The denial, as narrow as it may be.
		deny := Policy{Name: fmt.Sprintf("m%d", r.IntN(100)), Effect: Deny, Sites: []string{ControlPlane},
			Subjects: []PolicySubject{{Subject: Subject{Kind: Group, Name: "staff"}}},
			Rules:    []Rule{{Verbs: []string{"list", "get", "watch"}, APIGroups: []string{""}, Resources: []string{"secrets"}}}}
		narrow := r.IntN(8)
		if narrow&1 != 0 {
			deny.Namespaces = []string{"vault"}
		}
		if narrow&2 != 0 {
			deny.LabelSelector = []Requirement{{Key: "tier", Operator: In, Values: []string{"gold"}}}
		}
		if narrow&4 != 0 {
			deny.Rules[0].ResourceNames = []string{"root"}
		}
		all := []Rule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}
		put := r.IntN(60)
		for i := range 60 {
			e.Update(func(tx *Tx) {
				if i == put {
					tx.PutPolicy(deny)
				}
				name := fmt.Sprintf("a%d", r.IntN(20))
				who := []Subject{{Kind: User, Name: "ada"}, {Kind: Group, Name: "staff"}, {Kind: Group, Name: "system:authenticated"}}[r.IntN(3)]
				switch r.IntN(7) {
				case 0:
					tx.PutRole(Role{Name: "all", Rules: all})
				case 1:
					tx.PutBinding(Binding{Name: name, RoleKind: ClusterRoleKind, RoleName: "all", Subjects: []Subject{who}})
				case 2:
					tx.PutBinding(Binding{Namespace: "vault", Name: name, RoleKind: ClusterRoleKind, RoleName: "all", Subjects: []Subject{who}})
				case 3:
					tx.PutPolicy(Policy{Name: name, Effect: Allow, Sites: []string{"*"}, Subjects: []PolicySubject{{Subject: who}}, Rules: all})
				case 4:
					tx.DeletePolicy(name)
				case 5:
					tx.PutPolicy(Policy{Name: "z" + name, Effect: Deny, Sites: []string{ControlPlane}, Subjects: []PolicySubject{{Subject: who}}, Rules: []Rule{{Verbs: []string{"list"}, APIGroups: []string{"apps"}, Resources: []string{"x"}}}})
				case 6:
					tx.PutNamespace(ControlPlane, "vault", map[string]string{"x": name})
				}
			})
		}
		s := e.Snapshot()
		base := Request{User: "ada", Groups: []string{"system:authenticated", "staff"}, ResourceRequest: true, Verb: "list", Resource: "secrets"}
		gold := []Requirement{{Key: "tier", Operator: In, Values: []string{"gold"}}}
		for name, change := range map[string]func(*Request){
			"over all namespaces":        func(*Request) {},
			"over all, what is denied":   func(q *Request) { q.LabelSelector = gold },
			"inside, without a selector": func(q *Request) { q.Namespace = "vault" },
			"inside, a selector beside it": func(q *Request) {
				q.Namespace, q.LabelSelector = "vault", []Requirement{{Key: "team", Operator: In, Values: []string{"a"}}}
			},
			"inside, one that leaves it in": func(q *Request) {
				q.Namespace, q.LabelSelector = "vault", []Requirement{{Key: "tier", Operator: NotIn, Values: []string{"iron"}}}
			},
			"inside, any value": func(q *Request) {
				q.Namespace, q.LabelSelector = "vault", []Requirement{{Key: "tier", Operator: Exists}}
			},
			"the object":                  func(q *Request) { q.Verb, q.Namespace, q.Name = "get", "vault", "root" },
			"any verb":                    func(q *Request) { q.Verb, q.Namespace = "*", "vault" },
			"any resource":                func(q *Request) { q.Resource, q.Namespace = "*", "vault" },
			"any group":                   func(q *Request) { q.APIGroup, q.Namespace = "*", "vault" },
			"a watch over all namespaces": func(q *Request) { q.Verb = "watch" },
			"fields that leave the object in": func(q *Request) {
				q.FieldSelector = []Requirement{{Key: "metadata.name", Operator: NotIn, Values: []string{"other"}}}
			},
		} {
			q := base
			change(&q)
			if d := s.Decide(&q); d.Effect() != Deny {
				t.Fatalf("seed %d, narrowed by %d: %s: %s %s", seed, narrow, name, d.Effect(), d.Reason())
			}
			denied++
		}
	}
	if denied < 1000 {
		t.Fatal("too few questions")
	}
}
