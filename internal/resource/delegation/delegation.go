// Package delegation describes delegations: parts of somebody's authority that
// are handed to somebody else for a time. It checks what is written about one;
// the engine decides, at each use, what it still gives. Start with [New].
package delegation

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Validate returns what is wrong with a new delegation whose giver has been
// filled in.
type Validate func(*accessv1alpha1.Delegation) field.ErrorList

// Fill fills in what the control plane says of a new delegation: the giver, the
// author and the parent's UID.
type Fill func(author resource.Caller, d *accessv1alpha1.Delegation)

// Check refuses a new delegation of what its giver does not hold. It returns an
// error of package fault.
type Check func(ctx context.Context, author resource.Caller, d *accessv1alpha1.Delegation) error

// New describes delegations.
func New(validate Validate, fill Fill, check Check) resource.Kind {
	return resource.Definition[*accessv1alpha1.Delegation]{
		Names: resource.Names{
			GroupVersion: accessv1alpha1.GroupVersion,
			Kind:         "Delegation",
			Resource:     "delegations",
			Singular:     "delegation",
		},
		New:     func() *accessv1alpha1.Delegation { return &accessv1alpha1.Delegation{} },
		NewList: func() runtime.Object { return &accessv1alpha1.DelegationList{} },
		PrepareCreate: func(author resource.Caller, d *accessv1alpha1.Delegation) {
			d.Status = accessv1alpha1.DelegationStatus{}
			d.Generation = 1
			fill(author, d)
		},
		PrepareUpdate: func(_ resource.Caller, d, old *accessv1alpha1.Delegation) {
			d.Status, d.Generation = old.Status, old.Generation
			keepFilled(&d.Spec, &old.Spec)
		},
		Validate:       validate,
		ValidateUpdate: grant.Validator{}.DelegationUpdate,
		Check: func(ctx context.Context, author resource.Caller, d, old *accessv1alpha1.Delegation) error {
			if old != nil {
				return nil // what was handed on cannot be changed
			}
			return check(ctx, author, d)
		},
		Columns: []resource.Column[*accessv1alpha1.Delegation]{
			{Name: "From", Description: "Who hands on.", Value: func(d *accessv1alpha1.Delegation) any { return d.Spec.From.User }},
			{Name: "To", Description: "Who receives.", Value: func(d *accessv1alpha1.Delegation) any { return receiver(&d.Spec.To) }},
			{Name: "Until", Description: "When it ends.", Value: func(d *accessv1alpha1.Delegation) any { return d.Spec.NotAfter.UTC().Format(time.RFC3339) }},
			{Name: "InForce", Description: "Whether it gives anything now.", Value: func(d *accessv1alpha1.Delegation) any { return InForce(d.Status.Conditions) }},
			resource.Age[*accessv1alpha1.Delegation](),
			{Name: "Parent", Priority: 1, Description: "The delegation by which the giver has it.", Value: func(d *accessv1alpha1.Delegation) any { return d.Spec.Parent }},
			{Name: "Author", Priority: 1, Description: "Who wrote it.", Value: func(d *accessv1alpha1.Delegation) any { return d.Spec.Author }},
		},
		Fields: []resource.Field[*accessv1alpha1.Delegation]{
			{Path: "spec.from.user", Value: func(d *accessv1alpha1.Delegation) string { return d.Spec.From.User }},
			{Path: "spec.to.name", Value: func(d *accessv1alpha1.Delegation) string { return d.Spec.To.Name }},
		},
		Subresources: []resource.Subresource[*accessv1alpha1.Delegation]{{
			Name: "status",
			Prepare: func(_ resource.Caller, d, old *accessv1alpha1.Delegation) {
				d.Spec, d.Generation = old.Spec, old.Generation
			},
			Validate: func(d, _ *accessv1alpha1.Delegation) field.ErrorList {
				return metav1validation.ValidateConditions(d.Status.Conditions, field.NewPath("status", "conditions"))
			},
			Fields:  []string{"status"},
			Ignored: []string{"spec"},
		}},
	}.Kind()
}

// keepFilled lets a file that was applied be applied again: what the control
// plane filled in may be left out.
func keepFilled(s, old *accessv1alpha1.DelegationSpec) {
	if s.From.User == "" || s.From.User == old.From.User {
		s.From = old.From
	}
	s.Author, s.ParentUID = old.Author, old.ParentUID
}

func receiver(to *accessv1alpha1.DelegationReceiver) string {
	if to.Namespace != "" {
		return string(to.Kind) + "/" + to.Namespace + "/" + to.Name
	}
	return string(to.Kind) + "/" + to.Name
}

// InForce is the condition of that type in one word: True, or why not.
func InForce(conditions []metav1.Condition) string {
	for i := range conditions {
		if c := &conditions[i]; c.Type == "InForce" {
			if c.Status != metav1.ConditionTrue {
				return c.Reason
			}
			return string(c.Status)
		}
	}
	return "Unknown"
}
