// Package subjectaccessreview describes subject access reviews (may they do
// it?), and holds what the three kinds of access review share. It decides
// nothing itself. Start with [New].
package subjectaccessreview

import (
	"context"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Decide answers a checked question that caller asks. A refusal is an answer,
// not an error.
type Decide func(ctx context.Context, caller resource.Caller, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error)

// New describes subject access reviews.
func New(decide Decide) resource.Kind {
	names := resource.Names{
		GroupVersion: authorizationv1.SchemeGroupVersion,
		Kind:         "SubjectAccessReview",
		Resource:     "subjectaccessreviews",
		Singular:     "subjectaccessreview",
	}
	return resource.Review[*authorizationv1.SubjectAccessReview]{
		Names: names,
		New:   func() *authorizationv1.SubjectAccessReview { return &authorizationv1.SubjectAccessReview{} },
		Answer: func(ctx context.Context, caller resource.Caller, sar *authorizationv1.SubjectAccessReview) error {
			errs := Validate(&sar.Spec)
			errs = append(errs, ValidateMetadata(sar.ObjectMeta)...)
			if err := Invalid(names, errs); err != nil {
				return err
			}
			status, err := decide(ctx, caller, &sar.Spec)
			if err != nil {
				return err
			}
			sar.Status = status
			return nil
		},
	}.Kind()
}

// Invalid is the status error for errs, nil when there are none.
func Invalid(names resource.Names, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(names.GroupVersion.WithKind(names.Kind).GroupKind(), "", errs)
}

// ValidateMetadata refuses metadata: a review is not stored, so nothing there
// could take effect. The caller clears what its kind allows.
func ValidateMetadata(meta metav1.ObjectMeta) field.ErrorList {
	// The frame fills these in.
	meta.ManagedFields = nil
	if !isZero(&meta) {
		return field.ErrorList{field.Invalid(field.NewPath("metadata"), "<metadata>", "must be empty")}
	}
	return nil
}
