package event

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	maxShort   = 128  // bytes of reportingInstance, action and reason
	maxMessage = 1024 // bytes of message
)

// validate tells old events from new ones by eventTime, which only new ones
// have. Events of cluster-scoped objects live in the default namespace.
func validate(e *corev1.Event) field.ErrorList {
	var errs field.ErrorList
	about := e.InvolvedObject.Namespace
	mismatch := field.Invalid(field.NewPath("involvedObject", "namespace"), about, "does not match the namespace of the event")
	if e.EventTime.IsZero() {
		if about != e.Namespace && (about != "" || e.Namespace != metav1.NamespaceDefault) {
			errs = append(errs, mismatch)
		}
		return errs
	}

	if about == "" && e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem {
		errs = append(errs, mismatch)
	}
	controller := field.NewPath("reportingComponent")
	if e.ReportingController == "" {
		errs = append(errs, field.Required(controller, ""))
	}
	for _, msg := range validation.IsQualifiedName(e.ReportingController) {
		errs = append(errs, field.Invalid(controller, e.ReportingController, msg))
	}
	errs = append(errs, validateShort(field.NewPath("reportingInstance"), e.ReportingInstance)...)
	errs = append(errs, validateShort(field.NewPath("action"), e.Action)...)
	errs = append(errs, validateShort(field.NewPath("reason"), e.Reason)...)
	if len(e.Message) > maxMessage {
		errs = append(errs, field.TooLong(field.NewPath("message"), "", maxMessage))
	}
	return errs
}

func validateShort(path *field.Path, value string) field.ErrorList {
	switch {
	case value == "":
		return field.ErrorList{field.Required(path, "")}
	case len(value) > maxShort:
		return field.ErrorList{field.TooLong(path, "", maxShort)}
	}
	return nil
}
