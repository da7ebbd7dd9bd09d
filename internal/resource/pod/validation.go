package pod

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var specPath = field.NewPath("spec")

func validate(p *corev1.Pod) field.ErrorList {
	var errs field.ErrorList
	if len(p.Spec.Containers) == 0 {
		errs = append(errs, field.Required(specPath.Child("containers"), ""))
	}
	return errs
}

func validateUpdate(p, _ *corev1.Pod) field.ErrorList { return validate(p) }

func validateStatus(_, _ *corev1.Pod) field.ErrorList { return nil }

func validateEphemeral(p, _ *corev1.Pod) field.ErrorList { return validate(p) }
