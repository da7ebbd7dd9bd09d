package node

import (
	"encoding/json"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource/amount"
)

// taintsAnnotation held the taints before they had a field.
const taintsAnnotation = "scheduler.alpha.kubernetes.io/taints"

var effects = []corev1.TaintEffect{corev1.TaintEffectNoExecute, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule}

func validate(n *corev1.Node) field.ErrorList {
	errs := validateAlways(n)
	return append(errs, validateRanges(n.Spec.PodCIDRs, field.NewPath("spec", "podCIDRs"))...)
}

func validateUpdate(n, old *corev1.Node) field.ErrorList {
	errs := validateAlways(n)
	addresses := map[corev1.NodeAddress]bool{}
	for i, a := range n.Status.Addresses {
		if addresses[a] {
			errs = append(errs, field.Duplicate(field.NewPath("status", "addresses").Index(i), a))
		}
		addresses[a] = true
	}

	spec := field.NewPath("spec")
	const once = "cannot be changed once it is set"
	if len(old.Spec.PodCIDRs) > 0 {
		if !slices.Equal(n.Spec.PodCIDRs, old.Spec.PodCIDRs) {
			errs = append(errs, field.Forbidden(spec.Child("podCIDRs"), once))
		}
	} else {
		errs = append(errs, validateRanges(n.Spec.PodCIDRs, spec.Child("podCIDRs"))...)
	}
	if old.Spec.ProviderID != "" && n.Spec.ProviderID != old.Spec.ProviderID {
		errs = append(errs, field.Forbidden(spec.Child("providerID"), once))
	}
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(spec.Child("externalID"), "cannot be changed"))
	}
	return errs
}

func validateAlways(n *corev1.Node) field.ErrorList {
	errs := validateTaintsAnnotation(n.Annotations[taintsAnnotation])
	errs = append(errs, validateTaints(n.Spec.Taints, field.NewPath("spec", "taints"))...)
	status := field.NewPath("status")
	errs = append(errs, validateAmounts(n.Status.Capacity, status.Child("capacity"))...)
	errs = append(errs, validateAmounts(n.Status.Allocatable, status.Child("allocatable"))...)
	if swap := n.Status.NodeInfo.Swap; swap != nil && swap.Capacity != nil && *swap.Capacity <= 0 {
		errs = append(errs, field.Invalid(status.Child("nodeInfo", "swap", "capacity"), *swap.Capacity, "must be greater than 0"))
	}
	return errs
}

func validateAmounts(list corev1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, quantity := range list {
		errs = append(errs, amount.Validate(path.Key(string(name)), name, quantity)...)
	}
	return errs
}

func validateTaintsAnnotation(value string) field.ErrorList {
	if value == "" {
		return nil
	}
	path := field.NewPath("metadata", "annotations").Key(taintsAnnotation)
	var taints []corev1.Taint
	if err := json.Unmarshal([]byte(value), &taints); err != nil {
		return field.ErrorList{field.Invalid(path, value, err.Error())}
	}
	return validateTaints(taints, path)
}

func validateTaints(taints []corev1.Taint, path *field.Path) field.ErrorList {
	type identity struct {
		key    string
		effect corev1.TaintEffect
	}
	var errs field.ErrorList
	seen := make(map[identity]bool, len(taints))
	for i, t := range taints {
		at := path.Index(i)
		errs = append(errs, metav1validation.ValidateLabelName(t.Key, at.Child("key"))...)
		for _, msg := range validation.IsValidLabelValue(t.Value) {
			errs = append(errs, field.Invalid(at.Child("value"), t.Value, msg))
		}
		switch {
		case t.Effect == "":
			errs = append(errs, field.Required(at.Child("effect"), ""))
		case !slices.Contains(effects, t.Effect):
			errs = append(errs, field.NotSupported(at.Child("effect"), t.Effect, effects))
		}
		id := identity{t.Key, t.Effect}
		if seen[id] {
			errs = append(errs, field.Duplicate(at, t.Key+":"+string(t.Effect)))
		}
		seen[id] = true
	}
	return errs
}

// validateRanges accepts one address range of each family.
func validateRanges(ranges []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	families := map[bool]bool{}
	for i, r := range ranges {
		prefix, err := netip.ParsePrefix(r)
		if err != nil {
			errs = append(errs, field.Invalid(path.Index(i), r, "must be a range of addresses, such as 10.9.8.0/24"))
			continue
		}
		if families[prefix.Addr().Is4()] {
			errs = append(errs, field.Invalid(path, ranges, "must hold at most one range of each address family"))
		}
		families[prefix.Addr().Is4()] = true
	}
	return errs
}
