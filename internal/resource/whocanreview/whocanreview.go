// Package whocanreview describes the question who may do something. It decides
// nothing itself. Start with [New].
package whocanreview

import (
	"context"

	"k8s.io/apimachinery/pkg/util/validation/field"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/accessreview"
	"github.com/gatehouse-dev/gatehouse/internal/resource/subjectaccessreview"
)

// Answer answers a checked question.
type Answer func(ctx context.Context, caller resource.Caller, question *accessv1alpha1.Question) (accessv1alpha1.WhoCanReviewStatus, error)

// New describes who-can reviews.
func New(answer Answer) resource.Kind {
	names := resource.Names{
		GroupVersion: accessv1alpha1.GroupVersion,
		Kind:         "WhoCanReview",
		Resource:     "whocanreviews",
		Singular:     "whocanreview",
	}
	return resource.Review[*accessv1alpha1.WhoCanReview]{
		Names: names,
		New:   func() *accessv1alpha1.WhoCanReview { return &accessv1alpha1.WhoCanReview{} },
		Answer: func(ctx context.Context, caller resource.Caller, r *accessv1alpha1.WhoCanReview) error {
			errs := subjectaccessreview.ValidateMetadata(r.ObjectMeta)
			errs = append(errs, accessreview.ValidateQuestion(&r.Spec, field.NewPath("spec"))...)
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
