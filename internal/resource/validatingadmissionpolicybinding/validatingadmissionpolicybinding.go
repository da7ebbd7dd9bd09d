// Package validatingadmissionpolicybinding describes the bindings that put
// ValidatingAdmissionPolicies into force. Start with [New].
package validatingadmissionpolicybinding

import (
	"context"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/validatingadmissionpolicy"
)

type binding = admissionregistrationv1.ValidatingAdmissionPolicyBinding

// CheckParams refuses, with an error of package fault, a caller who may not
// read the parameters that ref names for the policy (get one object, list for
// a selector; of every kind, if the policy does not exist yet).
type CheckParams func(ctx context.Context, caller resource.Caller, policyName string, ref admissionregistrationv1.ParamRef) error

// New describes ValidatingAdmissionPolicyBindings.
func New(check CheckParams) resource.Kind {
	return resource.Definition[*binding]{
		Names: resource.Names{
			GroupVersion: admissionregistrationv1.SchemeGroupVersion,
			Kind:         "ValidatingAdmissionPolicyBinding",
			Resource:     "validatingadmissionpolicybindings",
			Singular:     "validatingadmissionpolicybinding",
			Categories:   []string{"api-extensions"},
		},
		New:     func() *binding { return &binding{} },
		NewList: func() runtime.Object { return &admissionregistrationv1.ValidatingAdmissionPolicyBindingList{} },
		Default: func(b *binding) {
			validatingadmissionpolicy.SetMatchDefaults(b.Spec.MatchResources)
		},
		PrepareCreate: func(_ resource.Caller, b *binding) { b.Generation = 1 },
		PrepareUpdate: func(_ resource.Caller, b, old *binding) {
			b.Generation = old.Generation
			if !apiequality.Semantic.DeepEqual(b.Spec, old.Spec) {
				b.Generation++
			}
		},
		Validate: validate,
		Check: func(ctx context.Context, caller resource.Caller, b, old *binding) error {
			if b.Spec.ParamRef == nil {
				return nil
			}
			if old != nil && b.Spec.PolicyName == old.Spec.PolicyName && apiequality.Semantic.DeepEqual(b.Spec.ParamRef, old.Spec.ParamRef) {
				return nil
			}
			return check(ctx, caller, b.Spec.PolicyName, *b.Spec.ParamRef)
		},
		Columns: []resource.Column[*binding]{
			{
				Name: "PolicyName", Description: "The policy that is put into force.",
				Value: func(b *binding) any { return b.Spec.PolicyName },
			},
			{
				Name: "ParamRef", Description: "The parameters of the policy.",
				Value: func(b *binding) any { return params(b.Spec.ParamRef) },
			},
			resource.Age[*binding](),
		},
	}.Kind()
}

func params(ref *admissionregistrationv1.ParamRef) string {
	switch {
	case ref != nil && ref.Name != "" && ref.Namespace != "":
		return ref.Namespace + "/" + ref.Name
	case ref != nil && ref.Name != "":
		return "*/" + ref.Name
	case ref != nil && ref.Selector != nil:
		return metav1.FormatLabelSelector(ref.Selector)
	}
	return "<unset>"
}

func validate(b *binding) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if b.Spec.PolicyName == "" {
		errs = append(errs, field.Required(path.Child("policyName"), ""))
	} else {
		for _, msg := range resource.DNSSubdomain(b.Spec.PolicyName, false) {
			errs = append(errs, field.Invalid(path.Child("policyName"), b.Spec.PolicyName, msg))
		}
	}
	errs = append(errs, validateParamRef(b.Spec.ParamRef, path.Child("paramRef"))...)
	errs = append(errs, validatingadmissionpolicy.ValidateMatch(b.Spec.MatchResources, path.Child("matchResources"))...)
	return append(errs, validateActions(b.Spec.ValidationActions, path.Child("validationActions"))...)
}

func validateParamRef(ref *admissionregistrationv1.ParamRef, path *field.Path) field.ErrorList {
	if ref == nil {
		return nil
	}
	var errs field.ErrorList
	if ref.Name != "" {
		for _, msg := range resource.PathSegment(ref.Name, false) {
			errs = append(errs, field.Invalid(path.Child("name"), ref.Name, msg))
		}
	}
	if ref.Selector != nil {
		errs = append(errs, metav1validation.ValidateLabelSelector(ref.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	}
	switch {
	case ref.Name != "" && ref.Selector != nil:
		const msg = "name and selector exclude each other"
		errs = append(errs, field.Forbidden(path.Child("name"), msg), field.Forbidden(path.Child("selector"), msg))
	case ref.Name == "" && ref.Selector == nil:
		errs = append(errs, field.Required(path, "must have a name or a selector"))
	}
	actions := []admissionregistrationv1.ParameterNotFoundActionType{admissionregistrationv1.AllowAction, admissionregistrationv1.DenyAction}
	switch at := path.Child("parameterNotFoundAction"); {
	case ref.ParameterNotFoundAction == nil || *ref.ParameterNotFoundAction == "":
		errs = append(errs, field.Required(at, ""))
	case !slices.Contains(actions, *ref.ParameterNotFoundAction):
		errs = append(errs, field.NotSupported(at, *ref.ParameterNotFoundAction, actions))
	}
	return errs
}

func validateActions(actions []admissionregistrationv1.ValidationAction, path *field.Path) field.ErrorList {
	if len(actions) == 0 {
		return field.ErrorList{field.Required(path, "must hold at least one action")}
	}
	known := []admissionregistrationv1.ValidationAction{admissionregistrationv1.Audit, admissionregistrationv1.Deny, admissionregistrationv1.Warn}
	var errs field.ErrorList
	for i, action := range actions {
		if !slices.Contains(known, action) {
			errs = append(errs, field.NotSupported(path.Index(i), action, known))
		}
		if slices.Contains(actions[:i], action) {
			errs = append(errs, field.Duplicate(path.Index(i), action))
		}
	}
	if slices.Contains(actions, admissionregistrationv1.Deny) && slices.Contains(actions, admissionregistrationv1.Warn) {
		errs = append(errs, field.Invalid(path, actions, "Deny and Warn exclude each other: both tell the caller the same"))
	}
	return errs
}
