// Package selfsubjectreview describes self subject reviews: who am I? Start
// with [New].
package selfsubjectreview

import (
	"context"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// New describes self subject reviews.
func New() resource.Kind {
	return resource.Review[*authenticationv1.SelfSubjectReview]{
		Names: resource.Names{
			GroupVersion: authenticationv1.SchemeGroupVersion,
			Kind:         "SelfSubjectReview",
			Resource:     "selfsubjectreviews",
			Singular:     "selfsubjectreview",
		},
		New: func() *authenticationv1.SelfSubjectReview { return &authenticationv1.SelfSubjectReview{} },
		Answer: func(_ context.Context, caller resource.Caller, review *authenticationv1.SelfSubjectReview) error {
			review.Status = authenticationv1.SelfSubjectReviewStatus{UserInfo: authenticationv1.UserInfo{
				Username: caller.Name,
				UID:      caller.UID,
				Groups:   slices.Clone(caller.Groups),
			}}
			if len(caller.Extra) > 0 {
				extra := make(map[string]authenticationv1.ExtraValue, len(caller.Extra))
				for key, values := range caller.Extra {
					extra[key] = slices.Clone(values)
				}
				review.Status.UserInfo.Extra = extra
			}
			return nil
		},
	}.Kind()
}
