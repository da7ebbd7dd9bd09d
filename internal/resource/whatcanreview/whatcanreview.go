// Package whatcanreview describes the question what somebody may do. It decides
// nothing itself. Start with [New].
package whatcanreview

import (
	"context"

	"k8s.io/apimachinery/pkg/util/validation/field"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/accessreview"
	"github.com/gatehouse-dev/gatehouse/internal/resource/subjectaccessreview"
)

// Answer answers a checked review that caller asks.
type Answer func(ctx context.Context, caller resource.Caller, spec *accessv1alpha1.WhatCanReviewSpec) (accessv1alpha1.WhatCanReviewStatus, error)

// maxNamespace bounds the name of a namespace, in bytes: no namespace has a
// longer one.
const maxNamespace = 253

// New describes what-can reviews.
func New(answer Answer) resource.Kind {
	names := resource.Names{
		GroupVersion: accessv1alpha1.GroupVersion,
		Kind:         "WhatCanReview",
		Resource:     "whatcanreviews",
		Singular:     "whatcanreview",
	}
	return resource.Review[*accessv1alpha1.WhatCanReview]{
		Names: names,
		New:   func() *accessv1alpha1.WhatCanReview { return &accessv1alpha1.WhatCanReview{} },
		Answer: func(ctx context.Context, caller resource.Caller, r *accessv1alpha1.WhatCanReview) error {
			path := field.NewPath("spec")
			errs := subjectaccessreview.ValidateMetadata(r.ObjectMeta)
			errs = append(errs, accessreview.ValidateSubject(r.Spec.Subject, path.Child("subject"))...)
			if len(r.Spec.Namespace) > maxNamespace {
				errs = append(errs, field.TooLong(path.Child("namespace"), "", maxNamespace))
			}
			if err := subjectaccessreview.Invalid(names, errs); err != nil {
				return err
			}
			status, err := answer(ctx, caller, &r.Spec)
			if err != nil {
				return err
			}
			r.Status = status
			return nil
		},
	}.Kind()
}
