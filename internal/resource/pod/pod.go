// Package pod describes pods.
//
// The control plane stores pods because tokens are bound to them and because
// the rules for nodes follow from them; nothing here schedules or runs one.
// The package owns defaults, validation and what may change afterwards. Start
// with [New].
package pod

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// New describes pods.
func New() resource.Kind {
	return resource.Definition[*corev1.Pod]{
		Names: resource.Names{
			GroupVersion: corev1.SchemeGroupVersion,
			Kind:         "Pod",
			Resource:     "pods",
			Singular:     "pod",
			ShortNames:   []string{"po"},
			Categories:   []string{"all"},
			Namespaced:   true,
		},
		New:                 func() *corev1.Pod { return &corev1.Pod{} },
		NewList:             func() runtime.Object { return &corev1.PodList{} },
		Default:             setDefaults,
		PrepareCreate:       prepareCreate,
		PrepareUpdate:       prepareUpdate,
		Validate:            validate,
		ValidateUpdate:      validateUpdate,
		UnconditionalUpdate: true,
		Fields:              selectors,
		Columns:             columns,
		Subresources: []resource.Subresource[*corev1.Pod]{
			{
				Name:     "status",
				Prepare:  prepareStatus,
				Validate: validateStatus,
				Fields:   []string{"status"},
				Ignored:  []string{"spec", "metadata.deletionTimestamp", "metadata.ownerReferences"},
			},
			{
				Name: "ephemeralcontainers",
				Prepare: func(_ resource.Caller, p, old *corev1.Pod) {
					added := p.Spec.EphemeralContainers
					p.Spec, p.Status = *old.Spec.DeepCopy(), old.Status
					p.Spec.EphemeralContainers = added
					metav1.ResetObjectMetaForStatus(&p.ObjectMeta, &old.ObjectMeta)
					setGeneration(p, old)
				},
				Validate: validateEphemeral,
				Fields:   []string{"spec.ephemeralContainers"},
				Ignored:  []string{"status", "metadata"},
			},
		},
	}.Kind()
}

var selectors = []resource.Field[*corev1.Pod]{
	{Path: "spec.nodeName", Value: func(p *corev1.Pod) string { return p.Spec.NodeName }},
	{Path: "spec.restartPolicy", Value: func(p *corev1.Pod) string { return string(p.Spec.RestartPolicy) }},
	{Path: "spec.schedulerName", Value: func(p *corev1.Pod) string { return p.Spec.SchedulerName }},
	{Path: "spec.serviceAccountName", Value: func(p *corev1.Pod) string { return p.Spec.ServiceAccountName }},
	{Path: "spec.hostNetwork", Value: func(p *corev1.Pod) string { return strconv.FormatBool(p.Spec.HostNetwork) }},
	{Path: "status.phase", Value: func(p *corev1.Pod) string { return string(p.Status.Phase) }},
	{Path: "status.podIP", Value: func(p *corev1.Pod) string { return p.Status.PodIP }},
	{Path: "status.nominatedNodeName", Value: func(p *corev1.Pod) string { return p.Status.NominatedNodeName }},
}
