package authz

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// oracle is the plain reading of the policy that the index must agree with: it
// looks at every binding, every subject and every rule.
type oracle struct {
	roles    map[[2]string]Role
	bindings map[[2]string]Binding
	sites    map[string]Site
}

func newOracle() *oracle {
	return &oracle{map[[2]string]Role{}, map[[2]string]Binding{}, map[string]Site{}}
}

func (o *oracle) ordered() []Binding {
	out := make([]Binding, 0, len(o.bindings))
	for _, b := range o.bindings {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b Binding) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return out
}

func (o *oracle) role(b *Binding, q *Request) (Role, bool) {
	key := [2]string{"", b.RoleName}
	switch {
	case b.RoleKind == RoleKind && b.Namespace != "":
		key[0] = b.Namespace
	case b.RoleKind != ClusterRoleKind:
		return Role{}, false
	}
	r, ok := o.roles[key]
	return r, ok
}

// visit calls f with every binding that applies, in order.
func (o *oracle) visit(q *Request, f func(b *Binding, subject Subject, r *Role) bool) {
	if q.Site != "" && !o.sites[q.Site].SharedRBAC {
		return
	}
	for _, b := range o.ordered() {
		if b.Namespace != "" && b.Namespace != q.Namespace || q.Site != "" && (b.Bootstrap || strings.HasPrefix(b.Name, "system:")) {
			continue
		}
		i := slices.IndexFunc(b.Subjects, func(s Subject) bool { return applies(s, b.Namespace, q) })
		if i < 0 {
			continue
		}
		sub := b.Subjects[i]
		if sub.Kind == ServiceAccount && sub.Namespace == "" {
			sub.Namespace = b.Namespace
		}
		r, ok := o.role(&b, q)
		if q.Site != "" && (r.Bootstrap || strings.HasPrefix(b.RoleName, "system:")) {
			continue
		}
		p := &r
		if !ok {
			p = nil
		}
		if !f(&b, sub, p) {
			return
		}
	}
}

func applies(s Subject, namespace string, q *Request) bool {
	user, groups := q.User, q.Groups
	if q.Site != "" {
		if strings.HasPrefix(user, "system:") {
			user = "\x00nobody"
		} else if strings.HasPrefix(user, "gatehouse:system:serviceaccount:") {
			user = user[len("gatehouse:"):]
		}
		groups = nil
		for _, g := range q.Groups {
			switch {
			case g == "system:authenticated":
				groups = append(groups, g)
			case strings.HasPrefix(g, "system:"):
			case g == "gatehouse:system:serviceaccounts" || strings.HasPrefix(g, "gatehouse:system:serviceaccounts:"):
				groups = append(groups, g[len("gatehouse:"):])
			default:
				groups = append(groups, g)
			}
		}
	}
	switch s.Kind {
	case User:
		return user == s.Name
	case Group:
		return slices.Contains(groups, s.Name)
	case ServiceAccount:
		ns := cmp.Or(s.Namespace, namespace)
		return ns != "" && user == "system:serviceaccount:"+ns+":"+s.Name
	}
	return false
}

// answer is a decision spelt out.
type answer struct {
	Effect Effect
	Grant  Grant
	Rule   int
}

func spell(d Decision) answer {
	g, _ := d.Grant()
	return answer{d.Effect(), g, d.Rule()}
}

func (o *oracle) decide(q *Request) answer {
	a := answer{Rule: -1}
	o.visit(q, func(b *Binding, s Subject, r *Role) bool {
		if r == nil {
			return true
		}
		for i := range r.Rules {
			if r.Rules[i].Allows(q) {
				a = answer{Allow, grantOf(b, s), i}
				return false
			}
		}
		return true
	})
	return a
}

func grantOf(b *Binding, s Subject) Grant {
	return Grant{b.Namespace, b.Name, b.RoleKind, b.RoleName, s}
}

func (o *oracle) rulesFor(q *Request) (rules []GrantedRule, missing []Grant) {
	o.visit(q, func(b *Binding, s Subject, r *Role) bool {
		if r == nil {
			missing = append(missing, grantOf(b, s))
			return true
		}
		for i, rule := range r.Rules {
			rules = append(rules, GrantedRule{rule, i, grantOf(b, s)})
		}
		return true
	})
	return rules, missing
}

// whoCan lists the holders as sorted text.
func (o *oracle) whoCan(q *Request) []string {
	var out []string
	if q.Site != "" && !o.sites[q.Site].SharedRBAC {
		return nil
	}
	for _, b := range o.ordered() {
		r, ok := o.role(&b, q)
		if b.Namespace != "" && b.Namespace != q.Namespace || !ok || q.Site != "" && (b.Bootstrap ||
			r.Bootstrap || strings.HasPrefix(b.Name, "system:") || strings.HasPrefix(r.Name, "system:")) {
			continue
		}
		full := false
		var names []string
		for _, rule := range r.Rules {
			full = full || rule.Allows(q)
			if limited := rule.ResourceNames; len(limited) > 0 && q.ResourceRequest && q.Name == "" {
				rule.ResourceNames = nil
				if rule.Allows(q) {
					names = append(names, limited...)
				}
			}
		}
		if full {
			names = nil
		} else if len(names) == 0 {
			continue
		}
		slices.Sort(names)
		names = slices.Compact(names)
		for _, s := range b.Subjects {
			if s.Kind == ServiceAccount && s.Namespace == "" {
				s.Namespace = b.Namespace
			}
			if s.Kind == User || s.Kind == Group || s.Kind == ServiceAccount && s.Namespace != "" {
				out = append(out, fmt.Sprint(grantOf(&b, s), names))
			}
		}
	}
	slices.Sort(out)
	return out
}

func spellHolders(h Holders) []string {
	var out []string
	for i := range h.Len() {
		x := h.At(i)
		slices.Sort(x.ResourceNames)
		out = append(out, fmt.Sprint(x.Grant, x.ResourceNames))
	}
	slices.Sort(out)
	return out
}

// world draws random policy and questions from small sets of words, so that
// they meet often.
type world struct {
	*rand.Rand
	// shape 1 has few users in one namespace, so that a user has many grants
	// there; shape 2 has few users in many namespaces.
	shape int
	// shrinking makes deletes more frequent than puts.
	shrinking bool
}

func (w world) pick(words ...string) string { return words[w.IntN(len(words))] }

func (w world) some(max int, draw func() string) []string {
	var out []string
	for range w.IntN(max + 1) {
		out = append(out, draw())
	}
	return out
}

func (w world) verb() string {
	return w.pick("get", "list", "watch", "create", "delete", "*", "", "use")
}
func (w world) group() string { return w.pick("", "apps", "batch", "*") }
func (w world) resource() string {
	if w.shape > 0 && w.IntN(3) > 0 {
		return fmt.Sprintf("r%d", w.IntN(60))
	}
	return w.pick("pods", "pods/log", "pods/status", "*", "*/scale", "*/log", "deployments", "deployments/scale", "", "a/b/c", "*/b/c")
}
func (w world) object() string { return w.pick("a", "b", "c", "", "*") }
func (w world) url() string {
	return w.pick("/", "/healthz", "/healthz/*", "/apis/*", "*", "/apis", "/a*b", "/apis**", "")
}
func (w world) namespace() string {
	switch w.shape {
	case 1:
		return w.pick("n1", "n1", "")
	case 2:
		return fmt.Sprint("n", w.IntN(90))
	}
	return w.pick("n1", "n2", "n3", "n:4", "")
}
func (w world) user() string {
	if w.shape > 0 {
		return w.pick("u1", "u1", "u2", "system:serviceaccount:n1:s1")
	}
	return w.pick("u1", "u2", "system:serviceaccount:n1:s1", "system:serviceaccount:n2:s1", "system:serviceaccount:n:4:s1",
		"gatehouse:system:serviceaccount:n1:s1", "system:node:x", "gatehouse:u1", "g1", "", "system:serviceaccount::s1")
}
func (w world) groupName() string {
	return w.pick("g1", "g2", "system:authenticated", "system:masters", "system:serviceaccounts", "system:serviceaccounts:n1",
		"gatehouse:system:serviceaccounts:n1", "gatehouse:system:serviceaccountsX", "u1")
}
func (w world) roleName() string {
	if w.shape == 1 {
		return fmt.Sprintf("r%d", w.IntN(80))
	}
	return w.pick("r1", "r2", "r3", "r4", "system:r5")
}
func (w world) bindingName() string {
	if w.shape == 1 {
		return fmt.Sprintf("b%d", w.IntN(200))
	}
	return w.pick("b1", "b2", "b3", "b4", "b5", "b6", "system:b7")
}

func (w world) rule() Rule {
	r := Rule{Verbs: w.some(3, w.verb)}
	if w.IntN(6) > 0 {
		r.APIGroups, r.Resources = w.some(2, w.group), w.some(3, w.resource)
		if w.IntN(4) == 0 {
			r.ResourceNames = w.some(3, w.object)
		}
	}
	if w.IntN(4) == 0 {
		r.NonResourceURLs = w.some(2, w.url)
	}
	return r
}

func (w world) role() Role {
	r := Role{Namespace: w.namespace(), Name: w.roleName(), Bootstrap: w.IntN(10) == 0}
	n := 1 + w.IntN(3)
	if w.IntN(8) == 0 {
		n = w.IntN(30)
	}
	for range n {
		r.Rules = append(r.Rules, w.rule())
	}
	return r
}

func (w world) subject() Subject {
	switch w.IntN(8) {
	case 0:
		return Subject{Kind: ServiceAccount, Name: w.pick("s1", "s2"), Namespace: w.namespace()}
	case 1:
		return Subject{Kind: SubjectKind(w.pick("Robot", "")), Name: w.user()}
	case 2, 3, 4:
		return Subject{Kind: Group, Name: w.groupName()}
	default:
		return Subject{Kind: User, Name: w.user()}
	}
}

func (w world) binding() Binding {
	b := Binding{Namespace: w.namespace(), Name: w.bindingName(), RoleKind: w.pick(RoleKind, ClusterRoleKind, ClusterRoleKind), RoleName: w.roleName(), Bootstrap: w.IntN(10) == 0}
	if w.IntN(30) == 0 {
		b.RoleKind = w.pick("Rolle", "")
	}
	for range w.IntN(4) {
		b.Subjects = append(b.Subjects, w.subject())
	}
	return b
}

func (w world) request() *Request {
	q := &Request{User: w.user(), Groups: w.some(4, w.groupName), Verb: w.verb(), Namespace: w.namespace(), ResourceRequest: w.IntN(5) > 0}
	if w.IntN(20) == 0 {
		for range 40 {
			q.Groups = append(q.Groups, w.groupName(), fmt.Sprint("x", w.IntN(99)))
		}
	}
	if q.ResourceRequest {
		q.APIGroup, q.Resource, q.Name = w.group(), w.resource(), w.object()
		if r, sub, ok := strings.Cut(q.Resource, "/"); ok && w.IntN(4) > 0 {
			q.Resource, q.Subresource = r, sub
		} else if w.IntN(8) == 0 {
			q.Subresource = w.pick("scale", "log", "b/c")
		}
	} else {
		q.Path = w.pick("/", "/healthz", "/healthz/x", "/apis", "/apis/v1", "/axb", "/a*b", "")
	}
	if w.IntN(4) == 0 {
		q.Site = w.pick("shared", "closed", "unknown")
	}
	return q
}

// change applies one random change to both.
func (w world) change(o *oracle, t *Tx) {
	n := w.IntN(10)
	if w.shrinking && n > 5 {
		n = 3
	}
	switch n {
	case 0, 1:
		r := w.role()
		o.roles[[2]string{r.Namespace, r.Name}] = r
		t.PutRole(r)
	case 2:
		ns, name := w.namespace(), w.roleName()
		delete(o.roles, [2]string{ns, name})
		t.DeleteRole(ns, name)
	case 3, 4:
		ns, name := w.namespace(), w.bindingName()
		delete(o.bindings, [2]string{ns, name})
		t.DeleteBinding(ns, name)
	case 5:
		s := Site{Name: w.pick("shared", "closed"), SharedRBAC: w.IntN(2) == 0}
		if w.IntN(4) == 0 {
			delete(o.sites, s.Name)
			t.DeleteSite(s.Name)
		} else {
			o.sites[s.Name] = s
			t.PutSite(s)
		}
	default:
		b := w.binding()
		o.bindings[[2]string{b.Namespace, b.Name}] = b
		t.PutBinding(b)
	}
}

// build puts everything the oracle knows into a new engine, in random order.
func (w world) build(o *oracle) *Snapshot {
	var puts []func(*Tx)
	for _, r := range o.roles {
		puts = append(puts, func(t *Tx) { t.PutRole(r) })
	}
	for _, b := range o.bindings {
		puts = append(puts, func(t *Tx) { t.PutBinding(b) })
	}
	for _, s := range o.sites {
		puts = append(puts, func(t *Tx) { t.PutSite(s) })
	}
	w.Shuffle(len(puts), func(i, j int) { puts[i], puts[j] = puts[j], puts[i] })
	return New().Update(func(t *Tx) {
		for _, put := range puts {
			put(t)
		}
	})
}
