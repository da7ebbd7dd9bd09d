package subjectaccessreview

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var specPath = field.NewPath("spec")

func isZero(meta *metav1.ObjectMeta) bool {
	return apiequality.Semantic.DeepEqual(*meta, metav1.ObjectMeta{})
}

// Validate checks a question about anybody.
func Validate(spec *authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	errs := ValidateAttributes(spec.ResourceAttributes, spec.NonResourceAttributes)
	if spec.User == "" && len(spec.Groups) == 0 {
		errs = append(errs, field.Invalid(specPath.Child("user"), spec.User, "at least one of user and groups must be given"))
	}
	return errs
}

// ValidateAttributes checks what is asked, whoever it is about.
func ValidateAttributes(attributes *authorizationv1.ResourceAttributes, nonResource *authorizationv1.NonResourceAttributes) field.ErrorList {
	path := specPath.Child("resourceAttributes")
	switch {
	case attributes == nil && nonResource == nil:
		return field.ErrorList{field.Invalid(path, "", "exactly one of resourceAttributes and nonResourceAttributes must be given")}
	case attributes == nil:
		return nil
	}
	var errs field.ErrorList
	if nonResource != nil {
		errs = append(errs, field.Invalid(specPath.Child("nonResourceAttributes"), nonResource, "cannot be given together with resourceAttributes"))
	}
	if s := attributes.FieldSelector; s != nil {
		at := path.Child("fieldSelector")
		errs = append(errs, validateSelector(s.RawSelector, len(s.Requirements), at)...)
		for i, r := range s.Requirements {
			// Newer clients may know operators that are not known here; the
			// decision then treats the selector as absent.
			errs = append(errs, metav1validation.ValidateFieldSelectorRequirement(r,
				metav1validation.FieldSelectorValidationOptions{AllowUnknownOperatorInRequirement: true},
				at.Child("requirements").Index(i))...)
		}
	}
	if s := attributes.LabelSelector; s != nil {
		at := path.Child("labelSelector")
		errs = append(errs, validateSelector(s.RawSelector, len(s.Requirements), at)...)
		for i, r := range s.Requirements {
			errs = append(errs, metav1validation.ValidateLabelSelectorRequirement(r,
				metav1validation.LabelSelectorValidationOptions{AllowUnknownOperatorInRequirement: true},
				at.Child("requirements").Index(i))...)
		}
	}
	return errs
}

func validateSelector(raw string, requirements int, path *field.Path) field.ErrorList {
	switch {
	case raw != "" && requirements > 0:
		return field.ErrorList{field.Invalid(path.Child("rawSelector"), raw, "cannot be given together with requirements")}
	case raw == "" && requirements == 0:
		return field.ErrorList{field.Required(path.Child("requirements"), "a selector must have requirements or a rawSelector")}
	}
	return nil
}
