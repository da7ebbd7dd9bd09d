// Package tokenreview describes token reviews: whose token is this? It
// verifies nothing itself. Start with [New].
package tokenreview

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// ReviewToken says whose token it is, and for which of the asked audiences.
// Empty audiences mean those of the control plane. A token that is not
// accepted is an answer, not an error.
type ReviewToken func(ctx context.Context, caller resource.Caller, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error)

// New describes token reviews.
func New(review ReviewToken) resource.Kind {
	return resource.Review[*authenticationv1.TokenReview]{
		Names: resource.Names{
			GroupVersion: authenticationv1.SchemeGroupVersion,
			Kind:         "TokenReview",
			Resource:     "tokenreviews",
			Singular:     "tokenreview",
		},
		New: func() *authenticationv1.TokenReview { return &authenticationv1.TokenReview{} },
		Answer: func(ctx context.Context, caller resource.Caller, tr *authenticationv1.TokenReview) error {
			if tr.Spec.Token == "" {
				return apierrors.NewBadRequest("token is required for TokenReview in authentication")
			}
			status, err := review(ctx, caller, &tr.Spec)
			if err != nil {
				return err
			}
			tr.Status = status
			return nil
		},
	}.Kind()
}
