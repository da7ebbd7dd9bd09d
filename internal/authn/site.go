package authn

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
)

// Site is a connected platform that proved itself with a certificate of the
// site CA. It is deliberately no [Identity]: nothing in the frame accepts it,
// and nothing but [Chain.VerifySite] makes one. The zero Site is none.
type Site struct {
	name       string
	credential string
	notAfter   time.Time
}

// Name returns the name of the site, without any prefix.
func (s Site) Name() string { return s.name }

// Valid reports whether the site is one.
func (s Site) Valid() bool { return s.name != "" }

// CredentialID returns the id of its certificate, "X509SHA256=…".
func (s Site) CredentialID() string { return s.credential }

// NotAfter returns when its certificate ends.
func (s Site) NotAfter() time.Time { return s.notAfter }

// SiteSubject returns the subject that a site's certificate must have:
// exactly this name and this one organisation.
func SiteSubject(name string) pkix.Name {
	return pkix.Name{CommonName: sitename.SiteUserPrefix + name, Organization: []string{sitename.SitesGroup}}
}

// VerifySite proves the client certificate of a site. A user's certificate is
// refused here, as a site's is by [Chain.VerifyCertificate].
func (c *Chain) VerifySite(ctx context.Context, peer []*x509.Certificate) (Site, error) {
	roots := c.siteCAs.Load()
	now := c.now()
	v, err := c.verifyPeer(ctx, peer, roots, now)
	if err != nil {
		return Site{}, err
	}
	if v.site == nil {
		if v.site, err = siteOf(peer[0]); err != nil {
			return Site{}, refuseCertificate(ReservedName, certificateText(peer[0]), err)
		}
		c.certs.put(peer[0], v)
	}
	if err := c.bans.refuseCredential(c.bans.current.Load(), v.site.credential, now); err != nil {
		return Site{}, err
	}
	return *v.site, nil
}

var errNoSite = errors.New("the subject of the certificate is not that of a site")

func siteOf(leaf *x509.Certificate) (*Site, error) {
	name, ok := strings.CutPrefix(leaf.Subject.CommonName, sitename.SiteUserPrefix)
	if !ok || !isSiteLabel(name) || !slices.Equal(leaf.Subject.Organization, []string{sitename.SitesGroup}) {
		return nil, errNoSite
	}
	return &Site{name: name, credential: CertificateID(leaf), notAfter: leaf.NotAfter}, nil
}

// isSiteLabel accepts what the API accepts as a site's name: a DNS label.
func isSiteLabel(name string) bool {
	if name == "" || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
