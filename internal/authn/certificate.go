package authn

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
)

// oidUID is the subject attribute with the user's UID, as Kubernetes reads it.
var oidUID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}

// maxIntermediates bounds the chain that a client may send.
const maxIntermediates = 8

// SetClientCAs sets the CAs whose certificates make users. Certificates
// verified against earlier ones are verified again.
func (c *Chain) SetClientCAs(pool *x509.CertPool) { c.clientCAs.Store(pool) }

// SetForeignCAs sets further CAs whose certificates make users, run by somebody
// else: no certificate of theirs gives a name or a group that begins with
// system: or gatehouse:.
func (c *Chain) SetForeignCAs(pool *x509.CertPool) { c.foreignCAs.Store(pool) }

// SetSiteCAs sets the CAs whose certificates make sites.
func (c *Chain) SetSiteCAs(pool *x509.CertPool) { c.siteCAs.Store(pool) }

// VerifyCertificate proves the client certificate of a TLS connection and
// returns the user it speaks for. peer is what the client sent, its own
// certificate first; the handshake has proved that the client holds the key,
// and nothing else is assumed. Only certificates of the client CAs pass.
func (c *Chain) VerifyCertificate(ctx context.Context, peer []*x509.Certificate) (Identity, error) {
	roots, foreign := c.clientCAs.Load(), false
	now := c.now()
	v, err := c.verifyPeer(ctx, peer, roots, now)
	if further := c.foreignCAs.Load(); further != nil && (ReasonOf(err) == BadSignature || ReasonOf(err) == UnknownIssuer) {
		foreign = true
		v, err = c.verifyPeer(ctx, peer, further, now)
	}
	if err != nil {
		return Identity{}, err
	}
	if v.user == nil {
		if v.user, err = c.userOf(peer[0], foreign); err != nil {
			return Identity{}, err
		}
		c.certs.put(peer[0], v)
	}
	id := Identity{v: v.user}
	if err := c.bans.refuse(id, now); err != nil {
		return Identity{}, err
	}
	return id, nil
}

// proven is a certificate whose chain was verified.
type proven struct {
	roots *x509.CertPool
	// chains are those to a root that have intermediates; nil when one has none.
	chains [][]*x509.Certificate
	// user, site and source are what the certificate makes its holder; which
	// of them is set depends on roots and subject.
	user   *verified
	site   *Site
	source *Source
}

// verifyPeer proves a chain against one set of roots. A chain that was proven
// for this connection before is only asked what can have changed: the roots,
// the time, the CA's revocations.
func (c *Chain) verifyPeer(ctx context.Context, peer []*x509.Certificate, roots *x509.CertPool, now time.Time) (proven, error) {
	if len(peer) == 0 {
		return proven{}, refuseCertificate(Malformed, "no certificate", nil)
	}
	leaf := peer[0]
	if roots == nil {
		return proven{}, refuseCertificate(UnknownIssuer, "no CA is trusted for this", nil)
	}
	if now.Before(leaf.NotBefore) {
		return proven{}, refuseCertificate(NotYetValid, certificateText(leaf)+" is not valid yet", nil)
	}
	if now.After(leaf.NotAfter) {
		return proven{}, refuseCertificate(Expired, certificateText(leaf)+" has expired", nil)
	}
	if c.revoked != nil && c.revoked(leaf) {
		return proven{}, refuseCertificate(Ended, certificateText(leaf)+" was revoked", nil)
	}
	if v, ok := c.certs.get(leaf, roots); ok {
		return v, c.checkChains(leaf, v.chains)
	}
	if len(peer) > 1+maxIntermediates {
		return proven{}, refuseCertificate(Malformed, fmt.Sprintf("%d certificates, at most %d are read", len(peer), 1+maxIntermediates), nil)
	}
	if leaf.IsCA {
		return proven{}, refuseCertificate(BadSignature, certificateText(leaf)+" is a CA's", nil)
	}
	intermediates := x509.NewCertPool()
	for _, certificate := range peer[1:] {
		intermediates.AddCert(certificate)
	}
	if err := c.crypto.enter(ctx); err != nil {
		return proven{}, err
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	c.crypto.leave()
	if err != nil {
		return proven{}, refuseCertificate(BadSignature, certificateText(leaf), err)
	}
	if slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool { return len(chain) <= 2 }) {
		chains = nil
	}
	return proven{roots: roots, chains: chains}, c.checkChains(leaf, chains)
}

// checkChains refuses a leaf each of whose chains has an intermediate that was
// revoked: whoever holds the key of one could make any leaf.
func (c *Chain) checkChains(leaf *x509.Certificate, chains [][]*x509.Certificate) error {
	if c.revoked == nil || len(chains) == 0 {
		return nil
	}
	for _, chain := range chains {
		if !slices.ContainsFunc(chain[1:len(chain)-1], c.revoked) {
			return nil
		}
	}
	return refuseCertificate(Ended, certificateText(leaf)+" is of an authority that was revoked", nil)
}

// userOf reads the user out of a proven certificate: CN is the name, O are the
// groups.
func (c *Chain) userOf(leaf *x509.Certificate, foreign bool) (*verified, error) {
	uid, err := certificateUID(leaf)
	if err != nil {
		return nil, refuseCertificate(Malformed, certificateText(leaf), err)
	}
	if foreign {
		if err := allowedForeign(leaf.Subject.CommonName, uid, leaf.Subject.Organization, nil); err != nil {
			return nil, refuseCertificate(ReservedName, certificateText(leaf), err)
		}
	}
	var line []string
	if !foreign {
		var ok bool
		if line, ok = origin.OfCertificate(leaf); !ok {
			return nil, refuseCertificate(Malformed, certificateText(leaf)+" does not say what it was made with", nil)
		}
	}
	who, err := newAccount(account{
		name:       leaf.Subject.CommonName,
		uid:        uid,
		groups:     leaf.Subject.Organization,
		credential: CertificateID(leaf),
		origin:     line,
	})
	if err != nil {
		return nil, refuseCertificate(ReservedName, certificateText(leaf), err)
	}
	return &verified{who: who, src: &c.certificate, expires: leaf.NotAfter.Unix()}, nil
}

// CertificateID returns the credential id of a certificate.
func CertificateID(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return "X509SHA256=" + hex.EncodeToString(sum[:])
}

var (
	errUIDType  = errors.New("unable to parse UID into a string")
	errUIDTwice = errors.New("expected 1 UID, but found multiple")
	errUIDEmpty = errors.New("UID cannot be an empty string")
)

func certificateUID(leaf *x509.Certificate) (string, error) {
	uid, found := "", false
	for _, name := range leaf.Subject.Names {
		if !name.Type.Equal(oidUID) {
			continue
		}
		if found {
			return "", errUIDTwice
		}
		text, ok := name.Value.(string)
		if !ok {
			return "", errUIDType
		}
		if text == "" {
			return "", errUIDEmpty
		}
		uid, found = text, true
	}
	return uid, nil
}

// certificateText names a certificate in the record.
func certificateText(c *x509.Certificate) string {
	return fmt.Sprintf("certificate SN=%d, SKID=%X, AKID=%X", c.SerialNumber, c.SubjectKeyId, c.AuthorityKeyId)
}

// certificateMemory remembers proven certificates by the object that the TLS
// stack keeps for a connection, so that a request on an open connection hashes
// nothing. It forgets in two generations.
type certificateMemory struct {
	// mu guards young and old.
	mu         sync.RWMutex
	young, old map[*x509.Certificate]proven
}

const certificateGeneration = 2048

func (m *certificateMemory) get(leaf *x509.Certificate, roots *x509.CertPool) (proven, bool) {
	m.mu.RLock()
	v, ok := m.young[leaf]
	aged := false
	if !ok {
		v, ok = m.old[leaf]
		aged = ok
	}
	m.mu.RUnlock()
	if !ok || v.roots != roots {
		return proven{}, false
	}
	if aged {
		m.put(leaf, v)
	}
	return v, true
}

// keep puts a certificate that is not remembered yet.
func (m *certificateMemory) keep(leaf *x509.Certificate, v proven) {
	if _, ok := m.get(leaf, v.roots); !ok {
		m.put(leaf, v)
	}
}

func (m *certificateMemory) put(leaf *x509.Certificate, v proven) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.young == nil || len(m.young) >= certificateGeneration {
		m.old, m.young = m.young, make(map[*x509.Certificate]proven, 64)
	}
	m.young[leaf] = v
}
