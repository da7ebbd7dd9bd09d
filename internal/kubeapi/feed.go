package kubeapi

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/tools/cache"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Sink takes the objects of one kind as they are stored. Calls come one at a
// time, in the order of the changes. Objects are shared: a sink must not
// change them.
type Sink interface {
	// Replace gives every object there is; it comes first, and again after a
	// gap in the events.
	Replace(objs []resource.Object) error
	// Put gives an object that was created or changed.
	Put(obj resource.Object) error
	// Delete gives the last state of an object that is gone.
	Delete(obj resource.Object) error
}

// listWatch reads a store without a client, a codec or a copy.
type listWatch struct{ store *store }

var _ cache.ListerWatcherWithContext = listWatch{}

// everywhere is the context of in-process reads: the storage refuses contexts
// that name no namespace, even for cluster-scoped kinds.
func everywhere(ctx context.Context) context.Context { return request.WithNamespace(ctx, "") }

func (l listWatch) List(o metav1.ListOptions) (runtime.Object, error) {
	return l.ListWithContext(context.Background(), o)
}

func (l listWatch) Watch(o metav1.ListOptions) (watch.Interface, error) {
	return l.WatchWithContext(context.Background(), o)
}

func (l listWatch) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	in, err := internalOptions(o)
	if err != nil {
		return nil, err
	}
	return l.store.List(everywhere(ctx), in)
}

func (l listWatch) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	in, err := internalOptions(o)
	if err != nil {
		return nil, err
	}
	w, err := l.store.Watch(everywhere(ctx), in)
	if err != nil {
		return nil, err
	}
	return watch.Filter(w, unwrap), nil
}

// IsWatchListSemanticsUnSupported makes reflectors list before they watch: in
// process a list costs nothing.
func (l listWatch) IsWatchListSemanticsUnSupported() bool { return true }

func internalOptions(o metav1.ListOptions) (*internalversion.ListOptions, error) {
	in := &internalversion.ListOptions{}
	if err := internalversion.Convert_v1_ListOptions_To_internalversion_ListOptions(&o, in, nil); err != nil {
		return nil, fmt.Errorf("convert list options: %w", err)
	}
	return in, nil
}

// unwrap replaces the encoding cache that the watch cache delivers by the
// object inside it.
func unwrap(e watch.Event) (watch.Event, bool) {
	if c, ok := e.Object.(runtime.CacheableObject); ok {
		e.Object = c.GetObject()
	}
	return e, true
}

// feed follows a store into a sink until ctx ends. synced is called after the
// first Replace.
func feed(ctx context.Context, s *store, sink Sink, synced func()) {
	r := cache.NewReflectorWithOptions(listWatch{s}, s.New(), &sinkStore{sink: sink, synced: synced}, cache.ReflectorOptions{
		Name: "feed " + s.kind.Resource,
		// A transient failure must not leave decisions on old data longer
		// than the promise of one second.
		Backoff: &wait.Backoff{Duration: 100 * time.Millisecond, Cap: 400 * time.Millisecond, Steps: 3, Factor: 2},
	})
	r.RunWithContext(ctx)
}

// sinkStore is a Sink in the shape that reflectors fill.
type sinkStore struct {
	sink   Sink
	synced func()
}

func (s *sinkStore) Add(obj any) error    { return s.sink.Put(obj.(resource.Object)) }
func (s *sinkStore) Update(obj any) error { return s.sink.Put(obj.(resource.Object)) }
func (s *sinkStore) Delete(obj any) error { return s.sink.Delete(obj.(resource.Object)) }
func (s *sinkStore) Resync() error        { return nil }

func (s *sinkStore) Replace(list []any, _ string) error {
	objs := make([]resource.Object, len(list))
	for i, o := range list {
		objs[i] = o.(resource.Object)
	}
	if err := s.sink.Replace(objs); err != nil {
		return err
	}
	if s.synced != nil {
		s.synced()
		s.synced = nil
	}
	return nil
}
