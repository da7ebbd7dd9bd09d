package pki

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

func newServing(t *testing.T, w *world) *Serving {
	t.Helper()
	s, err := NewServing(ServingConfig{Authority: w.server, Names: localNames(), Clock: w.Now, Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func leafOf(t *testing.T, s *Serving) *x509.Certificate {
	t.Helper()
	cert, err := s.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf
}

func TestServingRenewsInTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newServing(t, w)
	first := leafOf(t, s)
	due := RenewAt(first)
	w.Set(due.Add(-time.Second))
	if err := s.Maintain(); err != nil || !leafOf(t, s).Equal(first) {
		t.Errorf("renewed too early, %v", err)
	}
	w.Set(due)
	if err := s.Maintain(); err != nil {
		t.Fatal(err)
	}
	second := leafOf(t, s)
	if second.Equal(first) || !second.NotAfter.After(first.NotAfter) || string(second.RawSubjectPublicKeyInfo) == string(first.RawSubjectPublicKeyInfo) {
		t.Error("not renewed, or with the old key")
	}
	if err := s.SetNames(localNames()); err != nil || !leafOf(t, s).Equal(second) {
		t.Errorf("the same names made another certificate, %v", err)
	}
}

func TestServingFollowsNamesAndAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newServing(t, w)
	if err := s.SetNames(Names{DNS: []string{"other.example"}}); err != nil {
		t.Fatal(err)
	}
	other := leafOf(t, s)
	if other.VerifyHostname("other.example") != nil || other.VerifyHostname("localhost") == nil {
		t.Errorf("certificate for %v", other.DNSNames)
	}
	if err := s.SetNames(Names{DNS: []string{"Bad Name"}}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("bad name: %v", err)
	}
	if !leafOf(t, s).Equal(other) {
		t.Error("a refused change replaced the certificate")
	}
	if err := w.server.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Maintain(); err != nil || !leafOf(t, s).Equal(other) {
		t.Errorf("renewed before the new authority signs, %v", err)
	}
	// A young certificate of the old authority, when the new one begins to sign.
	w.Set(start.Add(29 * day))
	if err := s.SetNames(Names{DNS: []string{"third.example"}}); err != nil {
		t.Fatal(err)
	}
	third := leafOf(t, s)
	w.Set(start.Add(30*day + time.Second))
	if !w.Now().Before(RenewAt(third)) {
		t.Fatal("the certificate is due anyway")
	}
	if err := s.Maintain(); err != nil {
		t.Fatal(err)
	}
	if got := leafOf(t, s); string(got.AuthorityKeyId) != string(certificate(t, w.server).SubjectKeyId) || got.VerifyHostname("third.example") != nil {
		t.Error("not of the new authority, or for other names")
	}
}

func TestServingRefusesItsConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := NewServing(ServingConfig{}); err == nil {
		t.Error("took an empty configuration")
	}
	if _, err := NewServing(ServingConfig{Authority: w.server, Clock: w.Now, Logger: discard}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("no names: %v", err)
	}
	if err := newServing(t, w).Run(t.Context(), 0); fault.KindOf(err) != fault.Invalid {
		t.Errorf("no interval: %v", err)
	}
}

func TestServingRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		server, err := Open[keys.ServingCA](t.Context(), w.vault, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		// The authority of the world was made for its clock, decades ahead.
		time.Sleep(time.Until(start))
		var log bytes.Buffer
		s, err := NewServing(ServingConfig{Authority: server, Names: localNames(), Clock: time.Now, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		first := leafOf(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx, 24*time.Hour) }()
		time.Sleep(22 * day)
		synctest.Wait()
		if leafOf(t, s).Equal(first) {
			t.Error("not renewed")
		}
		// Nobody rotates the authority here: in the end it cannot issue.
		time.Sleep(3650 * day)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if !strings.Contains(log.String(), "serving certificate maintenance") || !strings.Contains(log.String(), "the authority has expired") {
			t.Error("the log does not say that the authority has expired")
		}
	})
}

// handshake connects over loopback and returns both sides' views.
func handshake(t *testing.T, server, client *tls.Config) (serverState, clientState tls.ConnectionState, err error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	type result struct {
		state tls.ConnectionState
		err   error
	}
	results := make(chan result, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			results <- result{err: err}
			return
		}
		defer conn.Close()
		c := tls.Server(conn, server)
		if err := c.Handshake(); err != nil {
			results <- result{err: err}
			return
		}
		_, err = c.Write([]byte("x"))
		results <- result{c.ConnectionState(), err}
	}()
	conn, dialErr := tls.Dial("tcp", listener.Addr().String(), client)
	if dialErr == nil {
		defer conn.Close()
		// A refusal of the server arrives with the first read in TLS 1.3.
		if _, readErr := io.ReadFull(conn, make([]byte, 1)); readErr != nil {
			dialErr = readErr
		} else {
			clientState = conn.ConnectionState()
		}
	}
	r := <-results
	if r.err != nil || dialErr != nil {
		return r.state, clientState, fmt.Errorf("client: %v, server: %v", dialErr, r.err)
	}
	return r.state, clientState, nil
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := ServerTLS(newServing(t, w))
	roots, err := w.server.Pool()
	if err != nil {
		t.Fatal(err)
	}
	client := func(change func(*tls.Config)) *tls.Config {
		c := ClientTLS(roots, nil)
		c.Time = w.Now
		if change != nil {
			change(c)
		}
		return c
	}
	cases := []struct {
		name   string
		client *tls.Config
		curve  tls.CurveID // 0: refused
	}{
		{"ours", client(nil), tls.X25519MLKEM768},
		{"other hybrid only", client(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.SecP256r1MLKEM768} }), tls.SecP256r1MLKEM768},
		{"hybrid in last place", client(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256, tls.X25519, tls.X25519MLKEM768} }), tls.X25519MLKEM768},
		{"classical", client(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }), tls.X25519},
		{"P-256", client(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} }), tls.CurveP256},
		{"curve not on offer", client(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP521} }), 0},
		{"TLS 1.2", client(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }), 0},
		{"other name", client(func(c *tls.Config) { c.ServerName = "elsewhere.example" }), 0},
		{"no roots", func() *tls.Config { c := ClientTLS(nil, nil); c.Time = w.Now; return c }(), 0},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			onServer, onClient, err := handshake(t, server, tc.client)
			if (err == nil) != (tc.curve != 0) {
				t.Fatalf("got %v", err)
			}
			if err == nil && (onServer.CurveID != tc.curve || onClient.CurveID != tc.curve || onServer.Version != tls.VersionTLS13) {
				t.Errorf("agreed on %v, version %x", onServer.CurveID, onServer.Version)
			}
		})
	}
}

// TestClientCertificateReachesTheDoor proves that any certificate survives the
// handshake, so that the door can say what is wrong with it.
func TestClientCertificateReachesTheDoor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := ServerTLS(newServing(t, w))
	roots, err := w.server.Pool()
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	p, err := PrepareSite("berlin", key.Public(), 0)
	good := issue(t, w.site, p, err)
	expiredTemplate := clientTemplate("system:site:berlin")
	expiredTemplate.NotAfter = start.Add(-time.Second)
	for name, tc := range map[string]struct {
		cert *x509.Certificate
		want string
	}{
		"good":    {good, ""},
		"expired": {forge(t, w.site, expiredTemplate, key.Public()), "has expired"},
		"foreign": {forge(t, newWorld(t).site, clientTemplate("x"), key.Public()), "not of the site CA"},
	} {
		c := ClientTLS(roots, &tls.Certificate{Certificate: [][]byte{tc.cert.Raw}, PrivateKey: key.private()})
		c.Time = w.Now
		// A second handshake with the same cache must not resume the first.
		c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for range 2 {
			state, _, err := handshake(t, server, c)
			if err != nil || state.DidResume {
				t.Fatalf("%s: resumed %v, %v", name, state.DidResume, err)
			}
			v, err := VerifyClient(state.PeerCertificates, w.site)
			if tc.want != "" {
				if !strings.Contains(fault.Public(err), tc.want) {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			if site, err := SiteName(v); err != nil || site != "berlin" {
				t.Errorf("%s: site %q, %v", name, site, err)
			}
		}
	}
}

func TestClientTLSNeverTrustsTheSystem(t *testing.T) {
	t.Parallel()
	if c := ClientTLS(nil, nil); c.RootCAs == nil || !c.RootCAs.Equal(x509.NewCertPool()) {
		t.Error("no roots given, but some are trusted")
	}
}

func TestLeafKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := newKey(t)
	p, err := PrepareAdmin(Client{User: "admin", Public: key.Public()})
	cert := issue(t, w.client, p, err)
	private, err := key.PEM()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(CertificatePEM(cert), private.Reveal()); err != nil {
		t.Error(err)
	}
	raw, err := key.private().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{new(big.Int).SetBytes(raw).String(), fmt.Sprintf("%x", raw[:8])} {
		if out := fmt.Sprintf("%v %+v %#v %v", key, key, key, &key); strings.Contains(out, secret) {
			t.Error("the key prints")
		}
	}
}
