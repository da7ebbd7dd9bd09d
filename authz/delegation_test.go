package authz

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// delegation draws one among few people, so that chains, circles and the dead
// ends of both are common.
func (w policyWorld) delegation(have map[string]Delegation) Delegation {
	person := func() string { return w.pick("u1", "u2", "u3", "u4", "system:serviceaccount:n1:s1") }
	d := Delegation{Name: fmt.Sprint("d", w.IntN(8)), ID: fmt.Sprint(w.IntN(3)), Sites: []string{w.pick("*", "gatehouse", "shared", "s*")},
		Giver: Giver{User: person(), Groups: w.some(2, func() string { return w.pick("g1", "system:authenticated") }), Superuser: w.IntN(2) == 0},
		To:    Subject{Kind: User, Name: person()}, NotAfter: noon.Add(time.Duration(w.IntN(4)) * time.Hour), MayDelegate: w.IntN(4) > 0}
	if w.IntN(4) == 0 {
		d.To = Subject{Kind: ServiceAccount, Namespace: "n1", Name: "s1"}
	}
	if w.IntN(12) == 0 {
		d.NotAfter = time.Time{}
	}
	if w.IntN(6) == 0 {
		d.Giver.CredentialID = w.pick("JTI=1", "JTI=2")
	}
	if w.IntN(6) == 0 {
		d.Giver.Origins = []string{"JTI=9", w.pick("JTI=1", "JTI=2")}
	}
	d.Rules = append(d.Rules, Rule{Verbs: []string{w.pick("*", "get")}, APIGroups: []string{"*"}, Resources: []string{w.pick("*", "*", "pods")}})
	if w.IntN(6) == 0 {
		d.Namespaces = w.some(2, func() string { return w.pick("n1", "n*") })
	}
	if w.IntN(3) > 0 {
		d.Parent, d.ParentID = fmt.Sprint("d", w.IntN(8)), "0"
		if p, ok := have[d.Parent]; ok {
			d.ParentID = p.ID
			if w.IntN(8) > 0 {
				d.Giver.User = userOf(p.To)
			}
		}
	}
	return d
}

func userOf(s Subject) string {
	if s.Kind == ServiceAccount {
		return "system:serviceaccount:" + s.Namespace + ":" + s.Name
	}
	return s.Name
}

// asGiver is the question as the giver would have to ask it.
func asGiver(q *Request, g *Giver) *Request {
	r := *q
	r.User, r.Groups, r.CredentialID, r.Origins, r.Extra = g.User, g.Groups, g.CredentialID, g.Origins, g.Extra
	if q.Site != "" && strings.HasPrefix(r.User, "system:") {
		r.User = "gatehouse:" + r.User
	}
	return &r
}

// gives is the plain reading of a chain: every link is about the request, no
// giver in it is refused, and the first giver holds what is asked.
func gives(bare *Snapshot, have map[string]Delegation, d Delegation, q *Request, depth int) bool {
	site := q.Site
	if site == "" {
		site = ControlPlane
	}
	inSpace := len(d.Namespaces) == 0 || q.Namespace != "" && slices.ContainsFunc(d.Namespaces, func(g string) bool { return globMatches(g, q.Namespace) })
	about := slices.ContainsFunc(d.Rules, func(r Rule) bool { return r.Allows(q) }) && globMatches(d.Sites[0], site) && inSpace && q.Time.Before(d.NotAfter)
	holds := bare.Decide(asGiver(q, &d.Giver)).Effect()
	if !about || holds == Deny || depth > MaxChain {
		return false
	}
	if d.Parent == "" {
		return holds == Allow || d.Giver.Superuser && q.Site == ""
	}
	p, ok := have[d.Parent]
	return ok && p.ID == d.ParentID && p.MayDelegate && userOf(p.To) == d.Giver.User && gives(bare, have, p, q, depth+1)
}

// TestDelegationNeverWidens draws policies, bans and delegations, changes them
// between questions and compares every answer with the plain reading: what a
// receiver may do beyond its own rights, its givers may do at that moment.
func TestDelegationNeverWidens(t *testing.T) {
	t.Parallel()
	chains := map[int]int{}
	refused := 0
	for seed := range uint64(200) {
		w := policyWorld{world{Rand: rand.New(rand.NewPCG(seed, 31))}}
		full, bare, have := New(), New(), map[string]Delegation{}
		both := func(change func(*Tx)) { full.Update(change); bare.Update(change) }
		both(func(tx *Tx) {
			tx.PutSite(Site{Name: "shared", SharedRBAC: true})
			tx.PutRole(clusterRole("reader", rules("get - pods")...))
			tx.PutRole(clusterRole("all", Rule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}))
			tx.PutBinding(bind("", "x", ClusterRoleKind, "reader", "User:u1,Group:g1"))
			tx.PutBinding(bind("n1", "y", ClusterRoleKind, "all", "User:u2"))
		})
		for range 15 {
			p := w.policy()
			if w.IntN(3) > 0 {
				p.Effect = Allow
			}
			p.Rules = append(p.Rules, Rule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}, ResourceNames: []string{"a"}})
			ban := Ban{Name: fmt.Sprint("b", w.IntN(3)), Sites: []string{"*"}, Subjects: []PolicySubject{{Subject: Subject{Kind: User, Name: w.pick("u1", "u2", "u3")}}}}
			if w.IntN(3) == 0 {
				ban.Subjects, ban.CredentialIDs, ban.KeepsMade = nil, []string{w.pick("JTI=1", "JTI=3")}, w.IntN(3) == 0
			}
			lift, drop, gone := w.IntN(4) > 0, w.IntN(2) == 0, w.IntN(8) == 0
			both(func(tx *Tx) {
				if lift {
					tx.DeleteBan(ban.Name)
				} else {
					tx.PutBan(ban)
				}
				if drop {
					tx.DeletePolicy(p.Name)
				} else {
					tx.PutPolicy(p)
				}
				if gone {
					tx.DeleteRole("", "reader")
				} else {
					tx.PutRole(clusterRole("reader", rules("get - pods")...))
				}
			})
			for range 4 {
				d := w.delegation(have)
				remove := w.IntN(6) == 0
				full.Update(func(tx *Tx) {
					if remove {
						delete(have, d.Name)
						tx.DeleteDelegation(d.Name)
					} else {
						have[d.Name] = d
						tx.PutDelegation(d)
					}
				})
			}
			for range 40 {
				q := w.question()
				q.Site = w.pick("", "", "", "shared")
				q.User, q.LabelSelector = w.pick("u1", "u2", "u3", "u4"), nil
				if w.IntN(4) == 0 {
					q.User = "system:serviceaccount:n1:s1"
					if q.Site != "" {
						q.User = "gatehouse:" + q.User
					}
				}
				got, own := full.Snapshot().Decide(q), bare.Snapshot().Decide(q)
				want, by := own.Effect(), ""
				if want == NoOpinion {
					for name, d := range have {
						user := strings.TrimPrefix(q.User, "gatehouse:")
						if userOf(d.To) == user && gives(bare.Snapshot(), have, d, q, 1) && (by == "" || name < by) {
							want, by = Allow, name
						}
					}
				}
				chain := got.Delegations()
				if got.Effect() != want || by != "" && (len(chain) == 0 || chain[0].Name != by) || by == "" && len(chain) > 0 {
					t.Fatalf("seed %d: %+v\n got %v: %s\nwant %v by %q", seed, q, got.Effect(), got.Reason(), want, by)
				}
				if by == "" {
					if want == NoOpinion {
						refused++
					}
					continue
				}
				chains[len(chain)]++
				for i := range chain {
					if bare.Snapshot().Decide(asGiver(q, &chain[i].Giver)).Effect() == Deny {
						t.Fatalf("seed %d: %q is refused and gives: %s", seed, chain[i].Giver.User, got.Reason())
					}
				}
			}
		}
		empty := full.Update(func(tx *Tx) {
			for name := range have {
				tx.DeleteDelegation(name)
			}
		})
		if n := empty.Counts().Delegations; n != 0 {
			t.Fatalf("%d delegations are left of none", n)
		}
	}
	if chains[1] < 500 || chains[2] < 50 || chains[3] == 0 || refused < 1000 {
		t.Errorf("chains by length %v and %d refusals: some are too rare to prove anything", chains, refused)
	}
}

// TestDelegationChain follows one chain through everything that ends it.
func TestDelegationChain(t *testing.T) {
	t.Parallel()
	one := []Rule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{"cfg"}}}
	hand := func(name, from, to, parent string) Delegation {
		d := Delegation{Name: name, ID: name + "-1", Giver: Giver{User: from, CredentialID: "JTI=" + from}, To: Subject{Kind: User, Name: to}, Rules: one,
			Sites: []string{ControlPlane}, NotAfter: noon.Add(time.Hour), MayDelegate: true}
		if parent != "" {
			d.Parent, d.ParentID = parent, parent+"-1"
		}
		return d
	}
	ask := func(user string) *Request {
		return &Request{User: user, ResourceRequest: true, Verb: "get", Resource: "configmaps", Name: "cfg", Namespace: "n", Time: noon}
	}
	user := func(name string) []PolicySubject { return []PolicySubject{{Subject: Subject{Kind: User, Name: name}}} }
	const reason = `access: allowed by Delegation "d2" from "bob", who has it by Delegation "d1" from "alice": RBAC: allowed by ClusterRoleBinding "x" of ClusterRole "reader" to User "alice"`
	world := func(tx *Tx) {
		tx.PutRole(clusterRole("reader", one...))
		tx.PutBinding(bind("", "x", ClusterRoleKind, "reader", "User:alice"))
		tx.PutDelegation(hand("d1", "alice", "bob", ""))
		tx.PutDelegation(hand("d2", "bob", "carol", "d1"))
	}
	for name, tc := range map[string]struct {
		change func(*Tx)
		q      *Request
		want   string
	}{
		"as it is":         {want: reason},
		"the binding goes": {change: func(tx *Tx) { tx.DeleteBinding("", "x") }},
		"the role goes":    {change: func(tx *Tx) { tx.DeleteRole("", "reader") }},
		"the first giver is banned": {change: func(tx *Tx) {
			tx.PutBan(Ban{Name: "b", Subjects: user("alice"), Sites: []string{"*"}})
		}},
		"the giver between is banned": {change: func(tx *Tx) {
			tx.PutBan(Ban{Name: "b", Subjects: user("bob"), Sites: []string{"*"}})
		}},
		"the giver's credential is banned": {change: func(tx *Tx) {
			tx.PutBan(Ban{Name: "b", CredentialIDs: []string{"JTI=alice"}, Sites: []string{"*"}})
		}},
		"the receiver is banned": {want: `access: denied by Ban "b": lost`, change: func(tx *Tx) {
			tx.PutBan(Ban{Name: "b", Subjects: user("carol"), Sites: []string{"*"}, Reason: "lost"})
		}},
		"the giver is denied": {change: func(tx *Tx) {
			tx.PutPolicy(Policy{Name: "p", Effect: Deny, Subjects: user("bob"), Sites: []string{"*"}, Rules: one})
		}},
		"the receiver is denied": {want: `access: denied by AccessPolicy "p": ask the owner`, change: func(tx *Tx) {
			tx.PutPolicy(Policy{Name: "p", Effect: Deny, Subjects: user("carol"), Sites: []string{"*"}, Rules: one, Message: "ask the owner"})
		}},
		"the parent goes":                        {change: func(tx *Tx) { tx.DeleteDelegation("d1") }},
		"the parent is another now":              {change: func(tx *Tx) { d := hand("d1", "alice", "bob", ""); d.ID = "d1-2"; tx.PutDelegation(d) }},
		"the parent may not be handed on":        {change: func(tx *Tx) { d := hand("d1", "alice", "bob", ""); d.MayDelegate = false; tx.PutDelegation(d) }},
		"the parent is for somebody else":        {change: func(tx *Tx) { tx.PutDelegation(hand("d1", "alice", "dave", "")) }},
		"the parent ends":                        {change: func(tx *Tx) { d := hand("d1", "alice", "bob", ""); d.NotAfter = noon; tx.PutDelegation(d) }},
		"no end":                                 {change: func(tx *Tx) { d := hand("d2", "bob", "carol", "d1"); d.NotAfter = time.Time{}; tx.PutDelegation(d) }},
		"a circle":                               {change: func(tx *Tx) { tx.PutDelegation(hand("d1", "carol", "bob", "d2")) }},
		"of itself":                              {change: func(tx *Tx) { tx.PutDelegation(hand("d2", "carol", "carol", "d2")) }},
		"later":                                  {q: func() *Request { q := ask("carol"); q.Time = noon.Add(time.Hour); return q }()},
		"at a time unknown":                      {q: func() *Request { q := ask("carol"); q.Time = time.Time{}; return q }()},
		"another object":                         {q: func() *Request { q := ask("carol"); q.Name = "other"; return q }()},
		"every object":                           {q: func() *Request { q := ask("carol"); q.Name = ""; return q }()},
		"at a site it is not for":                {q: func() *Request { q := ask("carol"); q.Site = "edge"; return q }()},
		"the giver between has it by a gift":     {q: ask("bob"), want: `access: allowed by Delegation "d1" from "alice": RBAC: allowed by ClusterRoleBinding "x" of ClusterRole "reader" to User "alice"`},
		"the giver hands on what is not its own": {change: func(tx *Tx) { tx.PutDelegation(hand("d2", "bob", "carol", "")) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := New()
			e.Update(world)
			if tc.change != nil {
				e.Update(tc.change)
			}
			q := tc.q
			if q == nil {
				q = ask("carol")
			}
			if got := e.Snapshot().Decide(q).Reason(); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func TestLongChain(t *testing.T) {
	t.Parallel()
	pods := Rule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}
	for n := 1; n <= MaxChain+2; n++ {
		s := New().Update(func(tx *Tx) {
			for i := range n {
				d := Delegation{Name: fmt.Sprint("d", i), Giver: Giver{User: fmt.Sprint("u", i), Superuser: i == 0}, To: Subject{Kind: User, Name: fmt.Sprint("u", i+1)},
					Rules: []Rule{pods}, Sites: []string{"*"}, NotAfter: noon.Add(1), MayDelegate: true}
				if i > 0 {
					d.Parent = fmt.Sprint("d", i-1)
				}
				tx.PutDelegation(d)
			}
		})
		d := s.Decide(&Request{User: fmt.Sprint("u", n), ResourceRequest: true, Verb: "get", Resource: "pods", Time: noon})
		if d.Allowed() != (n <= MaxChain) || d.Allowed() && len(d.Delegations()) != n {
			t.Errorf("a chain of %d: %s", n, d.Reason())
		}
		if _, ok := d.Grant(); ok || d.Rule() != -1 {
			t.Error("a superuser's right has a binding")
		}
	}
}

func TestGiven(t *testing.T) {
	t.Parallel()
	s := New().Update(func(tx *Tx) {
		tx.PutRole(clusterRole("reader", rules("get - pods")...))
		tx.PutBinding(bind("", "x", ClusterRoleKind, "reader", "User:alice"))
		for i, from := range []string{"alice", "alice", "nobody"} {
			tx.PutDelegation(Delegation{Name: fmt.Sprint("d", i), Giver: Giver{User: from}, To: Subject{Kind: User, Name: fmt.Sprint("u", i)},
				Rules: rules("get - pods"), Sites: []string{"*"}, NotAfter: noon.Add(1)})
		}
		tx.PutBan(Ban{Name: "b", Subjects: []PolicySubject{{Subject: Subject{Kind: User, Name: "u1"}}}, Sites: []string{"*"}})
	})
	q := &Request{ResourceRequest: true, Verb: "get", Resource: "pods", Time: noon}
	holders := s.WhoCan(q)
	if got := holders.Given(); len(got) != 1 || got[0].Name != "d0" {
		t.Errorf("%+v", got)
	}
	q.User = "u0"
	if got := s.StandingOf(q).Handed; len(got) != 1 || got[0].Delegation.Name != "d0" || len(got[0].Rules) != 1 {
		t.Errorf("%+v", got)
	}
}

// extraIs holds for callers of whom authentication said something.
type extraIs [2]string

func (x extraIs) Holds(q *Request) (bool, error) { return slices.Contains(q.Extra[x[0]], x[1]), nil }
func (extraIs) ReadsObject() bool                { return false }
func (x extraIs) String() string                 { return x[0] + " is " + x[1] }

// What is denied, or allowed, to a giver by what was said of it counts for its
// delegations as it does for the giver.
func TestGiversKeepTheirExtra(t *testing.T) {
	t.Parallel()
	e := New()
	q := &Request{User: "bob", ResourceRequest: true, Verb: "get", Resource: "pods", Namespace: "n1", Time: noon}
	ask := func(extra map[string][]string, policies ...Policy) Effect {
		return e.Update(func(tx *Tx) {
			for _, p := range policies {
				tx.PutPolicy(p)
			}
			tx.PutDelegation(Delegation{Name: "d", ID: "1", Giver: Giver{User: "alice", Extra: extra}, To: Subject{Kind: User, Name: "bob"},
				Rules: rules("get - pods"), Sites: []string{"*"}, NotAfter: noon.Add(time.Hour)})
		}).Decide(q).Effect()
	}
	everybody := []PolicySubject{{Subject: Subject{Kind: User, Name: "alice"}}}
	allow := Policy{Name: "p", Effect: Allow, Subjects: everybody, Rules: rules("get - pods"), Sites: []string{"*"}, Condition: extraIs{"team", "a"}}
	if got := ask(map[string][]string{"team": {"a"}}, allow); got != Allow {
		t.Errorf("allowed for what was said of the giver: %v", got)
	}
	if got := ask(nil); got == Allow {
		t.Error("allowed though nothing was said of the giver")
	}
	deny := allow
	deny.Name, deny.Effect, deny.Condition = "no", Deny, extraIs{"intern", "yes"}
	if got := ask(map[string][]string{"team": {"a"}, "intern": {"yes"}}, deny); got == Allow {
		t.Error("what is denied for what was said of the giver is handed on")
	}
	if got := ask(map[string][]string{"team": {"a"}}); got != Allow {
		t.Errorf("another giver: %v", got)
	}
}
