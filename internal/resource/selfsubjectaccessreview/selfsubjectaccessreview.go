// Package selfsubjectaccessreview describes self subject access reviews: may
// I do it? It decides nothing itself. Start with [New].
package selfsubjectaccessreview

import (
	"context"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/subjectaccessreview"
)

// New describes self subject access reviews.
func New(decide subjectaccessreview.Decide) resource.Kind {
	names := resource.Names{
		GroupVersion: authorizationv1.SchemeGroupVersion,
		Kind:         "SelfSubjectAccessReview",
		Resource:     "selfsubjectaccessreviews",
		Singular:     "selfsubjectaccessreview",
	}
	return resource.Review[*authorizationv1.SelfSubjectAccessReview]{
		Names: names,
		New: func() *authorizationv1.SelfSubjectAccessReview {
			return &authorizationv1.SelfSubjectAccessReview{}
		},
		Answer: func(ctx context.Context, caller resource.Caller, sar *authorizationv1.SelfSubjectAccessReview) error {
			errs := subjectaccessreview.ValidateAttributes(sar.Spec.ResourceAttributes, sar.Spec.NonResourceAttributes)
			errs = append(errs, subjectaccessreview.ValidateMetadata(sar.ObjectMeta)...)
			if err := subjectaccessreview.Invalid(names, errs); err != nil {
				return err
			}
			spec := &authorizationv1.SubjectAccessReviewSpec{
				ResourceAttributes:    sar.Spec.ResourceAttributes,
				NonResourceAttributes: sar.Spec.NonResourceAttributes,
				User:                  caller.Name,
				UID:                   caller.UID,
				Groups:                caller.Groups,
			}
			if len(caller.Extra) > 0 {
				spec.Extra = make(map[string]authorizationv1.ExtraValue, len(caller.Extra))
				for key, values := range caller.Extra {
					spec.Extra[key] = values
				}
			}
			status, err := decide(ctx, caller, spec)
			if err != nil {
				return err
			}
			sar.Status = status
			return nil
		},
	}.Kind()
}
