package authn

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// ObjectKind is a kind of object that a token can be bound to.
type ObjectKind uint8

// The kinds.
const (
	ServiceAccountObject ObjectKind = iota + 1
	PodObject
	SecretObject
	NodeObject
	// SiteObject is a connected site itself. What is inside of one is asked of
	// [SiteObjects].
	SiteObject
)

// SiteObjects tells of the pods and nodes of connected sites, as the site
// reports them. It is asked on every use of a token that is bound to one and
// must answer from memory. current is false while the site does not confirm
// what it has: nothing is known of its objects then, and the token is refused.
type SiteObjects interface {
	SiteObject(site string, kind ObjectKind, namespace, name string) (uids []string, current bool)
}

// ObjectKey names one object. Namespace is empty for nodes and sites.
type ObjectKey struct {
	Kind            ObjectKind
	Namespace, Name string
}

// ObjectState is what matters of an object to the tokens bound to it.
type ObjectState struct {
	UID string
	// Deleted is the deletion timestamp: for an object that ends gracefully,
	// when it will be gone. The zero time is an object that nobody deleted.
	Deleted time.Time
}

// Objects tells whether the objects that tokens are bound to still exist. It
// is asked on every use of a token, remembered or not, so that it must answer
// from memory: nanoseconds, no lock held long. An answer may lag behind the
// store by what the watch needs. An error that is no refusal (the cache is not
// filled yet) becomes the caller's error; fault.Unavailable is right for it.
type Objects interface {
	Object(ctx context.Context, key ObjectKey) (state ObjectState, found bool, err error)
}

// confirmer is an [Objects] that can ask the store itself, for when its answer
// would refuse a token and may be old.
type confirmer interface {
	Confirm(ctx context.Context, key ObjectKey) (state ObjectState, found bool, err error)
}

// confirmObject looks again at an object that has another UID than the token
// says.
func (c *Chain) confirmObject(ctx context.Context, key ObjectKey, seen ObjectState) (ObjectState, bool, error) {
	if store, ok := c.objects.(confirmer); ok {
		return store.Confirm(ctx, key)
	}
	return seen, true, nil
}

// Index is an [Objects] in memory, fed by whoever watches the store. It is
// safe for concurrent use.
type Index struct {
	// confirm is asked when the index has no such object; see NewIndex.
	confirm func(context.Context, ObjectKey) (ObjectState, bool, error)
	shards  [64]indexShard
	// generation counts what can change an answer.
	generation atomic.Uint64
}

type indexShard struct {
	// mu guards objects.
	mu      sync.RWMutex
	objects map[ObjectKey]ObjectState
}

// NewIndex returns an empty index. confirm, which may be nil, asks the store
// itself. It is called for an object that the index does not have, or has with
// another UID, before a token is refused: a token can be used before the watch
// delivered the object it was minted for. Each refused token is asked about at
// most once a second.
func NewIndex(confirm func(context.Context, ObjectKey) (ObjectState, bool, error)) *Index {
	x := &Index{confirm: confirm}
	for i := range x.shards {
		x.shards[i].objects = map[ObjectKey]ObjectState{}
	}
	return x
}

// Put records an object or its change.
func (x *Index) Put(key ObjectKey, state ObjectState) {
	s := x.shard(key)
	s.mu.Lock()
	old, found := s.objects[key]
	s.objects[key] = state
	s.mu.Unlock()
	if !found || old.UID != state.UID || !old.Deleted.Equal(state.Deleted) {
		x.generation.Add(1)
	}
}

// Delete forgets an object: from now on, tokens bound to it are refused.
func (x *Index) Delete(key ObjectKey) {
	s := x.shard(key)
	s.mu.Lock()
	delete(s.objects, key)
	s.mu.Unlock()
	x.generation.Add(1)
}

// Generation is another number after every change that can change an answer.
func (x *Index) Generation() uint64 { return x.generation.Load() }

// Each calls yield for every object, in no order, until it returns false.
// Changes meanwhile may be seen or not.
func (x *Index) Each(yield func(ObjectKey, ObjectState) bool) {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.RLock()
		objects := maps.Clone(s.objects)
		s.mu.RUnlock()
		for key, state := range objects {
			if !yield(key, state) {
				return
			}
		}
	}
}

// Object implements [Objects].
func (x *Index) Object(ctx context.Context, key ObjectKey) (ObjectState, bool, error) {
	s := x.shard(key)
	s.mu.RLock()
	state, found := s.objects[key]
	s.mu.RUnlock()
	if !found && x.confirm != nil {
		return x.confirm(ctx, key)
	}
	return state, found, nil
}

// Confirm asks the store itself, past the index.
func (x *Index) Confirm(ctx context.Context, key ObjectKey) (ObjectState, bool, error) {
	if x.confirm != nil {
		return x.confirm(ctx, key)
	}
	return x.Object(ctx, key)
}

// shard spreads keys by the last bytes of their names, which generated names
// differ in.
func (x *Index) shard(key ObjectKey) *indexShard {
	h := uint32(2166136261) ^ uint32(key.Kind)
	tail := key.Name
	if len(tail) > 8 {
		tail = tail[len(tail)-8:]
	}
	for i := range len(tail) {
		h = (h ^ uint32(tail[i])) * 16777619
	}
	return &x.shards[h%uint32(len(x.shards))]
}
