package authz

import (
	"math/bits"
	"slices"
)

// roleSet is a persistent set of role numbers: a sorted list while it is
// small, blocks of bits when it grows.
type roleSet struct {
	few  []uint32
	many *roleBlocks
}

const (
	roleSetFew    = 16
	roleBlockBits = 10
	roleBlockSize = 1 << roleBlockBits
)

type roleBlocks struct {
	blocks []*roleBlock // sorted by hi, none empty
	own    version
}

type roleBlock struct {
	bits [roleBlockSize / 64]uint64
	own  version
	hi   uint32 // role number >> roleBlockBits
}

func (s *roleSet) empty() bool { return len(s.few) == 0 && s.many == nil }

func (s *roleSet) has(r uint32) bool {
	if s.many == nil {
		for _, x := range s.few {
			if x == r {
				return true
			}
		}
		return false
	}
	i, ok := s.many.find(r >> roleBlockBits)
	return ok && s.many.blocks[i].bits[r%roleBlockSize/64]>>(r%64)&1 != 0
}

func (b *roleBlocks) find(hi uint32) (int, bool) {
	lo, n := 0, len(b.blocks)
	for lo < n {
		if m := (lo + n) / 2; b.blocks[m].hi < hi {
			lo = m + 1
		} else {
			n = m
		}
	}
	return lo, lo < len(b.blocks) && b.blocks[lo].hi == hi
}

// add puts r into the set. few is always copied: it is short.
func (s *roleSet) add(t version, r uint32) {
	if s.many == nil {
		i, ok := slices.BinarySearch(s.few, r)
		if ok {
			return
		}
		if len(s.few) < roleSetFew {
			few := make([]uint32, len(s.few)+1)
			copy(few, s.few[:i])
			few[i] = r
			copy(few[i+1:], s.few[i:])
			s.few = few
			return
		}
		s.many = &roleBlocks{own: t}
		for _, x := range s.few {
			s.many.set(t, x)
		}
		s.few = nil
	} else if s.many.own != t {
		s.many = &roleBlocks{blocks: slices.Clone(s.many.blocks), own: t}
	}
	s.many.set(t, r)
}

func (b *roleBlocks) set(t version, r uint32) {
	i, ok := b.find(r >> roleBlockBits)
	if !ok {
		b.blocks = slices.Insert(b.blocks, i, &roleBlock{own: t, hi: r >> roleBlockBits})
	}
	b.edit(t, i).bits[r%roleBlockSize/64] |= 1 << (r % 64)
}

func (b *roleBlocks) edit(t version, i int) *roleBlock {
	k := b.blocks[i]
	if k.own != t {
		c := *k
		c.own = t
		k = &c
		b.blocks[i] = k
	}
	return k
}

// remove takes r out of the set, if it is there.
func (s *roleSet) remove(t version, r uint32) {
	if s.many == nil {
		if i, ok := slices.BinarySearch(s.few, r); ok {
			few := make([]uint32, 0, len(s.few)-1)
			s.few = append(append(few, s.few[:i]...), s.few[i+1:]...)
		}
		return
	}
	if !s.has(r) {
		return
	}
	if s.many.own != t {
		s.many = &roleBlocks{blocks: slices.Clone(s.many.blocks), own: t}
	}
	i, _ := s.many.find(r >> roleBlockBits)
	k := s.many.edit(t, i)
	k.bits[r%roleBlockSize/64] &^= 1 << (r % 64)
	if k.bits == [len(k.bits)]uint64{} {
		s.many.blocks = slices.Delete(s.many.blocks, i, i+1)
	}
	if len(s.many.blocks) <= 1 && s.count() <= roleSetFew/2 {
		var few []uint32
		s.each(func(r uint32) bool { few = append(few, r); return true })
		s.few, s.many = few, nil
	}
}

func (s *roleSet) count() int {
	if s.many == nil {
		return len(s.few)
	}
	n := 0
	for _, b := range s.many.blocks {
		for _, w := range b.bits {
			n += bits.OnesCount64(w)
		}
	}
	return n
}

// each visits the roles in ascending order until visit returns false.
func (s *roleSet) each(visit func(uint32) bool) bool {
	if s.many == nil {
		for _, r := range s.few {
			if !visit(r) {
				return false
			}
		}
		return true
	}
	for _, b := range s.many.blocks {
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

// common visits the roles that are in both sets until visit returns false.
func (s *roleSet) common(o *roleSet, visit func(uint32) bool) bool {
	if s.many == nil || o.many == nil {
		if s.many == nil && o.many != nil {
			s, o = o, s
		}
		// o is now a short list.
		for _, r := range o.few {
			if s.has(r) && !visit(r) {
				return false
			}
		}
		return true
	}
	a, b := s.many.blocks, o.many.blocks
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

func (b bitmap) set(r uint32) { b[r/64] |= 1 << (r % 64) }

func appendBits(list []uint32, w uint64, base uint32) []uint32 {
	for ; w != 0; w &= w - 1 {
		list = append(list, base+uint32(bits.TrailingZeros64(w)))
	}
	return list
}
