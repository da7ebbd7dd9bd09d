package authn

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// digest stands for a token wherever one is remembered: part of a SHA-256 over
// a secret of this process and the token. Nobody outside can compute it, and
// nobody can get the token back from it.
type digest [16]byte

// hasher makes digests without allocating.
type hasher struct {
	secret [32]byte
	// buffers hold a token while it is hashed and are wiped after.
	buffers sync.Pool
}

func newHasher() *hasher {
	h := &hasher{}
	// crypto/rand ends the process rather than return an error.
	_, _ = rand.Read(h.secret[:])
	h.buffers.New = func() any {
		b := make([]byte, 0, 2048)
		return &b
	}
	return h
}

func (h *hasher) digest(token string) digest {
	buffer := h.buffers.Get().(*[]byte)
	b := append(append((*buffer)[:0], h.secret[:]...), token...)
	sum := sha256.Sum256(b)
	clear(b)
	*buffer = b
	h.buffers.Put(buffer)
	return digest(sum[:16])
}

// memory remembers values for a number of seconds under digests, in a fixed
// number of places. It is a table of sets of [ways] places each, as processor
// caches are built: a lookup touches one set, a new value replaces the oldest
// of its set, and nothing needs a list or a sweep to stay bounded.
type memory[V interface {
	comparable
	stamp() uint32
}] struct {
	ttl uint32
	// locks guard the sets whose number modulo len(locks) is theirs.
	locks [128]sync.Mutex
	sets  [][ways]place[V]
}

const ways = 8

type place[V any] struct {
	key   digest
	value V
}

// newMemory returns a memory with at least the given number of places, whose
// values are good for ttl seconds after their stamp.
func newMemory[V interface {
	comparable
	stamp() uint32
}](places int, ttl uint32) *memory[V] {
	sets := 1
	for sets*ways < places {
		sets *= 2
	}
	return &memory[V]{ttl: ttl, sets: make([][ways]place[V], sets)}
}

// set returns where the values of a digest live. The digest is uniform.
func (m *memory[V]) set(key digest) (*[ways]place[V], *sync.Mutex) {
	n := int(binary.LittleEndian.Uint64(key[:8]) & uint64(len(m.sets)-1))
	return &m.sets[n], &m.locks[n%len(m.locks)]
}

// get returns the value that is fresh at now (Unix seconds).
func (m *memory[V]) get(key digest, now uint32) (value V, ok bool) {
	set, mu := m.set(key)
	mu.Lock()
	defer mu.Unlock()
	for i := range set {
		if set[i].key == key {
			value = set[i].value
			var none V
			if value == none || now-value.stamp() >= m.ttl {
				// A clock that went back makes the difference huge: forgotten.
				set[i] = place[V]{}
				return none, false
			}
			return value, true
		}
	}
	return value, false
}

// put remembers a value in the place of the same digest, an empty one or the
// oldest.
func (m *memory[V]) put(key digest, value V) {
	set, mu := m.set(key)
	mu.Lock()
	defer mu.Unlock()
	var none V
	victim := 0
	for i := range set {
		if set[i].key == key || set[i].value == none {
			victim = i
			break
		}
		if set[i].value.stamp() < set[victim].value.stamp() {
			victim = i
		}
	}
	// The digest may also stand in a later place, when an empty one came first.
	for i := victim + 1; i < len(set); i++ {
		if set[i].key == key {
			set[i] = place[V]{}
		}
	}
	set[victim] = place[V]{key: key, value: value}
}

// drop forgets one value.
func (m *memory[V]) drop(key digest) {
	set, mu := m.set(key)
	mu.Lock()
	defer mu.Unlock()
	for i := range set {
		if set[i].key == key {
			set[i] = place[V]{}
		}
	}
}

// sweep forgets what is no longer fresh at now, so that an idle process does
// not hold on to it.
func (m *memory[V]) sweep(now uint32) {
	var none V
	for n := range m.sets {
		mu := &m.locks[n%len(m.locks)]
		mu.Lock()
		for i := range m.sets[n] {
			if v := m.sets[n][i].value; v != none && now-v.stamp() >= m.ttl {
				m.sets[n][i] = place[V]{}
			}
		}
		mu.Unlock()
	}
}

// interned keeps one copy of values that many credentials share. It forgets in
// two generations: what was not used while one generation filled is dropped,
// and lives on only in the credentials that hold it.
type interned[V any] struct {
	// mu guards young and old.
	mu         sync.Mutex
	young, old map[string]V
}

const generationSize = 8192

func (n *interned[V]) get(key string, build func() (V, error)) (V, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if v, ok := n.young[key]; ok {
		return v, nil
	}
	v, ok := n.old[key]
	if !ok {
		var err error
		if v, err = build(); err != nil {
			return v, err
		}
	}
	if len(n.young) >= generationSize || n.young == nil {
		n.old, n.young = n.young, make(map[string]V, 64)
	}
	n.young[key] = v
	return v, nil
}
