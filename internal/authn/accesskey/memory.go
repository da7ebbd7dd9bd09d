package accesskey

import (
	"context"
	"sync"
	"time"
)

// Memory is the keys that this replica knows, fed from the watch: a key that
// was revoked or deleted on any replica is gone here as soon as the watch says
// so. It is safe for concurrent use.
type Memory struct {
	Uses

	mu      sync.RWMutex // guards what follows
	records map[string]Record
	changed chan struct{} // closed and replaced with every change
}

// NewMemory returns an empty memory.
func NewMemory() *Memory {
	return &Memory{records: map[string]Record{}, changed: make(chan struct{})}
}

// Replace sets all keys.
func (m *Memory) Replace(all []Record) {
	m.change(func() {
		clear(m.records)
		for _, r := range all {
			m.records[r.ID] = r
		}
	})
}

// Put adds or changes a key.
func (m *Memory) Put(r Record) { m.change(func() { m.records[r.ID] = r }) }

// Delete forgets a key: from now on it opens nothing.
func (m *Memory) Delete(id string) { m.change(func() { delete(m.records, id) }) }

func (m *Memory) change(apply func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	apply()
	close(m.changed)
	m.changed = make(chan struct{})
}

// AccessKey returns a key by its id. One that the watch has not delivered is
// not found: asking the store would let whoever guesses ids make it work.
func (m *Memory) AccessKey(_ context.Context, id string) (Record, bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r, ok := m.records[id]
	return r, ok, nil
}

// Used notes a use.
func (m *Memory) Used(id string, now time.Time) { m.Touch(id, now) }

// Wait returns when a key is known here, so that whoever is told a new key can
// use it at once, or when ctx ends.
func (m *Memory) Wait(ctx context.Context, id string) {
	for {
		m.mu.RLock()
		_, ok := m.records[id]
		changed := m.changed
		m.mu.RUnlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Over returns the ids of keys that ended before the given time and of
// sessions that ended before the other.
func (m *Memory) Over(keys, sessions time.Time) []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []string
	for id, r := range m.records {
		limit := keys
		if r.OpenedBy != "" {
			limit = sessions
		}
		if r.NotAfter.Before(limit) {
			out = append(out, id)
		}
	}
	return out
}
