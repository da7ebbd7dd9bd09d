// Package validatingadmissionpolicy describes ValidatingAdmissionPolicies, and
// holds what they share with their bindings: the matching of requests.
//
// It owns the checks that need no expression language; expressions are
// compiled by the [CompileExpressions] it is given. Start with [New].
package validatingadmissionpolicy

import (
	"context"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

type policy = admissionregistrationv1.ValidatingAdmissionPolicy

// CompileExpressions returns an error with its path for every expression of
// policy that does not compile or costs too much. old is nil on creation; what
// it contains may be compiled as leniently as stored expressions are.
type CompileExpressions func(policy, old *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList

// CheckParams refuses, with an error of package fault, a caller who may not
// read every object of the kind that a policy takes its parameters from:
// through its messages a policy shows them.
type CheckParams func(ctx context.Context, caller resource.Caller, kind admissionregistrationv1.ParamKind) error

// New describes ValidatingAdmissionPolicies.
func New(compile CompileExpressions, check CheckParams) resource.Kind {
	return resource.Definition[*policy]{
		Names: resource.Names{
			GroupVersion: admissionregistrationv1.SchemeGroupVersion,
			Kind:         "ValidatingAdmissionPolicy",
			Resource:     "validatingadmissionpolicies",
			Singular:     "validatingadmissionpolicy",
			Categories:   []string{"api-extensions"},
		},
		New:     func() *policy { return &policy{} },
		NewList: func() runtime.Object { return &admissionregistrationv1.ValidatingAdmissionPolicyList{} },
		Default: func(p *policy) {
			if p.Spec.FailurePolicy == nil {
				fail := admissionregistrationv1.Fail
				p.Spec.FailurePolicy = &fail
			}
			SetMatchDefaults(p.Spec.MatchConstraints)
		},
		PrepareCreate: func(_ resource.Caller, p *policy) {
			p.Status = admissionregistrationv1.ValidatingAdmissionPolicyStatus{}
			p.Generation = 1
		},
		PrepareUpdate: func(_ resource.Caller, p, old *policy) {
			p.Status = old.Status
			p.Generation = old.Generation
			if !apiequality.Semantic.DeepEqual(p.Spec, old.Spec) {
				p.Generation++
			}
		},
		Validate: func(p *policy) field.ErrorList {
			return append(validate(p), compile(p, nil)...)
		},
		ValidateUpdate: func(p, old *policy) field.ErrorList {
			return append(validate(p), compile(p, old)...)
		},
		Check: func(ctx context.Context, caller resource.Caller, p, old *policy) error {
			if p.Spec.ParamKind == nil || old != nil && old.Spec.ParamKind != nil && *old.Spec.ParamKind == *p.Spec.ParamKind {
				return nil
			}
			return check(ctx, caller, *p.Spec.ParamKind)
		},
		Columns: []resource.Column[*policy]{
			{
				Name: "Validations", Type: "integer", Description: "The number of validations.",
				Value: func(p *policy) any { return int64(len(p.Spec.Validations)) },
			},
			{
				Name: "ParamKind", Description: "The kind of the parameters.",
				Value: func(p *policy) any {
					if p.Spec.ParamKind == nil {
						return "<unset>"
					}
					return p.Spec.ParamKind.APIVersion + "/" + p.Spec.ParamKind.Kind
				},
			},
			resource.Age[*policy](),
		},
		Subresources: []resource.Subresource[*policy]{{
			Name: "status",
			Prepare: func(_ resource.Caller, p, old *policy) {
				p.Spec = old.Spec
				metav1.ResetObjectMetaForStatus(&p.ObjectMeta, &old.ObjectMeta)
			},
			Validate: validateStatus,
			Fields:   []string{"status"},
			Ignored:  []string{"spec", "metadata"},
		}},
	}.Kind()
}

// SetMatchDefaults fills in what a match may leave out; match may be nil.
func SetMatchDefaults(match *admissionregistrationv1.MatchResources) {
	if match == nil {
		return
	}
	if match.MatchPolicy == nil {
		equivalent := admissionregistrationv1.Equivalent
		match.MatchPolicy = &equivalent
	}
	if match.NamespaceSelector == nil {
		match.NamespaceSelector = &metav1.LabelSelector{}
	}
	if match.ObjectSelector == nil {
		match.ObjectSelector = &metav1.LabelSelector{}
	}
	setScopes(match.ResourceRules)
	setScopes(match.ExcludeResourceRules)
}

func setScopes(rules []admissionregistrationv1.NamedRuleWithOperations) {
	for i := range rules {
		if rules[i].Scope == nil {
			all := admissionregistrationv1.AllScopes
			rules[i].Scope = &all
		}
	}
}
