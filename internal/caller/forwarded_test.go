package caller

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func sign(t *testing.T, template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(1)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	return &authority{t: t, cert: sign(t, template, template, &key.PublicKey, key), key: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) issue(name string) []*x509.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	return []*x509.Certificate{sign(a.t, template, a.cert, &key.PublicKey, a.key)}
}

// Who may speak for others is decided by the certificate, never by the headers.
func TestForwarded(t *testing.T) {
	t.Parallel()
	proxies, users := newAuthority(t, "proxies"), newAuthority(t, "users")
	c := chain(t)
	c.SetClientCAs(users.pool())
	c.SetProxyCAs(proxies.pool(), []string{"front"})
	front, mallory := proxies.issue("front"), users.issue("mallory")
	headers := http.Header{
		"X-Remote-User": {"jane"}, "X-Remote-Uid": {"7"}, "X-Remote-Group": {"a", "b"},
		"X-Remote-Extra-Example.org%2fteam": {"x", "y"},
	}
	for name, tc := range map[string]struct {
		peer    []*x509.Certificate
		change  func(http.Header)
		want    string
		refused bool
	}{
		"a proxy":                    {peer: front, want: "jane"},
		"a proxy with its own token": {peer: front, change: func(h http.Header) { h.Set("Authorization", "Bearer nonsense") }, want: "jane"},
		"a proxy that names nobody":  {peer: front, change: func(h http.Header) { h.Set("X-Remote-User", "") }, refused: true},
		"a proxy that names two":     {peer: front, change: func(h http.Header) { h["X-Remote-User"] = []string{"a", "b"} }, refused: true},
		"a proxy that names a site":  {peer: front, change: func(h http.Header) { h.Set("X-Remote-User", "system:site:blue") }, refused: true},
		"a proxy without headers":    {peer: front, change: func(h http.Header) { clear(h) }, refused: true},
		"a proxy of another name":    {peer: proxies.issue("other"), refused: true},
		"a user who sends headers":   {peer: mallory, want: "mallory"},
		"a stranger":                 {peer: newAuthority(t, "nobody's").issue("front"), refused: true},
		"no certificate":             {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest("GET", "/api", nil)
			r.Header = headers.Clone()
			if tc.change != nil {
				tc.change(r.Header)
			}
			r.TLS = &tls.ConnectionState{PeerCertificates: tc.peer}
			var seen []string
			who, ok, err := Frame(c, func(_ context.Context, id authn.Identity) { seen = append(seen, id.Name()) })(r)
			if who.Name != tc.want || ok != (tc.want != "") || (err != nil) != tc.refused {
				t.Fatalf("got %q, %v, %v", who.Name, ok, err)
			}
			if ok && !slices.Equal(seen, []string{tc.want}) {
				t.Errorf("seen %q", seen)
			}
			if ok && len(r.Header["X-Remote-User"])+len(r.Header["X-Remote-Group"])+len(r.Header["X-Remote-Extra-Example.org%2fteam"]) > 0 {
				t.Errorf("the headers are still there: %v", r.Header)
			}
		})
	}
	r := httptest.NewRequest("GET", "/api", nil)
	r.Header, r.TLS = headers.Clone(), &tls.ConnectionState{PeerCertificates: front}
	id, _, err := From(t.Context(), c, r)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"example.org/team": {"x", "y"}, authn.ExtraCredentialID: {authn.CertificateID(front[0])}}
	if id.UID() != "7" || !slices.Equal(id.Groups(), []string{"a", "b", "system:authenticated"}) || !reflect.DeepEqual(id.Extra(), want) {
		t.Errorf("got %q %q %v", id.UID(), id.Groups(), id.Extra())
	}
}
