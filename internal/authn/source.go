package authn

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
)

// Source is an audit source that proved itself with a certificate of the site
// CA: it may write to the record and is nobody otherwise, neither an [Identity]
// nor a [Site]. Only [Chain.VerifySource] makes one. The zero Source is none.
type Source struct {
	name       string
	credential string
}

// Name returns the name of the source, without any prefix.
func (s Source) Name() string { return s.name }

// Valid reports whether the source is one.
func (s Source) Valid() bool { return s.name != "" }

// CredentialID returns the id of its certificate, "X509SHA256=…".
func (s Source) CredentialID() string { return s.credential }

// SourceSubject returns the subject that a source's certificate must have:
// exactly this name and this one organisation.
func SourceSubject(name string) pkix.Name {
	return pkix.Name{CommonName: sitename.SourceUserPrefix + name, Organization: []string{sitename.SourcesGroup}}
}

// IsSource reports whether a certificate claims to be a source's, which proves
// nothing: it tells which of the two kinds of the site CA to verify it as.
func IsSource(leaf *x509.Certificate) bool {
	return strings.HasPrefix(leaf.Subject.CommonName, sitename.SourceUserPrefix)
}

// VerifySource proves the client certificate of an audit source. The
// certificates of users and of sites are refused here.
func (c *Chain) VerifySource(ctx context.Context, peer []*x509.Certificate) (Source, error) {
	roots := c.siteCAs.Load()
	now := c.now()
	v, err := c.verifyPeer(ctx, peer, roots, now)
	if err != nil {
		return Source{}, err
	}
	if v.source == nil {
		if v.source, err = sourceOf(peer[0]); err != nil {
			return Source{}, refuseCertificate(ReservedName, certificateText(peer[0]), err)
		}
		c.certs.put(peer[0], v)
	}
	if err := c.bans.refuseCredential(c.bans.current.Load(), v.source.credential, now); err != nil {
		return Source{}, err
	}
	return *v.source, nil
}

var errNoSource = errors.New("the subject of the certificate is not that of an audit source")

func sourceOf(leaf *x509.Certificate) (*Source, error) {
	name, ok := strings.CutPrefix(leaf.Subject.CommonName, sitename.SourceUserPrefix)
	if !ok || !isSourceName(name) || !slices.Equal(leaf.Subject.Organization, []string{sitename.SourcesGroup}) {
		return nil, errNoSource
	}
	return &Source{name: name, credential: CertificateID(leaf)}, nil
}

// isSourceName accepts what the API accepts as a source's name: a DNS
// subdomain.
func isSourceName(name string) bool {
	if len(name) > 253 {
		return false
	}
	for part := range strings.SplitSeq(name, ".") {
		if !isSiteLabel(part) {
			return false
		}
	}
	return true
}
