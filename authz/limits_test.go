package authz

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// hard is the policy that costs a naive index most: one user with 10,000
// bindings of roles of their own, one group with 100,000 bindings over many
// namespaces, and a role with 1,000 rules.
func hard() *Engine {
	var roles []Role
	var bindings []Binding
	for i := range 10_000 {
		roles = append(roles, clusterRole(fmt.Sprint("own-", i), Rule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{fmt.Sprint("s", i)}}))
		bindings = append(bindings, bind("", fmt.Sprintf("own-%05d", i), ClusterRoleKind, fmt.Sprint("own-", i), "User:busy"))
	}
	var many []Rule
	for i := range 1000 {
		many = append(many, Rule{Verbs: []string{"get", "list"}, APIGroups: []string{"g"}, Resources: []string{fmt.Sprint("kind-", i)}})
	}
	roles = append(roles, clusterRole("many", many...))
	for i := range 100_000 {
		bindings = append(bindings, bind(fmt.Sprint("ns-", i%5000), fmt.Sprint("b-", i), ClusterRoleKind, "many", "Group:all"))
	}
	return fill(roles, bindings)
}

func TestHardPolicies(t *testing.T) {
	t.Parallel()
	s := hard().Snapshot()
	// Each must be answered from the indexes, so the work is counted in
	// allocations (none) here and in time by BenchmarkHard.
	for _, tc := range []struct {
		q    *Request
		want bool
	}{
		{&Request{User: "busy", Verb: "get", ResourceRequest: true, Resource: "secrets", Name: "s7777"}, true},
		{&Request{User: "busy", Verb: "get", ResourceRequest: true, Resource: "secrets", Name: "other"}, false},
		{&Request{User: "busy", Verb: "list", ResourceRequest: true, Resource: "secrets"}, false},
		{&Request{User: "x", Groups: []string{"all"}, Verb: "list", ResourceRequest: true, APIGroup: "g", Resource: "kind-999", Namespace: "ns-4999"}, true},
		{&Request{User: "x", Groups: []string{"all"}, Verb: "list", ResourceRequest: true, APIGroup: "g", Resource: "kind-1000", Namespace: "ns-4999"}, false},
		{&Request{User: "x", Groups: []string{"all"}, Verb: "list", ResourceRequest: true, APIGroup: "g", Resource: "kind-1"}, false},
	} {
		if got := s.Decide(tc.q).Allowed(); got != tc.want {
			t.Errorf("%+v: %v", tc.q, got)
		}
	}
}

func BenchmarkHard(b *testing.B) {
	s := hard().Snapshot()
	for name, q := range map[string]*Request{
		"one-of-10k-own-roles": {User: "busy", Verb: "get", ResourceRequest: true, Resource: "secrets", Name: "s7777"},
		"none-of-10k":          {User: "busy", Verb: "get", ResourceRequest: true, Resource: "secrets", Name: "other"},
		"group-of-100k":        {User: "x", Groups: []string{"all"}, Verb: "list", ResourceRequest: true, APIGroup: "g", Resource: "kind-999", Namespace: "ns-4999"},
		"group-of-100k-deny":   {User: "x", Groups: []string{"all"}, Verb: "list", ResourceRequest: true, APIGroup: "g", Resource: "kind-1000", Namespace: "ns-4999"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Decide(q)
			}
		})
	}
}

func TestDecideDoesNotAllocate(t *testing.T) {
	roles, bindings, queries := crowd(5000)
	s := fill(roles, bindings).Snapshot()
	busy := hard().Snapshot()
	long := strings.Repeat("x", 60)
	extra := []*Request{
		{User: "u", Verb: "get", Path: "/healthz"},
		{User: "u", Groups: make([]string, 100), Verb: "get", ResourceRequest: true, Resource: long, Subresource: long},
		{User: "gatehouse:system:serviceaccount:a:b", Site: "s", Verb: "get", ResourceRequest: true, Resource: "pods"},
	}
	all := []string{"all"}
	i := 0
	for name, decide := range map[string]func(){
		"crowd": func() { s.Decide(queries[i%len(queries)]); i++ },
		"wide": func() {
			busy.Decide(&Request{User: "busy", Verb: "get", ResourceRequest: true, Resource: "secrets", Name: "s7777"})
		},
		"tree": func() {
			busy.Decide(&Request{Groups: all, Verb: "list", ResourceRequest: true, APIGroup: "g", Resource: "kind-9", Namespace: "ns-9"})
		},
		"extra": func() { s.Decide(extra[i%len(extra)]); i++ },
	} {
		if n := testing.AllocsPerRun(2000, decide); n != 0 {
			t.Errorf("%s: %v allocations a decision", name, n)
		}
	}
}

func TestMemoryPerBinding(t *testing.T) {
	const n, limit = 50_000, 250
	roles, bindings, _ := crowd(n)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	e := fill(roles, bindings)
	after := heap()
	runtime.KeepAlive(bindings)
	runtime.KeepAlive(e)
	if per := (after - before) / n; per > limit {
		t.Errorf("%d bytes a binding, want at most %d", per, limit)
	}
}

// TestReadersDuringChanges lets readers check, on every snapshot they see, that
// a change is there in full or not at all.
func TestReadersDuringChanges(t *testing.T) {
	t.Parallel()
	e := New()
	rule := rule4("get", "", "pods", "")
	put := func(round int) {
		e.Update(func(tx *Tx) {
			tx.PutRole(clusterRole("r", rule))
			for i := range 200 {
				name := fmt.Sprint("b", i)
				if round%2 == 0 {
					tx.PutBinding(bind("ns", name, ClusterRoleKind, "r", fmt.Sprintf("User:u%d Group:g", i)))
				} else {
					tx.DeleteBinding("ns", name)
				}
			}
		})
	}
	put(0)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for last := uint64(0); ; {
				select {
				case <-stop:
					return
				default:
				}
				s := e.Snapshot()
				if s.Number() < last {
					t.Error("snapshots go back")
					return
				}
				last = s.Number()
				want := s.Counts().Bindings == 200
				for i := range 200 {
					if s.Decide(res(fmt.Sprint("u", i), "", "get", "pods", "", "ns")).Allowed() != want {
						t.Errorf("snapshot %d is half a change", last)
						return
					}
				}
			}
		})
	}
	for round := range 40 {
		put(round + 1)
	}
	close(stop)
	readers.Wait()
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	e := New()
	q := res("u", "", "get", "pods", "", "ns")
	put := func(tx *Tx) {
		tx.PutBinding(bind("ns", "b", RoleKind, "r", "User:u"))
		tx.PutRole(Role{Namespace: "ns", Name: "r", Rules: []Rule{rule4("get", "", "pods", "")}})
	}
	first := e.Update(put)
	if !first.Decide(q).Allowed() {
		t.Fatal("a role that came after its binding grants nothing")
	}
	if again := e.Update(put); again != first {
		t.Error("a change without effect made a snapshot")
	}
	func() {
		defer func() { _ = recover() }()
		e.Update(func(tx *Tx) {
			tx.Clear()
			tx.PutBinding(bind("ns", "c", RoleKind, "r", "User:u"))
			panic("abandoned")
		})
	}()
	if e.Snapshot() != first {
		t.Error("an abandoned change was published")
	}
	second := e.Update(func(tx *Tx) { tx.DeleteRole("ns", "r") })
	if second.Decide(q).Allowed() || !first.Decide(q).Allowed() {
		t.Error("a change reached an older snapshot, or did not happen")
	}
	if got := second.Counts(); got != (Counts{Bindings: 1, Unresolved: 1, Subjects: 1}) {
		t.Errorf("counts %+v", got)
	}
	empty := e.Update(func(tx *Tx) { tx.DeleteBinding("ns", "b"); tx.DeleteBinding("ns", "b"); tx.DeleteRole("x", "y") })
	if got := empty.Counts(); got != (Counts{}) {
		t.Errorf("counts of nothing %+v", got)
	}
	if n := empty.texts.index.n + empty.verbs.index.n + empty.resources.index.n; n != 3 {
		t.Errorf("%d words are left of an empty policy, want the three wildcards", n)
	}
	if n := empty.scopeIndex.n + empty.roleIndex.n + empty.permissionIndex.n; n != 0 {
		t.Errorf("%d records are left of an empty policy", n)
	}
}
