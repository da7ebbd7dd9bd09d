package grant

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
)

// AccessPolicy returns what is wrong with a policy, new or changed.
func (v Validator) AccessPolicy(p *accessv1alpha1.AccessPolicy) field.ErrorList {
	var errs field.ErrorList
	s := &p.Spec
	switch s.Effect {
	case accessv1alpha1.EffectAllow, accessv1alpha1.EffectDeny:
	case "":
		errs = append(errs, field.Required(root.Child("effect"), "must be Allow or Deny"))
	default:
		errs = append(errs, field.NotSupported(root.Child("effect"), s.Effect,
			[]accessv1alpha1.Effect{accessv1alpha1.EffectAllow, accessv1alpha1.EffectDeny}))
	}
	if len(s.Subjects) == 0 {
		errs = append(errs, field.Required(root.Child("subjects"), "must hold at least one subject"))
	}
	errs = append(errs, tooMany(root.Child("subjects"), len(s.Subjects), maxSubjects)...)
	for i := range s.Subjects {
		errs = append(errs, subject(&s.Subjects[i], s.Effect, root.Child("subjects").Index(i))...)
	}
	errs = append(errs, v.scope(s.Roles, s.Rules, s.Sites, s.Namespaces)...)
	errs = append(errs, selectorRequirements(s.FieldSelector, root.Child("fieldSelector"), fieldRequirement)...)
	errs = append(errs, selectorRequirements(s.LabelSelector, root.Child("labelSelector"), labelRequirement)...)
	for i := range s.Rules {
		if len(s.Rules[i].NonResourceURLs) > 0 && len(s.FieldSelector)+len(s.LabelSelector) > 0 {
			errs = append(errs, field.Forbidden(root.Child("rules").Index(i).Child("nonResourceURLs"), "a URL selects no objects, so it cannot stand beside selectors"))
		}
	}
	errs = append(errs, window(s.NotBefore, s.NotAfter)...)
	errs = append(errs, v.condition(s.Effect, s.Condition)...)
	return append(errs, tooLong(root.Child("message"), s.Message, maxText)...)
}

func (v Validator) condition(effect accessv1alpha1.Effect, expression string) field.ErrorList {
	path := root.Child("condition")
	switch {
	case expression == "":
		return nil
	case len(expression) > maxCondition:
		return tooLong(path, expression, maxCondition)
	case v.CheckCondition == nil:
		return field.ErrorList{field.Forbidden(path, "conditions are not evaluated here")}
	}
	if err := v.CheckCondition(effect, expression); err != nil {
		return field.ErrorList{field.Invalid(path, expression, err.Error())}
	}
	return nil
}

func subject(s *accessv1alpha1.Subject, effect accessv1alpha1.Effect, path *field.Path) field.ErrorList {
	errs := subjectKind(s.Kind, path)
	given := 0
	for _, text := range [...]string{s.Name, s.NamePrefix, s.Domain} {
		if text != "" {
			given++
		}
	}
	if given != 1 {
		errs = append(errs, field.Invalid(path, s.Name+s.NamePrefix+s.Domain, "exactly one of name, namePrefix and domain must be given"))
	}
	errs = append(errs, subjectName(s.Kind, s.Name, path.Child("name"))...)
	errs = append(errs, subjectNamespace(s.Kind, s.Namespace, s.Name != "" || s.NamePrefix != "", path)...)
	if s.NamePrefix != "" {
		errs = append(errs, namePrefix(s, effect, path.Child("namePrefix"))...)
	}
	if s.Domain != "" {
		at := path.Child("domain")
		if s.Kind != accessv1alpha1.SubjectServiceAccount && s.Kind != accessv1alpha1.SubjectSite {
			errs = append(errs, field.Forbidden(at, "only service accounts and sites belong to a domain"))
		}
		if s.Namespace != "" {
			errs = append(errs, field.Forbidden(path.Child("namespace"), "cannot stand beside domain"))
		}
		for _, msg := range validation.IsValidLabelValue(s.Domain) {
			errs = append(errs, field.Invalid(at, s.Domain, msg))
		}
	}
	return errs
}

// namePrefix keeps an allow from reaching reserved names by accident: a
// prefix inside of "system:" would take in nodes, sites and service accounts
// of every namespace. A deny may be as wide as it likes.
func namePrefix(s *accessv1alpha1.Subject, effect accessv1alpha1.Effect, path *field.Path) field.ErrorList {
	errs := tooLong(path, s.NamePrefix, maxName)
	switch s.Kind {
	case accessv1alpha1.SubjectUser, accessv1alpha1.SubjectGroup:
		if effect == accessv1alpha1.EffectAllow && (strings.HasPrefix(reserved, s.NamePrefix) || strings.HasPrefix(s.NamePrefix, reserved)) {
			errs = append(errs, field.Invalid(path, s.NamePrefix, `an allow cannot reach names that begin with "system:" by a prefix`))
		}
	default:
		if strings.Trim(s.NamePrefix, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
			errs = append(errs, field.Invalid(path, s.NamePrefix, "must be the beginning of a name of lower case letters, digits, '-' and '.'"))
		}
	}
	return errs
}

const reserved = "system:"

func fieldRequirement(r metav1.FieldSelectorRequirement, path *field.Path) field.ErrorList {
	errs := metav1validation.ValidateFieldSelectorRequirement(r, metav1validation.FieldSelectorValidationOptions{}, path)
	if r.Operator == metav1.FieldSelectorOpExists || r.Operator == metav1.FieldSelectorOpDoesNotExist {
		errs = append(errs, field.NotSupported(path.Child("operator"), r.Operator,
			[]metav1.FieldSelectorOperator{metav1.FieldSelectorOpIn, metav1.FieldSelectorOpNotIn}))
	}
	return append(errs, tooMany(path.Child("values"), len(r.Values), maxValues)...)
}

func labelRequirement(r metav1.LabelSelectorRequirement, path *field.Path) field.ErrorList {
	errs := metav1validation.ValidateLabelSelectorRequirement(r, metav1validation.LabelSelectorValidationOptions{}, path)
	return append(errs, tooMany(path.Child("values"), len(r.Values), maxValues)...)
}
