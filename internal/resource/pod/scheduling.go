package pod

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateScheduling checks where a pod may run.
func validateScheduling(p *corev1.Pod) field.ErrorList {
	spec := &p.Spec
	errs := validateNodeSelector(spec.NodeSelector)
	errs = append(errs, optional(specPath.Child("nodeName"), spec.NodeName, asName(apivalidation.NameIsDNSSubdomain))...)
	errs = append(errs, validateTolerations(spec.Tolerations)...)
	errs = append(errs, validateAffinity(spec.Affinity)...)
	errs = append(errs, validateSpread(spec.TopologySpreadConstraints)...)
	for i, gate := range spec.SchedulingGates {
		at := specPath.Child("schedulingGates").Index(i)
		errs = append(errs, messages(at, gate.Name, validation.IsQualifiedName(gate.Name))...)
		if slices.Contains(spec.SchedulingGates[:i], gate) {
			errs = append(errs, field.Duplicate(at, gate.Name))
		}
	}
	return errs
}

func validateTolerations(tolerations []corev1.Toleration) field.ErrorList {
	var errs field.ErrorList
	for i, t := range tolerations {
		at := specPath.Child("tolerations").Index(i)
		if t.Key != "" {
			errs = append(errs, metav1validation.ValidateLabelName(t.Key, at.Child("key"))...)
		} else if t.Operator != corev1.TolerationOpExists {
			errs = append(errs, field.Invalid(at.Child("operator"), t.Operator, "must be Exists without a key"))
		}
		switch t.Operator {
		case "", corev1.TolerationOpEqual:
			errs = append(errs, messages(at.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))...)
		case corev1.TolerationOpExists:
			if t.Value != "" {
				errs = append(errs, field.Invalid(at.Child("value"), t.Value, "must be empty when operator is Exists"))
			}
		default:
			errs = append(errs, field.NotSupported(at.Child("operator"), t.Operator,
				[]corev1.TolerationOperator{corev1.TolerationOpEqual, corev1.TolerationOpExists}))
		}
		if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
			errs = append(errs, field.Invalid(at.Child("effect"), t.Effect, "must be NoExecute when tolerationSeconds is set"))
		}
		if t.Effect != "" {
			errs = append(errs, oneOf(at.Child("effect"), t.Effect,
				corev1.TaintEffectNoExecute, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule)...)
		}
	}
	return errs
}

func validateAffinity(a *corev1.Affinity) field.ErrorList {
	if a == nil {
		return nil
	}
	const required, preferred = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
	var errs field.ErrorList
	if n := a.NodeAffinity; n != nil {
		at := specPath.Child("affinity", "nodeAffinity")
		if s := n.RequiredDuringSchedulingIgnoredDuringExecution; s != nil {
			at := at.Child(required, "nodeSelectorTerms")
			if len(s.NodeSelectorTerms) == 0 {
				errs = append(errs, field.Required(at, ""))
			}
			for i := range s.NodeSelectorTerms {
				errs = append(errs, validateNodeTerm(at.Index(i), &s.NodeSelectorTerms[i], true)...)
			}
		}
		for i := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			term := &n.PreferredDuringSchedulingIgnoredDuringExecution[i]
			at := at.Child(preferred).Index(i)
			errs = append(errs, validateWeight(at.Child("weight"), term.Weight)...)
			errs = append(errs, validateNodeTerm(at.Child("preference"), &term.Preference, false)...)
		}
	}
	pods := func(name string, hard []corev1.PodAffinityTerm, soft []corev1.WeightedPodAffinityTerm) {
		at := specPath.Child("affinity", name)
		for i := range hard {
			errs = append(errs, validatePodTerm(at.Child(required).Index(i), &hard[i])...)
		}
		for i := range soft {
			at := at.Child(preferred).Index(i)
			errs = append(errs, validateWeight(at.Child("weight"), soft[i].Weight)...)
			errs = append(errs, validatePodTerm(at.Child("podAffinityTerm"), &soft[i].PodAffinityTerm)...)
		}
	}
	if p := a.PodAffinity; p != nil {
		pods("podAffinity", p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if p := a.PodAntiAffinity; p != nil {
		pods("podAntiAffinity", p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return errs
}

func validateWeight(at *field.Path, weight int32) field.ErrorList {
	if weight < 1 || weight > 100 {
		return field.ErrorList{field.Invalid(at, weight, validation.InclusiveRangeError(1, 100))}
	}
	return nil
}

// validateNodeTerm checks one alternative. A preference may hold values that
// no label can have: nothing depends on it.
func validateNodeTerm(at *field.Path, term *corev1.NodeSelectorTerm, required bool) field.ErrorList {
	var errs field.ErrorList
	for i, r := range term.MatchExpressions {
		at := at.Child("matchExpressions").Index(i)
		values := at.Child("values")
		switch r.Operator {
		case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
			if len(r.Values) == 0 {
				errs = append(errs, field.Required(values, "needed for In and NotIn"))
			}
		case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
			if len(r.Values) > 0 {
				errs = append(errs, field.Forbidden(values, "cannot be set for Exists and DoesNotExist"))
			}
		case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
			if len(r.Values) != 1 {
				errs = append(errs, field.Required(values, "must hold one value for Gt and Lt"))
			}
		default:
			errs = append(errs, field.Invalid(at.Child("operator"), r.Operator, "is not an operator"))
		}
		errs = append(errs, metav1validation.ValidateLabelName(r.Key, at.Child("key"))...)
		if !required {
			continue
		}
		for j, value := range r.Values {
			errs = append(errs, messages(values.Index(j), value, validation.IsValidLabelValue(value))...)
		}
	}
	for i, r := range term.MatchFields {
		at := at.Child("matchFields").Index(i)
		errs = append(errs, oneOf(at.Child("operator"), r.Operator, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn)...)
		if len(r.Values) != 1 {
			errs = append(errs, field.Required(at.Child("values"), "must hold one value"))
		}
		if r.Key != metav1.ObjectNameField {
			errs = append(errs, field.Invalid(at.Child("key"), r.Key, "must be "+metav1.ObjectNameField))
			continue
		}
		for j, value := range r.Values {
			errs = append(errs, messages(at.Child("values").Index(j), value, apivalidation.NameIsDNSSubdomain(value, false))...)
		}
	}
	return errs
}

func validatePodTerm(at *field.Path, term *corev1.PodAffinityTerm) field.ErrorList {
	options := metav1validation.LabelSelectorValidationOptions{}
	errs := metav1validation.ValidateLabelSelector(term.LabelSelector, options, at.Child("labelSelector"))
	errs = append(errs, metav1validation.ValidateLabelSelector(term.NamespaceSelector, options, at.Child("namespaceSelector"))...)
	for i, name := range term.Namespaces {
		errs = append(errs, messages(at.Child("namespaces").Index(i), name, apivalidation.ValidateNamespaceName(name, false))...)
	}
	errs = append(errs, validateLabelKeys(at.Child("matchLabelKeys"), term.MatchLabelKeys, term.LabelSelector)...)
	errs = append(errs, validateLabelKeys(at.Child("mismatchLabelKeys"), term.MismatchLabelKeys, term.LabelSelector)...)
	for i, key := range term.MatchLabelKeys {
		if slices.Contains(term.MismatchLabelKeys, key) {
			errs = append(errs, field.Invalid(at.Child("matchLabelKeys").Index(i), key, "is also in mismatchLabelKeys"))
		}
	}
	if term.TopologyKey == "" {
		return append(errs, field.Required(at.Child("topologyKey"), ""))
	}
	return append(errs, metav1validation.ValidateLabelName(term.TopologyKey, at.Child("topologyKey"))...)
}

func validateLabelKeys(at *field.Path, keys []string, selector *metav1.LabelSelector) field.ErrorList {
	if len(keys) == 0 {
		return nil
	}
	if selector == nil {
		return field.ErrorList{field.Forbidden(at, "needs a labelSelector")}
	}
	var errs field.ErrorList
	for i, key := range keys {
		errs = append(errs, metav1validation.ValidateLabelName(key, at.Index(i))...)
	}
	return errs
}

func validateSpread(constraints []corev1.TopologySpreadConstraint) field.ErrorList {
	var errs field.ErrorList
	for i, c := range constraints {
		at := specPath.Child("topologySpreadConstraints").Index(i)
		if c.MaxSkew <= 0 {
			errs = append(errs, field.Invalid(at.Child("maxSkew"), c.MaxSkew, "must be greater than 0"))
		}
		errs = append(errs, requireText(at.Child("topologyKey"), c.TopologyKey)...)
		errs = append(errs, oneOf(at.Child("whenUnsatisfiable"), c.WhenUnsatisfiable, corev1.DoNotSchedule, corev1.ScheduleAnyway)...)
		if d := c.MinDomains; d != nil {
			if *d <= 0 {
				errs = append(errs, field.Invalid(at.Child("minDomains"), *d, "must be greater than 0"))
			}
			if c.WhenUnsatisfiable != corev1.DoNotSchedule {
				errs = append(errs, field.Invalid(at.Child("minDomains"), *d, "can only be set when whenUnsatisfiable is DoNotSchedule"))
			}
		}
		errs = append(errs, oneOfPtr(at.Child("nodeAffinityPolicy"), c.NodeAffinityPolicy,
			corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)...)
		errs = append(errs, oneOfPtr(at.Child("nodeTaintsPolicy"), c.NodeTaintsPolicy,
			corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)...)
		errs = append(errs, metav1validation.ValidateLabelSelector(c.LabelSelector,
			metav1validation.LabelSelectorValidationOptions{}, at.Child("labelSelector"))...)
		errs = append(errs, validateLabelKeys(at.Child("matchLabelKeys"), c.MatchLabelKeys, c.LabelSelector)...)
		if slices.ContainsFunc(constraints[:i], func(o corev1.TopologySpreadConstraint) bool {
			return o.TopologyKey == c.TopologyKey && o.WhenUnsatisfiable == c.WhenUnsatisfiable
		}) {
			errs = append(errs, field.Duplicate(at, c.TopologyKey+", "+string(c.WhenUnsatisfiable)))
		}
	}
	return errs
}
