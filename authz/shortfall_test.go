package authz

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// verbCondition holds for one verb, and has a text.
type verbCondition string

func (v verbCondition) Holds(q *Request) (bool, error) { return q.Verb == string(v), nil }
func (v verbCondition) ReadsObject() bool              { return false }
func (v verbCondition) String() string                 { return string(v) }

// grantable draws a policy that is mostly near the ones the world has.
func (w policyWorld) grantable() Policy {
	p := w.policy()
	p.Effect = Allow
	if w.IntN(3) > 0 {
		p.LabelSelector, p.FieldSelector = nil, nil
	}
	if w.IntN(4) == 0 {
		p.Condition = verbCondition(w.pick("get", "list"))
	}
	if w.IntN(3) == 0 {
		p.NotAfter = noon.Add(time.Duration(1+w.IntN(2)) * time.Hour)
	}
	if w.IntN(2) == 0 {
		p.Sites = []string{w.pick("gatehouse", "shared", "other")}
	}
	return p
}

// people are the askers by their names in the control plane.
var people = []*Request{
	{User: "u1", Groups: []string{"system:authenticated", "g1"}}, {User: "u2", Groups: []string{"system:authenticated"}},
	{User: "u3"}, {User: "system:serviceaccount:n1:s1", Groups: []string{"system:authenticated"}}, {User: "system:node:x", Groups: []string{"system:masters"}},
}

// ask puts q in somebody's mouth, by the names that the place knows.
func ask(who, q *Request) *Request {
	r := *q
	r.User, r.Groups = who.User, nil
	if q.Site == "" {
		r.Groups = who.Groups
		return &r
	}
	var ok bool
	if r.User, ok = siteName(userKey, who.User); !ok {
		return nil // has no name there
	}
	for _, g := range who.Groups {
		if name, ok := siteName(groupKey, g); ok {
			r.Groups = append(r.Groups, name)
		}
	}
	return &r
}

// TestNoGrantWidens lets people without any special verb write whatever the
// check lets them write, one after the other, and finds that nobody can do
// anything then that neither they nor the writer could do before.
func TestNoGrantWidens(t *testing.T) {
	t.Parallel()
	written, refused, gained := 0, 0, 0
	for seed := range uint64(250) {
		w := policyWorld{world{Rand: rand.New(rand.NewPCG(seed, 41))}}
		e := New()
		e.Update(func(tx *Tx) {
			tx.PutSite(Site{Name: "shared", SharedRBAC: true})
			for ns, labels := range teamOf {
				for _, site := range []string{ControlPlane, "shared", "other"} {
					tx.PutNamespace(site, ns, labels)
				}
			}
			tx.PutRole(clusterRole("reader", rules("get,list - pods,jobs")...))
			tx.PutRole(clusterRole("all", rules("* * *")...))
			tx.PutBinding(bind("", "x", ClusterRoleKind, "reader", "User:u1,Group:g1"))
			tx.PutBinding(bind("n1", "y", ClusterRoleKind, "all", "User:u2"))
			tx.PutBinding(bind("n1", "system:z", ClusterRoleKind, "all", "User:u3"))
			for i := range 4 {
				p := w.grantable()
				p.Name = fmt.Sprint("given", i)
				p.Subjects = []PolicySubject{{Subject: Subject{Kind: User, Name: w.pick("u1", "u2", "system:node:x")}}}
				if w.IntN(3) == 0 {
					p.Subjects[0].Subject = Subject{Kind: Group, Name: w.pick("g1", "system:masters", "system:authenticated")}
				}
				tx.PutPolicy(p)
			}
			for range w.IntN(2) {
				p := w.policy()
				p.Effect = Deny
				tx.PutPolicy(p)
			}
		})
		for step := range 12 {
			before, author := e.Snapshot(), people[w.IntN(len(people))]
			g := w.grantable()
			var put func(*Tx)
			to := Subject{Kind: User, Name: w.pick("u1", "u2", "u3")}
			switch w.IntN(3) {
			case 0:
				g.Name = fmt.Sprint("written", step)
				if w.IntN(3) > 0 {
					g.Subjects = []PolicySubject{{Subject: to}}
				}
				put = func(tx *Tx) { tx.PutPolicy(g) }
			case 1:
				ns := w.pick("", "n1", "n2")
				g = Policy{Rules: g.Rules, Sites: append([]string{ControlPlane}, before.SharedSites()...)}
				if ns != "" {
					g.Namespaces = []string{ns}
				}
				put = func(tx *Tx) {
					role := Role{Namespace: ns, Name: fmt.Sprint("r", step), Rules: g.Rules}
					tx.PutRole(role)
					kind := RoleKind
					if ns == "" {
						kind = ClusterRoleKind
					}
					tx.PutBinding(Binding{Namespace: ns, Name: fmt.Sprint("b", step), RoleKind: kind, RoleName: role.Name, Subjects: []Subject{to}})
				}
			default:
				g.Condition, g.LabelSelector, g.FieldSelector, g.NotAfter = nil, nil, nil, noon.Add(time.Hour)
				put = func(tx *Tx) {
					tx.PutDelegation(Delegation{Name: fmt.Sprint("d", step), Giver: Giver{User: author.User, Groups: author.Groups}, To: to, Rules: g.Rules,
						Sites: g.Sites, Namespaces: g.Namespaces, NamespaceLabels: g.NamespaceLabels, NotBefore: g.NotBefore, NotAfter: g.NotAfter})
				}
			}
			q := *author
			q.Time = noon
			if len(before.Shortfall(&q, &g, false)) > 0 {
				refused++
				continue
			}
			written++
			after := e.Update(put)
			for range 200 {
				q := w.question()
				if w.IntN(2) == 0 {
					q.Namespace, q.LabelSelector, q.FieldSelector = w.pick("n1", "n2"), nil, nil
				}
				q.Site = w.pick("", "shared", "other")
				q.Time = noon.Add(time.Duration(w.IntN(3)) * time.Hour)
				asker := people[w.IntN(len(people))]
				one, own := ask(asker, q), ask(author, q)
				if one == nil || !after.Decide(one).Allowed() || before.Decide(one).Allowed() {
					continue
				}
				gained++
				if own == nil || !before.Decide(own).Allowed() {
					t.Fatalf("seed %d, step %d: %q gained from %q what it does not have\nquestion %+v\nby %s\ngrant %+v", seed, step, asker.User, author.User, q, after.Decide(one).Reason(), g)
				}
			}
		}
	}
	if written < 200 || refused < 500 || gained < 150 {
		t.Errorf("%d written, %d refused, %d gained: too few to prove anything", written, refused, gained)
	}
}

// TestShortfall is the table of what counts as held.
func TestShortfall(t *testing.T) {
	t.Parallel()
	pods := rules("get - pods")
	alice := []PolicySubject{{Subject: Subject{Kind: User, Name: "alice"}}}
	here := []string{ControlPlane}
	held := Policy{Name: "held", Effect: Allow, Subjects: alice, Rules: pods, Sites: here}
	with := func(p Policy, change func(*Policy)) Policy { change(&p); return p }
	team := []Requirement{{"team", In, []string{"a"}}}
	for name, tc := range map[string]struct {
		have  []any
		grant Policy
		want  string
	}{
		"by RBAC":                       {have: []any{"rbac"}, grant: held},
		"by RBAC, more":                 {have: []any{"rbac"}, grant: with(held, func(p *Policy) { p.Rules = rules("get,list - pods") }), want: "[list]"},
		"by RBAC, at a site":            {have: []any{"rbac"}, grant: with(held, func(p *Policy) { p.Sites = []string{"edge"} }), want: "[get]"},
		"by RBAC, at a sharing site":    {have: []any{"rbac"}, grant: with(held, func(p *Policy) { p.Sites = []string{"shared"} })},
		"by RBAC, everywhere":           {have: []any{"rbac"}, grant: with(held, func(p *Policy) { p.Sites = []string{"*"} }), want: "[get]"},
		"by a policy":                   {have: []any{held}, grant: held},
		"by two, for two namespaces":    {have: []any{with(held, func(p *Policy) { p.Name, p.Namespaces = "a", []string{"n1"} }), with(held, func(p *Policy) { p.Namespaces = []string{"n*"} })}, grant: with(held, func(p *Policy) { p.Namespaces = []string{"n1", "n2"} })},
		"for a pattern, by a name":      {have: []any{with(held, func(p *Policy) { p.Namespaces = []string{"n1"} })}, grant: with(held, func(p *Policy) { p.Namespaces = []string{"n*"} }), want: "[get]"},
		"by labels the grant lacks":     {have: []any{with(held, func(p *Policy) { p.NamespaceLabels = team })}, grant: with(held, func(p *Policy) { p.Namespaces = []string{"n1"} }), want: "[get]"},
		"by labels the grant has":       {have: []any{with(held, func(p *Policy) { p.NamespaceLabels = team })}, grant: with(held, func(p *Policy) { p.NamespaceLabels = team })},
		"by a policy for the site":      {have: []any{with(held, func(p *Policy) { p.Sites = []string{"ed*"} })}, grant: with(held, func(p *Policy) { p.Sites = []string{"edge"} })},
		"by a condition":                {have: []any{with(held, func(p *Policy) { p.Condition = verbCondition("get") })}, grant: held, want: "[get]"},
		"by the same condition":         {have: []any{with(held, func(p *Policy) { p.Condition = verbCondition("get") })}, grant: with(held, func(p *Policy) { p.Condition = verbCondition("get") })},
		"by a condition without text":   {have: []any{with(held, func(p *Policy) { p.Condition = holds{ok: true} })}, grant: with(held, func(p *Policy) { p.Condition = holds{ok: true} }), want: "[get]"},
		"without a condition, with one": {have: []any{held}, grant: with(held, func(p *Policy) { p.Condition = verbCondition("get") })},
		"for a time":                    {have: []any{with(held, func(p *Policy) { p.NotAfter = noon.Add(2) })}, grant: held, want: "[get]"},
		"for a time, for less":          {have: []any{with(held, func(p *Policy) { p.NotAfter = noon.Add(2) })}, grant: with(held, func(p *Policy) { p.NotAfter = noon.Add(1) })},
		"for a time, for more":          {have: []any{with(held, func(p *Policy) { p.NotAfter = noon.Add(2) })}, grant: with(held, func(p *Policy) { p.NotAfter = noon.Add(3) }), want: "[get]"},
		"over":                          {have: []any{with(held, func(p *Policy) { p.NotAfter = noon })}, grant: with(held, func(p *Policy) { p.NotAfter = noon }), want: "[get]"},
		"not begun":                     {have: []any{with(held, func(p *Policy) { p.NotBefore = noon.Add(1) })}, grant: with(held, func(p *Policy) { p.NotBefore = noon.Add(1) }), want: "[get]"},
		"by selectors":                  {have: []any{with(held, func(p *Policy) { p.LabelSelector = team })}, grant: held, want: "[get]"},
		"by the same selectors":         {have: []any{with(held, func(p *Policy) { p.LabelSelector = team })}, grant: with(held, func(p *Policy) { p.LabelSelector = team })},
		"by a policy for others":        {have: []any{with(held, func(p *Policy) { p.Subjects = []PolicySubject{{Subject: Subject{Kind: User, Name: "bob"}}} })}, grant: held, want: "[get]"},
		"by a delegation": {have: []any{Delegation{Name: "d", Giver: Giver{User: "root", Superuser: true}, To: alice[0].Subject, Rules: pods, Sites: here, NotAfter: noon.Add(5), MayDelegate: true}},
			grant: with(held, func(p *Policy) { p.NotAfter = noon.Add(5) }), want: "[get]"},
		"denied":                    {have: []any{"rbac", with(held, func(p *Policy) { p.Effect = Deny })}, grant: held, want: "[get]"},
		"denied one of two":         {have: []any{"rbac", with(held, func(p *Policy) { p.Effect, p.Rules = Deny, rules("get - pods secret") })}, grant: held, want: "[secret]"},
		"denied another":            {have: []any{"rbac", with(held, func(p *Policy) { p.Effect, p.Rules = Deny, rules("get - secrets") })}, grant: held},
		"denied elsewhere":          {have: []any{"rbac", with(held, func(p *Policy) { p.Effect, p.Sites = Deny, []string{"edge"} })}, grant: held},
		"denied in another space":   {have: []any{"rbac", with(held, func(p *Policy) { p.Effect, p.Namespaces = Deny, []string{"n2"} })}, grant: with(held, func(p *Policy) { p.Namespaces = []string{"n1"} })},
		"denied in one of them":     {have: []any{"rbac", with(held, func(p *Policy) { p.Effect, p.Namespaces = Deny, []string{"n2"} })}, grant: held, want: "[get]"},
		"denied under a condition":  {have: []any{"rbac", with(held, func(p *Policy) { p.Effect, p.Condition = Deny, holds{} })}, grant: held, want: "[get]"},
		"denied, other selectors":   {have: []any{"rbac", with(held, func(p *Policy) { p.Effect, p.LabelSelector = Deny, []Requirement{{"team", In, []string{"b"}}} })}, grant: with(held, func(p *Policy) { p.LabelSelector = team })},
		"by a role":                 {have: []any{with(held, func(p *Policy) { p.Rules, p.Roles = nil, []string{"reader"} })}, grant: held},
		"of a role":                 {have: []any{held}, grant: with(held, func(p *Policy) { p.Rules, p.Roles = nil, []string{"reader"} })},
		"a URL, denied with others": {have: []any{with(held, func(p *Policy) { p.Rules = rules("url get /x*") }), with(held, func(p *Policy) { p.Name, p.Effect, p.Rules = "no", Deny, rules("url * *") })}, grant: with(held, func(p *Policy) { p.Rules = rules("url get /x1") }), want: "[/x1]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := New().Update(func(tx *Tx) {
				tx.PutSite(Site{Name: "shared", SharedRBAC: true})
				tx.PutRole(clusterRole("reader", pods...))
				for _, x := range tc.have {
					switch x := x.(type) {
					case string:
						tx.PutBinding(bind("", "x", ClusterRoleKind, "reader", "User:alice"))
					case Policy:
						tx.PutPolicy(x)
					case Delegation:
						tx.PutDelegation(x)
					}
				}
			})
			missing := s.Shortfall(&Request{User: "alice", Time: noon}, &tc.grant, false)
			if (len(missing) == 0) != (tc.want == "") || !strings.Contains(fmt.Sprint(missing), tc.want) {
				t.Errorf("missing %v, want %q", missing, tc.want)
			}
		})
	}
}

// TestGlobs holds the comparisons of patterns against what they match.
func TestGlobs(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 51))
	word := func(letters string) string {
		var b strings.Builder
		for range r.IntN(5) {
			b.WriteByte(letters[r.IntN(len(letters))])
		}
		return b.String()
	}
	for range 20_000 {
		a, b, s := word("ab*"), word("ab*"), word("ab")
		both := globMatches(a, s) && globMatches(b, s)
		if both && !globsMeet(a, b) {
			t.Fatalf("%q and %q both match %q", a, b, s)
		}
		if globIncludes(a, b) && globMatches(b, s) && !globMatches(a, s) {
			t.Fatalf("%q includes %q, and does not match %q", a, b, s)
		}
	}
}
