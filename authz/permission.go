package authz

// permission is the set of roles that have a rule with one key.
type permission struct {
	roles roleSet
	key   permissionKey
}

// permissionKey is a verb, API group and resource, word for word: wildcards
// are words here. With the bit named it stands for the rules limited to object
// names; with nameVerb in place of a verb, for the rules limited to the object
// name in place of the group.
type permissionKey struct{ verb, group, resource uint32 }

const (
	named    = 1 << 31
	nameVerb = none
)

// maxCombinations bounds what one role may add to the permission index. A role
// beyond it stands in Snapshot.broad instead and is compared in full.
const maxCombinations = 4096

func (k permissionKey) hash(seed uint64) uint32 {
	return mix(seed^(uint64(k.verb)<<32|uint64(k.group))*0xff51afd7ed558ccd, k.resource)
}

// combinations counts the keys of a role's rules, stopping early when there
// are too many.
func (rs *ruleset) combinations() int {
	n := 0
	for i := range rs.rules {
		r := &rs.rules[i]
		res := len(rs.resources(r))
		n += min(len(rs.verbs(r)), maxCombinations+1)*min(len(rs.groups(r)), maxCombinations+1)*min(res, maxCombinations+1) +
			len(rs.names(r))*res
		if n > maxCombinations {
			return n
		}
	}
	return n
}

// keys visits every key of the role.
func (rs *ruleset) keys(visit func(k permissionKey)) {
	for i := range rs.rules {
		r := &rs.rules[i]
		names := rs.names(r)
		limit := uint32(0)
		if len(names) > 0 {
			limit = named
		}
		for _, res := range rs.resources(r) {
			for _, v := range rs.verbs(r) {
				for _, g := range rs.groups(r) {
					visit(permissionKey{v | limit, g, res})
				}
			}
			for _, n := range names {
				visit(permissionKey{nameVerb, n, res})
			}
		}
	}
}

func (s *Snapshot) findPermission(k permissionKey) uint32 {
	for p := s.permissionIndex.probe(k.hash(s.salt)); ; {
		id, ok := p.next()
		if !ok {
			return none
		}
		if s.permissions.at(id).key == k {
			return id
		}
	}
}

// index enters a role into the permission index.
func (t *Tx) index(role uint32, rs *ruleset) {
	if rs.urls {
		t.s.withURLs.add(t.v, role)
	}
	if rs.broad {
		t.s.broad.add(t.v, role)
		return
	}
	rs.keys(func(k permissionKey) {
		id := t.s.findPermission(k)
		if id == none {
			id = take(&t.w.permissions, &t.s.permissions, t.v)
			t.s.permissions.edit(t.v, id).key = k
			t.s.permissionIndex.insert(t.v, k.hash(t.s.salt), id)
		}
		if !t.s.permissions.at(id).roles.has(role) {
			t.s.permissions.edit(t.v, id).roles.add(t.v, role)
		}
	})
}

// unindex takes a role out of the permission index.
func (t *Tx) unindex(role uint32, rs *ruleset) {
	t.s.withURLs.remove(t.v, role)
	if rs.broad {
		t.s.broad.remove(t.v, role)
		return
	}
	rs.keys(func(k permissionKey) {
		id := t.s.findPermission(k)
		if id == none {
			return // an equal key of the same role was the last
		}
		p := t.s.permissions.edit(t.v, id)
		p.roles.remove(t.v, role)
		if p.roles.empty() {
			t.s.permissionIndex.remove(t.v, k.hash(t.s.salt), id)
			give(&t.w.permissions, &t.s.permissions, t.v, id)
		}
	})
}

// roleSets is a list of role sets; one marked exact holds only roles that
// match, the roles of any other must still be compared in full.
type roleSets struct {
	list  [16]roleSet
	exact [16]bool
	n     int
}

// sets returns sets that together hold every role which may permit the query's
// action. With limited, it is the action on some object that counts, and only
// rules limited to object names do.
func (c *query) sets(limited bool) (out roleSets) {
	s := c.s
	if !c.q.ResourceRequest {
		out.list[0], out.n = s.withURLs, 1
		return out
	}
	// Written out: a method on &out would move the request to the heap.
	out.list[0], out.n = s.broad, 1
	for _, res := range [3]uint32{star, c.resource, c.anySub} {
		if res == none {
			continue
		}
		for _, g := range [2]uint32{star, c.group()} {
			for _, v := range [2]uint32{star, c.verb} {
				if g == none || v == none {
					continue
				}
				if limited {
					v |= named
				}
				if id := s.findPermission(permissionKey{v, g, res}); id != none {
					out.list[out.n], out.exact[out.n] = s.permissions.at(id).roles, true
					out.n++
				}
			}
		}
		if limited || c.name() == none {
			continue
		}
		if id := s.findPermission(permissionKey{nameVerb, c.name(), res}); id != none {
			out.list[out.n] = s.permissions.at(id).roles
			out.n++
		}
	}
	return out
}

// candidates visits the roles of own that may permit the query's action,
// some of them twice, until visit returns false; it reports whether it visited
// all.
func (c *query) candidates(own *roleSet, visit func(role uint32) bool) bool {
	sets := c.sets(false)
	for i := range sets.list[:sets.n] {
		if !sets.list[i].common(own, visit) {
			return false
		}
	}
	return true
}
