// Package noderule describes node rules: which agents may mark their own node,
// and with what. Start with [New].
package noderule

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Check refuses a rule whose author may not change nodes. It returns an error
// of package fault.
type Check func(ctx context.Context, author resource.Caller, rule, old *accessv1alpha1.NodeRule) error

const maxAgents = 64

// New describes node rules.
func New(check Check) resource.Kind {
	return resource.Definition[*accessv1alpha1.NodeRule]{
		Names: resource.Names{
			GroupVersion: accessv1alpha1.GroupVersion,
			Kind:         "NodeRule",
			Resource:     "noderules",
			Singular:     "noderule",
		},
		New:      func() *accessv1alpha1.NodeRule { return &accessv1alpha1.NodeRule{} },
		NewList:  func() runtime.Object { return &accessv1alpha1.NodeRuleList{} },
		Validate: validate,
		Check:    check,
		Columns: []resource.Column[*accessv1alpha1.NodeRule]{
			{Name: "Sets", Description: "What agents may set on their node.", Value: func(r *accessv1alpha1.NodeRule) any { return sets(&r.Spec) }},
			{Name: "Agents", Description: "Who may.", Value: func(r *accessv1alpha1.NodeRule) any { return agents(&r.Spec) }},
			resource.Age[*accessv1alpha1.NodeRule](),
		},
	}.Kind()
}

func sets(s *accessv1alpha1.NodeRuleSpec) string {
	switch {
	case s.Taint != nil:
		return "taint " + s.Taint.Key
	case s.Label != nil:
		return "label " + s.Label.Key
	}
	return "<none>"
}

func agents(s *accessv1alpha1.NodeRuleSpec) string {
	names := make([]string, len(s.Agents))
	for i, a := range s.Agents {
		names[i] = a.Namespace + "/" + a.Name
	}
	return strings.Join(names, ",")
}

var effects = []corev1.TaintEffect{corev1.TaintEffectNoExecute, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule}

func validate(r *accessv1alpha1.NodeRule) field.ErrorList {
	spec, path := &r.Spec, field.NewPath("spec")
	var errs field.ErrorList
	at := path.Child("agents")
	switch n := len(spec.Agents); {
	case n == 0:
		errs = append(errs, field.Required(at, ""))
	case n > maxAgents:
		errs = append(errs, field.TooMany(at, n, maxAgents))
	}
	for i, a := range spec.Agents {
		for name, check := range map[string]struct {
			value   string
			grammar func(string) []string
		}{"namespace": {a.Namespace, validation.IsDNS1123Label}, "name": {a.Name, validation.IsDNS1123Subdomain}} {
			for _, msg := range check.grammar(check.value) {
				errs = append(errs, field.Invalid(at.Index(i).Child(name), check.value, msg))
			}
		}
		if slices.Contains(spec.Agents[:i], a) {
			errs = append(errs, field.Duplicate(at.Index(i), a.Namespace+"/"+a.Name))
		}
	}
	switch {
	case spec.Taint == nil && spec.Label == nil:
		errs = append(errs, field.Required(path, "one of taint and label"))
	case spec.Taint != nil && spec.Label != nil:
		errs = append(errs, field.Forbidden(path.Child("label"), "a rule is about a taint or a label"))
	}
	if t := spec.Taint; t != nil {
		taint := path.Child("taint")
		errs = append(errs, metav1validation.ValidateLabelName(t.Key, taint.Child("key"))...)
		for i, e := range t.Effects {
			if !slices.Contains(effects, e) {
				errs = append(errs, field.NotSupported(taint.Child("effects").Index(i), e, effects))
			}
			if slices.Contains(t.Effects[:i], e) {
				errs = append(errs, field.Duplicate(taint.Child("effects").Index(i), e))
			}
		}
	}
	if l := spec.Label; l != nil {
		errs = append(errs, metav1validation.ValidateLabelName(l.Key, path.Child("label", "key"))...)
	}
	return errs
}
