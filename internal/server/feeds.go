package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Resources that the composition follows or reads.
var (
	namespaces          = schema.GroupResource{Resource: "namespaces"}
	serviceAccounts     = schema.GroupResource{Resource: "serviceaccounts"}
	pods                = schema.GroupResource{Resource: "pods"}
	secrets             = schema.GroupResource{Resource: "secrets"}
	nodes               = schema.GroupResource{Resource: "nodes"}
	roles               = schema.GroupResource{Group: rbacv1.GroupName, Resource: "roles"}
	roleBindings        = schema.GroupResource{Group: rbacv1.GroupName, Resource: "rolebindings"}
	clusterRoles        = schema.GroupResource{Group: rbacv1.GroupName, Resource: "clusterroles"}
	clusterRoleBindings = schema.GroupResource{Group: rbacv1.GroupName, Resource: "clusterrolebindings"}
	sites               = schema.GroupResource{Group: federation.GroupVersion.Group, Resource: "sites"}
)

// feed is what the feeds of packages access and federation have in common.
type feed[T any] interface {
	Replace([]T)
	Put(T)
	Delete(T)
}

// typed makes a sink of the frame from feeds of one type, which are told in
// their order.
type typed[T resource.Object] []feed[T]

var _ kubeapi.Sink = typed[*rbacv1.Role]{}

func (t typed[T]) Replace(objs []resource.Object) error {
	all := make([]T, len(objs))
	for i, o := range objs {
		all[i] = o.(T)
	}
	for _, f := range t {
		f.Replace(all)
	}
	return nil
}

func (t typed[T]) Put(obj resource.Object) error {
	for _, f := range t {
		f.Put(obj.(T))
	}
	return nil
}

func (t typed[T]) Delete(obj resource.Object) error {
	for _, f := range t {
		f.Delete(obj.(T))
	}
	return nil
}

// notify calls a function after every change of a kind.
type notify[T any] func()

func (n notify[T]) Replace([]T) { n() }
func (n notify[T]) Put(T)       { n() }
func (n notify[T]) Delete(T)    { n() }

// bound keeps the index of what tokens are bound to, for one kind.
type bound struct {
	index *authn.Index
	kind  authn.ObjectKind
	// held is what the index has from this feed; one goroutine uses it.
	held map[authn.ObjectKey]bool
}

func (b *bound) key(o resource.Object) authn.ObjectKey {
	return authn.ObjectKey{Kind: b.kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

func (b *bound) Replace(objs []resource.Object) error {
	gone := b.held
	b.held = make(map[authn.ObjectKey]bool, len(objs))
	for _, o := range objs {
		delete(gone, b.key(o))
		_ = b.Put(o)
	}
	for k := range gone {
		b.index.Delete(k)
	}
	return nil
}

func (b *bound) Put(o resource.Object) error {
	s := authn.ObjectState{UID: string(o.GetUID())}
	if t := o.GetDeletionTimestamp(); t != nil {
		s.Deleted = t.Time
	}
	b.held[b.key(o)] = true
	b.index.Put(b.key(o), s)
	return nil
}

func (b *bound) Delete(o resource.Object) error {
	delete(b.held, b.key(o))
	b.index.Delete(b.key(o))
	return nil
}

// follower starts feeds and waits until each has had its first list.
type follower struct {
	frame  *kubeapi.Frame
	wg     sync.WaitGroup // running feeds
	synced sync.WaitGroup
	failed chan error
}

func (f *follower) follow(ctx context.Context, gr schema.GroupResource, sink kubeapi.Sink) {
	f.synced.Add(1)
	f.wg.Go(func() {
		if err := f.frame.Follow(ctx, gr, sink, f.synced.Done); err != nil {
			f.failed <- err
		}
	})
}

func (f *follower) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		f.synced.Wait()
		close(done)
	}()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	select {
	case <-done:
		return nil
	case err := <-f.failed:
		return err
	case <-ctx.Done():
		return fmt.Errorf("load policy from etcd: %w", ctx.Err())
	}
}

// objects reads the objects that tokens can be bound to.
type objects struct {
	frame *kubeapi.Frame
	// inSites tells of those inside of connected sites.
	inSites authn.SiteObjects
}

func (o objects) uid(ctx context.Context, gr schema.GroupResource, namespace, name string) (string, error) {
	obj, err := o.frame.Get(ctx, gr, namespace, name)
	if err != nil {
		return "", err
	}
	return string(obj.GetUID()), nil
}

func (o objects) pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	obj, err := o.frame.Get(ctx, pods, namespace, name)
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.Pod), nil
}
