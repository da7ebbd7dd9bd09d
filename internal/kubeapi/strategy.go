package kubeapi

import (
	"context"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// strategy gives the frame the rules of one kind.
type strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	kind *resource.Stored
}

func (s *strategy) NamespaceScoped() bool { return s.kind.Namespaced }

func (s *strategy) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	s.kind.PrepareCreate(callerFrom(ctx), obj)
	if c, ok := ctx.Value(creationKey{}).(*creation); ok && c.kind == s.kind {
		c.reveal = c.issue(ctx, callerFrom(ctx), obj)
	}
}

func (s *strategy) Validate(_ context.Context, obj runtime.Object) field.ErrorList {
	meta := accessor(obj)
	errs := apivalidation.ValidateObjectMetaAccessor(meta, s.kind.Namespaced, apivalidation.ValidateNameFunc(s.kind.ValidateName), field.NewPath("metadata"))
	return append(errs, s.kind.Validate(obj)...)
}

func (s *strategy) WarningsOnCreate(_ context.Context, obj runtime.Object) []string {
	return s.kind.Warnings(obj, nil)
}

func (s *strategy) Canonicalize(runtime.Object) {}

func (s *strategy) AllowCreateOnUpdate(context.Context) bool { return s.kind.CreateOnUpdate }

func (s *strategy) AllowUnconditionalUpdate(context.Context) bool { return s.kind.UnconditionalUpdate }

func (s *strategy) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	s.kind.PrepareUpdate(callerFrom(ctx), obj, old)
}

func (s *strategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	errs := apivalidation.ValidateObjectMetaAccessorUpdate(accessor(obj), accessor(old), field.NewPath("metadata"))
	return append(errs, s.kind.ValidateUpdate(obj, old)...)
}

func (s *strategy) WarningsOnUpdate(_ context.Context, obj, old runtime.Object) []string {
	return s.kind.Warnings(obj, old)
}

// GetResetFields keeps the fields of subresources out of the field owners of
// the main route.
func (s *strategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	var paths []string
	for _, sub := range s.kind.Subresources {
		paths = append(paths, sub.Fields...)
	}
	return resetFields(s.kind, paths)
}

// subStrategy gives the frame the rules of one subresource of a kind.
type subStrategy struct {
	strategy
	sub resource.StoredSubresource
}

func (s *subStrategy) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	s.sub.Prepare(callerFrom(ctx), obj, old)
}

func (s *subStrategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	errs := apivalidation.ValidateObjectMetaAccessorUpdate(accessor(obj), accessor(old), field.NewPath("metadata"))
	return append(errs, s.sub.Validate(obj, old)...)
}

func (s *subStrategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

// AllowCreateOnUpdate: a part of an object cannot exist without the object.
func (s *subStrategy) AllowCreateOnUpdate(context.Context) bool { return false }

// GetResetFields keeps the fields of other routes out of the field owners of
// this one.
func (s *subStrategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return resetFields(s.kind, s.sub.Ignored)
}

func resetFields(k *resource.Stored, dotted []string) map[fieldpath.APIVersion]*fieldpath.Set {
	set := fieldpath.NewSet()
	for _, f := range dotted {
		set.Insert(pathOf(f))
	}
	return map[fieldpath.APIVersion]*fieldpath.Set{fieldpath.APIVersion(k.GroupVersion.String()): set}
}

// callerFrom names who the frame works for.
func callerFrom(ctx context.Context) resource.Caller {
	u, ok := request.UserFrom(ctx)
	if !ok {
		return resource.Caller{}
	}
	c := resource.Caller{Name: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: u.GetExtra()}
	if m, ok := ctx.Value(makerKey{}).(*maker); ok {
		c.Made = m.made
	}
	return c
}
