package localtls

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

func pair(t *testing.T, dir string) tls.Certificate {
	t.Helper()
	p, err := tls.LoadX509KeyPair(filepath.Join(dir, ClientFile), filepath.Join(dir, ClientKey))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	open := func(dir string) (*Authority, *authn.Chain) {
		t.Helper()
		a, err := Open(dir, "blue", clock)
		if err != nil {
			t.Fatal(err)
		}
		chain, err := authn.New(authn.Config{Audiences: []string{"local"}, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		chain.SetSiteCAs(a.Pool())
		return a, chain
	}
	a, chain := open(dir)
	first := pair(t, dir)
	site, err := chain.VerifySite(t.Context(), []*x509.Certificate{first.Leaf})
	if err != nil || site.Name() != "blue" {
		t.Fatalf("%q %v", site.Name(), err)
	}
	for _, name := range []string{CAKeyFile, ClientKey} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	leaf := a.serving.Load().Leaf
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), DNSName: "127.0.0.1", CurrentTime: now}); err != nil {
		t.Error(err)
	}
	// The serving certificate is no client's, and a foreign authority counts
	// nothing.
	if _, err := chain.VerifySite(t.Context(), []*x509.Certificate{leaf}); err == nil {
		t.Error("the server is taken for a client")
	}
	foreign := filepath.Join(t.TempDir(), "tls")
	if _, err := Open(foreign, "blue", clock); err != nil {
		t.Fatal(err)
	}
	if _, err := chain.VerifySite(t.Context(), []*x509.Certificate{pair(t, foreign).Leaf}); err == nil {
		t.Error("a certificate of another machine counts")
	}
	// A restart keeps what is good, and renews what is not.
	open(dir)
	if !pair(t, dir).Leaf.Equal(first.Leaf) {
		t.Error("a restart replaced the client certificate")
	}
	now = now.Add(300 * day)
	if err := a.Renew(); err != nil {
		t.Fatal(err)
	}
	if renewed := pair(t, dir).Leaf; renewed.Equal(first.Leaf) || a.serving.Load().Leaf.Equal(leaf) {
		t.Error("nothing was renewed")
	} else if _, err := chain.VerifySite(t.Context(), []*x509.Certificate{renewed}); err != nil {
		t.Error(err)
	}
	ca := a.cert
	now = now.Add(9 * 365 * day)
	if b, _ := open(dir); b.cert.Equal(ca) {
		t.Error("an authority near its end goes on")
	}
	if err := os.WriteFile(filepath.Join(dir, CAKeyFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, "blue", clock); err == nil {
		t.Error("a damaged authority was opened")
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{
		"127.0.0.1:7444": true, "[::1]:7444": true, "localhost:7444": true,
		"0.0.0.0:7444": false, ":7444": false, "192.0.2.1:7444": false, "example.org:7444": false, "127.0.0.1": false, "[::]:7444": false,
	} {
		if (Loopback(address) == nil) != ok {
			t.Errorf("%s: %v", address, !ok)
		}
	}
}
