package kubeapi

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storeerr "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// store is the REST storage of one kind.
type store struct {
	*genericregistry.Store
	kind *resource.Stored
}

var (
	_ rest.StandardStorage      = (*store)(nil)
	_ rest.ShortNamesProvider   = (*store)(nil)
	_ rest.CategoriesProvider   = (*store)(nil)
	_ rest.ResetFieldsStrategy  = (*store)(nil)
	_ rest.SingularNameProvider = (*store)(nil)
)

func groupResource(n resource.Names) schema.GroupResource {
	return schema.GroupResource{Group: n.GroupVersion.Group, Resource: n.Resource}
}

// newStore opens the storage of a kind.
func newStore(t *types, k *resource.Stored, opts generic.RESTOptionsGetter) (*store, error) {
	s := &strategy{ObjectTyper: t.scheme, NameGenerator: names.SimpleNameGenerator, kind: k}
	attrs := func(obj runtime.Object) (labels.Set, fields.Set, error) {
		f, l, err := fieldsOf(k, obj)
		return l, f, err
	}
	gs := &genericregistry.Store{
		NewFunc:                   k.New,
		NewListFunc:               k.NewList,
		DefaultQualifiedResource:  groupResource(k.Names),
		SingularQualifiedResource: schema.GroupResource{Group: k.GroupVersion.Group, Resource: k.Singular},
		CreateStrategy:            s,
		UpdateStrategy:            s,
		DeleteStrategy:            s,
		ResetFieldsStrategy:       s,
		TableConvertor:            tableConvertor{k},
		PredicateFunc: func(l labels.Selector, f fields.Selector) storage.SelectionPredicate {
			return storage.SelectionPredicate{Label: l, Field: f, GetAttrs: attrs}
		},
		ShouldDeleteDuringUpdate: func(ctx context.Context, key string, obj, existing runtime.Object) bool {
			return !k.KeepOnDelete(obj) && genericregistry.ShouldDeleteDuringUpdate(ctx, key, obj, existing)
		},
	}
	if k.TTL > 0 {
		ttl := uint64(k.TTL.Seconds())
		gs.TTLFunc = func(runtime.Object, uint64, bool) (uint64, error) { return ttl, nil }
	}
	if err := gs.CompleteWithOptions(&generic.StoreOptions{RESTOptions: opts, AttrFunc: attrs}); err != nil {
		return nil, fmt.Errorf("open storage of %s: %w", k.Resource, err)
	}
	return &store{Store: gs, kind: k}, nil
}

func (s *store) ShortNames() []string { return s.kind.ShortNames }
func (s *store) Categories() []string { return s.kind.Categories }

// Create stores a new object once validation, admission and the kind's own
// check agree.
func (s *store) Create(ctx context.Context, obj runtime.Object, admit rest.ValidateObjectFunc, o *metav1.CreateOptions) (runtime.Object, error) {
	ctx, c := s.creating(ctx)
	out, err := s.Store.Create(ctx, obj, s.checkCreate(admit), o)
	if err == nil {
		c.created(ctx, out, o.DryRun)
	}
	return out, err
}

// Update is Create for changes.
func (s *store) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, force bool, o *metav1.UpdateOptions) (runtime.Object, bool, error) {
	ctx, c := s.creating(ctx)
	out, created, err := s.Store.Update(ctx, name, info, s.checkCreate(create), func(ctx context.Context, obj, old runtime.Object) error {
		if update != nil {
			if err := update(ctx, obj, old); err != nil {
				return err
			}
		}
		return statusError(s.kind.Check(ctx, callerFrom(ctx), obj, old), s.kind.Names, accessor(obj).GetName())
	}, force, o)
	if err == nil && created {
		c.created(ctx, out, o.DryRun)
	}
	return out, created, err
}

func (s *store) checkCreate(admit rest.ValidateObjectFunc) rest.ValidateObjectFunc {
	return func(ctx context.Context, obj runtime.Object) error {
		if admit != nil {
			if err := admit(ctx, obj); err != nil {
				return err
			}
		}
		return statusError(s.kind.Check(ctx, callerFrom(ctx), obj, nil), s.kind.Names, accessor(obj).GetName())
	}
}

func (s *store) checkDelete(admit rest.ValidateObjectFunc) rest.ValidateObjectFunc {
	return func(ctx context.Context, obj runtime.Object) error {
		if admit != nil {
			if err := admit(ctx, obj); err != nil {
				return err
			}
		}
		return statusError(s.kind.CheckDelete(ctx, callerFrom(ctx), obj), s.kind.Names, accessor(obj).GetName())
	}
}

// DeleteCollection deletes each object under the check of its own.
func (s *store) DeleteCollection(ctx context.Context, admit rest.ValidateObjectFunc, o *metav1.DeleteOptions, which *internalversion.ListOptions) (runtime.Object, error) {
	return s.Store.DeleteCollection(ctx, s.checkDelete(admit), o, which)
}

// Delete removes an object, or marks it when somebody has to finish the
// deletion first.
func (s *store) Delete(ctx context.Context, name string, admit rest.ValidateObjectFunc, o *metav1.DeleteOptions) (runtime.Object, bool, error) {
	admit = s.checkDelete(admit)
	if !s.kind.Keeps {
		return s.Store.Delete(ctx, name, admit, o)
	}
	current, err := s.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, false, err
	}
	if o == nil {
		o = &metav1.DeleteOptions{}
	}
	o = o.DeepCopy()
	// The mark must fall on the object that was looked at, not on a namesake
	// created since.
	uid := accessor(current).GetUID()
	if o.Preconditions == nil {
		o.Preconditions = &metav1.Preconditions{}
	}
	if o.Preconditions.UID == nil {
		o.Preconditions.UID = &uid
	}
	if !s.kind.KeepOnDelete(current) {
		return s.Store.Delete(ctx, name, admit, o)
	}
	key, err := s.KeyFunc(ctx, name)
	if err != nil {
		return nil, false, err
	}
	out := s.NewFunc()
	pre := &storage.Preconditions{UID: o.Preconditions.UID, ResourceVersion: o.Preconditions.ResourceVersion}
	err = s.Storage.GuaranteedUpdate(ctx, key, out, false, pre, storage.SimpleUpdate(func(existing runtime.Object) (runtime.Object, error) {
		if admit != nil {
			if err := admit(ctx, existing); err != nil {
				return nil, err
			}
		}
		m := accessor(existing)
		if m.GetDeletionTimestamp() == nil {
			now := metav1.Now()
			m.SetDeletionTimestamp(&now)
			m.SetDeletionGracePeriodSeconds(ptr.To[int64](0))
		}
		s.kind.PrepareDelete(existing)
		return existing, nil
	}), len(o.DryRun) > 0, nil)
	if err != nil {
		err = storeerr.InterpretDeleteError(err, s.DefaultQualifiedResource, name)
		if _, ok := err.(apierrors.APIStatus); !ok {
			err = storeerr.InterpretUpdateError(err, s.DefaultQualifiedResource, name)
		}
		return nil, false, err
	}
	return out, false, nil
}

// uncollected is the storage of a kind whose objects may have to wait for their
// deletion. It lacks the deletion of whole collections, which the library does
// beneath [store.Delete]: a namespace would vanish and leave its content to the
// next one of its name.
type uncollected struct{ collectable }

type collectable interface {
	rest.StorageWithReadiness
	rest.Scoper
	rest.Getter
	rest.Lister
	rest.CreaterUpdater
	rest.GracefulDeleter
	rest.MayReturnFullObjectDeleter
	rest.Watcher
	rest.StorageVersionProvider
	rest.ShortNamesProvider
	rest.CategoriesProvider
	rest.ResetFieldsStrategy
	rest.SingularNameProvider
}

// substore serves one stored subresource of a kind.
type substore struct {
	store *genericregistry.Store
	kind  *resource.Stored
	sub   resource.StoredSubresource
	reset rest.ResetFieldsStrategy
}

var (
	_ rest.Patcher             = (*substore)(nil)
	_ rest.ResetFieldsStrategy = (*substore)(nil)
)

func (s *store) sub(t *types, sub resource.StoredSubresource) *substore {
	st := &subStrategy{strategy: strategy{ObjectTyper: t.scheme, NameGenerator: names.SimpleNameGenerator, kind: s.kind}, sub: sub}
	copied := *s.Store
	copied.UpdateStrategy = st
	copied.ResetFieldsStrategy = st
	return &substore{store: &copied, kind: s.kind, sub: sub, reset: st}
}

func (s *substore) New() runtime.Object { return s.store.New() }

// Destroy leaves the storage to the main route, which it is shared with.
func (s *substore) Destroy() {}

func (s *substore) Get(ctx context.Context, name string, o *metav1.GetOptions) (runtime.Object, error) {
	return s.store.Get(ctx, name, o)
}

func (s *substore) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, _ bool, o *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return s.store.Update(ctx, name, info, create, func(ctx context.Context, obj, old runtime.Object) error {
		if update != nil {
			if err := update(ctx, obj, old); err != nil {
				return err
			}
		}
		return statusError(s.sub.Check(ctx, callerFrom(ctx), obj, old), s.kind.Names, name)
	}, false, o)
}

func (s *substore) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return s.reset.GetResetFields()
}

func (s *substore) ConvertToTable(ctx context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	return s.store.ConvertToTable(ctx, obj, options)
}

// tableConvertor renders the columns of a kind.
type tableConvertor struct{ kind *resource.Stored }

func (c tableConvertor) ConvertToTable(_ context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	table := &metav1.Table{}
	if o, ok := options.(*metav1.TableOptions); !ok || !o.NoHeaders {
		table.ColumnDefinitions = c.kind.Columns
	}
	row := func(o runtime.Object) error {
		if _, ok := o.(resource.Object); !ok {
			return apierrors.NewInternalError(fmt.Errorf("no table for %T", o))
		}
		table.Rows = append(table.Rows, metav1.TableRow{Cells: c.kind.Row(o), Object: runtime.RawExtension{Object: o}})
		return nil
	}
	if meta.IsListType(obj) {
		if l, err := meta.ListAccessor(obj); err == nil {
			table.ResourceVersion, table.Continue, table.RemainingItemCount = l.GetResourceVersion(), l.GetContinue(), l.GetRemainingItemCount()
		}
		return table, meta.EachListItem(obj, row)
	}
	table.ResourceVersion = accessor(obj).GetResourceVersion()
	return table, row(obj)
}
