// Package held keeps the objects of one kind of cluster scope by name, as the
// watch tells of them. It owns nothing but that map: what the objects mean is
// for whoever reads them.
//
// Start with [New].
package held

import (
	"maps"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Objects are a feed of the watch. They are safe for concurrent use; what they
// hand out is shared and must not change. A nil *Objects is empty.
type Objects[T metav1.Object] struct {
	mu     sync.RWMutex // guards byName
	byName map[string]T
}

// New returns no objects.
func New[T metav1.Object]() *Objects[T] { return &Objects[T]{byName: map[string]T{}} }

// Replace sets all objects.
func (h *Objects[T]) Replace(all []T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.byName)
	for _, one := range all {
		h.byName[one.GetName()] = one
	}
}

// Put adds or changes an object.
func (h *Objects[T]) Put(one T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byName[one.GetName()] = one
}

// Delete removes an object.
func (h *Objects[T]) Delete(one T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.byName, one.GetName())
}

// Get returns the object of a name.
func (h *Objects[T]) Get(name string) (one T, ok bool) {
	if h == nil {
		return one, false
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	one, ok = h.byName[name]
	return one, ok
}

// All returns a copy of the map.
func (h *Objects[T]) All() map[string]T {
	if h == nil {
		return map[string]T{}
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	return maps.Clone(h.byName)
}

// Sorted returns the objects in the order of their names.
func (h *Objects[T]) Sorted() []T {
	return slices.SortedFunc(maps.Values(h.All()), func(a, b T) int { return strings.Compare(a.GetName(), b.GetName()) })
}
