package authz

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// Engine holds the current policy. Any number of goroutines may take
// snapshots while one changes policy; writers wait for one another.
type Engine struct {
	mu   sync.Mutex // serialises Update and guards w
	w    writer
	live atomic.Pointer[Snapshot]
}

// writer is what only the writing side needs.
type writer struct {
	verbs, resources, texts                                 pool
	scopes, principals, wides, roles, permissions, bindings pool
	keys, policies, labels                                  pool

	queue   []queuedBinding // put, not yet entered
	grants  []grantLink     // of bindings entered, not yet linked
	items   []scopeLink     // the same
	scratch []byte
	warmed  uint64 // keeps what warm loads from being optimised away
}

func (w *writer) pools() []*pool {
	return []*pool{&w.verbs, &w.resources, &w.texts, &w.scopes, &w.principals, &w.wides, &w.roles, &w.permissions, &w.bindings,
		&w.keys, &w.policies, &w.labels}
}

// New returns an engine without any policy: every decision is no opinion.
func New() *Engine {
	e := new(Engine)
	e.w.queue = make([]queuedBinding, 0, queueSize)
	seed := maphash.MakeSeed()
	tx := Tx{s: &Snapshot{seed: seed, salt: maphash.String(seed, "numbers")}, w: &e.w, v: 1}
	tx.start()
	tx.s.number = tx.v
	e.live.Store(tx.s)
	return e
}

// Snapshot returns the policy as the last completed Update left it. It never
// blocks.
func (e *Engine) Snapshot() *Snapshot { return e.live.Load() }

// Update runs change and publishes its effects as one new snapshot, which it
// returns. Readers see all of the change or nothing. A change without effect
// publishes nothing and returns the current snapshot. If change panics nothing
// is published and the engine stays usable. The Tx must not be used after
// change returns.
//
// Names of the values passed to the Tx are retained, lists are copied.
func (e *Engine) Update(change func(*Tx)) *Snapshot { return e.transact(change, true) }

func (e *Engine) transact(change func(*Tx), publish bool) *Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.live.Load()
	s := *old
	tx := Tx{s: &s, w: &e.w, v: old.number + 1}
	committed := false
	defer func() {
		tx.s = nil // a Tx kept past its transaction must fail
		clear(e.w.queue)
		e.w.queue = e.w.queue[:0]
		e.w.grants, e.w.items = e.w.grants[:0], e.w.items[:0]
		for _, p := range e.w.pools() {
			if committed {
				p.commit()
			} else {
				p.abandon()
			}
		}
	}()
	change(&tx)
	tx.flush()
	tx.link()
	if !tx.changed {
		return old
	}
	s.number = tx.v
	if publish {
		committed = true
		e.live.Store(&s)
	}
	return &s
}
