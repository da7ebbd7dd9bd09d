// Package localsubjectaccessreview describes subject access reviews about one
// namespace, which its administrators may ask. It decides nothing itself.
// Start with [New].
package localsubjectaccessreview

import (
	"context"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/subjectaccessreview"
)

// New describes local subject access reviews.
func New(decide subjectaccessreview.Decide) resource.Kind {
	names := resource.Names{
		GroupVersion: authorizationv1.SchemeGroupVersion,
		Kind:         "LocalSubjectAccessReview",
		Resource:     "localsubjectaccessreviews",
		Singular:     "localsubjectaccessreview",
		Namespaced:   true,
	}
	return resource.Review[*authorizationv1.LocalSubjectAccessReview]{
		Names: names,
		New: func() *authorizationv1.LocalSubjectAccessReview {
			return &authorizationv1.LocalSubjectAccessReview{}
		},
		Answer: func(ctx context.Context, caller resource.Caller, sar *authorizationv1.LocalSubjectAccessReview) error {
			if err := subjectaccessreview.Invalid(names, validate(sar)); err != nil {
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

// validate holds the question to the namespace of the URL, for which alone
// the caller was authorized.
func validate(sar *authorizationv1.LocalSubjectAccessReview) field.ErrorList {
	errs := subjectaccessreview.Validate(&sar.Spec)
	meta := sar.ObjectMeta
	meta.Namespace = ""
	errs = append(errs, subjectaccessreview.ValidateMetadata(meta)...)
	path := field.NewPath("spec")
	if a := sar.Spec.ResourceAttributes; a != nil && a.Namespace != sar.Namespace {
		errs = append(errs, field.Invalid(path.Child("resourceAttributes", "namespace"), a.Namespace, "must be the namespace of the review"))
	}
	if sar.Spec.NonResourceAttributes != nil {
		errs = append(errs, field.Invalid(path.Child("nonResourceAttributes"), sar.Spec.NonResourceAttributes, "cannot be asked in a namespace"))
	}
	return errs
}
