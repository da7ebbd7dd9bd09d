package kubeapi

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"

	"github.com/gatehouse-dev/gatehouse/internal/access/limit"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// review serves a kind that is created, answered and forgotten.
type review struct{ kind *resource.Answered }

var (
	_ rest.Creater              = (*review)(nil)
	_ rest.Scoper               = (*review)(nil)
	_ rest.SingularNameProvider = (*review)(nil)
)

func (r *review) New() runtime.Object     { return r.kind.New() }
func (r *review) Destroy()                {}
func (r *review) NamespaceScoped() bool   { return r.kind.Namespaced }
func (r *review) GetSingularName() string { return r.kind.Singular }

func (r *review) Create(ctx context.Context, obj runtime.Object, admit rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	if admit != nil {
		if err := admit(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	if err := r.kind.Answer(ctx, callerFrom(ctx), obj); err != nil {
		if e, ok := limit.Of(err); ok {
			Warn(ctx, e.Error())
		}
		return nil, statusError(err, r.kind.Names, accessor(obj).GetName())
	}
	return obj, nil
}

// action serves a subresource that answers what is posted to it.
type action struct {
	store  *store
	action resource.StoredAction
}

var (
	_ rest.NamedCreater                   = (*action)(nil)
	_ rest.GroupVersionKindProvider       = (*action)(nil)
	_ rest.SubresourceObjectMetaPreserver = (*action)(nil)
)

func (a *action) New() runtime.Object { return a.action.New() }
func (a *action) Destroy()            {}

func (a *action) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return a.action.GroupVersionKind
}

// PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate is asked before the
// uid of the posted object is wiped.
func (a *action) PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate() bool {
	return a.action.KeepUID
}

func (a *action) Create(ctx context.Context, name string, in runtime.Object, admit rest.ValidateObjectFunc, o *metav1.CreateOptions) (runtime.Object, error) {
	obj, err := a.store.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if admit != nil {
		if err := admit(ctx, in.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	if a.action.KeepUID {
		uid := accessor(in).GetUID()
		rest.WipeObjectMetaSystemFields(accessor(in))
		accessor(in).SetUID(uid)
	}
	out, err := a.action.Do(ctx, callerFrom(ctx), obj.DeepCopyObject(), in, dryrun.IsDryRun(o.DryRun))
	if err != nil {
		return nil, statusError(err, a.store.kind.Names, name)
	}
	return out, nil
}
