// Package namespace describes namespaces: the unit that everything of a
// customer belongs to.
//
// It owns their life cycle as upstream has it (a namespace that is deleted
// stays, Terminating, until spec.finalizers is empty) and the label that puts
// a namespace into a domain. It does not empty namespaces, and it does not
// decide who may move one to another domain. Start with [New].
package namespace

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// DomainLabel names the domain that a namespace belongs to.
const DomainLabel = "gatehouse.dev/domain"

// AssignDomain refuses, with an error of package fault, a caller who may not
// move a namespace from one domain to another. An empty name stands for the
// default domain, from included when the namespace is new.
type AssignDomain func(ctx context.Context, caller resource.Caller, from, to string) error

// New describes namespaces.
func New(assign AssignDomain) resource.Kind {
	return resource.Definition[*corev1.Namespace]{
		Names: resource.Names{
			GroupVersion: corev1.SchemeGroupVersion,
			Kind:         "Namespace",
			Resource:     "namespaces",
			Singular:     "namespace",
			ShortNames:   []string{"ns"},
		},
		New:           func() *corev1.Namespace { return &corev1.Namespace{} },
		NewList:       func() runtime.Object { return &corev1.NamespaceList{} },
		ValidateName:  resource.DNSLabel,
		Default:       setDefaults,
		PrepareCreate: prepareCreate,
		PrepareUpdate: func(_ resource.Caller, ns, old *corev1.Namespace) {
			ns.Spec.Finalizers = old.Spec.Finalizers
			ns.Status = old.Status
		},
		Validate: validate,
		Check: func(ctx context.Context, caller resource.Caller, ns, old *corev1.Namespace) error {
			from, to := "", ns.Labels[DomainLabel]
			if old != nil {
				from = old.Labels[DomainLabel]
			}
			if from == to {
				return nil
			}
			return assign(ctx, caller, from, to)
		},
		UnconditionalUpdate: true,
		KeepOnDelete:        func(ns *corev1.Namespace) bool { return len(ns.Spec.Finalizers) > 0 },
		PrepareDelete:       func(ns *corev1.Namespace) { ns.Status.Phase = corev1.NamespaceTerminating },
		Fields: []resource.Field[*corev1.Namespace]{
			{Path: "status.phase", Value: func(ns *corev1.Namespace) string { return string(ns.Status.Phase) }},
			// Old clients select by the bare name.
			{Path: "name", Value: func(ns *corev1.Namespace) string { return ns.Name }},
		},
		Columns: []resource.Column[*corev1.Namespace]{
			{
				Name: "Status", Description: "The status of the namespace.",
				Value: func(ns *corev1.Namespace) any { return string(ns.Status.Phase) },
			},
			resource.Age[*corev1.Namespace](),
		},
		Subresources: []resource.Subresource[*corev1.Namespace]{
			{
				Name: "status",
				Prepare: func(_ resource.Caller, ns, old *corev1.Namespace) {
					ns.Spec = old.Spec
					keepDomain(ns, old)
				},
				Validate: validateStatus,
				Fields:   []string{"status"},
				Ignored:  []string{"spec"},
			},
			{
				Name: "finalize",
				Prepare: func(_ resource.Caller, ns, old *corev1.Namespace) {
					ns.Status = old.Status
					keepDomain(ns, old)
				},
				Validate: func(ns, _ *corev1.Namespace) field.ErrorList { return validateFinalizers(ns) },
				Fields:   []string{"spec.finalizers"},
				Ignored:  []string{"status"},
			},
		},
	}.Kind()
}

func setDefaults(ns *corev1.Namespace) {
	if ns.Status.Phase == "" {
		ns.Status.Phase = corev1.NamespaceActive
	}
	// A namespace that waits for its generated name has none to show yet.
	if ns.Name == "" {
		return
	}
	if ns.Labels == nil {
		ns.Labels = map[string]string{}
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

func prepareCreate(_ resource.Caller, ns *corev1.Namespace) {
	setDefaults(ns)
	ns.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		ns.Spec.Finalizers = append(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
}

// keepDomain closes the side doors: only the main route asks AssignDomain.
func keepDomain(ns, old *corev1.Namespace) {
	domain, ok := old.Labels[DomainLabel]
	if !ok {
		delete(ns.Labels, DomainLabel)
		return
	}
	if ns.Labels == nil {
		ns.Labels = map[string]string{}
	}
	ns.Labels[DomainLabel] = domain
}
