package authz

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// crowd makes a policy of n bindings shaped like a large cluster's: n/5 users,
// n/50 groups and namespaces, n/20 roles of one to twenty rules, one binding in
// five cluster-wide.
func crowd(n int) (roles []Role, bindings []Binding, queries []*Request) {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	verbs := []string{"get", "list", "watch", "create", "update", "patch", "delete"}
	nroles := min(5000, max(20, n/20))
	for i := range nroles {
		role := Role{Name: fmt.Sprint("role-", i)}
		for range 1 + r.IntN(20) {
			rule := Rule{Verbs: verbs[:3], APIGroups: []string{fmt.Sprint("group-", r.IntN(20))}, Resources: []string{fmt.Sprint("kind-", r.IntN(200))}}
			if r.IntN(2) == 0 {
				rule.Verbs = []string{verbs[r.IntN(len(verbs))]}
			}
			if r.IntN(10) == 0 {
				rule.ResourceNames = []string{fmt.Sprint("object-", r.IntN(500))}
			}
			role.Rules = append(role.Rules, rule)
		}
		roles = append(roles, role)
	}
	user := func() string { return fmt.Sprintf("user-%d@example.com", r.IntN(n/5+1)) }
	group := func() string { return fmt.Sprint("team-", r.IntN(n/50+1)) }
	space := func() string { return fmt.Sprint("project-", r.IntN(n/50+1)) }
	for i := range n {
		b := Binding{Name: fmt.Sprint("binding-", i), RoleKind: ClusterRoleKind, RoleName: roles[r.IntN(nroles)].Name}
		if r.IntN(5) > 0 {
			b.Namespace = space()
		}
		for range 1 + r.IntN(3) {
			if r.IntN(4) == 0 {
				b.Subjects = append(b.Subjects, Subject{Kind: Group, Name: group()})
			} else {
				b.Subjects = append(b.Subjects, Subject{Kind: User, Name: user()})
			}
		}
		bindings = append(bindings, b)
	}
	for range 20_000 {
		q := &Request{User: user(), Groups: []string{"system:authenticated", group(), group(), group(), group()}, Verb: verbs[r.IntN(len(verbs))], Namespace: space(), ResourceRequest: true}
		q.APIGroup, q.Resource = fmt.Sprint("group-", r.IntN(20)), fmt.Sprint("kind-", r.IntN(200))
		queries = append(queries, q)
	}
	return roles, bindings, queries
}

func fill(roles []Role, bindings []Binding) *Engine {
	e := New()
	e.Update(func(t *Tx) {
		for i := range roles {
			t.PutRole(roles[i])
		}
		for i := range bindings {
			t.PutBinding(bindings[i])
		}
	})
	return e
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			roles, bindings, queries := crowd(n)
			s := fill(roles, bindings).Snapshot()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.Decide(queries[i%len(queries)])
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	roles, bindings, _ := crowd(1_000_000)
	for b.Loop() {
		fill(roles, bindings)
	}
}

func BenchmarkChangeBinding(b *testing.B) {
	roles, bindings, _ := crowd(100_000)
	e := fill(roles, bindings)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x := bindings[i/2%len(bindings)]
		e.Update(func(t *Tx) {
			if i%2 == 0 {
				t.DeleteBinding(x.Namespace, x.Name)
			} else {
				t.PutBinding(x)
			}
		})
	}
}

func BenchmarkWhoCan(b *testing.B) {
	roles, bindings, queries := crowd(100_000)
	s := fill(roles, bindings).Snapshot()
	b.ReportAllocs()
	n := 0
	for i := 0; b.Loop(); i++ {
		h := s.WhoCan(queries[i%len(queries)])
		n += h.Len()
	}
	b.ReportMetric(float64(n)/float64(b.N), "holders")
}
