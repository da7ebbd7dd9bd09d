package authz

import (
	"slices"
	"sort"
)

const seqChunk = 128

// seq is a persistent sorted sequence without duplicates. A change copies one
// chunk of items and the list of chunks.
type seq[E any] struct {
	firsts []E // first item of each chunk, so that a search touches one chunk
	chunks []seqItems[E]
	own    version
	n      int
}

type seqItems[E any] struct {
	items []E
	own   version
}

// newSeq returns a sequence of items that are sorted and without duplicates.
func newSeq[E any](t version, items []E) *seq[E] {
	const fill = seqChunk * 3 / 4 // room for later inserts
	s := &seq[E]{own: t, n: len(items)}
	n := (len(items) + fill - 1) / fill
	s.firsts, s.chunks = make([]E, 0, n), make([]seqItems[E], 0, n)
	for c := range n {
		chunk := items[c*len(items)/n : (c+1)*len(items)/n]
		s.firsts = append(s.firsts, chunk[0])
		s.chunks = append(s.chunks, seqItems[E]{items: slices.Clone(chunk), own: t})
	}
	return s
}

func (s *seq[E]) len() int {
	if s == nil {
		return 0
	}
	return s.n
}

// edit returns s, or a copy of it that belongs to transaction t.
func (s *seq[E]) edit(t version) *seq[E] {
	if s == nil {
		return &seq[E]{own: t}
	}
	if s.own == t {
		return s
	}
	return &seq[E]{firsts: slices.Clone(s.firsts), chunks: slices.Clone(s.chunks), own: t, n: s.n}
}

// editChunk returns chunk c of an edited s for writing, with room for one more.
func (s *seq[E]) editChunk(t version, c int) *seqItems[E] {
	ch := &s.chunks[c]
	if ch.own != t {
		items := make([]E, len(ch.items), len(ch.items)+1)
		copy(items, ch.items)
		ch.items, ch.own = items, t
	}
	return ch
}

// chunkOf returns the chunk that holds the place of the first item not before
// the searched one; less reports whether an item lies before it.
func (s *seq[E]) chunkOf(less func(E) bool) int {
	c := sort.Search(len(s.firsts), func(i int) bool { return !less(s.firsts[i]) })
	return max(0, c-1)
}

// insert adds x, which must be absent, to an edited s.
func (s *seq[E]) insert(t version, x E, cmp func(a, b E) int) {
	s.n++
	if len(s.chunks) == 0 {
		s.chunks = append(s.chunks, seqItems[E]{items: []E{x}, own: t})
		s.firsts = append(s.firsts, x)
		return
	}
	c := s.chunkOf(func(e E) bool { return cmp(e, x) < 0 })
	ch := s.editChunk(t, c)
	i, _ := slices.BinarySearchFunc(ch.items, x, cmp)
	ch.items = slices.Insert(ch.items, i, x)
	if len(ch.items) > seqChunk {
		half := len(ch.items) / 2
		upper := slices.Clone(ch.items[half:])
		clear(ch.items[half:])
		ch.items = ch.items[:half]
		s.chunks = slices.Insert(s.chunks, c+1, seqItems[E]{items: upper, own: t})
		s.firsts = slices.Insert(s.firsts, c+1, upper[0])
	}
	s.firsts[c] = s.chunks[c].items[0]
}

// remove deletes x, which must be present, from an edited s.
func (s *seq[E]) remove(t version, x E, cmp func(a, b E) int) {
	s.n--
	c := sort.Search(len(s.firsts), func(i int) bool { return cmp(s.firsts[i], x) > 0 }) - 1
	ch := s.editChunk(t, c)
	i, _ := slices.BinarySearchFunc(ch.items, x, cmp)
	ch.items = slices.Delete(ch.items, i, i+1)
	if len(ch.items) == 0 {
		s.chunks = slices.Delete(s.chunks, c, c+1)
		s.firsts = slices.Delete(s.firsts, c, c+1)
		return
	}
	s.firsts[c] = ch.items[0]
}

// from visits the items from the first that is not before the searched one on,
// until visit returns false.
func (s *seq[E]) from(less func(E) bool, visit func(E) bool) {
	if s.len() == 0 {
		return
	}
	c := s.chunkOf(less)
	items := s.chunks[c].items
	items = items[sort.Search(len(items), func(i int) bool { return !less(items[i]) }):]
	for {
		for _, e := range items {
			if !visit(e) {
				return
			}
		}
		if c++; c == len(s.chunks) {
			return
		}
		items = s.chunks[c].items
	}
}

// all visits every item until visit returns false.
func (s *seq[E]) all(visit func(E) bool) {
	if s == nil {
		return
	}
	if s.n == 1 {
		visit(s.firsts[0])
		return
	}
	for c := range s.chunks {
		for _, e := range s.chunks[c].items {
			if !visit(e) {
				return
			}
		}
	}
}
