package pod

import (
	"fmt"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateUpdate lets a pod change where that does not make it another one:
// images, an earlier deadline, further tolerations, fewer scheduling gates,
// and, while gates hold it back, a narrower choice of nodes.
func validateUpdate(p, old *corev1.Pod) field.ErrorList {
	errs := validateSpec(p)
	errs = append(errs, validateMirrorUpdate(p, old)...)
	spec := p.Spec.DeepCopy()
	errs = append(errs, takeImages(spec.Containers, old.Spec.Containers, specPath.Child("containers"))...)
	errs = append(errs, takeImages(spec.InitContainers, old.Spec.InitContainers, specPath.Child("initContainers"))...)
	if len(spec.Containers) != len(old.Spec.Containers) || len(spec.InitContainers) != len(old.Spec.InitContainers) {
		return errs
	}

	errs = append(errs, validateDeadline(spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds)...)
	spec.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	errs = append(errs, validateAddedTolerations(spec.Tolerations, old.Spec.Tolerations)...)
	spec.Tolerations = old.Spec.Tolerations
	for i, gate := range spec.SchedulingGates {
		if !slices.Contains(old.Spec.SchedulingGates, gate) {
			errs = append(errs, field.Forbidden(specPath.Child("schedulingGates").Index(i).Child("name"), "can only be removed"))
		}
	}
	spec.SchedulingGates = old.Spec.SchedulingGates
	if len(old.Spec.SchedulingGates) > 0 {
		errs = append(errs, takeNarrowing(spec, &old.Spec)...)
	}

	if !apiequality.Semantic.DeepEqual(*spec, old.Spec) {
		errs = append(errs, field.Forbidden(specPath,
			"only these fields can change: containers[*].image, initContainers[*].image, activeDeadlineSeconds (to an earlier one), tolerations (additions), schedulingGates (removals)"))
	}
	return errs
}

// takeImages resets the images, which may change, to the old ones.
func takeImages(containers, old []corev1.Container, at *field.Path) field.ErrorList {
	if len(containers) != len(old) {
		return field.ErrorList{field.Forbidden(at, "containers cannot be added or removed")}
	}
	for i := range containers {
		containers[i].Image = old[i].Image
	}
	return nil
}

func validateMirrorUpdate(p, old *corev1.Pod) field.ErrorList {
	now, is := p.Annotations[corev1.MirrorPodAnnotationKey]
	before, was := old.Annotations[corev1.MirrorPodAnnotationKey]
	if now == before && is == was {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("metadata", "annotations").Key(corev1.MirrorPodAnnotationKey),
		"cannot be added, changed or removed")}
}

func validateDeadline(seconds, old *int64) field.ErrorList {
	at := specPath.Child("activeDeadlineSeconds")
	switch {
	case seconds == nil && old == nil:
	case seconds == nil:
		return field.ErrorList{field.Invalid(at, "", "cannot be removed")}
	case *seconds < 0 || *seconds > math.MaxInt32:
		return field.ErrorList{field.Invalid(at, *seconds, validation.InclusiveRangeError(0, math.MaxInt32))}
	case old != nil && *seconds > *old:
		return field.ErrorList{field.Invalid(at, *seconds, fmt.Sprintf("must not be later than the present %d", *old))}
	}
	return nil
}

// validateAddedTolerations asks for every old toleration; only how long it
// lasts may change.
func validateAddedTolerations(tolerations, old []corev1.Toleration) field.ErrorList {
	for _, before := range old {
		before.TolerationSeconds = nil
		if !slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool {
			t.TolerationSeconds = nil
			return t == before
		}) {
			return field.ErrorList{field.Forbidden(specPath.Child("tolerations"), "existing tolerations cannot be changed except for their tolerationSeconds")}
		}
	}
	return nil
}

// takeNarrowing resets the choice of nodes to the old one if the new one
// only narrows it.
func takeNarrowing(spec, old *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	for key, value := range old.NodeSelector {
		if now, ok := spec.NodeSelector[key]; !ok || now != value {
			errs = append(errs, field.Invalid(specPath.Child("nodeSelector").Key(key), now, "can only get further labels"))
		}
	}
	spec.NodeSelector = old.NodeSelector

	affinity := func(s *corev1.PodSpec) *corev1.NodeAffinity {
		if s.Affinity == nil {
			return nil
		}
		return s.Affinity.NodeAffinity
	}
	now, before := affinity(spec), affinity(old)
	if apiequality.Semantic.DeepEqual(now, before) {
		return errs
	}
	if before != nil && before.RequiredDuringSchedulingIgnoredDuringExecution != nil && !narrows(now, before) {
		errs = append(errs, field.Invalid(specPath.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"),
			"", "terms can only get further expressions"))
	}
	switch {
	case spec.Affinity == nil:
		spec.Affinity = &corev1.Affinity{NodeAffinity: before}
	case old.Affinity == nil && spec.Affinity.PodAffinity == nil && spec.Affinity.PodAntiAffinity == nil:
		spec.Affinity = nil
	default:
		spec.Affinity.NodeAffinity = before
	}
	return errs
}

// narrows compares term by term: terms are alternatives, the expressions of
// one all have to hold.
func narrows(now, before *corev1.NodeAffinity) bool {
	if now == nil || now.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return false
	}
	terms := now.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	old := before.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	if len(terms) != len(old) {
		return false
	}
	for i := range old {
		// A term without expressions matches nothing; more would widen it.
		if len(old[i].MatchExpressions) == 0 && len(old[i].MatchFields) == 0 &&
			len(terms[i].MatchExpressions)+len(terms[i].MatchFields) > 0 {
			return false
		}
		if !startsWith(terms[i].MatchExpressions, old[i].MatchExpressions) || !startsWith(terms[i].MatchFields, old[i].MatchFields) {
			return false
		}
	}
	return true
}

func startsWith(list, start []corev1.NodeSelectorRequirement) bool {
	return len(list) >= len(start) && apiequality.Semantic.DeepEqual(list[:len(start)], start)
}

// validateEphemeral lets ephemeral containers be added, and nothing else.
func validateEphemeral(p, old *corev1.Pod) field.ErrorList {
	at := specPath.Child("ephemeralContainers")
	if mirror(old) && len(p.Spec.EphemeralContainers) > 0 {
		return field.ErrorList{field.Forbidden(at, "a mirror pod cannot have it")}
	}
	errs := validateSpec(p)
	for i := range old.Spec.EphemeralContainers {
		before := &old.Spec.EphemeralContainers[i]
		j := slices.IndexFunc(p.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == before.Name })
		switch {
		case j < 0:
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("the container %q cannot be removed", before.Name)))
		case !apiequality.Semantic.DeepEqual(*before, p.Spec.EphemeralContainers[j]):
			errs = append(errs, field.Forbidden(at.Index(j), fmt.Sprintf("the container %q cannot be changed", before.Name)))
		}
	}
	return errs
}

// validateStatus checks what a node reports.
func validateStatus(p, old *corev1.Pod) field.ErrorList {
	at := field.NewPath("status")
	s := &p.Status
	errs := validateMirrorUpdate(p, old)
	for i, c := range s.Conditions {
		at := at.Child("conditions").Index(i)
		errs = append(errs, notNegative(at.Child("observedGeneration"), c.ObservedGeneration)...)
		errs = append(errs, messages(at.Child("type"), string(c.Type), validation.IsQualifiedName(string(c.Type)))...)
	}
	errs = append(errs, notNegative(at.Child("observedGeneration"), s.ObservedGeneration)...)
	if s.NominatedNodeName != old.Status.NominatedNodeName {
		errs = append(errs, optional(at.Child("nominatedNodeName"), s.NominatedNodeName, asName(apivalidation.NameIsDNSSubdomain))...)
		if s.NominatedNodeName != "" && old.Spec.NodeName != "" {
			errs = append(errs, field.Forbidden(at.Child("nominatedNodeName"), "cannot be set once the pod has a node"))
		}
	}
	errs = append(errs, apivalidation.ValidateImmutableField(s.QOSClass, old.Status.QOSClass, at.Child("qosClass"))...)
	errs = append(errs, validateAddresses(at.Child("podIPs"), len(s.PodIPs), func(i int) string { return s.PodIPs[i].IP })...)
	errs = append(errs, validateAddresses(at.Child("hostIPs"), len(s.HostIPs), func(i int) string { return s.HostIPs[i].IP })...)
	if len(s.HostIPs) > 0 && s.HostIPs[0].IP != s.HostIP {
		errs = append(errs, field.Invalid(at.Child("hostIPs").Index(0).Child("ip"), s.HostIPs[0].IP, "must be the hostIP"))
	}
	errs = append(errs, validateTransitions(at.Child("containerStatuses"), s.ContainerStatuses, old.Status.ContainerStatuses,
		func(name string, code int32) bool { return restarts(old.Spec.Containers, name, code, &old.Spec) })...)
	errs = append(errs, validateTransitions(at.Child("initContainerStatuses"), s.InitContainerStatuses, old.Status.InitContainerStatuses,
		func(name string, code int32) bool { return restarts(old.Spec.InitContainers, name, code, &old.Spec) })...)
	errs = append(errs, validateTransitions(at.Child("ephemeralContainerStatuses"), s.EphemeralContainerStatuses, old.Status.EphemeralContainerStatuses,
		func(string, int32) bool { return false })...)
	return errs
}

// validateAddresses accepts one address of each family.
func validateAddresses(at *field.Path, n int, ip func(int) string) field.ErrorList {
	var errs field.ErrorList
	families := map[bool]bool{}
	for i := range n {
		if bad := address(at.Index(i).Child("ip"), ip(i)); len(bad) > 0 {
			errs = append(errs, bad...)
			continue
		}
		v4 := isIPv4(ip(i))
		if families[v4] {
			errs = append(errs, field.Invalid(at, ip(i), "must hold at most one address of each family"))
		}
		families[v4] = true
	}
	return errs
}

// validateTransitions refuses to let a container rise again that must not.
func validateTransitions(at *field.Path, now, before []corev1.ContainerStatus, mayRestart func(name string, code int32) bool) field.ErrorList {
	var errs field.ErrorList
	for _, old := range before {
		ended := old.State.Terminated
		if ended == nil || mayRestart(old.Name, ended.ExitCode) {
			continue
		}
		for i, c := range now {
			if c.Name == old.Name && c.State.Terminated == nil {
				errs = append(errs, field.Forbidden(at.Index(i).Child("state"), "cannot leave the terminated state"))
			}
		}
	}
	return errs
}

// restarts says whether a container that ended with code may run again. A rule
// that restarts all containers wins, then the first of its own rules that
// matches, then its policy, then the pod's.
func restarts(containers []corev1.Container, name string, code int32, spec *corev1.PodSpec) bool {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			for _, rule := range list[i].RestartPolicyRules {
				if rule.Action == corev1.ContainerRestartRuleActionRestartAllContainers {
					return true
				}
			}
		}
	}
	i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == name })
	if i < 0 {
		return spec.RestartPolicy == corev1.RestartPolicyAlways
	}
	c := &containers[i]
	for _, rule := range c.RestartPolicyRules {
		if rule.ExitCodes == nil {
			continue
		}
		listed := slices.Contains(rule.ExitCodes.Values, code)
		if listed == (rule.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return true
		}
	}
	policy := spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	switch policy {
	case corev1.RestartPolicyAlways:
		return true
	case corev1.RestartPolicyOnFailure:
		return code != 0
	}
	return false
}
