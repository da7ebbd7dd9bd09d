// Package role describes roles, and holds what they share with cluster roles:
// the rules. Who may grant which rules is decided by the [Check] it is given.
// Start with [New].
package role

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Check refuses, with an error of package fault, a caller who may not write
// role: who neither holds every permission that it grants nor may escalate.
// old is nil on creation. It is asked about every update, of metadata too:
// labels decide which roles an aggregated role collects.
type Check = func(ctx context.Context, caller resource.Caller, role, old *rbacv1.Role) error

// New describes roles.
func New(check Check) resource.Kind {
	return resource.Definition[*rbacv1.Role]{
		Names: resource.Names{
			GroupVersion: rbacv1.SchemeGroupVersion,
			Kind:         "Role",
			Resource:     "roles",
			Singular:     "role",
			Namespaced:   true,
		},
		New:                 func() *rbacv1.Role { return &rbacv1.Role{} },
		NewList:             func() runtime.Object { return &rbacv1.RoleList{} },
		ValidateName:        resource.PathSegment,
		Validate:            func(r *rbacv1.Role) field.ErrorList { return ValidateRules(r.Rules, true) },
		Check:               check,
		CreateOnUpdate:      true,
		UnconditionalUpdate: true,
		Columns:             []resource.Column[*rbacv1.Role]{resource.CreatedAt[*rbacv1.Role]()},
	}.Kind()
}

// ValidateRules checks the rules of a role, or of a cluster role when
// namespaced is false.
func ValidateRules(rules []rbacv1.PolicyRule, namespaced bool) field.ErrorList {
	var errs field.ErrorList
	for i := range rules {
		errs = append(errs, validateRule(&rules[i], namespaced, field.NewPath("rules").Index(i))...)
	}
	return errs
}

func validateRule(rule *rbacv1.PolicyRule, namespaced bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(rule.Verbs) == 0 {
		errs = append(errs, field.Required(path.Child("verbs"), "must hold at least one verb"))
	}
	if len(rule.NonResourceURLs) > 0 {
		urls := path.Child("nonResourceURLs")
		if namespaced {
			errs = append(errs, field.Invalid(urls, rule.NonResourceURLs, "cannot be granted in a namespace"))
		}
		if len(rule.APIGroups) > 0 || len(rule.Resources) > 0 || len(rule.ResourceNames) > 0 {
			errs = append(errs, field.Invalid(urls, rule.NonResourceURLs, "cannot stand in one rule with resources"))
		}
		return errs
	}
	if len(rule.APIGroups) == 0 {
		errs = append(errs, field.Required(path.Child("apiGroups"), "must hold at least one group (\"\" is the core group)"))
	}
	if len(rule.Resources) == 0 {
		errs = append(errs, field.Required(path.Child("resources"), "must hold at least one resource"))
	}
	return errs
}
