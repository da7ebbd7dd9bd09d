package authz

import (
	"cmp"
	"slices"
)

// grantLink and scopeLink are a grant and a scope's binding not yet entered.
type grantLink struct {
	principal uint32
	entry
}

type scopeLink struct {
	scope uint32
	item  scopeItem
}

// linkFew is up to how many new grants are entered one by one. More are sorted
// first: each principal's and each scope's are then entered together, in lists
// of the right size.
const linkFew = 64

// link enters the grants of the bindings put so far. Whatever looks at grants,
// or takes some away, links first.
func (t *Tx) link() {
	grants, items := t.w.grants, t.w.items
	t.w.grants, t.w.items = grants[:0], items[:0]
	if len(grants) <= linkFew && len(items) <= linkFew {
		for _, g := range grants {
			t.addGrant(g.principal, g.entry)
		}
		for _, l := range items {
			y := t.s.scopes.edit(t.v, l.scope)
			y.bindings = y.bindings.edit(t.v)
			y.bindings.insert(t.v, l.item, cmp.Compare[scopeItem])
		}
		return
	}
	grants = group(grants, t.s.principals.n, func(g *grantLink) uint32 { return g.principal })
	for len(grants) > 0 {
		n := 1
		for n < len(grants) && grants[n].principal == grants[0].principal {
			n++
		}
		t.linkGrants(grants[0].principal, grants[:n])
		grants = grants[n:]
	}
	items = group(items, t.s.scopes.n, func(l *scopeLink) uint32 { return l.scope })
	for len(items) > 0 {
		n := 1
		for n < len(items) && items[n].scope == items[0].scope {
			n++
		}
		t.linkItems(items[0].scope, items[:n])
		items = items[n:]
	}
	// Lists for a whole policy are not kept until the next.
	t.w.grants, t.w.items = nil, nil
}

// group sorts by a number below n, keeping the order of equals.
func group[T any](list []T, n uint32, number func(*T) uint32) []T {
	ends := make([]uint32, n+1)
	for i := range list {
		ends[number(&list[i])+1]++
	}
	for i := range n {
		ends[i+1] += ends[i]
	}
	out := make([]T, len(list))
	for i := range list {
		k := &ends[number(&list[i])]
		out[*k] = list[i]
		*k++
	}
	return out
}

// linkGrants enters grants of one principal.
func (t *Tx) linkGrants(id uint32, grants []grantLink) {
	p := t.s.principals.edit(t.v, id)
	if p.tree != nil || len(p.entries)+len(grants) > treeAt {
		for i := range grants {
			t.addGrant(id, grants[i].entry)
		}
		return
	}
	old := len(p.entries)
	all := make([]entry, old, old+len(grants))
	copy(all, p.entries)
	for i := range grants {
		all = append(all, grants[i].entry)
	}
	slices.SortStableFunc(all[old:], compareEntries)
	if old > 0 {
		slices.SortStableFunc(all, compareEntries)
	}
	run := 0
	for i := range all {
		if i == 0 || all[i].scope != all[i-1].scope {
			run = 0
		}
		if run++; run > wideAt || all[i].role == wideRole {
			for i := range grants {
				t.addGrant(id, grants[i].entry)
			}
			return
		}
	}
	all = slices.CompactFunc(all, func(a, b entry) bool { return a.scope == b.scope && a.binding == b.binding })
	p.entries, p.own = all, t.v
}

// linkItems enters bindings of one scope.
func (t *Tx) linkItems(scope uint32, links []scopeLink) {
	y := t.s.scopes.edit(t.v, scope)
	if y.bindings.len() > 0 {
		y.bindings = y.bindings.edit(t.v)
		for i := range links {
			y.bindings.insert(t.v, links[i].item, cmp.Compare[scopeItem])
		}
		return
	}
	items := make([]scopeItem, len(links))
	for i := range links {
		items[i] = links[i].item
	}
	slices.Sort(items)
	y.bindings = newSeq(t.v, items)
}
