// Package clusterrolebinding describes cluster role bindings. Who may bind
// which role is decided by the [Check] it is given. Start with [New].
package clusterrolebinding

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/rolebinding"
)

// Check refuses, with an error of package fault, a caller who may not write
// binding: who neither holds every permission of its role nor may bind it.
// old is nil on creation. It is asked about every update, of metadata too.
type Check = func(ctx context.Context, caller resource.Caller, binding, old *rbacv1.ClusterRoleBinding) error

// New describes cluster role bindings.
func New(check Check) resource.Kind {
	return resource.Definition[*rbacv1.ClusterRoleBinding]{
		Names: resource.Names{
			GroupVersion: rbacv1.SchemeGroupVersion,
			Kind:         "ClusterRoleBinding",
			Resource:     "clusterrolebindings",
			Singular:     "clusterrolebinding",
		},
		New:          func() *rbacv1.ClusterRoleBinding { return &rbacv1.ClusterRoleBinding{} },
		NewList:      func() runtime.Object { return &rbacv1.ClusterRoleBindingList{} },
		ValidateName: resource.PathSegment,
		Default: func(b *rbacv1.ClusterRoleBinding) {
			rolebinding.SetDefaults(&b.RoleRef, b.Subjects)
		},
		Validate: validate,
		ValidateUpdate: func(b, old *rbacv1.ClusterRoleBinding) field.ErrorList {
			return append(validate(b), rolebinding.ValidateRoleRefUpdate(b.RoleRef, old.RoleRef)...)
		},
		Check:               check,
		CreateOnUpdate:      true,
		UnconditionalUpdate: true,
		Columns: rolebinding.Columns(
			func(b *rbacv1.ClusterRoleBinding) rbacv1.RoleRef { return b.RoleRef },
			func(b *rbacv1.ClusterRoleBinding) []rbacv1.Subject { return b.Subjects },
		),
	}.Kind()
}

func validate(b *rbacv1.ClusterRoleBinding) field.ErrorList {
	errs := rolebinding.ValidateRoleRef(b.RoleRef, "ClusterRole")
	return append(errs, rolebinding.ValidateSubjects(b.Subjects, false)...)
}
