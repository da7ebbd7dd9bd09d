// Package siteobjects knows which nodes of connected clusters need which
// objects there, as gatehouse-edge watch tells through the site's door, and
// answers a site's questions about its nodes from that.
//
// It owns: what is taken from a site and how much of it, when it counts as
// current, and the answer. It refuses: to know anything of an object but its
// name, to answer from what is not current, and to keep state of its own; a
// [Store] keeps it for all replicas, which feed it back through
// [Registry.Apply].
//
// Start at [Registry.Accept] and [Registry.Decide].
package siteobjects

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation/objectwire"
)

const (
	// StaleAfter is how long objects count after the site last confirmed all
	// of them.
	StaleAfter = time.Minute
	// confirmEvery bounds how often a confirmation is written.
	confirmEvery = 10 * time.Second
	// maxSite bounds what is kept of one site, in bytes as stored, and maxOpen
	// once it is unpacked: what is alike packs to a thousandth.
	maxSite = 32 << 20
	maxOpen = 64 << 20
	// A site may write all that is kept of it at once, and then writeRate bytes a
	// second: the store keeps old values for minutes. Each write counts
	// writeCost more.
	writeRate = 256 << 10
	writeCost = 4 << 10
	// maxValue bounds one group as stored, and maxGroup once it is unpacked.
	maxValue = 256 << 10
	maxGroup = 8 << 20
)

// Store keeps values for all replicas. Names are SITE/state and SITE/GROUP.
type Store interface {
	Put(ctx context.Context, name string, value []byte) error
	// Remove removes a name, or, where it ends with a slash, everything below
	// it. What is not there is not missed.
	Remove(ctx context.Context, name string) error
}

// Registry is what is known of all sites. It is safe for concurrent use.
type Registry struct {
	store Store
	now   func() time.Time

	mu    sync.RWMutex
	sites map[string]*site // guarded by mu
}

type site struct {
	graph *nodegraph.Graph

	writing sync.Mutex // held while a group is weighed and written

	things things // of tokens; asked far more often than it changes

	mu         sync.Mutex       // guards the rest
	groups     map[string]group // by name
	size, open int              // of all groups: as stored, and unpacked
	confirmed  time.Time
	spent      float64 // of what may be written at once, at a time
	spentAt    time.Time
}

type group struct {
	digest  string
	size    int
	open    int
	objects []nodegraph.Object
	things  []thing
}

// state is the value of SITE/state.
type state struct {
	// Confirmed is when the site last said that this is everything.
	Confirmed time.Time `json:"confirmed"`
}

// New returns an empty registry.
func New(store Store, now func() time.Time) *Registry {
	return &Registry{store: store, now: now, sites: map[string]*site{}}
}

func (r *Registry) find(name string) *site {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.sites[name]
}

func (r *Registry) findOrMake(name string) *site {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sites[name]
	if s == nil {
		s = &site{graph: &nodegraph.Graph{}, groups: map[string]group{}}
		r.sites[name] = s
	}
	return s
}

// Accept takes a post of a site. An error is of package fault.
func (r *Registry) Accept(ctx context.Context, name string, p *objectwire.Post) (objectwire.Answer, error) {
	if err := p.Check(); err != nil {
		return objectwire.Answer{}, err
	}
	s := r.findOrMake(name)
	for i := range p.Groups {
		if err := r.put(ctx, name, s, &p.Groups[i]); err != nil {
			return objectwire.Answer{}, err
		}
	}
	if p.Inventory == nil {
		return objectwire.Answer{}, nil
	}
	var answer objectwire.Answer
	var gone []string
	s.mu.Lock()
	for group, digest := range p.Inventory {
		if s.groups[group].digest != digest {
			answer.Want = append(answer.Want, group)
		}
	}
	for group := range s.groups {
		if _, listed := p.Inventory[group]; !listed {
			gone = append(gone, group)
		}
	}
	due := r.now().Sub(s.confirmed) >= confirmEvery
	s.mu.Unlock()
	slices.Sort(answer.Want)
	for _, group := range gone {
		if err := r.store.Remove(ctx, name+"/"+group); err != nil {
			return objectwire.Answer{}, fmt.Errorf("forget objects of site: %w", err)
		}
		r.Apply(name+"/"+group, nil)
	}
	if len(answer.Want) > 0 || !due {
		return answer, nil
	}
	value, err := json.Marshal(state{Confirmed: r.now().UTC()})
	if err != nil {
		return objectwire.Answer{}, fmt.Errorf("confirm objects of site: %w", err)
	}
	if err := r.store.Put(ctx, name+"/state", value); err != nil {
		return objectwire.Answer{}, fmt.Errorf("confirm objects of site: %w", err)
	}
	r.Apply(name+"/state", value)
	return answer, nil
}

func (r *Registry) put(ctx context.Context, name string, s *site, g *objectwire.Group) error {
	g.Sort()
	full := name + "/" + g.Name
	s.writing.Lock()
	defer s.writing.Unlock()
	if len(g.Sources) == 0 {
		s.mu.Lock()
		_, known := s.groups[g.Name]
		s.mu.Unlock()
		if !known {
			// Or known only to another replica: the next inventory tells.
			return nil
		}
		if err := s.spend(r.now(), 0); err != nil {
			return err
		}
		if err := r.store.Remove(ctx, full); err != nil {
			return fmt.Errorf("forget objects of site: %w", err)
		}
		r.Apply(full, nil)
		return nil
	}
	s.mu.Lock()
	known, count, size, open := s.groups[g.Name], len(s.groups), s.size, s.open
	s.mu.Unlock()
	if known.digest == g.Digest() {
		return nil
	}
	value, unpacked, err := pack(g)
	switch {
	case err != nil:
		return err
	case len(value) > maxValue:
		return fault.Newf(fault.Exhausted, "%s: has %d bytes packed, at most %d fit", g.Name, len(value), maxValue)
	case known.digest == "" && count >= objectwire.MaxGroups || size-known.size+len(value) > maxSite || open-known.open+unpacked > maxOpen:
		return fault.Newf(fault.Exhausted, "site %q has more objects than are kept of one", name)
	}
	if err := s.spend(r.now(), len(value)); err != nil {
		return err
	}
	if err := r.store.Put(ctx, full, value); err != nil {
		return fmt.Errorf("keep objects of site: %w", err)
	}
	// Applied here at once, so that this replica answers from what it took;
	// the others, and this one again, hear of it from the store.
	r.Apply(full, value)
	return nil
}

// spend counts a write of a site against what it may write.
func (s *site) spend(now time.Time, size int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := now.Sub(s.spentAt).Seconds(); d > 0 {
		s.spent = max(0, s.spent-d*writeRate)
	}
	s.spentAt = now
	if s.spent > maxSite {
		return fault.New(fault.Exhausted, "objects of this site change too fast to be kept; try again")
	}
	s.spent += float64(size + writeCost)
	return nil
}

// Apply takes one value as the store has it, nil for one that was removed.
// Values that cannot be read count as removed: what they said is not known.
func (r *Registry) Apply(full string, value []byte) {
	name, rest, ok := strings.Cut(full, "/")
	if !ok {
		return
	}
	if value == nil && r.find(name) == nil {
		return
	}
	s := r.findOrMake(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if rest == "state" {
		var st state
		if value != nil && json.Unmarshal(value, &st) != nil {
			st = state{}
		}
		s.confirmed = st.Confirmed
		s.things.confirm(st.Confirmed)
		return
	}
	s.apply(rest, value)
}

// Reset makes all, by full name, everything that there is. It comes first, and
// again after a gap in what the store tells.
func (r *Registry) Reset(all map[string][]byte) {
	var gone []string
	r.mu.RLock()
	for name, s := range r.sites {
		s.mu.Lock()
		for group := range s.groups {
			gone = append(gone, name+"/"+group)
		}
		s.mu.Unlock()
		gone = append(gone, name+"/state")
	}
	r.mu.RUnlock()
	for _, full := range gone {
		if _, still := all[full]; !still {
			r.Apply(full, nil)
		}
	}
	for full, value := range all {
		r.Apply(full, value)
	}
}

// apply is called with mu held.
func (s *site) apply(name string, value []byte) {
	var g objectwire.Group
	old, open := s.groups[name], 0
	if value != nil {
		var err error
		if g, open, err = unpack(value); err != nil || g.Name != name || s.open-old.open+open > 2*maxOpen {
			// Replicas that take at once may together take more than one would:
			// there is room for that, and for no more.
			g, value, open = objectwire.Group{}, nil, 0
		}
	}
	next := group{size: len(value), open: open}
	node, _ := (&objectwire.Group{Name: name}).Node()
	keep := make(map[nodegraph.Object]bool, len(g.Sources))
	for i := range g.Sources {
		if t, ok := thingOf(&g.Sources[i]); ok {
			next.things = append(next.things, t)
		}
		source, ok := g.Sources[i].Source(node)
		if !ok {
			continue
		}
		// The group is the scope: a pod that was created anew on another node
		// may stand in both for a moment.
		source.Scope = name
		s.graph.Put(source)
		keep[source.Object] = true
		next.objects = append(next.objects, source.Object)
	}
	for _, o := range old.objects {
		if !keep[o] {
			s.graph.Delete(name, o)
		}
	}
	s.things.replace(name, old.things, next.things)
	s.size += next.size - old.size
	s.open += next.open - old.open
	if value == nil {
		delete(s.groups, name)
		return
	}
	next.digest = g.Digest()
	s.groups[name] = next
}

// Decide answers a site's question about a node of its own. ok is false when
// the caller is no node; the reason of a refusal says what is missing.
func (r *Registry) Decide(name, user string, groups []string, q *authz.Request) (allowed bool, reason string, ok bool) {
	node, is := nodegraph.NodeOf(user, groups)
	if !is {
		return false, "", false
	}
	s := r.find(name)
	if s == nil {
		return false, fmt.Sprintf("the rules for node %q do not match: no objects of site %q are known; gatehouse-edge watch has sent none", node, name), true
	}
	confirmed := s.confirmedAt()
	if age := r.now().Sub(confirmed); confirmed.IsZero() || age > StaleAfter {
		return false, fmt.Sprintf("the rules for node %q do not match: the objects of site %q are not current; gatehouse-edge watch has not confirmed them for %s", node, name, StaleAfter), true
	}
	v := s.graph.Decide(node, q)
	if v.Content() && !s.own(node, q) {
		return false, fmt.Sprintf("node %q can only write its own objects", node), true
	}
	return v.Allowed(), v.Reason(node), true
}

// own looks at the name in a question whose answer depends on the object, which
// only the admission of the site sees: a name of another is refused here.
func (s *site) own(node string, q *authz.Request) bool {
	switch {
	case q.Name == "":
		return true
	case q.APIGroup == "" && q.Resource == "nodes":
		return q.Name == node
	case q.APIGroup == "" && q.Resource == "pods" && q.Verb != "create" || q.Subresource == "eviction":
		return s.graph.Needs(node, nodegraph.Object{Kind: nodegraph.Pod, Namespace: q.Namespace, Name: q.Name})
	}
	return true
}

func (s *site) confirmedAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.confirmed
}

// Status is what a site's status tells.
type Status struct {
	Groups    int
	Sources   int
	Confirmed time.Time
	Current   bool
}

// Status returns what is known of a site; ok is false when nothing ever was.
func (r *Registry) Status(name string) (st Status, ok bool) {
	s := r.find(name)
	if s == nil {
		return Status{}, false
	}
	st.Confirmed, st.Sources = s.confirmedAt(), s.graph.Len()
	s.mu.Lock()
	st.Groups = len(s.groups)
	s.mu.Unlock()
	st.Current = !st.Confirmed.IsZero() && r.now().Sub(st.Confirmed) <= StaleAfter
	return st, !st.Confirmed.IsZero() || st.Groups > 0
}

// Sites lists the sites that something is known of.
func (r *Registry) Sites() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names := make([]string, 0, len(r.sites))
	for name := range r.sites {
		names = append(names, name)
	}
	return names
}

// Forget removes a site that is not connected any more.
func (r *Registry) Forget(ctx context.Context, name string) error {
	if err := r.store.Remove(ctx, name+"/"); err != nil {
		return fmt.Errorf("forget objects of site: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sites, name)
	return nil
}

// pack returns a group as it is stored, and its size before.
func pack(g *objectwire.Group) ([]byte, int, error) {
	data, err := json.Marshal(g)
	if err != nil {
		return nil, 0, fmt.Errorf("pack objects of site: %w", err)
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err = w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, 0, fmt.Errorf("pack objects of site: %w", err)
	}
	return b.Bytes(), len(data), nil
}

// unpack is the reverse of pack.
func unpack(value []byte) (g objectwire.Group, size int, err error) {
	r, err := gzip.NewReader(bytes.NewReader(value))
	if err != nil {
		return g, 0, fmt.Errorf("unpack objects of site: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(r, maxGroup+1))
	if err != nil {
		return g, 0, fmt.Errorf("unpack objects of site: %w", err)
	}
	if len(data) > maxGroup {
		return g, 0, fmt.Errorf("unpack objects of site: more than %d bytes", maxGroup)
	}
	if err := json.Unmarshal(data, &g); err != nil {
		return g, 0, fmt.Errorf("unpack objects of site: %w", err)
	}
	if err := (&objectwire.Post{Groups: []objectwire.Group{g}}).Check(); err != nil {
		return g, 0, err
	}
	return g, len(data), nil
}
