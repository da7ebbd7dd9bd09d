package authz

import (
	"cmp"
	"strings"
)

// wide holds the grants of one principal in one scope when there are many, so
// that a decision need not look at each of them.
type wide struct {
	byName *seq[entry] // in the order of the bindings' names
	byRole *seq[entry] // by role, then by name
	roles  roleSet
}

// wideScan is how many grants, in the order of their names, are tried one by
// one before the permission index is asked, and wideRoles how many roles from
// that index are compared before trying one by one goes on. Many grants that
// permit the action are found by the first, few by the second.
const (
	wideScan  = 16
	wideRoles = 24
)

func (s *Snapshot) compareNames(a, b entry) int {
	if a.binding == b.binding {
		return 0
	}
	return strings.Compare(s.bindings.at(a.binding).name, s.bindings.at(b.binding).name)
}

func (s *Snapshot) compareRoles(a, b entry) int {
	if a.role != b.role {
		return cmp.Compare(a.role, b.role)
	}
	return s.compareNames(a, b)
}

func (t *Tx) addWide(id uint32, e entry) {
	w := t.s.wides.at(id)
	dup := false
	w.byName.from(func(x entry) bool { return t.s.compareNames(x, e) < 0 }, func(x entry) bool {
		dup = x.binding == e.binding
		return false
	})
	if dup {
		return
	}
	w = t.s.wides.edit(t.v, id)
	w.byName = w.byName.edit(t.v)
	w.byName.insert(t.v, e, t.s.compareNames)
	w.byRole = w.byRole.edit(t.v)
	w.byRole.insert(t.v, e, t.s.compareRoles)
	w.roles.add(t.v, e.role)
}

// dropWide removes the grant of e's binding and returns how many are left.
func (t *Tx) dropWide(id uint32, e entry) int {
	w := t.s.wides.at(id)
	found := false
	w.byName.from(func(x entry) bool { return t.s.compareNames(x, e) < 0 }, func(x entry) bool {
		if x.binding == e.binding {
			e, found = x, true
		}
		return false
	})
	if !found {
		return w.byName.len()
	}
	w = t.s.wides.edit(t.v, id)
	w.byName = w.byName.edit(t.v)
	w.byName.remove(t.v, e, t.s.compareNames)
	w.byRole = w.byRole.edit(t.v)
	w.byRole.remove(t.v, e, t.s.compareRoles)
	if _, ok := w.first(e.role); !ok {
		w.roles.remove(t.v, e.role)
	}
	return w.byName.len()
}

// first returns the grant of the role whose binding's name sorts first.
func (w *wide) first(role uint32) (e entry, ok bool) {
	w.byRole.from(func(x entry) bool { return x.role < role }, func(x entry) bool {
		e, ok = x, x.role == role
		return false
	})
	return e, ok
}

// widen moves the grants of e's scope, and e, into a wide.
func (t *Tx) widen(p *principal, e entry) {
	var moved []entry
	p.each(e.scope, func(x entry) bool { moved = append(moved, x); return true })
	id := take(&t.w.wides, &t.s.wides, t.v)
	for _, x := range moved {
		t.removeEntry(p, x)
		t.addWide(id, x)
	}
	t.addWide(id, e)
	t.insertEntry(p, entry{scope: e.scope, role: wideRole, binding: id})
}

// narrow undoes widen.
func (t *Tx) narrow(p *principal, scope, id uint32) {
	t.removeEntry(p, entry{scope: scope, role: wideRole, binding: id})
	t.s.wides.at(id).byName.all(func(x entry) bool { t.insertEntry(p, x); return true })
	give(&t.w.wides, &t.s.wides, t.v, id)
}

// scanWide is scan for a wide scope.
func (c *query) scanWide(w *wide, principal uint32, best *match) {
	n, done := 0, false
	w.byName.all(func(e entry) bool {
		if rule, ok := c.permits(e.role); ok && c.usable(&e) {
			best.offer(c.s, &e, principal, rule)
			done = true
			return false
		}
		n++
		return n < wideScan
	})
	if done || n < wideScan {
		return
	}
	// Roles that may permit the action and that the principal has here.
	n = 0
	complete := c.candidates(&w.roles, func(role uint32) bool {
		if n++; n > wideRoles {
			return false
		}
		rule, ok := c.permits(role)
		if !ok {
			return true
		}
		e, _ := w.first(role)
		if c.usable(&e) {
			best.offer(c.s, &e, principal, rule)
			return true
		}
		// The first grant of the role is the control plane's own; a later one
		// may not be.
		w.byRole.from(func(x entry) bool { return x.role < role }, func(x entry) bool {
			if x.role != role {
				return false
			}
			if c.usable(&x) {
				best.offer(c.s, &x, principal, rule)
				return false
			}
			return true
		})
		return true
	})
	if complete {
		return
	}
	var last entry
	last.role = none
	w.byName.all(func(e entry) bool {
		if e.role == last.role {
			return true // refused a moment ago
		}
		if rule, ok := c.permits(e.role); ok {
			if c.usable(&e) {
				best.offer(c.s, &e, principal, rule)
				return false
			}
			return true
		}
		last = e
		return true
	})
}
