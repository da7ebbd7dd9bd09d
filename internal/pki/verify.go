package pki

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

// ClientAuthority is the authorities whose certificates callers present.
type ClientAuthority interface {
	keys.Authority
	keys.ClientCA | keys.SiteCA | keys.RequestHeaderCA | keys.AgentCA
}

// Verified is proof that a caller's certificate was issued by the authority of
// one door and is valid. Only [VerifyClient] makes one; the zero value holds
// no certificate.
type Verified[P ClientAuthority] struct {
	_    [0]P // keeps doors from converting into each other
	leaf *x509.Certificate
}

// Certificate returns the caller's certificate, nil for the zero value. The
// caller must not modify it.
func (v Verified[P]) Certificate() *x509.Certificate { return v.leaf }

// VerifyClient checks the chain that a client presented in the TLS handshake
// against the authority of one door, at the authority's clock. Possession of
// the private key is proven by the handshake, not here. Errors are of kind
// Unauthenticated, and say what is wrong with the certificate.
func VerifyClient[P ClientAuthority](chain []*x509.Certificate, a *Authority[P]) (Verified[P], error) {
	leaf, err := a.verify(chain)
	if err != nil {
		return Verified[P]{}, err
	}
	return Verified[P]{leaf: leaf}, nil
}

// verify accepts a leaf signed directly by a trusted certificate of this door,
// and nothing else. What the client sends beside the leaf is not looked at:
// there are no intermediates.
func (a *Authority[P]) verify(chain []*x509.Certificate) (*x509.Certificate, error) {
	d := doorOf[P]()
	if len(chain) == 0 || chain[0] == nil {
		return nil, fault.New(fault.Unauthenticated, "no client certificate")
	}
	leaf, now := chain[0], a.clock()
	trusted, err := a.trusted()
	if err != nil {
		return nil, err
	}
	// An authority's own certificate and a leaf for several uses would pass
	// the library's check.
	if leaf.IsCA || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{d.usage}) || len(leaf.UnknownExtKeyUsage) > 0 {
		return nil, fault.Newf(fault.Unauthenticated, "certificate is not for the use of the %s CA", d.name)
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots:         trusted.pool,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{d.usage},
	})
	switch {
	case err != nil && now.Before(leaf.NotBefore):
		return nil, fault.Wrap(fault.Unauthenticated, "certificate is not valid yet", err)
	case err != nil && now.After(leaf.NotAfter):
		return nil, fault.Wrap(fault.Unauthenticated, "certificate has expired", err)
	case err != nil:
		return nil, fault.Wrap(fault.Unauthenticated, fmt.Sprintf("certificate is not of the %s CA", d.name), err)
	}
	if d.usage == x509.ExtKeyUsageClientAuth && len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) > 0 {
		return nil, fault.Newf(fault.Unauthenticated, "certificate of the %s CA carries names of a server or a mailbox", d.name)
	}
	if d.name != doorOf[keys.SiteCA]().name && claimsSite(leaf) {
		// Lint refuses to issue one; a site is recognised by the site CA alone.
		return nil, fault.Newf(fault.Unauthenticated, "certificate of the %s CA claims to be a site", d.name)
	}
	return leaf, nil
}

func claimsSite(leaf *x509.Certificate) bool {
	return sitename.Reserved(leaf.Subject.CommonName) ||
		slices.ContainsFunc(leaf.Subject.Organization, sitename.Reserved) ||
		slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool {
			return strings.HasPrefix(u.String(), siteURIPrefix) || strings.HasPrefix(u.String(), sourceURIPrefix)
		})
}

// SiteName returns the name of the site that a verified certificate is for.
// User, group and URI must all say the same.
func SiteName(v Verified[keys.SiteCA]) (string, error) {
	if v.leaf == nil {
		return "", fault.New(fault.Unauthenticated, "no site certificate")
	}
	name, ok := strings.CutPrefix(v.leaf.Subject.CommonName, sitename.SiteUserPrefix)
	if !ok || !label(name) ||
		!slices.Equal(v.leaf.Subject.Organization, []string{sitename.SitesGroup}) ||
		len(v.leaf.URIs) != 1 || v.leaf.URIs[0].String() != siteURIPrefix+name {
		return "", fault.New(fault.Unauthenticated, "certificate of the site CA names no site")
	}
	return name, nil
}
