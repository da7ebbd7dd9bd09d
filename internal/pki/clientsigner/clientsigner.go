// Package clientsigner decides about the requests of the signer
// kubernetes.io/kube-apiserver-client, whose certificates people and programs
// show to the control plane.
//
// It owns: what an approved request may become ([Prepare]), which request is
// one that somebody may have approved by rule, because it asks for what its
// sender is already ([Own]), and when a request has served ([Spent]). It
// refuses: names in a request that the certificate would not carry, and chains:
// a certificate given by rule does not get another one by rule, so that what is
// stolen ends. It stores nothing; its callers approve, sign and delete.
//
// Start at [Prepare].
package clientsigner

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/pki"
)

// Name is the signer's.
const Name = certificatesv1.KubeAPIServerClientSignerName

// Subresource is what one must be allowed to create of a request, beside the
// request, to have it approved by rule.
const Subresource = "selfclient"

// Reason is that of an approval by rule.
const Reason = "AutoApproved"

const (
	// maxOwn is the longest life of a certificate that is given by rule.
	maxOwn = 24 * time.Hour
	// longest is what the profile gives; who asks for more gets that.
	longest = 365 * 24 * time.Hour

	// How long requests are kept, for people to look at: those nobody decided
	// about, and those that came to their end.
	keepWaiting = 24 * time.Hour
	keepEnded   = time.Hour

	credentialKey = "authentication.kubernetes.io/credential-id"
	byCertificate = "X509SHA256="
)

// Prepare checks an approved request and makes what the authority signs. Errors
// are of kind Invalid, and final.
func Prepare(csr *certificatesv1.CertificateSigningRequest) (*pki.Prepared[keys.ClientCA], error) {
	request, err := parse(csr)
	if err != nil {
		return nil, err
	}
	for _, usage := range csr.Spec.Usages {
		switch usage {
		case certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment:
		default:
			return nil, fault.Newf(fault.Invalid, "usages: %q is not one of a client certificate", usage)
		}
	}
	if !slices.Contains(csr.Spec.Usages, certificatesv1.UsageClientAuth) {
		return nil, fault.New(fault.Invalid, `usages: "client auth" is required`)
	}
	return pki.PrepareClient(pki.Client{
		User: request.Subject.CommonName, Groups: request.Subject.Organization, Public: request.PublicKey, Validity: min(asked(csr), longest),
		Origin: line(csr),
	})
}

// line returns the credentials that a request came with. A request that is older
// than lines are says the nearest.
func line(csr *certificatesv1.CertificateSigningRequest) []string {
	if line := csr.Spec.Extra[origin.Extra]; len(line) > 0 {
		return line
	}
	if sender := Sender(csr); sender != "" {
		return []string{origin.Entry{ID: sender}.String()}
	}
	return nil
}

// parse reads the request and refuses what would not be in the certificate:
// whoever asked for it would believe that it is.
func parse(csr *certificatesv1.CertificateSigningRequest) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(csr.Spec.Request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, fault.New(fault.Invalid, "request: is not a certificate request in PEM")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = request.CheckSignature()
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "request: cannot be read, or is not signed by its key", err)
	}
	if len(request.DNSNames)+len(request.IPAddresses)+len(request.EmailAddresses)+len(request.URIs) > 0 {
		return nil, fault.New(fault.Invalid, "request: a client certificate carries a user and groups and no other names")
	}
	return request, nil
}

// asked is the validity that a request wants, 0 for the usual one.
func asked(csr *certificatesv1.CertificateSigningRequest) time.Duration {
	if s := csr.Spec.ExpirationSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return 0
}

// Own reports whether a request asks, with a certificate, for a short-lived
// certificate of exactly the name and the groups that its sender has; those that
// no certificate carries aside. Fewer groups would be more: what is denied to a
// group that is left out would not be denied.
// given says which credentials came about by rule.
func Own(csr *certificatesv1.CertificateSigningRequest, given func(credential string) bool) bool {
	if csr.Spec.SignerName != Name || asked(csr) > maxOwn {
		return false
	}
	// Whoever shows a token has a provider to renew it. An impersonated caller
	// has no credential of their own.
	sender := Sender(csr)
	if !strings.HasPrefix(sender, byCertificate) || given(sender) {
		return false
	}
	request, err := parse(csr)
	if err != nil || request.Subject.CommonName == "" || request.Subject.CommonName != csr.Spec.Username {
		return false
	}
	for _, group := range request.Subject.Organization {
		if !slices.Contains(csr.Spec.Groups, group) {
			return false
		}
	}
	for _, group := range authn.KeyGroups(csr.Spec.Groups) {
		if !slices.Contains(request.Subject.Organization, group) {
			return false
		}
	}
	return true
}

// Kept returns until when a request must not be deleted, which is when the
// certificate ends that it was given by rule: without the request [Own] would
// not know it. The zero time is for any other request.
func Kept(csr *certificatesv1.CertificateSigningRequest) time.Time {
	if csr.Spec.SignerName != Name || Given(csr) == "" {
		return time.Time{}
	}
	return issued(csr).NotAfter
}

// ByRule reports whether a request was approved by rule.
func ByRule(csr *certificatesv1.CertificateSigningRequest) bool {
	c := condition(csr, certificatesv1.CertificateApproved)
	return c != nil && c.Reason == Reason
}

// Sender returns the id of the credential that a request came with, or "" if
// that is not known.
func Sender(csr *certificatesv1.CertificateSigningRequest) string {
	if ids := csr.Spec.Extra[credentialKey]; len(ids) == 1 {
		return ids[0]
	}
	return ""
}

// Given returns the credential id of the certificate in a request that was
// approved by rule, or "".
func Given(csr *certificatesv1.CertificateSigningRequest) string {
	if !ByRule(csr) {
		return ""
	}
	if leaf := issued(csr); leaf != nil {
		return authn.CertificateID(leaf)
	}
	return ""
}

// Waits reports whether a request is approved and unsigned.
func Waits(csr *certificatesv1.CertificateSigningRequest) bool {
	return csr.Spec.SignerName == Name && len(csr.Status.Certificate) == 0 &&
		condition(csr, certificatesv1.CertificateApproved) != nil && condition(csr, certificatesv1.CertificateFailed) == nil &&
		condition(csr, certificatesv1.CertificateDenied) == nil
}

// Undecided reports whether nobody has said anything about a request.
func Undecided(csr *certificatesv1.CertificateSigningRequest) bool {
	return csr.Spec.SignerName == Name && len(csr.Status.Conditions) == 0 && len(csr.Status.Certificate) == 0
}

// Spent reports whether a request has served. One that was approved by rule is
// kept for as long as its certificate lasts, because [Own] asks for it.
func Spent(csr *certificatesv1.CertificateSigningRequest, now time.Time) bool {
	if csr.Spec.SignerName != Name {
		return false
	}
	age := now.Sub(csr.CreationTimestamp.Time)
	if leaf := issued(csr); leaf != nil {
		if Given(csr) != "" {
			return now.After(leaf.NotAfter)
		}
		return age > keepEnded
	}
	if Undecided(csr) {
		return age > keepWaiting
	}
	return !Waits(csr) && age > keepEnded
}

func issued(csr *certificatesv1.CertificateSigningRequest) *x509.Certificate {
	block, _ := pem.Decode(csr.Status.Certificate)
	if block == nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return leaf
}

func condition(csr *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequestCondition {
	for i := range csr.Status.Conditions {
		if c := &csr.Status.Conditions[i]; c.Type == kind && c.Status != corev1.ConditionFalse {
			return c
		}
	}
	return nil
}
