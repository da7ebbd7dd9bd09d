package siteobjects

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/federation/objectwire"
)

// thing is a pod or node of a site that tokens can be bound to.
type thing struct {
	kind                 authn.ObjectKind
	namespace, name, uid string
}

func thingOf(s *objectwire.Source) (thing, bool) {
	kind, ok := map[string]authn.ObjectKind{"Pod": authn.PodObject, "Node": authn.NodeObject}[s.Kind]
	return thing{kind, s.Namespace, s.Name, s.UID}, ok && s.UID != ""
}

// things knows them by their names. It has locks of its own: it is asked for
// every use of a token, and must not wait while a group is read.
type things struct {
	confirmed atomic.Int64 // in Unix nanoseconds; 0 is never

	mu   sync.RWMutex
	held map[thing][]sighting // guarded by mu; by name, without the UID
}

// sighting is where a thing stands: one of the same name that was made anew on
// another node may stand in two groups for a moment.
type sighting struct{ group, uid string }

func (t *things) confirm(at time.Time) {
	if at.IsZero() {
		t.confirmed.Store(0)
		return
	}
	t.confirmed.Store(at.UnixNano())
}

// replace takes a group's things for others.
func (t *things) replace(group string, old, next []thing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held == nil {
		t.held = map[thing][]sighting{}
	}
	for _, x := range old {
		key := x
		key.uid = ""
		rest := slices.DeleteFunc(slices.Clone(t.held[key]), func(s sighting) bool { return s.group == group })
		if len(rest) == 0 {
			delete(t.held, key)
			continue
		}
		t.held[key] = rest
	}
	for _, x := range next {
		key := x
		key.uid = ""
		t.held[key] = append(slices.Clip(t.held[key]), sighting{group, x.uid})
	}
}

// SiteObject returns the UIDs of the pods or nodes of that name at a site,
// usually one. current is false when the site has not confirmed its objects
// within [StaleAfter]. It implements authn.SiteObjects.
func (r *Registry) SiteObject(name string, kind authn.ObjectKind, namespace, object string) (uids []string, current bool) {
	s := r.find(name)
	if s == nil {
		return nil, false
	}
	at := s.things.confirmed.Load()
	if at == 0 || r.now().Sub(time.Unix(0, at)) > StaleAfter {
		return nil, false
	}
	s.things.mu.RLock()
	defer s.things.mu.RUnlock()
	for _, x := range s.things.held[thing{kind: kind, namespace: namespace, name: object}] {
		uids = append(uids, x.uid)
	}
	return uids, true
}

var _ authn.SiteObjects = (*Registry)(nil)
