package authz

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestStandingHasEveryDecider draws policies and questions: whatever a policy
// would say of the question on its own, it stands in the caller's standing, in
// order, and nothing stands there that is not for the caller.
func TestStandingHasEveryDecider(t *testing.T) {
	t.Parallel()
	listed := 0
	for seed := range uint64(200) {
		w := policyWorld{world{Rand: rand.New(rand.NewPCG(seed, 8))}}
		have := map[string]Policy{}
		for range 8 {
			p := w.policy()
			have[p.Name] = p
		}
		e := New()
		put := func(e *Engine, some map[string]Policy) *Snapshot {
			return e.Update(func(tx *Tx) {
				for ns, labels := range teamOf {
					for _, site := range []string{ControlPlane, "shared", "other"} {
						tx.PutNamespace(site, ns, labels)
					}
				}
				for _, p := range some {
					tx.PutPolicy(p)
				}
				tx.PutBan(Ban{Name: "b", CredentialIDs: []string{"JTI=1"}, Sites: []string{"shared"}})
			})
		}
		s := put(e, have)
		for range 30 {
			q := w.question()
			if w.IntN(2) == 0 {
				q.CredentialID = "JTI=1"
			}
			got := s.StandingOf(q)
			if banned := q.CredentialID != "" && q.Site == "shared"; (len(got.Bans) == 1) != banned {
				t.Fatalf("bans %v, banned %v", got.Bans, banned)
			}
			q.CredentialID = ""
			for effect, list := range map[Effect][]PolicyRules{Deny: got.Denies, Allow: got.Allows} {
				var names []string
				for _, x := range list {
					names = append(names, x.Policy.Name)
					p := have[x.Policy.Name]
					if p.Effect != effect || !concerns(&p, q) || len(x.Rules) != len(p.Rules) {
						t.Fatalf("seed %d: %v %+v is not for %+v", seed, effect, x, q)
					}
				}
				if !slices.IsSorted(names) {
					t.Fatalf("%v are not in order", names)
				}
				listed += len(names)
				for name, p := range have {
					alone := put(New(), map[string]Policy{name: p})
					if alone.Decide(q).Effect() == effect && !slices.Contains(names, name) {
						t.Fatalf("seed %d: %s decides %+v and is not in the standing %v", seed, name, q, names)
					}
				}
			}
		}
	}
	if listed < 1000 {
		t.Errorf("only %d policies stood in answers", listed)
	}
}

// TestWhoCanWithPolicies shows the allows and refusals beside the holders.
func TestWhoCanWithPolicies(t *testing.T) {
	t.Parallel()
	everywhere := []string{"*"}
	read := []Rule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}
	user := func(name string) []PolicySubject {
		return []PolicySubject{{Subject: Subject{Kind: User, Name: name}}}
	}
	s := New().Update(func(tx *Tx) {
		tx.PutRole(clusterRole("r", read[0]))
		tx.PutBinding(bind("ns", "b", ClusterRoleKind, "r", "User:ann User:bob Group:g"))
		tx.PutPolicy(Policy{Name: "z-allow", Effect: Allow, Sites: everywhere, Subjects: user("eve"), Roles: []string{"r"}})
		tx.PutPolicy(Policy{Name: "a-allow", Effect: Allow, Sites: everywhere, Subjects: user("joe"), Rules: read, Namespaces: []string{"other"}})
		tx.PutPolicy(Policy{Name: "deny", Effect: Deny, Sites: everywhere, Subjects: user("bob"), Rules: read})
		tx.PutBan(Ban{Name: "zz", Sites: everywhere, Subjects: []PolicySubject{{Subject: Subject{Kind: Group, Name: "bad"}}}})
		tx.PutBan(Ban{Name: "elsewhere", Sites: []string{"site"}, Subjects: user("ann")})
	})
	h := s.WhoCan(onObjectNamed("", "", "get", "pods", "", "ns"))
	if h.Len() != 3 {
		t.Fatalf("%d holders, want 3", h.Len())
	}
	if p := h.Policies(); len(p) != 1 || p[0].Name != "z-allow" {
		t.Errorf("allowing policies %+v", p)
	}
	if r := h.Refusals(); len(r) != 2 || r[0].Ban == nil || r[0].Ban.Name != "zz" || r[1].Policy == nil || r[1].Policy.Name != "deny" {
		t.Errorf("refusals %+v", r)
	}
	for i := range h.Len() {
		sub := h.At(i).Grant.Subject
		if r, refused := h.Refused(sub, nil); refused != (sub.Name == "bob") || refused && r.Policy.Name != "deny" {
			t.Errorf("%v: refused %v by %+v", sub, refused, r)
		}
	}
	if r, refused := h.Refused(Subject{Kind: User, Name: "ann"}, []string{"bad"}); !refused || r.Ban == nil {
		t.Errorf("a member of a banned group: refused %v by %+v", refused, r)
	}
}

func onObjectNamed(user, group, verb, resource, name, namespace string) *Request {
	return &Request{User: user, ResourceRequest: true, Verb: verb, APIGroup: group, Resource: resource, Name: name, Namespace: namespace}
}

func TestWhyNot(t *testing.T) {
	t.Parallel()
	s := New().Update(func(tx *Tx) {
		tx.PutRole(clusterRole("reader", Rule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods", "secrets"}, ResourceNames: []string{"a"}}))
		tx.PutRole(clusterRole("editor", Rule{Verbs: []string{"update"}, APIGroups: []string{"apps"}, Resources: []string{"deployments"}}))
		tx.PutRole(clusterRole("all", Rule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}))
		tx.PutBinding(bind("ns", "read", ClusterRoleKind, "reader", "User:ann"))
		tx.PutBinding(bind("far", "edit", ClusterRoleKind, "editor", "User:ann"))
		tx.PutBinding(bind("ns", "everything", ClusterRoleKind, "all", "User:root"))
		tx.PutPolicy(Policy{Name: "late", Effect: Allow, Sites: []string{"*"}, NotAfter: noon, Roles: []string{"editor"}, Namespaces: []string{"ns"},
			Subjects: []PolicySubject{{Subject: Subject{Kind: User, Name: "ann"}}}})
	})
	for _, c := range []struct {
		q    *Request
		want []string
	}{
		{onObjectNamed("ann", "", "get", "pods", "b", "ns"), []string{"read [resourceName]", "everything [subject]", "late [verb apiGroup resource period]"}},
		{onObjectNamed("ann", "apps", "update", "deployments", "x", "ns"), []string{"edit [namespace]", "late [period]", "everything [subject]", "read [verb apiGroup resource resourceName]"}},
		{onObjectNamed("ann", "", "get", "pods", "a", "ns"), nil},
		{onObjectNamed("nobody", "", "get", "nodes", "a", ""), nil},
	} {
		q := *c.q
		q.Time = noon
		var got []string
		for _, m := range s.WhyNot(&q) {
			name := ""
			if m.Grant != nil {
				name = m.Grant.Name
			} else {
				name = m.Policy.Name
			}
			got = append(got, fmt.Sprint(name, " ", m.Lacks))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v:\n got %v\nwant %v", q, got, c.want)
		}
	}
}

// TestSubjectsByDomain chooses service accounts by the label of the namespace.
func TestSubjectsByDomain(t *testing.T) {
	t.Parallel()
	domain := func(name string, own bool) []PolicySubject {
		return []PolicySubject{{Subject: Subject{Kind: ServiceAccount, Name: name}, SitesOwn: own, NamespaceLabels: []Requirement{{"gatehouse.dev/domain", In, []string{"blue"}}}}}
	}
	read := []Rule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}
	s := New().Update(func(tx *Tx) {
		tx.PutNamespace(ControlPlane, "in", map[string]string{"gatehouse.dev/domain": "blue"})
		tx.PutNamespace(ControlPlane, "out", map[string]string{"gatehouse.dev/domain": "red"})
		tx.PutNamespace("site", "out", map[string]string{"gatehouse.dev/domain": "blue"})
		tx.PutPolicy(Policy{Name: "allow", Effect: Allow, Sites: []string{"*"}, Subjects: domain("", false), Rules: read})
		tx.PutPolicy(Policy{Name: "own", Effect: Allow, Sites: []string{"site"}, Subjects: domain("", true), Rules: read})
		tx.PutPolicy(Policy{Name: "deny", Effect: Deny, Sites: []string{"*"}, Subjects: domain("evil", false), Rules: read})
	})
	for _, c := range []struct {
		user, site string
		want       Effect
	}{
		{"system:serviceaccount:in:app", "", Allow},
		{"system:serviceaccount:out:app", "", NoOpinion},
		{"system:serviceaccount:unknown:app", "", NoOpinion},
		{"system:serviceaccount:in:evil", "", Deny},
		{"system:serviceaccount:out:evil", "", NoOpinion},
		{"system:serviceaccount:unknown:evil", "", Deny},
		{"gatehouse:system:serviceaccount:in:app", "site", Allow},
		{"gatehouse:system:serviceaccount:in:app", "else", Allow},
		{"system:serviceaccount:out:app", "site", Allow},
		{"system:serviceaccount:in:app", "site", NoOpinion},
		{"system:serviceaccount:out:app", "else", NoOpinion},
		{"someone", "", NoOpinion},
	} {
		q := onObjectNamed(c.user, "", "get", "pods", "a", "ns")
		q.Site = c.site
		if got := s.Decide(q).Effect(); got != c.want {
			t.Errorf("%s at %q: %v, want %v", c.user, c.site, got, c.want)
		}
	}
}
