// Package proxycertificate describes the request for a certificate by which a
// proxy may speak for others. It issues none itself, and does not decide who
// may ask. Start with [New].
package proxycertificate

import (
	"context"

	"k8s.io/apimachinery/pkg/util/validation/field"

	identityv1alpha1 "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/subjectaccessreview"
)

// Issue answers a checked request. It returns an error of package fault.
type Issue func(ctx context.Context, caller resource.Caller, spec *identityv1alpha1.ProxyCertificateSpec) (identityv1alpha1.ProxyCertificateStatus, error)

const (
	maxRequest = 16 << 10 // bytes
	maxName    = 64       // RFC 5280, ub-common-name
	minSeconds = 600
	maxSeconds = 365 * 24 * 3600
)

// New describes requests for certificates of proxies.
func New(issue Issue) resource.Kind {
	names := resource.Names{
		GroupVersion: identityv1alpha1.GroupVersion,
		Kind:         "ProxyCertificate",
		Resource:     "proxycertificates",
		Singular:     "proxycertificate",
	}
	return resource.Review[*identityv1alpha1.ProxyCertificate]{
		Names: names,
		New:   func() *identityv1alpha1.ProxyCertificate { return &identityv1alpha1.ProxyCertificate{} },
		Answer: func(ctx context.Context, caller resource.Caller, r *identityv1alpha1.ProxyCertificate) error {
			errs := append(subjectaccessreview.ValidateMetadata(r.ObjectMeta), validate(&r.Spec)...)
			if err := subjectaccessreview.Invalid(names, errs); err != nil {
				return err
			}
			status, err := issue(ctx, caller, &r.Spec)
			if err != nil {
				return err
			}
			r.Status = status
			return nil
		},
	}.Kind()
}

func validate(s *identityv1alpha1.ProxyCertificateSpec) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	switch n := len(s.Request); {
	case n == 0:
		errs = append(errs, field.Required(path.Child("request"), "a PKCS#10 request in PEM"))
	case n > maxRequest:
		errs = append(errs, field.TooLong(path.Child("request"), "", maxRequest))
	}
	switch n := len(s.CommonName); {
	case n == 0:
		errs = append(errs, field.Required(path.Child("commonName"), ""))
	case n > maxName:
		errs = append(errs, field.TooLong(path.Child("commonName"), "", maxName))
	}
	if e := s.ExpirationSeconds; e != nil && (*e < minSeconds || *e > maxSeconds) {
		errs = append(errs, field.Invalid(path.Child("expirationSeconds"), *e, "must be between 600 and 31536000"))
	}
	return errs
}
