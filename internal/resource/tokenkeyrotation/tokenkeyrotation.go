// Package tokenkeyrotation describes the request for a new key that signs
// tokens. It makes no key itself. Start with [New].
package tokenkeyrotation

import (
	"context"

	"k8s.io/apimachinery/pkg/util/validation/field"

	identityv1alpha1 "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/subjectaccessreview"
)

// Rotate makes the key that a checked request asks for. It returns an error of
// package fault.
type Rotate func(ctx context.Context, caller resource.Caller, spec *identityv1alpha1.TokenKeyRotationSpec) (identityv1alpha1.TokenKeyRotationStatus, error)

// maxLead bounds how far ahead a key can be made.
const maxLead = 30 * 24 * 3600

// New describes rotations of token keys.
func New(rotate Rotate) resource.Kind {
	names := resource.Names{
		GroupVersion: identityv1alpha1.GroupVersion,
		Kind:         "TokenKeyRotation",
		Resource:     "tokenkeyrotations",
		Singular:     "tokenkeyrotation",
	}
	return resource.Review[*identityv1alpha1.TokenKeyRotation]{
		Names: names,
		New:   func() *identityv1alpha1.TokenKeyRotation { return &identityv1alpha1.TokenKeyRotation{} },
		Answer: func(ctx context.Context, caller resource.Caller, r *identityv1alpha1.TokenKeyRotation) error {
			errs, spec := subjectaccessreview.ValidateMetadata(r.ObjectMeta), field.NewPath("spec")
			switch r.Spec.Use {
			case "":
				r.Spec.Use = identityv1alpha1.UseTokens
			case identityv1alpha1.UseTokens, identityv1alpha1.UseLegacyTokens:
			default:
				errs = append(errs, field.NotSupported(spec.Child("use"), r.Spec.Use, []identityv1alpha1.TokenKeyUse{identityv1alpha1.UseTokens, identityv1alpha1.UseLegacyTokens}))
			}
			if s := r.Spec.LeadSeconds; s != nil && (*s < 0 || *s > maxLead) {
				errs = append(errs, field.Invalid(spec.Child("leadSeconds"), *s, "must be between 0 and 2592000"))
			}
			if err := subjectaccessreview.Invalid(names, errs); err != nil {
				return err
			}
			status, err := rotate(ctx, caller, &r.Spec)
			if err != nil {
				return err
			}
			r.Status = status
			return nil
		},
	}.Kind()
}
