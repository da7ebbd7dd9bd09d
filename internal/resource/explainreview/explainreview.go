// Package explainreview describes the question why somebody may do something,
// or why not. It decides nothing itself. Start with [New].
package explainreview

import (
	"context"

	"k8s.io/apimachinery/pkg/util/validation/field"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/accessreview"
	"github.com/gatehouse-dev/gatehouse/internal/resource/subjectaccessreview"
)

// Answer answers a checked review that caller asks.
type Answer func(ctx context.Context, caller resource.Caller, spec *accessv1alpha1.ExplainReviewSpec) (accessv1alpha1.ExplainReviewStatus, error)

// New describes explain reviews.
func New(answer Answer) resource.Kind {
	names := resource.Names{
		GroupVersion: accessv1alpha1.GroupVersion,
		Kind:         "ExplainReview",
		Resource:     "explainreviews",
		Singular:     "explainreview",
	}
	return resource.Review[*accessv1alpha1.ExplainReview]{
		Names: names,
		New:   func() *accessv1alpha1.ExplainReview { return &accessv1alpha1.ExplainReview{} },
		Answer: func(ctx context.Context, caller resource.Caller, r *accessv1alpha1.ExplainReview) error {
			path := field.NewPath("spec")
			errs := subjectaccessreview.ValidateMetadata(r.ObjectMeta)
			errs = append(errs, accessreview.ValidateSubject(r.Spec.Subject, path.Child("subject"))...)
			errs = append(errs, accessreview.ValidateQuestion(&r.Spec.Question, path.Child("question"))...)
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
