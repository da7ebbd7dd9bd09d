package validatingadmissionpolicy

import (
	"regexp"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	maxMatchConditions  = 64
	maxAuditAnnotations = 20
	maxValueExpression  = 5 << 10 // bytes
)

var (
	failurePolicies = []admissionregistrationv1.FailurePolicyType{admissionregistrationv1.Fail, admissionregistrationv1.Ignore}
	reasons         = []metav1.StatusReason{
		metav1.StatusReasonForbidden, metav1.StatusReasonInvalid,
		metav1.StatusReasonRequestEntityTooLarge,
	}
	identifier = regexp.MustCompile(`^[_a-zA-Z][_a-zA-Z0-9]*$`)
	// reserved words of the Common Expression Language, "Syntax".
	reserved = []string{
		"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let",
		"loop", "namespace", "null", "package", "return", "true", "var", "void", "while",
	}
)

func validate(p *policy) field.ErrorList {
	spec, path := &p.Spec, field.NewPath("spec")
	var errs field.ErrorList
	switch at := path.Child("failurePolicy"); {
	case spec.FailurePolicy == nil:
		errs = append(errs, field.Required(at, ""))
	case !slices.Contains(failurePolicies, *spec.FailurePolicy):
		errs = append(errs, field.NotSupported(at, *spec.FailurePolicy, failurePolicies))
	}
	if spec.ParamKind != nil {
		errs = append(errs, validateParamKind(spec.ParamKind, path.Child("paramKind"))...)
	}
	constraints := path.Child("matchConstraints")
	if spec.MatchConstraints == nil {
		errs = append(errs, field.Required(constraints, ""))
	} else {
		errs = append(errs, ValidateMatch(spec.MatchConstraints, constraints)...)
		if len(spec.MatchConstraints.ResourceRules) == 0 {
			errs = append(errs, field.Required(constraints.Child("resourceRules"), ""))
		}
	}
	errs = append(errs, validateMatchConditions(spec.MatchConditions, path.Child("matchConditions"))...)
	for i, v := range spec.Variables {
		errs = append(errs, validateVariable(&v, path.Child("variables").Index(i))...)
	}
	if len(spec.Validations) == 0 && len(spec.AuditAnnotations) == 0 {
		const msg = "validations or auditAnnotations must hold at least one item"
		return append(errs, field.Required(path.Child("validations"), msg), field.Required(path.Child("auditAnnotations"), msg))
	}
	for i, v := range spec.Validations {
		errs = append(errs, validateValidation(&v, path.Child("validations").Index(i))...)
	}
	return append(errs, validateAuditAnnotations(p.Name, spec.AuditAnnotations, path.Child("auditAnnotations"))...)
}

func validateParamKind(kind *admissionregistrationv1.ParamKind, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("apiVersion")
	group, version, ok := strings.Cut(kind.APIVersion, "/")
	if !ok {
		group, version = "", kind.APIVersion
	}
	switch {
	case kind.APIVersion == "":
		errs = append(errs, field.Required(at, ""))
	case strings.Contains(version, "/"):
		errs = append(errs, field.Invalid(at, kind.APIVersion, "must be VERSION or GROUP/VERSION"))
	default:
		if group != "" {
			for _, msg := range validation.IsDNS1123Subdomain(group) {
				errs = append(errs, field.Invalid(at, group, msg))
			}
		}
		for _, msg := range validation.IsDNS1035Label(version) {
			errs = append(errs, field.Invalid(at, version, msg))
		}
	}
	if kind.Kind == "" {
		return append(errs, field.Required(path.Child("kind"), ""))
	}
	for _, msg := range validation.IsDNS1035Label(strings.ToLower(kind.Kind)) {
		errs = append(errs, field.Invalid(path.Child("kind"), kind.Kind, "apart from upper case letters: "+msg))
	}
	return errs
}

func validateMatchConditions(conditions []admissionregistrationv1.MatchCondition, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(conditions) > maxMatchConditions {
		errs = append(errs, field.TooMany(path, len(conditions), maxMatchConditions))
	}
	seen := make(map[string]bool, len(conditions))
	for i, c := range conditions {
		at := path.Index(i)
		errs = append(errs, requireText(c.Expression, at.Child("expression"))...)
		if c.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
			continue
		}
		errs = append(errs, qualified(c.Name, at.Child("name"))...)
		if seen[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		seen[c.Name] = true
	}
	return errs
}

func validateVariable(v *admissionregistrationv1.Variable, path *field.Path) field.ErrorList {
	errs := requireText(v.Name, path.Child("name"))
	if len(errs) == 0 && (!identifier.MatchString(v.Name) || slices.Contains(reserved, v.Name)) {
		errs = append(errs, field.Invalid(path.Child("name"), v.Name, "must be an identifier of the expression language"))
	}
	return append(errs, requireText(v.Expression, path.Child("expression"))...)
}

func validateValidation(v *admissionregistrationv1.Validation, path *field.Path) field.ErrorList {
	errs := requireText(v.Expression, path.Child("expression"))
	message := strings.TrimSpace(v.Message)
	if v.MessageExpression != "" && strings.TrimSpace(v.MessageExpression) == "" {
		errs = append(errs, field.Invalid(path.Child("messageExpression"), v.MessageExpression, "must not be blank"))
	}
	switch at := path.Child("message"); {
	case v.Message != "" && message == "":
		errs = append(errs, field.Invalid(at, v.Message, "must not be blank"))
	case strings.ContainsAny(message, "\r\n"):
		errs = append(errs, field.Invalid(at, v.Message, "must be a single line"))
	}
	if v.Reason != nil && !slices.Contains(reasons, *v.Reason) {
		errs = append(errs, field.NotSupported(path.Child("reason"), *v.Reason, reasons))
	}
	return errs
}

// validateAuditAnnotations takes the name of the policy, which is the first
// half of every key.
func validateAuditAnnotations(name string, annotations []admissionregistrationv1.AuditAnnotation, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(annotations) > maxAuditAnnotations {
		errs = append(errs, field.TooMany(path, len(annotations), maxAuditAnnotations))
	}
	seen := make(map[string]bool, len(annotations))
	for i, a := range annotations {
		at := path.Index(i)
		if name == "" {
			errs = append(errs, field.Invalid(at.Child("key"), a.Key, "needs a policy with a name"))
		} else {
			errs = append(errs, qualified(name+"/"+a.Key, at.Child("key"))...)
		}
		if seen[a.Key] {
			errs = append(errs, field.Duplicate(at.Child("key"), a.Key))
		}
		seen[a.Key] = true
		errs = append(errs, requireText(a.ValueExpression, at.Child("valueExpression"))...)
		if len(strings.TrimSpace(a.ValueExpression)) > maxValueExpression {
			errs = append(errs, field.TooLong(at.Child("valueExpression"), "", maxValueExpression))
		}
	}
	return errs
}

func validateStatus(p, _ *policy) field.ErrorList {
	path := field.NewPath("status")
	errs := metav1validation.ValidateConditions(p.Status.Conditions, path.Child("conditions"))
	if p.Status.TypeChecking == nil {
		return errs
	}
	for i, w := range p.Status.TypeChecking.ExpressionWarnings {
		at := path.Child("typeChecking", "expressionWarnings").Index(i)
		if w.Warning == "" {
			errs = append(errs, field.Required(at.Child("warning"), ""))
		}
		errs = append(errs, requireText(w.FieldRef, at.Child("fieldRef"))...)
	}
	return errs
}

func requireText(text string, path *field.Path) field.ErrorList {
	if strings.TrimSpace(text) == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return nil
}

func qualified(name string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsQualifiedName(name) {
		errs = append(errs, field.Invalid(path, name, msg))
	}
	return errs
}
