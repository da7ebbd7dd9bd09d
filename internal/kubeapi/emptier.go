package kubeapi

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/client-go/util/workqueue"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// emptier finishes the deletion of namespaces: it deletes what is in them and
// then removes the finalizer that kept them. Any number of replicas may do
// this at once; each step is idempotent.
type emptier struct {
	frame *Frame
	log   *slog.Logger
	queue workqueue.TypedRateLimitingInterface[string]
}

func newEmptier(f *Frame) *emptier {
	return &emptier{
		frame: f,
		log:   f.cfg.Log.With("component", "namespaces"),
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond, 30*time.Second)),
	}
}

var namespaces = schema.GroupResource{Resource: "namespaces"}

func (e *emptier) run(ctx context.Context) {
	s, ok := e.frame.stores[namespaces]
	if !ok {
		return
	}
	go feed(ctx, s, e, nil)
	go func() {
		<-ctx.Done()
		e.queue.ShutDown()
	}()
	for {
		name, stop := e.queue.Get()
		if stop {
			return
		}
		if err := e.empty(everywhere(ctx), name); err != nil && ctx.Err() == nil {
			e.log.Warn("namespace not yet empty", "namespace", name, "error", err)
			e.queue.AddRateLimited(name)
		} else {
			e.queue.Forget(name)
		}
		e.queue.Done(name)
	}
}

// Replace, Put and Delete make emptier a Sink of namespaces.
func (e *emptier) Replace(objs []resource.Object) error {
	for _, o := range objs {
		_ = e.Put(o)
	}
	return nil
}

func (e *emptier) Put(o resource.Object) error {
	if o.GetDeletionTimestamp() != nil {
		e.queue.Add(o.GetName())
	}
	return nil
}

func (e *emptier) Delete(resource.Object) error { return nil }

func (e *emptier) empty(ctx context.Context, name string) error {
	s := e.frame.stores[namespaces]
	obj, err := s.Get(ctx, name, &metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	ns := obj.(*corev1.Namespace)
	if ns.DeletionTimestamp == nil {
		return nil
	}
	inside := request.WithNamespace(ctx, name)
	left := 0
	for gr, in := range e.frame.stores {
		if !in.kind.Namespaced {
			continue
		}
		if _, err := in.DeleteCollection(inside, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, &internalversion.ListOptions{}); err != nil {
			return fmt.Errorf("delete %s: %w", gr, err)
		}
		// Objects with finalizers of their own stay until their owner is done.
		list, err := in.List(inside, &internalversion.ListOptions{Limit: 1})
		if err != nil {
			return fmt.Errorf("list %s: %w", gr, err)
		}
		left += meta.LenList(list)
	}
	if left > 0 {
		return fmt.Errorf("objects with finalizers are left")
	}
	return e.finalize(ctx, name)
}

// finalize removes the control plane's own finalizer; the storage then drops
// the namespace.
func (e *emptier) finalize(ctx context.Context, name string) error {
	info := rest.DefaultUpdatedObjectInfo(nil, func(_ context.Context, _, old runtime.Object) (runtime.Object, error) {
		ns := old.DeepCopyObject().(*corev1.Namespace)
		ns.Spec.Finalizers = slices.DeleteFunc(ns.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
		return ns, nil
	})
	_, _, err := e.frame.subs["namespaces/finalize"].Update(ctx, name, info, rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
