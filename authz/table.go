package authz

import "slices"

const (
	tableChunkBits = 6
	tableChunkSize = 1 << tableChunkBits
	tableMaxBits   = 12 // 4,096 shards: beyond, shards grow
	shardTarget    = 32 // entries a shard, on average, before the shards double
	shardMinSlots  = 4
)

// table is a persistent hash index from a key's 32-bit hash to the number of a
// record that holds the key. Callers compare the key itself: equal hashes are
// possible. A change copies one shard and the two index levels above it.
type table struct {
	chunks []*tableChunk
	own    version
	n      uint32
	bits   uint8 // there are 1<<bits shards
}

type tableChunk struct {
	shards [tableChunkSize]shard
	own    version
}

// shard is an open-addressing table with linear probing. A slot is the hash in
// the upper half and the record's number plus one in the lower; 0 is empty. The
// hash's upper bits choose the shard and its lower bits the slot, so that
// entries can be moved without their keys.
type shard struct {
	slots []uint64
	own   version
	n     uint32
}

// probe walks the entries that may belong to one hash.
type probe struct {
	slots []uint64
	pos   uint32
	hash  uint32
}

func (t *table) probe(hash uint32) probe {
	if t.n == 0 {
		return probe{}
	}
	i := uint64(hash) >> (32 - t.bits)
	slots := t.chunks[i>>tableChunkBits].shards[i%tableChunkSize].slots
	return probe{slots: slots, pos: hash, hash: hash}
}

// peek returns the slot where a lookup of the hash begins.
func (t *table) peek(hash uint32) uint64 {
	if p := t.probe(hash); len(p.slots) > 0 {
		return p.slots[hash&uint32(len(p.slots)-1)]
	}
	return 0
}

// next returns the next record number to compare; ok is false at the end.
func (p *probe) next() (id uint32, ok bool) {
	mask := uint32(len(p.slots) - 1)
	if len(p.slots) == 0 {
		return 0, false
	}
	for {
		s := p.slots[p.pos&mask]
		p.pos++
		if s == 0 {
			return 0, false
		}
		if uint32(s>>32) == p.hash {
			return uint32(s) - 1, true
		}
	}
}

// edit returns the shard of hash for writing in transaction v.
func (t *table) edit(v version, hash uint32) *shard {
	i := uint64(hash) >> (32 - t.bits)
	if t.own != v {
		t.chunks = slices.Clone(t.chunks)
		t.own = v
	}
	c := t.chunks[i>>tableChunkBits]
	if c.own != v {
		d := *c
		d.own = v
		c = &d
		t.chunks[i>>tableChunkBits] = c
	}
	s := &c.shards[i%tableChunkSize]
	if s.own != v {
		s.slots = slices.Clone(s.slots)
		s.own = v
	}
	return s
}

// insert adds an entry; the caller has made sure that the key is absent.
func (t *table) insert(v version, hash, id uint32) {
	if t.chunks == nil {
		t.chunks, t.own = []*tableChunk{{own: v}}, v
	}
	if t.n >= shardTarget<<t.bits && t.bits < tableMaxBits {
		t.double(v)
	}
	t.edit(v, hash).insert(hash, id)
	t.n++
}

func (t *table) double(v version) {
	old := t.chunks
	t.bits++
	t.chunks = make([]*tableChunk, (1<<t.bits+tableChunkSize-1)/tableChunkSize)
	for i := range t.chunks {
		t.chunks[i] = &tableChunk{own: v}
	}
	t.own = v
	for _, c := range old {
		for i := range c.shards {
			for _, s := range c.shards[i].slots {
				if s != 0 {
					t.edit(v, uint32(s>>32)).insert(uint32(s>>32), uint32(s)-1)
				}
			}
		}
	}
}

// remove deletes an entry that is present.
func (t *table) remove(v version, hash, id uint32) {
	t.edit(v, hash).remove(hash, id)
	t.n--
}

func (s *shard) insert(hash, id uint32) {
	if int(s.n+1)*4 > len(s.slots)*3 {
		old := s.slots
		s.slots = make([]uint64, max(shardMinSlots, 2*len(old)))
		for _, e := range old {
			if e != 0 {
				s.place(e)
			}
		}
	}
	s.place(uint64(hash)<<32 | uint64(id+1))
	s.n++
}

func (s *shard) place(e uint64) {
	mask := uint32(len(s.slots) - 1)
	i := uint32(e>>32) & mask
	for s.slots[i] != 0 {
		i = (i + 1) & mask
	}
	s.slots[i] = e
}

func (s *shard) remove(hash, id uint32) {
	mask := uint32(len(s.slots) - 1)
	want := uint64(hash)<<32 | uint64(id+1)
	i := hash & mask
	for s.slots[i] != want {
		i = (i + 1) & mask
	}
	// Close the gap: move back every later entry of the run that may stand
	// there, so that probing never needs tombstones.
	for j := i; ; {
		j = (j + 1) & mask
		e := s.slots[j]
		if e == 0 {
			break
		}
		if home := uint32(e>>32) & mask; (j-home)&mask >= (j-i)&mask {
			s.slots[i] = e
			i = j
		}
	}
	s.slots[i] = 0
	s.n--
}
