package namespace

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validate(ns *corev1.Namespace) field.ErrorList {
	errs := validateFinalizers(ns)
	if domain, ok := ns.Labels[DomainLabel]; ok {
		path := field.NewPath("metadata", "labels").Key(DomainLabel)
		for _, msg := range validation.IsDNS1123Label(domain) {
			errs = append(errs, field.Invalid(path, domain, msg))
		}
	}
	return errs
}

func validateFinalizers(ns *corev1.Namespace) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec", "finalizers")
	for i, f := range ns.Spec.Finalizers {
		name := string(f)
		errs = append(errs, apivalidation.ValidateFinalizerName(name, path.Index(i))...)
		if !strings.Contains(name, "/") && !standardFinalizer(name) {
			errs = append(errs, field.Invalid(path.Index(i), name, "must be a standard finalizer name or fully qualified"))
		}
	}
	return errs
}

func standardFinalizer(name string) bool {
	switch name {
	case string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents:
		return true
	}
	return false
}

// validateStatus ties the phase to the deletion timestamp.
func validateStatus(ns, _ *corev1.Namespace) field.ErrorList {
	want, when := corev1.NamespaceActive, "is empty"
	if !ns.DeletionTimestamp.IsZero() {
		want, when = corev1.NamespaceTerminating, "is set"
	}
	if ns.Status.Phase == want {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("status", "phase"), ns.Status.Phase,
		"must be '"+string(want)+"' while `deletionTimestamp` "+when)}
}
