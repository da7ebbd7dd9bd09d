// Package clusterrole describes cluster roles. Who may grant which rules is
// decided by the [Check] it is given; filling in the rules of aggregated roles
// is the business of internal/access. Start with [New].
package clusterrole

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/role"
)

// Check refuses, with an error of package fault, a caller who may not write
// role: who neither holds every permission that it grants nor may escalate. A
// role with an aggregation rule can come to grant anything, so it needs every
// permission there is.
// old is nil on creation. It is asked about every update, of metadata too:
// labels decide which roles an aggregated role collects.
type Check = func(ctx context.Context, caller resource.Caller, role, old *rbacv1.ClusterRole) error

// New describes cluster roles.
func New(check Check) resource.Kind {
	return resource.Definition[*rbacv1.ClusterRole]{
		Names: resource.Names{
			GroupVersion: rbacv1.SchemeGroupVersion,
			Kind:         "ClusterRole",
			Resource:     "clusterroles",
			Singular:     "clusterrole",
		},
		New:                 func() *rbacv1.ClusterRole { return &rbacv1.ClusterRole{} },
		NewList:             func() runtime.Object { return &rbacv1.ClusterRoleList{} },
		ValidateName:        resource.PathSegment,
		Validate:            validate,
		Check:               check,
		CreateOnUpdate:      true,
		UnconditionalUpdate: true,
		Columns:             []resource.Column[*rbacv1.ClusterRole]{resource.CreatedAt[*rbacv1.ClusterRole]()},
	}.Kind()
}

func validate(r *rbacv1.ClusterRole) field.ErrorList {
	errs := role.ValidateRules(r.Rules, false)
	if r.AggregationRule == nil {
		return errs
	}
	path := field.NewPath("aggregationRule", "clusterRoleSelectors")
	if len(r.AggregationRule.ClusterRoleSelectors) == 0 {
		errs = append(errs, field.Required(path, "must hold at least one selector"))
	}
	for i := range r.AggregationRule.ClusterRoleSelectors {
		errs = append(errs, metav1validation.ValidateLabelSelector(&r.AggregationRule.ClusterRoleSelectors[i],
			metav1validation.LabelSelectorValidationOptions{}, path.Index(i))...)
	}
	return errs
}
