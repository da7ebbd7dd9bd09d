package pki

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

const (
	// backdate allows for clocks that are behind ours.
	backdate = 5 * time.Minute
	day      = 24 * time.Hour
	// authorityValidity is how long an authority's certificate is valid.
	authorityValidity = 3650 * day
	// maxValidity is the longest validity of any certificate issued here.
	maxValidity = 366 * day
)

// schedule is how authorities are rotated: a new one is trusted 30 days before
// it signs, and an old one until the last certificate it signed is over. The
// sum stays well below an authority's ten years.
var schedule = keys.Schedule{Every: 5 * 365 * day, Lead: 30 * day, Keep: maxValidity}

// Authority is the certificate authority of one door. It is safe for
// concurrent use.
type Authority[P keys.Authority] struct {
	ring  *keys.Ring[P]
	clock func() time.Time
	trust atomic.Pointer[trust]
}

// trust is what follows from one revision of the ring, until one of its keys
// retires.
type trust struct {
	revision int64
	certs    []*x509.Certificate
	pool     *x509.CertPool
	// until is when the first of certs stops counting; zero: never.
	until time.Time
}

// Open returns the authority of a door and creates it if there is none.
// However many replicas call it together, all get the same one.
func Open[P keys.Authority](ctx context.Context, vault *keys.Vault, clock func() time.Time) (*Authority[P], error) {
	ring, err := keys.EnsureAuthority(ctx, vault, func(s *keys.Signer[P]) ([]byte, error) {
		return selfSign(s, clock())
	})
	if err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	a := &Authority[P]{ring: ring, clock: clock}
	if _, err := a.trusted(); err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	return a, nil
}

// door is what distinguishes authorities.
type door struct {
	name  string
	usage x509.ExtKeyUsage
	// subjectOnly says that certificates carry no alternative names at all.
	// Those of sites carry a URI without a host, which no name constraint can
	// match, and so must have none above them.
	subjectOnly bool
}

func doorOf[P keys.Authority]() door {
	var p P
	switch any(p).(type) {
	case keys.ServingCA:
		return door{"serving", x509.ExtKeyUsageServerAuth, false}
	case keys.ClientCA:
		return door{"client", x509.ExtKeyUsageClientAuth, true}
	case keys.SiteCA:
		return door{"site", x509.ExtKeyUsageClientAuth, false}
	case keys.RequestHeaderCA:
		return door{"request header", x509.ExtKeyUsageClientAuth, true}
	case keys.AgentCA:
		return door{"agent", x509.ExtKeyUsageClientAuth, false}
	}
	// The constraint admits no other type.
	panic("pki: an authority without a door")
}

// selfSign makes the certificate of an authority's key.
func selfSign[P keys.Authority](s *keys.Signer[P], now time.Time) ([]byte, error) {
	d := doorOf[P]()
	spki, err := x509.MarshalPKIXPublicKey(s.Public())
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		// The end of the key makes each subject distinct: two authorities with
		// one name would be told apart by trial only.
		Subject:               pkix.Name{CommonName: "Gatehouse " + d.name + " CA " + hex.EncodeToString(spki[len(spki)-4:])},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(authorityValidity),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{d.usage},
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	if d.subjectOnly {
		// No name of a server can come from here: everything is excluded
		// (RFC 5280, section 4.2.1.10).
		template.PermittedDNSDomainsCritical = true
		template.ExcludedDNSDomains = []string{""}
		template.ExcludedIPRanges = []*net.IPNet{
			{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
			{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
		}
	}
	return x509.CreateCertificate(rand.Reader, template, template, s.Public(), s)
}

// newSerial returns 158 random bits in the 20 bytes that RFC 5280, section
// 4.1.2.2 allows.
func newSerial() *big.Int {
	var b [20]byte
	// Read never fails: the program ends if the system has no randomness.
	_, _ = rand.Read(b[:])
	// Positive, and always of the same length.
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:])
}

// trusted returns the current trust, made anew when the ring changed or a key
// retired.
func (a *Authority[P]) trusted() (*trust, error) {
	set, now := a.ring.Set(), a.clock()
	if t := a.trust.Load(); t != nil && t.revision == set.Revision() && (t.until.IsZero() || now.Before(t.until)) {
		return t, nil
	}
	t := &trust{revision: set.Revision(), pool: x509.NewCertPool()}
	for _, v := range set.Verifiers(now) {
		cert, err := x509.ParseCertificate(v.Certificate())
		if err != nil {
			return nil, fmt.Errorf("parse %s CA certificate: %w", doorOf[P]().name, err)
		}
		t.certs = append(t.certs, cert)
		t.pool.AddCert(cert)
		if end := v.RetireAfter(); !end.IsZero() && (t.until.IsZero() || end.Before(t.until)) {
			t.until = end
		}
	}
	a.trust.Store(t)
	return t, nil
}

// Certificate returns the certificate that signs now.
func (a *Authority[P]) Certificate() (*x509.Certificate, error) {
	return x509.ParseCertificate(a.ring.Set().Signer(a.clock()).Certificate())
}

// Pool returns a copy of the certificates that are trusted at this door now;
// around a rotation there is more than one.
func (a *Authority[P]) Pool() (*x509.CertPool, error) {
	t, err := a.trusted()
	if err != nil {
		return nil, err
	}
	return t.pool.Clone(), nil
}

// BundlePEM returns the certificates of [Authority.Pool] in PEM, oldest first.
func (a *Authority[P]) BundlePEM() ([]byte, error) {
	t, err := a.trusted()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, cert := range t.certs {
		out.Write(encodePEM("CERTIFICATE", cert.Raw))
	}
	return out.Bytes(), nil
}

// Refresh reads the authority from the store; see [keys.Ring.Refresh].
func (a *Authority[P]) Refresh(ctx context.Context) error { return a.ring.Refresh(ctx) }

// Rotate makes a new authority certificate, trusted at once and signing after
// 30 days; see [keys.Ring.Rotate].
func (a *Authority[P]) Rotate(ctx context.Context) error { return a.ring.Rotate(ctx, schedule) }

// Run rotates the authority every five years and keeps up with what other
// replicas do, looking at the given interval, until ctx ends.
func (a *Authority[P]) Run(ctx context.Context, interval time.Duration) error {
	return a.ring.Run(ctx, schedule, interval)
}

// Follow calls apply with the certificates that are trusted at this door, now
// and whenever they change; see [keys.Ring.Follow]. It needs [Authority.Run]
// beside it to see what other replicas do.
func (a *Authority[P]) Follow(ctx context.Context, apply func(trusted *x509.CertPool) error) error {
	return a.ring.Follow(ctx, func(*keys.Set[P], time.Time) error {
		pool, err := a.Pool()
		if err != nil {
			return err
		}
		return apply(pool)
	})
}

// Issue signs what a profile prepared. A second use of the same Prepared is an
// error, whatever became of the first.
func (a *Authority[P]) Issue(p *Prepared[P]) (*x509.Certificate, error) {
	if p == nil || p.template == nil || !p.used.CompareAndSwap(false, true) {
		return nil, fault.New(fault.Internal, "issue certificate: the request is empty or was used before")
	}
	now := a.clock()
	signer := a.ring.Set().Signer(now)
	parent, err := x509.ParseCertificate(signer.Certificate())
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	if !now.Before(parent.NotAfter) {
		return nil, fault.New(fault.Internal, "issue certificate: the authority has expired")
	}
	template := p.template
	template.SerialNumber = newSerial()
	template.NotBefore = now.Add(-backdate)
	template.NotAfter = now.Add(p.validity)
	// A certificate that outlives its authority is of no use.
	if template.NotAfter.After(parent.NotAfter) {
		template.NotAfter = parent.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, p.public, signer)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	// What was made must be what its door accepts: this catches a lint that
	// the constraints of the authority contradict.
	if _, err := a.verify([]*x509.Certificate{cert}); err != nil {
		return nil, fault.Wrap(fault.Internal, "issue certificate: made one that would be refused", err)
	}
	return cert, nil
}

// RenewAt returns when a certificate should be replaced: after two thirds of
// its validity.
func RenewAt(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) * 2 / 3)
}

// CertificatePEM returns a certificate in PEM.
func CertificatePEM(cert *x509.Certificate) []byte { return encodePEM("CERTIFICATE", cert.Raw) }

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
