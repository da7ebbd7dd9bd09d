package authz

import (
	"math/bits"
	"slices"
)

// Holder is one subject that may do what was asked.
type Holder struct {
	// Grant says why; Grant.Subject is the holder.
	Grant Grant
	// ResourceNames is set when the question named no object and the grant
	// holds for objects of these names only.
	ResourceNames []string
}

// Holders is the answer to [Snapshot.WhoCan]: compact, and spelt out one
// holder at a time.
type Holders struct {
	s    *Snapshot
	q    Request
	list []holder
}

type holder struct {
	binding, subject uint32
	limited          bool
}

// Len returns the number of holders.
func (h *Holders) Len() int { return len(h.list) }

// At returns holder i, 0 ≤ i < Len.
func (h *Holders) At(i int) Holder {
	x := h.list[i]
	out := Holder{Grant: h.s.grant(x.binding, x.subject)}
	if x.limited {
		out.ResourceNames = h.s.limits(h.s.roles.at(h.s.bindings.at(x.binding).role).rules, &h.q)
	}
	return out
}

// limits returns the object names for which the rules permit q's action.
func (s *Snapshot) limits(rs *ruleset, q *Request) []string {
	c := newQuery(s, q)
	var out []string
	seen := map[uint32]bool{}
	for i := range rs.rules {
		r := &rs.rules[i]
		if !rs.matchResource(&c, r, false) {
			continue
		}
		for _, w := range rs.names(r) {
			if !seen[w] {
				seen[w] = true
				out = append(out, s.texts.word(w))
			}
		}
	}
	return out
}

// WhoCan returns every subject that a binding allows to do what q asks, once
// for each binding that does, in no particular order. Grants limited to object
// names are included: when q names an object, those that include it; when it
// names none, all of them, with their names. q's User and Groups are not read.
// Groups are not expanded: the engine does not know their members.
func (s *Snapshot) WhoCan(q *Request) Holders {
	h := Holders{s: s, q: *q}
	if !s.answers(q) {
		return h
	}
	c := newQuery(s, q)
	roles, all, limited := c.rolesThatPermit()
	if len(roles) == 0 {
		return h
	}
	// As many as an average role has, and some more.
	h.list = make([]holder, 0, 16+len(roles)*s.scopes.at(clusterScope).bindings.len()/int(s.roles.n)*3/2)
	h.collect(clusterScope, roles, all, limited)
	if q.Namespace != "" {
		if ns := s.findScope(q.Namespace); ns != none {
			h.collect(ns, roles, all, limited)
		}
	}
	return h
}

// rolesThatPermit returns the roles that permit the action, as a list in order
// and as a set, and which of them do so for some object names only.
func (c *query) rolesThatPermit() (roles []uint32, all, limited bitmap) {
	all = make(bitmap, (c.s.roles.n+63)/64)
	c.addRoles(all, c.sets(false), func(role uint32) bool {
		_, ok := c.permits(role)
		return ok
	})
	if c.q.ResourceRequest && c.q.Name == "" {
		limited = make(bitmap, len(all))
		c.addRoles(limited, c.sets(true), c.permitsSome)
	}
	n := 0
	for i := range all {
		if limited != nil {
			limited[i] &^= all[i]
			all[i] |= limited[i]
		}
		n += bits.OnesCount64(all[i])
	}
	roles = make([]uint32, 0, n)
	for i := range all {
		roles = appendBits(roles, all[i], uint32(i)*64)
	}
	if c.q.Site != "" {
		roles = slices.DeleteFunc(roles, func(role uint32) bool {
			if c.usableRole(role) {
				return false
			}
			all.clear(role)
			return true
		})
	}
	return roles, all, limited
}

// addRoles adds the roles of the sets, those of sets that are not exact only if
// permits says so.
func (c *query) addRoles(to bitmap, sets roleSets, permits func(role uint32) bool) {
	for i := range sets.list[:sets.n] {
		if sets.exact[i] {
			sets.list[i].addTo(to)
		}
	}
	for i := range sets.list[:sets.n] {
		if sets.exact[i] {
			continue
		}
		sets.list[i].each(func(role uint32) bool {
			if !to.has(role) && permits(role) {
				to.set(role)
			}
			return true
		})
	}
}

func (c *query) usableRole(role uint32) bool {
	return c.q.Site == "" || !c.s.roles.at(role).bootstrap
}

// permitsSome reports whether the role permits the action for some object name.
func (c *query) permitsSome(role uint32) bool {
	rs := c.s.roles.at(role).rules
	for i := range rs.rules {
		if len(rs.names(&rs.rules[i])) > 0 && rs.matchResource(c, &rs.rules[i], false) {
			return true
		}
	}
	return false
}

// collect adds the subjects of the scope's bindings to any of the roles.
func (h *Holders) collect(scope uint32, roles []uint32, all, limited bitmap) {
	list := h.s.scopes.at(scope).bindings
	if list.len() <= 8*len(roles) {
		list.all(func(i scopeItem) bool {
			if all.has(i.role()) {
				h.add(i, limited.has(i.role()))
			}
			return true
		})
		return
	}
	c := 0
	for _, role := range roles {
		// Both are sorted: go on from the last chunk, and guess the place in it.
		first := scopeItem(role) << itemRoleShift
		for c+1 < len(list.firsts) && list.firsts[c+1] <= first {
			c++
		}
		items := list.chunks[c].items
		i := 0
		if low := list.firsts[c].role(); low < role && c+1 < len(list.firsts) {
			i = len(items) * int(role-low) / int(list.firsts[c+1].role()-low+1)
		}
		for i > 0 && items[i-1] >= first {
			i--
		}
		for i < len(items) && items[i] < first {
			i++
		}
		for {
			if i == len(items) {
				if c+1 == len(list.chunks) {
					break
				}
				c, i = c+1, 0
				items = list.chunks[c].items
			}
			if items[i].role() != role {
				break
			}
			h.add(items[i], limited.has(role))
			i++
		}
	}
}

func (h *Holders) add(item scopeItem, limited bool) {
	n := item.subjects()
	if n == itemLook || h.q.Site != "" {
		b := h.s.bindings.at(item.binding())
		if h.q.Site != "" && b.bootstrap() {
			return
		}
		for i := range b.subjects() {
			if b.subject(i).principal != none {
				h.list = append(h.list, holder{item.binding(), uint32(i), limited})
			}
		}
		return
	}
	for i := range n {
		h.list = append(h.list, holder{item.binding(), uint32(i), limited})
	}
}
