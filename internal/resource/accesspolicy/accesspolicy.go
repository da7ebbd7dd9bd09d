// Package accesspolicy describes access policies: what is allowed and denied
// beyond what RBAC can say. It checks what is written about one; the engine
// decides by it. Start with [New].
package accesspolicy

import (
	"context"
	"fmt"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/delegation"
)

// Validate returns what is wrong with a policy, new or changed.
type Validate func(*accessv1alpha1.AccessPolicy) field.ErrorList

// Check refuses a policy that gives more than its author holds. old is nil on
// creation. It returns an error of package fault.
type Check func(ctx context.Context, author resource.Caller, policy, old *accessv1alpha1.AccessPolicy) error

// New describes access policies.
func New(validate Validate, check Check) resource.Kind {
	return resource.Definition[*accessv1alpha1.AccessPolicy]{
		Names: resource.Names{
			GroupVersion: accessv1alpha1.GroupVersion,
			Kind:         "AccessPolicy",
			Resource:     "accesspolicies",
			Singular:     "accesspolicy",
			ShortNames:   []string{"ap"},
		},
		New:     func() *accessv1alpha1.AccessPolicy { return &accessv1alpha1.AccessPolicy{} },
		NewList: func() runtime.Object { return &accessv1alpha1.AccessPolicyList{} },
		PrepareCreate: func(_ resource.Caller, p *accessv1alpha1.AccessPolicy) {
			p.Status = accessv1alpha1.AccessPolicyStatus{}
			p.Generation = 1
		},
		PrepareUpdate: func(_ resource.Caller, p, old *accessv1alpha1.AccessPolicy) {
			p.Status = old.Status
			p.Generation = old.Generation
			if !apiequality.Semantic.DeepEqual(p.Spec, old.Spec) {
				p.Generation++
			}
		},
		Validate: validate,
		Check:    check,
		Columns: []resource.Column[*accessv1alpha1.AccessPolicy]{
			{Name: "Effect", Description: "Allow or Deny.", Value: func(p *accessv1alpha1.AccessPolicy) any { return string(p.Spec.Effect) }},
			{Name: "Subjects", Description: "Whom the policy is about.", Value: func(p *accessv1alpha1.AccessPolicy) any { return subjects(p.Spec.Subjects) }},
			{Name: "Sites", Description: "Where the policy holds.", Value: func(p *accessv1alpha1.AccessPolicy) any { return strings.Join(p.Spec.Sites, ",") }},
			{Name: "InForce", Description: "Whether it allows or denies now.", Value: func(p *accessv1alpha1.AccessPolicy) any {
				return delegation.InForce(p.Status.Conditions)
			}},
			resource.Age[*accessv1alpha1.AccessPolicy](),
			{Name: "Roles", Priority: 1, Description: "Cluster roles whose rules the policy is about.", Value: func(p *accessv1alpha1.AccessPolicy) any { return strings.Join(p.Spec.Roles, ",") }},
			{Name: "Condition", Priority: 1, Description: "What must be true of the request.", Value: func(p *accessv1alpha1.AccessPolicy) any { return p.Spec.Condition }},
		},
		Fields: []resource.Field[*accessv1alpha1.AccessPolicy]{
			{Path: "spec.effect", Value: func(p *accessv1alpha1.AccessPolicy) string { return string(p.Spec.Effect) }},
		},
		Subresources: []resource.Subresource[*accessv1alpha1.AccessPolicy]{{
			Name: "status",
			Prepare: func(_ resource.Caller, p, old *accessv1alpha1.AccessPolicy) {
				p.Spec = old.Spec
				p.Generation = old.Generation
			},
			Validate: func(p, _ *accessv1alpha1.AccessPolicy) field.ErrorList {
				return metav1validation.ValidateConditions(p.Status.Conditions, field.NewPath("status", "conditions"))
			},
			Fields:  []string{"status"},
			Ignored: []string{"spec"},
		}},
	}.Kind()
}

// maxShown is how many subjects a row names.
const maxShown = 3

// subjects names the first subjects of a policy.
func subjects(list []accessv1alpha1.Subject) string {
	var names []string
	for i := range list {
		if i == maxShown {
			names = append(names, fmt.Sprintf("+%d", len(list)-maxShown))
			break
		}
		s := &list[i]
		name := string(s.Kind) + "/"
		if s.Namespace != "" {
			name += s.Namespace + "/"
		}
		switch {
		case s.NamePrefix != "":
			name += s.NamePrefix + "*"
		case s.Domain != "":
			name += "domain:" + s.Domain
		default:
			name += s.Name
		}
		names = append(names, name)
	}
	return strings.Join(names, ",")
}
