// Package rolebinding describes role bindings, and holds what they share with
// cluster role bindings: the role reference and the subjects. Who may bind
// which role is decided by the [Check] it is given. Start with [New].
package rolebinding

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Check refuses, with an error of package fault, a caller who may not write
// binding: who neither holds every permission of its role nor may bind it.
// old is nil on creation. It is asked about every update, of metadata too.
type Check = func(ctx context.Context, caller resource.Caller, binding, old *rbacv1.RoleBinding) error

// New describes role bindings.
func New(check Check) resource.Kind {
	return resource.Definition[*rbacv1.RoleBinding]{
		Names: resource.Names{
			GroupVersion: rbacv1.SchemeGroupVersion,
			Kind:         "RoleBinding",
			Resource:     "rolebindings",
			Singular:     "rolebinding",
			Namespaced:   true,
		},
		New:          func() *rbacv1.RoleBinding { return &rbacv1.RoleBinding{} },
		NewList:      func() runtime.Object { return &rbacv1.RoleBindingList{} },
		ValidateName: resource.PathSegment,
		Default:      func(b *rbacv1.RoleBinding) { SetDefaults(&b.RoleRef, b.Subjects) },
		Validate: func(b *rbacv1.RoleBinding) field.ErrorList {
			errs := ValidateRoleRef(b.RoleRef, "Role", "ClusterRole")
			return append(errs, ValidateSubjects(b.Subjects, true)...)
		},
		ValidateUpdate: func(b, old *rbacv1.RoleBinding) field.ErrorList {
			errs := ValidateRoleRef(b.RoleRef, "Role", "ClusterRole")
			errs = append(errs, ValidateSubjects(b.Subjects, true)...)
			return append(errs, ValidateRoleRefUpdate(b.RoleRef, old.RoleRef)...)
		},
		Check:               check,
		CreateOnUpdate:      true,
		UnconditionalUpdate: true,
		Columns: Columns(
			func(b *rbacv1.RoleBinding) rbacv1.RoleRef { return b.RoleRef },
			func(b *rbacv1.RoleBinding) []rbacv1.Subject { return b.Subjects },
		),
	}.Kind()
}
