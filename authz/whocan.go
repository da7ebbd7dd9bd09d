package authz

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
	h.list = make([]holder, 0, 2*len(roles)*(1+s.scopes.at(clusterScope).bindings.len()/int(s.roles.n)))
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
	full := make(bitmap, (c.s.roles.n+63)/64)
	n := 0
	sets := c.sets(false)
	for i := range sets.list[:sets.n] {
		sets.list[i].each(func(role uint32) bool {
			if full.has(role) {
				return true
			}
			ok := sets.exact[i]
			if !ok {
				_, ok = c.permits(role)
			}
			if ok && c.usableRole(role) {
				full.set(role)
				n++
			}
			return true
		})
	}
	if c.q.ResourceRequest && c.q.Name == "" {
		limited = make(bitmap, len(full))
		sets = c.sets(true)
		for i := range sets.list[:sets.n] {
			sets.list[i].each(func(role uint32) bool {
				if !full.has(role) && !limited.has(role) && c.usableRole(role) && (sets.exact[i] || c.permitsSome(role)) {
					limited.set(role)
					n++
				}
				return true
			})
		}
	}
	roles = make([]uint32, 0, n)
	for i := range full {
		if limited != nil {
			full[i] |= limited[i]
		}
		roles = appendBits(roles, full[i], uint32(i)*64)
	}
	return roles, full, limited
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
	c, i := 0, 0
	for _, role := range roles {
		// Both are sorted: go on from the last place.
		first := scopeItem(role) << itemRoleShift
		if lo, hi := c+1, len(list.firsts); lo < hi && list.firsts[lo] <= first {
			for lo < hi {
				if m := (lo + hi) / 2; list.firsts[m] <= first {
					lo = m + 1
				} else {
					hi = m
				}
			}
			c, i = lo-1, 0
		}
		items := list.chunks[c].items
		for lo, hi := i, len(items); ; {
			if lo == hi {
				i = lo
				break
			}
			if m := (lo + hi) / 2; items[m] < first {
				lo = m + 1
			} else {
				hi = m
			}
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
