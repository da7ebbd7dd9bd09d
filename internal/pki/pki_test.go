package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/keys/keystest"
)

var (
	start   = time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	discard = slog.New(slog.DiscardHandler)
)

// clock is a settable clock.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// world is one control plane's authorities on a clock.
type world struct {
	*clock
	vault  *keys.Vault
	server *Authority[keys.ServingCA]
	client *Authority[keys.ClientCA]
	site   *Authority[keys.SiteCA]
	proxy  *Authority[keys.RequestHeaderCA]
	agent  *Authority[keys.AgentCA]
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{clock: &clock{now: start}}
	w.vault = keystest.NewVault(t, w.Now)
	w.server, w.client, w.site = open[keys.ServingCA](t, w), open[keys.ClientCA](t, w), open[keys.SiteCA](t, w)
	w.proxy, w.agent = open[keys.RequestHeaderCA](t, w), open[keys.AgentCA](t, w)
	return w
}

func open[P keys.Authority](t testing.TB, w *world) *Authority[P] {
	t.Helper()
	a, err := Open[P](t.Context(), w.vault, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue[P keys.Authority](t testing.TB, a *Authority[P], p *Prepared[P], err error) *x509.Certificate {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.Issue(p)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newKey(t testing.TB) LeafKey {
	t.Helper()
	key, err := NewLeafKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certificate[P keys.Authority](t testing.TB, a *Authority[P]) *x509.Certificate {
	t.Helper()
	cert, err := a.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// forge signs any template with the authority's key, past lint: what an
// attacker could make of a lint with a hole.
func forge[P keys.Authority](t testing.TB, a *Authority[P], template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	return sign(t, template, certificate(t, a), public, a.ring.Set().Signer(a.clock()))
}

func sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// clientTemplate is a correct client certificate, for attacks to change.
func clientTemplate(user string, groups ...string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: user, Organization: groups},
		NotBefore:    start.Add(-time.Minute), NotAfter: start.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
}

func localNames() Names {
	return Names{DNS: []string{"localhost", "gatehouse.example"}, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}}
}
