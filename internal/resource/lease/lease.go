// Package lease describes leases: who holds what, and until when. It checks
// what is written, and gives no lease to anyone. Start with [New].
package lease

import (
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// New describes leases.
func New() resource.Kind {
	return resource.Definition[*coordinationv1.Lease]{
		Names: resource.Names{
			GroupVersion: coordinationv1.SchemeGroupVersion,
			Kind:         "Lease",
			Resource:     "leases",
			Singular:     "lease",
			Namespaced:   true,
		},
		New:      func() *coordinationv1.Lease { return &coordinationv1.Lease{} },
		NewList:  func() runtime.Object { return &coordinationv1.LeaseList{} },
		Validate: validate,
		// Two holders must notice each other, so an update always names the
		// version it replaces.
		CreateOnUpdate:      true,
		UnconditionalUpdate: false,
		Columns: []resource.Column[*coordinationv1.Lease]{
			{
				Name: "Holder", Description: "Who holds the lease.",
				Value: func(l *coordinationv1.Lease) any {
					if l.Spec.HolderIdentity == nil {
						return ""
					}
					return *l.Spec.HolderIdentity
				},
			},
			resource.Age[*coordinationv1.Lease](),
		},
	}.Kind()
}

func validate(l *coordinationv1.Lease) field.ErrorList {
	var errs field.ErrorList
	spec, path := &l.Spec, field.NewPath("spec")
	if s := spec.LeaseDurationSeconds; s != nil && *s <= 0 {
		errs = append(errs, field.Invalid(path.Child("leaseDurationSeconds"), *s, "must be greater than 0"))
	}
	if n := spec.LeaseTransitions; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(path.Child("leaseTransitions"), *n, "must not be negative"))
	}
	if spec.Strategy != nil {
		errs = append(errs, validateStrategy(*spec.Strategy, path.Child("strategy"))...)
	}
	if h := spec.PreferredHolder; h != nil && *h != "" && (spec.Strategy == nil || *spec.Strategy == "") {
		errs = append(errs, field.Forbidden(path.Child("preferredHolder"), "needs a strategy"))
	}
	return errs
}

// validateStrategy accepts the built-in strategy and qualified names of
// others.
func validateStrategy(strategy coordinationv1.CoordinatedLeaseStrategy, path *field.Path) field.ErrorList {
	if !strings.Contains(string(strategy), "/") {
		if strategy == coordinationv1.OldestEmulationVersion {
			return nil
		}
		return field.ErrorList{field.NotSupported(path, strategy, []coordinationv1.CoordinatedLeaseStrategy{coordinationv1.OldestEmulationVersion})}
	}
	var errs field.ErrorList
	for _, msg := range validation.IsQualifiedName(string(strategy)) {
		errs = append(errs, field.Invalid(path, strategy, msg))
	}
	return errs
}
