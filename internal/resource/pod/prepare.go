package pod

import (
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// defaultAccount is the service account of pods that name none.
const defaultAccount = "default"

func prepareCreate(_ resource.Caller, p *corev1.Pod) {
	p.Generation = 1
	// A mirror pod tells what a node runs on its own, so it is nobody's.
	if !mirror(p) {
		setDefault(&p.Spec.ServiceAccountName, defaultAccount)
		p.Spec.DeprecatedServiceAccount = p.Spec.ServiceAccountName
	}
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: qualityOfService(p)}
	if len(p.Spec.SchedulingGates) > 0 {
		p.Status.Conditions = []corev1.PodCondition{{
			Type:               corev1.PodScheduled,
			Status:             corev1.ConditionFalse,
			LastTransitionTime: metav1.Now(),
			Reason:             corev1.PodReasonSchedulingGated,
			Message:            "Scheduling is blocked due to non-empty scheduling gates",
		}}
	}
}

func prepareUpdate(_ resource.Caller, p, old *corev1.Pod) {
	p.Status = old.Status
	setGeneration(p, old)
}

func setGeneration(p, old *corev1.Pod) {
	p.Generation = old.Generation
	if !apiequality.Semantic.DeepEqual(p.Spec, old.Spec) {
		p.Generation++
	}
}

func prepareStatus(_ resource.Caller, p, old *corev1.Pod) {
	p.Spec = old.Spec
	p.Generation = old.Generation
	p.DeletionTimestamp = old.DeletionTimestamp
	p.OwnerReferences = old.OwnerReferences
	setDefault(&p.Status.QOSClass, old.Status.QOSClass)
	setDefault(&p.Status.ObservedGeneration, old.Status.ObservedGeneration)
}

func mirror(p *corev1.Pod) bool {
	_, ok := p.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

// qualityOfService ranks a pod by what it asks for: everything it may use
// (Guaranteed), nothing (BestEffort), or something between (Burstable).
func qualityOfService(p *corev1.Pod) corev1.PodQOSClass {
	all := []corev1.ResourceRequirements{}
	if p.Spec.Resources != nil {
		all = append(all, *p.Spec.Resources)
	} else {
		for _, containers := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
			for i := range containers {
				all = append(all, containers[i].Resources)
			}
		}
	}
	guaranteed, any := true, false
	for _, r := range all {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, limit := r.Requests[name], r.Limits[name]
			any = any || request.Sign() > 0 || limit.Sign() > 0
			guaranteed = guaranteed && limit.Sign() > 0 && request.Cmp(limit) == 0
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}
