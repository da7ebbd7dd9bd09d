// Package keystest holds what tests of sealed keys share: [NewVault] for tests
// that need keys, [Memory], a store in memory, and [RunStore], the conformance
// suite that every keys.Store passes, this one included. It is for tests only.
package keystest

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

// Memory is a keys.Store that lives as long as the process.
type Memory struct {
	mu       sync.Mutex // guards entries and revision
	entries  map[string]keys.Entry
	revision int64
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{entries: map[string]keys.Entry{}} }

var _ keys.Store = (*Memory)(nil)

// Get implements keys.Store.
func (m *Memory) Get(ctx context.Context, name string) (keys.Entry, error) {
	if err := check(ctx, name, nil); err != nil {
		return keys.Entry{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	entry, ok := m.entries[name]
	if !ok {
		return keys.Entry{}, fault.Newf(fault.NotFound, "key %q not found", name)
	}
	return own(entry), nil
}

// List implements keys.Store.
func (m *Memory) List(ctx context.Context, prefix string) ([]keys.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []keys.Entry
	for _, name := range slices.Sorted(maps.Keys(m.entries)) {
		if strings.HasPrefix(name, prefix) {
			out = append(out, own(m.entries[name]))
		}
	}
	return out, nil
}

// Create implements keys.Store.
func (m *Memory) Create(ctx context.Context, name string, value []byte) (int64, error) {
	if err := check(ctx, name, value); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.entries[name]; ok {
		return 0, fault.Newf(fault.Conflict, "key %q exists", name)
	}
	return m.put(name, value), nil
}

// CompareAndSwap implements keys.Store.
func (m *Memory) CompareAndSwap(ctx context.Context, name string, value []byte, revision int64) (int64, error) {
	if err := check(ctx, name, value); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if entry, ok := m.entries[name]; !ok || entry.Revision != revision {
		return 0, fault.Newf(fault.Conflict, "key %q has changed", name)
	}
	return m.put(name, value), nil
}

// Delete implements keys.Store.
func (m *Memory) Delete(ctx context.Context, name string, revision int64) error {
	if err := check(ctx, name, nil); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	entry, ok := m.entries[name]
	if !ok {
		return fault.Newf(fault.NotFound, "key %q not found", name)
	}
	if entry.Revision != revision {
		return fault.Newf(fault.Conflict, "key %q has changed", name)
	}
	delete(m.entries, name)
	m.revision++
	return nil
}

// put runs with mu held.
func (m *Memory) put(name string, value []byte) int64 {
	m.revision++
	m.entries[name] = own(keys.Entry{Name: name, Value: value, Revision: m.revision})
	return m.revision
}

func check(ctx context.Context, name string, value []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(value) > keys.MaxValue {
		return fault.Newf(fault.Invalid, "value of key %q is over %d bytes", name, keys.MaxValue)
	}
	return keys.CheckName(name)
}

func own(e keys.Entry) keys.Entry {
	e.Value = bytes.Clone(e.Value)
	return e
}
