package authz

import "slices"

// A version is the number of the transaction that made a node. A node whose
// version is that of the running transaction belongs to it alone and is
// changed in place; any other is shared with snapshots and copied first.
type version = uint64

const (
	pageBits = 6
	midBits  = 6
	pageSize = 1 << pageBits
	midSize  = 1 << midBits
)

// vec is a persistent array: edit copies one page of items and the two index
// levels above it, so that snapshots share everything else.
type vec[T any] struct {
	mids []*vecMid[T]
	own  version
	n    uint32
}

// vecMid holds the owners of its pages, so that a page is nothing but items and
// fills its place in memory.
type vecMid[T any] struct {
	pages [midSize]*[pageSize]T
	owns  [midSize]version
	own   version
}

// at returns item i for reading.
func (v *vec[T]) at(i uint32) *T {
	return &v.mids[i>>(pageBits+midBits)].pages[i>>pageBits%midSize][i%pageSize]
}

// edit returns item i for writing in transaction t.
func (v *vec[T]) edit(t version, i uint32) *T {
	if v.own != t {
		v.mids = slices.Clone(v.mids)
		v.own = t
	}
	m := v.mids[i>>(pageBits+midBits)]
	if m.own != t {
		c := *m
		c.own = t
		m = &c
		v.mids[i>>(pageBits+midBits)] = m
	}
	k := i >> pageBits % midSize
	if m.owns[k] != t {
		c := *m.pages[k]
		m.pages[k], m.owns[k] = &c, t
	}
	return &m.pages[k][i%pageSize]
}

// add appends a zero item and returns its index.
func (v *vec[T]) add(t version) uint32 {
	i := v.n
	v.n++
	if i%pageSize != 0 {
		return i
	}
	if v.own != t {
		v.mids = slices.Clone(v.mids)
		v.own = t
	}
	if i%(pageSize*midSize) == 0 {
		v.mids = append(v.mids, &vecMid[T]{own: t})
	}
	m := v.mids[i>>(pageBits+midBits)]
	if m.own != t {
		c := *m
		c.own = t
		m = &c
		v.mids[i>>(pageBits+midBits)] = m
	}
	k := i >> pageBits % midSize
	m.pages[k], m.owns[k] = new([pageSize]T), t
	return i
}

// pool hands out the indexes of one vec, those given back first. It belongs to
// the writer; a transaction that is abandoned leaves it as it was.
type pool struct {
	free  []uint32 // given back by committed transactions
	taken int      // how many of free, from the end, this transaction took
	given []uint32 // given back by this transaction
}

func take[T any](p *pool, v *vec[T], t version) uint32 {
	if n := len(p.given); n > 0 {
		i := p.given[n-1]
		p.given = p.given[:n-1]
		return i
	}
	if n := len(p.free) - p.taken; n > 0 {
		p.taken++
		return p.free[n-1]
	}
	return v.add(t)
}

// give clears item i and returns its index to the pool.
func give[T any](p *pool, v *vec[T], t version, i uint32) {
	var zero T
	*v.edit(t, i) = zero
	p.given = append(p.given, i)
}

func (p *pool) commit() {
	p.free = append(p.free[:len(p.free)-p.taken], p.given...)
	p.taken, p.given = 0, p.given[:0]
}

func (p *pool) abandon() { p.taken, p.given = 0, p.given[:0] }
