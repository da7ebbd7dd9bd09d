// Package accessreview describes access reviews: many questions about one
// subject in one request. It holds what the reviews of access.gatehouse.dev
// share, and decides nothing itself. Start with [New].
package accessreview

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/subjectaccessreview"
)

// MaxQuestions is how many questions are answered in one request.
const MaxQuestions = 10_000

// Answer answers a checked review that caller asks. A refusal is an answer, not
// an error.
type Answer func(ctx context.Context, caller resource.Caller, spec *accessv1alpha1.AccessReviewSpec) (accessv1alpha1.AccessReviewStatus, error)

// New describes access reviews.
func New(answer Answer) resource.Kind {
	names := resource.Names{
		GroupVersion: accessv1alpha1.GroupVersion,
		Kind:         "AccessReview",
		Resource:     "accessreviews",
		Singular:     "accessreview",
	}
	return resource.Review[*accessv1alpha1.AccessReview]{
		Names: names,
		New:   func() *accessv1alpha1.AccessReview { return &accessv1alpha1.AccessReview{} },
		Answer: func(ctx context.Context, caller resource.Caller, r *accessv1alpha1.AccessReview) error {
			errs := subjectaccessreview.ValidateMetadata(r.ObjectMeta)
			errs = append(errs, validate(&r.Spec)...)
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

func validate(spec *accessv1alpha1.AccessReviewSpec) field.ErrorList {
	path := field.NewPath("spec")
	errs := ValidateSubject(spec.Subject, path.Child("subject"))
	questions := path.Child("questions")
	switch {
	case len(spec.Questions) == 0:
		return append(errs, field.Required(questions, "must hold at least one question"))
	case len(spec.Questions) > MaxQuestions:
		return append(errs, field.TooMany(questions, len(spec.Questions), MaxQuestions))
	}
	for i := range spec.Questions {
		errs = append(errs, ValidateQuestion(&spec.Questions[i], questions.Index(i))...)
	}
	return errs
}

// ValidateSubject checks whom a review is about; nil is the caller.
func ValidateSubject(s *accessv1alpha1.ReviewSubject, path *field.Path) field.ErrorList {
	if s != nil && s.User == "" && len(s.Groups) == 0 {
		return field.ErrorList{field.Required(path, "at least one of user and groups must be given; leave the subject out to ask about yourself")}
	}
	return nil
}

// ValidateQuestion checks that a question is about a resource or about a URL.
func ValidateQuestion(q *accessv1alpha1.Question, path *field.Path) field.ErrorList {
	if (q.ResourceAttributes == nil) == (q.NonResourceAttributes == nil) {
		return field.ErrorList{field.Invalid(path, fmt.Sprintf("%d", given(q)), "exactly one of resourceAttributes and nonResourceAttributes must be given")}
	}
	return nil
}

func given(q *accessv1alpha1.Question) int {
	if q.ResourceAttributes == nil {
		return 0
	}
	return 2
}
