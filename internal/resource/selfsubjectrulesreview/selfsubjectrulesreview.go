// Package selfsubjectrulesreview describes self subject rules reviews: what
// may I do in this namespace? It knows no rule itself. Start with [New].
package selfsubjectrulesreview

import (
	"context"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// ListRules returns what caller may do in namespace.
type ListRules func(ctx context.Context, caller resource.Caller, namespace string) (authorizationv1.SubjectRulesReviewStatus, error)

// New describes self subject rules reviews.
func New(list ListRules) resource.Kind {
	return resource.Review[*authorizationv1.SelfSubjectRulesReview]{
		Names: resource.Names{
			GroupVersion: authorizationv1.SchemeGroupVersion,
			Kind:         "SelfSubjectRulesReview",
			Resource:     "selfsubjectrulesreviews",
			Singular:     "selfsubjectrulesreview",
		},
		New: func() *authorizationv1.SelfSubjectRulesReview { return &authorizationv1.SelfSubjectRulesReview{} },
		Answer: func(ctx context.Context, caller resource.Caller, review *authorizationv1.SelfSubjectRulesReview) error {
			if review.Spec.Namespace == "" {
				return apierrors.NewBadRequest("no namespace on request")
			}
			status, err := list(ctx, caller, review.Spec.Namespace)
			if err != nil {
				return err
			}
			// The fields are required, so clients look for lists.
			if status.ResourceRules == nil {
				status.ResourceRules = []authorizationv1.ResourceRule{}
			}
			if status.NonResourceRules == nil {
				status.NonResourceRules = []authorizationv1.NonResourceRule{}
			}
			review.Status = status
			return nil
		},
	}.Kind()
}
