package authz

import (
	"cmp"
	"slices"
	"sort"
)

// principal is a user or group that some binding names, with everything that
// is granted to it. A service account is a user here: that is how it calls.
type principal struct {
	name    string
	entries []entry     // sorted by scope and binding; unless tree is set
	tree    *seq[entry] // the same, when there are many
	own     version     // owner of entries
	group   bool
	live    bool // false once its number is given back
}

// entry is one binding of one principal.
type entry struct {
	scope   uint32 // number of the namespace; clusterScope for cluster bindings
	role    uint32 // or wideRole: binding is then the number of a wide scope
	binding uint32
}

// wideRole marks the single entry of a scope whose grants live in a [wide].
const wideRole = none

// Sizes at which a principal's grants change form. The gap between growing and
// shrinking keeps a principal at the border from changing form at each write.
const (
	treeAt = 64 // entries of a principal
	flatAt = 32
	wideAt = 24 // entries of a principal in one scope
	slimAt = 12
)

func compareEntries(a, b entry) int {
	if a.scope != b.scope {
		return cmp.Compare(a.scope, b.scope)
	}
	return cmp.Compare(a.binding, b.binding)
}

// groupSalt keeps a group apart from a user of the same name.
const (
	userSalt  = 0
	groupSalt = 1
)

func salt(group bool) uint32 {
	if group {
		return groupSalt
	}
	return userSalt
}

// findPrincipal returns the number of a user or group, or none.
func (s *Snapshot) findPrincipal(hash uint32, name string, group bool) uint32 {
	for p := s.principalIndex.probe(hash); ; {
		id, ok := p.next()
		if !ok {
			return none
		}
		if x := s.principals.at(id); x.name == name && x.group == group {
			return id
		}
	}
}

// findPrincipalBytes is findPrincipal for a user whose name is not a string yet.
func (s *Snapshot) findPrincipalBytes(hash uint32, name []byte) uint32 {
	for p := s.principalIndex.probe(hash); ; {
		id, ok := p.next()
		if !ok {
			return none
		}
		if x := s.principals.at(id); x.name == string(name) && !x.group {
			return id
		}
	}
}

// flat returns the entries of one scope of a principal without a tree.
func (p *principal) flat(scope uint32) []entry {
	es := p.entries
	if scope == clusterScope {
		n := 0
		for n < len(es) && es[n].scope == clusterScope {
			n++
		}
		return es[:n]
	}
	if len(es) > 8 {
		lo, hi := 0, len(es)
		for lo < hi {
			if m := (lo + hi) / 2; es[m].scope < scope {
				lo = m + 1
			} else {
				hi = m
			}
		}
		es = es[lo:]
	} else {
		for len(es) > 0 && es[0].scope < scope {
			es = es[1:]
		}
	}
	n := 0
	for n < len(es) && es[n].scope == scope {
		n++
	}
	return es[:n]
}

// each visits the entries of one scope, a wide scope's marker included, until
// visit returns false.
func (p *principal) each(scope uint32, visit func(entry) bool) {
	if p.tree == nil {
		for _, e := range p.flat(scope) {
			if !visit(e) {
				return
			}
		}
		return
	}
	p.tree.from(func(e entry) bool { return e.scope < scope }, func(e entry) bool {
		return e.scope == scope && visit(e)
	})
}

// grants visits every grant of one scope until visit returns false.
func (s *Snapshot) grants(p *principal, scope uint32, visit func(entry) bool) {
	p.each(scope, func(e entry) bool {
		if e.role != wideRole {
			return visit(e)
		}
		s.wides.at(e.binding).byName.all(visit)
		return false
	})
}

// addGrant records that the binding of e names principal id. A principal that
// the binding names twice has one grant.
func (t *Tx) addGrant(id uint32, e entry) {
	p := t.s.principals.edit(t.v, id)
	n, dup := 0, false
	p.each(e.scope, func(x entry) bool {
		if x.role == wideRole {
			t.addWide(x.binding, e)
			dup = true
			return false
		}
		n++
		dup = dup || x.binding == e.binding
		return true
	})
	if dup {
		return
	}
	if n >= wideAt {
		t.widen(p, e)
		return
	}
	t.insertEntry(p, e)
}

// dropGrant undoes addGrant; it does nothing when the grant is gone already.
func (t *Tx) dropGrant(id uint32, e entry) {
	p := t.s.principals.edit(t.v, id)
	wide, found := none, false
	p.each(e.scope, func(x entry) bool {
		if x.role == wideRole {
			wide = x.binding
			return false
		}
		if x.binding == e.binding {
			e, found = x, true
		}
		return !found
	})
	switch {
	case wide != none:
		if t.dropWide(wide, e) <= slimAt {
			t.narrow(p, e.scope, wide)
		}
	case found:
		t.removeEntry(p, e)
	}
}

func (t *Tx) insertEntry(p *principal, e entry) {
	if p.tree != nil {
		p.tree = p.tree.edit(t.v)
		p.tree.insert(t.v, e, compareEntries)
		return
	}
	if len(p.entries) >= treeAt {
		tree := &seq[entry]{own: t.v}
		for _, x := range p.entries {
			tree.insert(t.v, x, compareEntries)
		}
		tree.insert(t.v, e, compareEntries)
		p.tree, p.entries = tree, nil
		return
	}
	i := sort.Search(len(p.entries), func(i int) bool { return compareEntries(p.entries[i], e) > 0 })
	if p.own == t.v && len(p.entries) < cap(p.entries) {
		p.entries = slices.Insert(p.entries, i, e)
		return
	}
	// Grow by a quarter: entries are most of what a binding costs.
	room := 1
	if p.own == t.v {
		room = 1 + len(p.entries)/4
	}
	grown := make([]entry, len(p.entries)+1, len(p.entries)+room)
	copy(grown, p.entries[:i])
	grown[i] = e
	copy(grown[i+1:], p.entries[i:])
	p.entries, p.own = grown, t.v
}

func (t *Tx) removeEntry(p *principal, e entry) {
	if p.tree == nil {
		i := sort.Search(len(p.entries), func(i int) bool { return compareEntries(p.entries[i], e) >= 0 })
		left := make([]entry, 0, len(p.entries)-1)
		p.entries = append(append(left, p.entries[:i]...), p.entries[i+1:]...)
		p.own = t.v
		return
	}
	p.tree = p.tree.edit(t.v)
	p.tree.remove(t.v, e, compareEntries)
	if p.tree.n <= flatAt {
		p.entries, p.own = make([]entry, 0, p.tree.n), t.v
		p.tree.all(func(x entry) bool { p.entries = append(p.entries, x); return true })
		p.tree = nil
	}
}

// settle forgets a principal without grants.
func (t *Tx) settle(id uint32) {
	p := t.s.principals.at(id)
	if len(p.entries) > 0 || p.tree != nil || !p.live {
		return
	}
	t.s.principalIndex.remove(t.v, t.s.hash2(p.name, salt(p.group)), id)
	give(&t.w.principals, &t.s.principals, t.v, id)
}
