package authz

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestWideScopes compares with the oracle where a user has many grants in one
// namespace and the grants that permit come late, early, often and never, in
// sites and out of them.
func TestWideScopes(t *testing.T) {
	t.Parallel()
	for _, permitting := range []int{0, 1, 20, 25, 60, 300} {
		for _, first := range []int{0, 10, 100, 299} {
			o := newOracle()
			s := New().Update(func(tx *Tx) {
				site := Site{Name: "shared", SharedRBAC: true}
				o.sites[site.Name] = site
				tx.PutSite(site)
				for i := range 300 {
					r := clusterRole(fmt.Sprint("r", i), rule4("get", "", "other", ""))
					if i >= first && i < first+permitting {
						r = clusterRole(r.Name, rule4("get", "", "pods", ""))
					}
					b := bind("ns", fmt.Sprintf("b%03d", i), ClusterRoleKind, r.Name, "User:u")
					b.Bootstrap = i%3 == 0
					twice := bind("ns", fmt.Sprintf("c%03d", i), ClusterRoleKind, r.Name, "User:u")
					for _, x := range []Binding{b, twice} {
						o.bindings[[2]string{x.Namespace, x.Name}] = x
						tx.PutBinding(x)
					}
					o.roles[[2]string{"", r.Name}] = r
					tx.PutRole(r)
				}
			})
			for _, site := range []string{"", "shared"} {
				q := res("u", "", "get", "pods", "", "ns")
				q.Site = site
				if got, want := spell(s.Decide(q)), o.decide(q); got != want {
					t.Errorf("%d from %d, site %q: got %+v, want %+v", permitting, first, site, got, want)
				}
			}
		}
	}
}

// TestBroadRolesAndManyVerbs covers roles with too many combinations to index
// and more verbs than have bits of their own.
func TestBroadRolesAndManyVerbs(t *testing.T) {
	t.Parallel()
	words := func(prefix string, n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprint(prefix, i))
		}
		return out
	}
	o := newOracle()
	broad := Rule{Verbs: words("verb", 100), APIGroups: words("g", 10), Resources: words("r", 10)}
	named := broad
	named.ResourceNames = []string{"a"}
	e := New()
	e.Update(func(tx *Tx) {
		for i := range 60 {
			r := clusterRole(fmt.Sprint("r", i), Rule{Verbs: []string{fmt.Sprint("verb", i+50)}, APIGroups: []string{"g1"}, Resources: []string{"r1"}})
			switch i {
			case 58:
				r.Rules = append(r.Rules, broad)
			case 59:
				r.Rules = append(r.Rules, named)
			}
			o.roles[[2]string{"", r.Name}] = r
			tx.PutRole(r)
			b := bind("", r.Name, ClusterRoleKind, r.Name, fmt.Sprintf("User:u%d User:all", i))
			o.bindings[[2]string{"", r.Name}] = b
			tx.PutBinding(b)
		}
	})
	ask := func() {
		for _, user := range []string{"all", "u1", "u40", "u58", "u59"} {
			for _, verb := range []string{"verb0", "verb51", "verb61", "verb62", "verb63", "verb64", "verb99", "verb100", "*"} {
				for _, name := range []string{"", "a", "b"} {
					q := &Request{User: user, Verb: verb, APIGroup: "g1", Resource: "r1", Name: name, ResourceRequest: true}
					compareAnswers(t, o, e.Snapshot(), q)
				}
			}
		}
	}
	ask()
	e.Update(func(tx *Tx) {
		for i := 30; i < 60; i++ {
			delete(o.roles, [2]string{"", fmt.Sprint("r", i)})
			tx.DeleteRole("", fmt.Sprint("r", i))
		}
	})
	ask()
}

func TestRoleSet(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 5))
	for round := range 200 {
		span := 1 + r.IntN(1<<(2+r.IntN(13)))
		var a, b roleSet
		inA, inB := map[uint32]bool{}, map[uint32]bool{}
		for v := range version(300) {
			frozen, before := a, members(&a)
			x := uint32(r.IntN(span))
			if r.IntN(3) == 0 != (round%2 == 0 && v > 150) {
				a.remove(v+1, x)
				delete(inA, x)
			} else {
				a.add(v+1, x)
				inA[x] = true
			}
			if after := members(&frozen); !slices.Equal(before, after) {
				t.Fatalf("an older set changed from %v to %v", before, after)
			}
			if y := uint32(r.IntN(span)); r.IntN(2) == 0 {
				b.add(v+1, y)
				inB[y] = true
			}
		}
		var both []uint32
		for _, x := range sorted(inA) {
			if !a.has(x) {
				t.Fatalf("%d is missing", x)
			}
			if inB[x] {
				both = append(both, x)
			}
		}
		var got []uint32
		a.common(&b, func(x uint32) bool { got = append(got, x); return true })
		slices.Sort(got)
		if !slices.Equal(members(&a), sorted(inA)) || !slices.Equal(got, both) || a.empty() != (len(inA) == 0) {
			t.Fatalf("set %v, want %v; common %v, want %v", members(&a), sorted(inA), got, both)
		}
	}
}

func members(s *roleSet) (out []uint32) {
	s.each(func(r uint32) bool { out = append(out, r); return true })
	return out
}

func sorted(m map[uint32]bool) (out []uint32) {
	for x := range m {
		out = append(out, x)
	}
	slices.Sort(out)
	return out
}

func TestSeq(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(6, 6))
	compare := func(a, b int) int { return a - b }
	var s *seq[int]
	want := map[int]bool{}
	for v := range version(3000) {
		old := s
		n, sum := checksum(old)
		s = s.edit(v + 1)
		for range 1 + r.IntN(5) {
			x := r.IntN(2000)
			if want[x] {
				s.remove(v+1, x, compare)
				delete(want, x)
			} else {
				s.insert(v+1, x, compare)
				want[x] = true
			}
		}
		if n2, sum2 := checksum(old); n2 != n || sum2 != sum {
			t.Fatal("an older sequence changed")
		}
		var got []int
		s.all(func(x int) bool { got = append(got, x); return true })
		if len(got) != len(want) || s.len() != len(want) || !slices.IsSorted(got) {
			t.Fatalf("%d items, want %d in order", len(got), len(want))
		}
		from := r.IntN(2000)
		i, _ := slices.BinarySearch(got, from)
		s.from(func(x int) bool { return x < from }, func(x int) bool {
			if x != got[i] {
				t.Fatalf("from %d: %d, want %d", from, x, got[i])
			}
			i++
			return i < len(got)
		})
	}
}

func checksum(s *seq[int]) (n, sum int) {
	s.all(func(x int) bool { n++; sum = sum*31 + x; return true })
	return n, sum
}

// FuzzDecide lets the fuzzer choose the rule, the subject and the question,
// and compares with the plain reading.
func FuzzDecide(f *testing.F) {
	f.Add("get", "", "pods/log", "a", "/healthz*", "u", "ns", "pods", "log", "a", "/healthz", true, "")
	f.Add("*", "*", "*/scale", "", "*", "system:serviceaccount:ns:u", "", "jobs", "scale", "", "", true, "s")
	f.Fuzz(func(t *testing.T, verb, group, resource, name, path, user, namespace, askResource, askSub, askName, askPath string, isResource bool, site string) {
		o := newOracle()
		rule := Rule{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{resource}, NonResourceURLs: []string{path}}
		if name != "" {
			rule.ResourceNames = []string{name}
		}
		r := clusterRole("r", rule)
		b := Binding{Namespace: namespace, Name: "b", RoleKind: ClusterRoleKind, RoleName: "r", Subjects: []Subject{{Kind: User, Name: user}, {Kind: ServiceAccount, Name: user}, {Kind: Group, Name: user}}}
		shared := Site{Name: site, SharedRBAC: true}
		o.roles[[2]string{"", "r"}], o.bindings[[2]string{namespace, "b"}], o.sites[site] = r, b, shared
		s := New().Update(func(tx *Tx) { tx.PutBinding(b); tx.PutRole(r); tx.PutSite(shared) })
		for _, q := range []*Request{
			{User: user, Verb: verb, APIGroup: group, Resource: askResource, Subresource: askSub, Name: askName, Path: askPath, Namespace: namespace, ResourceRequest: isResource, Site: site},
			{User: "system:serviceaccount:" + namespace + ":" + user, Groups: []string{askName, user}, Verb: "get", APIGroup: group, Resource: resource, Name: name, Path: path, Namespace: namespace, ResourceRequest: isResource},
		} {
			compareAnswers(t, o, s, q)
		}
	})
}
