package server

import (
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	identityapi "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/pki"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// proxyCertificates issues the certificates of authenticating proxies.
type proxyCertificates struct {
	trust   *trust
	reviews reviews
	// allowed are the names that count at the door; any when empty.
	allowed []string
}

func (p proxyCertificates) issue(ctx context.Context, by resource.Caller, spec *identityapi.ProxyCertificateSpec) (identityapi.ProxyCertificateStatus, error) {
	var out identityapi.ProxyCertificateStatus
	// Whoever holds one can be any user and any member of a group.
	if err := p.reviews.beAnybody(ctx, by, "have a proxy certified"); err != nil {
		return out, err
	}
	if len(p.allowed) > 0 && !slices.Contains(p.allowed, spec.CommonName) {
		return out, fault.Newf(fault.Invalid, "spec.commonName: %q is not among the allowed names of proxies", spec.CommonName)
	}
	public, err := requestedKey(spec.Request)
	if err != nil {
		return out, fault.Wrap(fault.Invalid, "spec.request: "+err.Error(), err)
	}
	var validity time.Duration
	if n := spec.ExpirationSeconds; n != nil {
		validity = time.Duration(*n) * time.Second
	}
	prepared, err := pki.PrepareFrontProxy(spec.CommonName, public, validity)
	if err != nil {
		return out, err
	}
	cert, err := p.trust.requestHeader.Issue(prepared)
	if err != nil {
		return out, err
	}
	return identityapi.ProxyCertificateStatus{
		Certificate: pki.CertificatePEM(cert), CredentialID: authn.CertificateID(cert), ExpirationTimestamp: metav1.NewTime(cert.NotAfter),
	}, nil
}
