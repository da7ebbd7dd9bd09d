package nodegraph

import (
	"slices"
	"strings"
	"sync"
)

// Kind is a kind of objects that a node may need.
type Kind uint8

// The kinds. A control plane that does not serve one of them never has a
// question about it.
const (
	Pod Kind = iota + 1
	Secret
	ConfigMap
	ServiceAccount
	Claim // PersistentVolumeClaim
	Volume
	ResourceClaim
	Attachment // VolumeAttachment
	ResourceSlice
	PodCertificate // PodCertificateRequest
)

// Object names one object.
type Object struct {
	Kind            Kind
	Namespace, Name string
}

// Source is an object because of which a node needs others.
type Source struct {
	// Object is the source itself, which the node needs as well.
	Object
	// Scope keeps what is known of one object from several places apart: each
	// can be replaced and deleted without the others. Usually empty.
	Scope string
	// Node is the node that needs, UID that of the object; where Through is
	// set instead, every node does that needs Through.
	Node, UID string
	Through   Object
	Needs     []Object
}

func (s *Source) equal(t *Source) bool {
	return s.id() == t.id() && s.Node == t.Node && s.UID == t.UID && s.Through == t.Through && slices.Equal(s.Needs, t.Needs)
}

// id is what a source is kept under.
type id struct {
	Object
	scope string
}

func (s *Source) id() id { return id{s.Object, s.Scope} }

// Graph knows which node needs which objects. The zero Graph is empty and
// ready. It is safe for concurrent use; a question costs no allocation.
type Graph struct {
	mu      sync.RWMutex
	sources map[id]*Source
	needed  map[Object]*needed
}

// needed is who needs one object, and how often: sources that are taken away
// must not take what another still gives.
type needed struct {
	nodes   []count[string] // sorted by node
	through []count[Object]
}

type count[T comparable] struct {
	of T
	n  int
}

// Put adds a source or replaces it.
func (g *Graph) Put(s Source) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.put(&s)
}

// Delete removes the source of a scope. One that is not there is not missed.
func (g *Graph) Delete(scope string, o Object) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.delete(id{o, scope})
}

// Replace makes sources all that there are of one kind, in any scope.
func (g *Graph) Replace(kind Kind, sources []Source) {
	g.mu.Lock()
	defer g.mu.Unlock()
	keep := make(map[id]bool, len(sources))
	for i := range sources {
		keep[sources[i].id()] = true
		g.put(&sources[i])
	}
	for o := range g.sources {
		if o.Kind == kind && !keep[o] {
			g.delete(o)
		}
	}
}

// Needs reports whether node needs the object.
func (g *Graph) Needs(node string, o Object) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	e := g.needed[o]
	if e == nil {
		return false
	}
	if e.by(node) {
		return true
	}
	for i := range e.through {
		if via := g.needed[e.through[i].of]; via != nil && via.by(node) {
			return true
		}
	}
	return false
}

// Len counts the sources.
func (g *Graph) Len() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.sources)
}

// put and delete are called with mu held.
func (g *Graph) put(s *Source) {
	if old, ok := g.sources[s.id()]; ok {
		if old.equal(s) {
			return // most changes of a pod are its status
		}
		g.delete(s.id())
	}
	if g.sources == nil {
		g.sources, g.needed = map[id]*Source{}, map[Object]*needed{}
	}
	kept := *s
	g.sources[kept.id()] = &kept
	g.change(&kept, 1)
}

func (g *Graph) delete(o id) {
	s, ok := g.sources[o]
	if !ok {
		return
	}
	delete(g.sources, o)
	g.change(s, -1)
}

func (g *Graph) change(s *Source, by int) {
	g.changeOne(s.Object, s, by)
	for _, o := range s.Needs {
		g.changeOne(o, s, by)
	}
}

func (g *Graph) changeOne(o Object, s *Source, by int) {
	e := g.needed[o]
	if e == nil {
		if by < 0 {
			return
		}
		e = &needed{}
		g.needed[o] = e
	}
	switch {
	case s.Node != "":
		e.nodes = changed(e.nodes, s.Node, strings.Compare, by)
	case s.Through != (Object{}):
		e.through = changed(e.through, s.Through, compareObjects, by)
	}
	if len(e.nodes) == 0 && len(e.through) == 0 {
		delete(g.needed, o)
	}
}

func compareObjects(a, b Object) int {
	if a.Kind != b.Kind {
		return int(a.Kind) - int(b.Kind)
	}
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

func changed[T comparable](list []count[T], of T, compare func(a, b T) int, by int) []count[T] {
	i, found := slices.BinarySearchFunc(list, of, func(c count[T], of T) int { return compare(c.of, of) })
	switch {
	case !found && by > 0:
		return slices.Insert(list, i, count[T]{of, by})
	case !found:
		return list
	}
	if list[i].n += by; list[i].n > 0 {
		return list
	}
	return slices.Delete(list, i, i+1)
}

func (e *needed) by(node string) bool {
	lo, hi := 0, len(e.nodes)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if e.nodes[m].of < node {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo < len(e.nodes) && e.nodes[lo].of == node
}
