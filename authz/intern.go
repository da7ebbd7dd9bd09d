package authz

import "hash/maphash"

// none is the number of a word or record that does not exist.
const none = ^uint32(0)

// star is the number of [Wildcard] in every interner.
const star = 0

// interner numbers the distinct words of the policy, so that rules are matched
// by comparing integers. Numbers of words no longer in use are given out again.
type interner struct {
	index table
	words vec[word]
}

type word struct {
	s    string
	refs uint32
}

// hash is keyed by the engine's random seed: who does not know the seed cannot
// choose names that collide.
func (s *Snapshot) hash(name string) uint32 { return uint32(maphash.String(s.seed, name)) }

// hash2 is hash for a name inside a numbered scope.
func (s *Snapshot) hash2(name string, scope uint32) uint32 {
	return mix(maphash.String(s.seed, name), scope)
}

func mix(h uint64, k uint32) uint32 {
	h ^= uint64(k+1) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return uint32(h >> 32)
}

// find returns the number of the word, or none.
func (in *interner) find(hash uint32, w string) uint32 {
	for p := in.index.probe(hash); ; {
		id, ok := p.next()
		if !ok {
			return none
		}
		if in.words.at(id).s == w {
			return id
		}
	}
}

// findBytes is find for a word that is not a string yet.
func (in *interner) findBytes(hash uint32, w []byte) uint32 {
	for p := in.index.probe(hash); ; {
		id, ok := p.next()
		if !ok {
			return none
		}
		if in.words.at(id).s == string(w) {
			return id
		}
	}
}

func (in *interner) word(id uint32) string { return in.words.at(id).s }

// intern numbers a word and counts one more use of it.
func (t *Tx) intern(in *interner, p *pool, w string) uint32 {
	h := t.s.hash(w)
	id := in.find(h, w)
	if id == none {
		id = take(p, &in.words, t.v)
		in.words.edit(t.v, id).s = w
		in.index.insert(t.v, h, id)
	}
	in.words.edit(t.v, id).refs++
	return id
}

// release counts one use less of a word.
func (t *Tx) release(in *interner, p *pool, id uint32) {
	w := in.words.edit(t.v, id)
	if w.refs--; w.refs > 0 {
		return
	}
	in.index.remove(t.v, t.s.hash(w.s), id)
	give(p, &in.words, t.v, id)
}
