package credential

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/oidc"
)

// signerOf makes certificates for a test.
type signerOf struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newSigner(t *testing.T) *signerOf {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &signerOf{t: t, key: key}
	s.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	return s
}

func (s *signerOf) sign(subject pkix.Name, public any, until time.Time) []byte {
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: subject, NotAfter: until}, s.cert, public, s.key)
	if err != nil {
		s.t.Error(err)
	}
	return der
}

func (s *signerOf) pair(name string, until time.Time) *tls.Certificate {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	der := s.sign(pkix.Name{CommonName: name, Organization: []string{"dev"}}, key.Public(), until)
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		s.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestExchange(t *testing.T) {
	t.Parallel()
	ca := newSigner(t)
	other := ca.pair("other", time.Now().Add(time.Hour))
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, s *signing)
		until  time.Duration // of the long-lived certificate
		want   error
		says   string
	}{
		"good": {},
		"denied": {answer: func(w http.ResponseWriter, s *signing) {
			_, _ = io.WriteString(w, `{"metadata":{"name":"n"},"status":{"conditions":[{"type":"Denied","message":"no\u001b[2J"}]}}`)
		}, want: oidc.ErrDenied, says: `"no\x1b[2J"`},
		"failed": {answer: func(w http.ResponseWriter, s *signing) {
			_, _ = io.WriteString(w, `{"metadata":{"name":"n"},"status":{"conditions":[{"type":"Approved"},{"type":"Failed","message":"why"}]}}`)
		}, want: oidc.ErrDenied, says: "why"},
		"forbidden": {answer: func(w http.ResponseWriter, _ *signing) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"message":"may not"}`)
		}, want: oidc.ErrDenied, says: "may not"},
		"away": {answer: func(w http.ResponseWriter, _ *signing) { w.WriteHeader(http.StatusServiceUnavailable) }, want: oidc.ErrUnreachable, says: "503"},
		"elsewhere": {answer: func(w http.ResponseWriter, _ *signing) {
			w.Header().Set("Location", "/x")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, want: oidc.ErrUnreachable, says: "redirects"},
		"of another key": {answer: func(w http.ResponseWriter, s *signing) {
			s.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Certificate[0]})
			_ = json.NewEncoder(w).Encode(s)
		}, says: "another key"},
		"no certificate": {answer: func(w http.ResponseWriter, s *signing) {
			s.Status.Certificate = []byte("x")
			_ = json.NewEncoder(w).Encode(s)
		}, says: "another key"},
		"has ended": {until: -time.Minute, want: oidc.ErrLogin, says: "ended"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			long := ca.pair("ada", time.Now().Add(time.Hour+c.until))
			if c.until < 0 {
				long = ca.pair("ada", time.Now().Add(c.until))
			}
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/x" {
					t.Error("a redirect is followed")
				}
				if len(r.TLS.PeerCertificates) != 1 || r.Header.Get("Authorization") != "" {
					t.Error("the certificate is not shown in the handshake, or something else is")
				}
				var s signing
				if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
					t.Error(err)
					return
				}
				block, _ := pem.Decode(s.Spec.Request)
				request, err := x509.ParseCertificateRequest(block.Bytes)
				if err != nil || request.Subject.CommonName != "ada" || !slices.Equal(request.Subject.Organization, []string{"dev"}) || s.Spec.Signer != "kubernetes.io/kube-apiserver-client" || s.Spec.Expiration != 3600 {
					t.Errorf("request: %v %+v", err, s)
					return
				}
				s.Metadata.Name = "n"
				s.Status = &struct {
					Certificate []byte `json:"certificate"`
					Conditions  []struct {
						Type    string `json:"type"`
						Message string `json:"message"`
					} `json:"conditions"`
				}{}
				if c.answer != nil {
					c.answer(w, &s)
					return
				}
				s.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.sign(request.Subject, request.PublicKey, time.Now().Add(time.Hour))})
				w.WriteHeader(http.StatusCreated)
				_ = json.NewEncoder(w).Encode(s)
			}))
			server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
			server.StartTLS()
			defer server.Close()
			x, err := NewExchange(Exchange{
				Server: server.URL, CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
				Identity: func() (*tls.Certificate, error) { return long, nil }, Name: "x", Now: time.Now, Say: io.Discard,
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := x.Renew(t.Context(), nil)
			if c.says == "" {
				if err != nil || got.Certificate == "" || got.Key == "" || got.Token != "" || time.Until(got.Expires) < 50*time.Minute {
					t.Errorf("%+v %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v %q", err, c.want, c.says)
			}
		})
	}
}

func TestExchangeRefuses(t *testing.T) {
	t.Parallel()
	ca := newSigner(t)
	trust := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.pair("x", time.Now()).Certificate[0]})
	for name, x := range map[string]Exchange{
		"http": {Server: "http://a", CA: trust}, "credentials": {Server: "https://a:b@c", CA: trust}, "a query": {Server: "https://a?x", CA: trust},
		"no authority": {Server: "https://a"}, "too short": {Server: "https://a", CA: trust, Lifetime: time.Minute},
	} {
		if _, err := NewExchange(x); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := Pair(trust, ca.key); err == nil {
		t.Error("a certificate of another key")
	}
	if _, err := Pair([]byte("x"), ca.key); err == nil {
		t.Error("no certificate")
	}
	if _, err := Identity("x", "pkcs11:token=a", nil); err == nil {
		t.Error("a key in a token is opened by the control plane's program")
	}
}
