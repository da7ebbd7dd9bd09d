package kubeapi

import (
	"context"
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	restclient "k8s.io/client-go/rest"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Loopback is a client configuration for the frame itself. Its requests pass
// the whole chain, admission and record included, as the control plane.
func (f *Frame) Loopback() *restclient.Config { return f.loop.config() }

// Get reads one object as etcd has it now, or returns a Kubernetes status
// error. The object belongs to the caller.
func (f *Frame) Get(ctx context.Context, gr schema.GroupResource, namespace, name string) (resource.Object, error) {
	s, ok := f.stores[gr]
	if !ok {
		return nil, fmt.Errorf("get %s: not a stored kind", gr)
	}
	obj, err := s.Store.Get(about(ctx, gr, namespace), name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return obj.(resource.Object), nil
}

// about says what an in-process call is about. The storage names its errors
// after the request in the context, which may be about another kind.
func about(ctx context.Context, gr schema.GroupResource, namespace string) context.Context {
	ctx = request.WithRequestInfo(ctx, &request.RequestInfo{IsResourceRequest: true, APIGroup: gr.Group, Resource: gr.Resource, Namespace: namespace})
	return request.WithNamespace(ctx, namespace)
}

// Modify changes one object, or with sub a subresource of it, on the control
// plane's own account; change may be called again after a conflict. Validation
// applies; admission and the record do not: it is for what follows from a
// request that was recorded, and for status.
func (f *Frame) Modify(ctx context.Context, gr schema.GroupResource, sub, namespace, name string, change func(resource.Object) error) error {
	var target rest.Updater
	if s, ok := f.stores[gr]; ok {
		target = s.Store
	}
	if sub != "" {
		s, ok := f.subs[gr.Resource+"/"+sub]
		if !ok {
			return fmt.Errorf("modify %s/%s: no such subresource", gr, sub)
		}
		target = s.store
	}
	if target == nil {
		return fmt.Errorf("modify %s: not a stored kind", gr)
	}
	info := rest.DefaultUpdatedObjectInfo(nil, func(_ context.Context, _, old runtime.Object) (runtime.Object, error) {
		obj := old.DeepCopyObject()
		return obj, change(obj.(resource.Object))
	})
	_, _, err := target.Update(about(ctx, gr, namespace), name, info, rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
	return err
}

// Handle adds a route that is no resource. It passes the whole chain.
func (f *Frame) Handle(path string, h http.Handler) {
	f.server.Handler.NonGoRestfulMux.Handle(path, h)
}
