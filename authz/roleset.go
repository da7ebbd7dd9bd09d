package authz

import (
	"math/bits"
	"slices"
)

// roleSet is a persistent set of role numbers: one number in place, a sorted
// list while it is small, blocks of bits when it grows.
type roleSet struct {
	many *roleMany // nil while there is at most one
	one  uint32    // the number plus one, 0 for none; unless many is set
}

const (
	roleSetFew    = 16
	roleBlockBits = 10
	roleBlockSize = 1 << roleBlockBits
)

// roleMany holds a list or blocks, not both.
type roleMany struct {
	few   []uint32
	dense *roleBlocks
	own   version
}

// roleBlocks is sorted by hi; none is empty.
type roleBlocks []*roleBlock

type roleBlock struct {
	bits [roleBlockSize / 64]uint64
	own  version
	hi   uint32 // role number >> roleBlockBits
}

func (s *roleSet) empty() bool { return s.one == 0 && s.many == nil }

func (s *roleSet) has(r uint32) bool {
	if s.many == nil {
		return s.one == r+1
	}
	if s.many.dense == nil {
		return has(s.many.few, r)
	}
	blocks := *s.many.dense
	i, ok := blocks.find(r >> roleBlockBits)
	return ok && blocks[i].bits[r%roleBlockSize/64]>>(r%64)&1 != 0
}

func (b roleBlocks) find(hi uint32) (int, bool) {
	lo, n := 0, len(b)
	for lo < n {
		if m := (lo + n) / 2; b[m].hi < hi {
			lo = m + 1
		} else {
			n = m
		}
	}
	return lo, lo < len(b) && b[lo].hi == hi
}

// edit makes the set's lists belong to transaction t.
func (s *roleSet) edit(t version) *roleMany {
	if s.many.own != t {
		m := &roleMany{few: slices.Clone(s.many.few), own: t}
		if s.many.dense != nil {
			blocks := slices.Clone(*s.many.dense)
			m.dense = &blocks
		}
		s.many = m
	}
	return s.many
}

// add puts r into the set.
func (s *roleSet) add(t version, r uint32) {
	if s.has(r) {
		return
	}
	if s.empty() {
		s.one = r + 1
		return
	}
	if s.many == nil {
		s.many = &roleMany{few: []uint32{s.one - 1}, own: t}
		s.one = 0
	}
	m := s.edit(t)
	if m.dense == nil && len(m.few) < roleSetFew {
		i, _ := slices.BinarySearch(m.few, r)
		m.few = slices.Insert(m.few, i, r)
		return
	}
	if m.dense == nil {
		m.dense = new(roleBlocks)
		for _, x := range m.few {
			m.dense.set(t, x)
		}
		m.few = nil
	}
	m.dense.set(t, r)
}

func (b *roleBlocks) set(t version, r uint32) {
	i, ok := b.find(r >> roleBlockBits)
	if !ok {
		*b = slices.Insert(*b, i, &roleBlock{own: t, hi: r >> roleBlockBits})
	}
	b.edit(t, i).bits[r%roleBlockSize/64] |= 1 << (r % 64)
}

func (b *roleBlocks) edit(t version, i int) *roleBlock {
	k := (*b)[i]
	if k.own != t {
		c := *k
		c.own = t
		k = &c
		(*b)[i] = k
	}
	return k
}

// remove takes r out of the set, if it is there.
func (s *roleSet) remove(t version, r uint32) {
	if !s.has(r) {
		return
	}
	if s.many == nil {
		s.one = 0
		return
	}
	m := s.edit(t)
	if m.dense == nil {
		i, _ := slices.BinarySearch(m.few, r)
		m.few = slices.Delete(m.few, i, i+1)
	} else {
		i, _ := m.dense.find(r >> roleBlockBits)
		k := m.dense.edit(t, i)
		k.bits[r%roleBlockSize/64] &^= 1 << (r % 64)
		if k.bits == [len(k.bits)]uint64{} {
			*m.dense = slices.Delete(*m.dense, i, i+1)
		}
		if len(*m.dense) <= 1 && s.count() <= roleSetFew/2 {
			var few []uint32
			s.each(func(r uint32) bool { few = append(few, r); return true })
			m.few, m.dense = few, nil
		}
	}
	if m.dense == nil && len(m.few) == 1 {
		s.one, s.many = m.few[0]+1, nil
	}
}

func (s *roleSet) count() int {
	n := 0
	s.each(func(uint32) bool { n++; return true })
	return n
}

// each visits the roles in ascending order until visit returns false.
func (s *roleSet) each(visit func(uint32) bool) bool {
	if s.many == nil {
		return s.one == 0 || visit(s.one-1)
	}
	for _, r := range s.many.few {
		if !visit(r) {
			return false
		}
	}
	if s.many.dense == nil {
		return true
	}
	for _, b := range *s.many.dense {
		for i, w := range b.bits {
			for ; w != 0; w &= w - 1 {
				if !visit(b.hi<<roleBlockBits | uint32(i*64+bits.TrailingZeros64(w))) {
					return false
				}
			}
		}
	}
	return true
}

// addTo adds the roles to a bitmap that has room for them.
func (s *roleSet) addTo(to bitmap) {
	if !s.dense() {
		s.each(func(r uint32) bool { to.set(r); return true })
		return
	}
	for _, b := range *s.many.dense {
		at := to[b.hi*(roleBlockSize/64):]
		for i := range min(len(b.bits), len(at)) {
			at[i] |= b.bits[i]
		}
	}
}

// dense reports whether the set has the form of blocks.
func (s *roleSet) dense() bool { return s.many != nil && s.many.dense != nil }

// common visits the roles that are in both sets until visit returns false.
func (s *roleSet) common(o *roleSet, visit func(uint32) bool) bool {
	if !s.dense() || !o.dense() {
		if o.dense() {
			s, o = o, s
		}
		// o is short.
		return o.each(func(r uint32) bool { return !s.has(r) || visit(r) })
	}
	a, b := *s.many.dense, *o.many.dense
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].hi < b[0].hi:
			a = a[1:]
		case a[0].hi > b[0].hi:
			b = b[1:]
		default:
			for i := range a[0].bits {
				for w := a[0].bits[i] & b[0].bits[i]; w != 0; w &= w - 1 {
					if !visit(a[0].hi<<roleBlockBits | uint32(i*64+bits.TrailingZeros64(w))) {
						return false
					}
				}
			}
			a, b = a[1:], b[1:]
		}
	}
	return true
}

// bitmap is a plain set of role numbers for the length of one question.
type bitmap []uint64

func (b bitmap) has(r uint32) bool {
	return int(r/64) < len(b) && b[r/64]>>(r%64)&1 != 0
}

func (b bitmap) set(r uint32)   { b[r/64] |= 1 << (r % 64) }
func (b bitmap) clear(r uint32) { b[r/64] &^= 1 << (r % 64) }

func appendBits(list []uint32, w uint64, base uint32) []uint32 {
	for ; w != 0; w &= w - 1 {
		list = append(list, base+uint32(bits.TrailingZeros64(w)))
	}
	return list
}
