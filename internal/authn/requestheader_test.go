package authn_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
)

func TestVerifyForwarded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	proxyCA := newAuthority(t, w.clock, "proxy CA", nil)
	clientCA := newAuthority(t, w.clock, "client CA", nil)
	w.chain.SetClientCAs(clientCA.pool())
	front := []*x509.Certificate{proxyCA.issue(pkix.Name{CommonName: "front-proxy"})}
	other := []*x509.Certificate{proxyCA.issue(pkix.Name{CommonName: "other"})}
	user := []*x509.Certificate{clientCA.issue(pkix.Name{CommonName: "front-proxy"})}
	jane := authn.Forwarded{Name: "jane", UID: "7", Groups: []string{"team"}, Extra: map[string][]string{"scopes": {"a", "b"}}}
	check := func(what string, peer []*x509.Certificate, f authn.Forwarded, want authn.Reason) authn.Identity {
		t.Helper()
		id, err := w.chain.VerifyForwarded(context.Background(), peer, f)
		if authn.ReasonOf(err) != want || id.Valid() != (want == "") {
			t.Errorf("%s: %q, %v", what, id.Name(), err)
		}
		return id
	}
	check("no proxy trusted", front, jane, authn.UnknownIssuer)
	w.chain.SetProxyCAs(proxyCA.pool(), []string{"front-proxy"})
	for range 2 {
		id := check("good", front, jane, "")
		want := map[string][]string{"scopes": {"a", "b"}, authn.ExtraCredentialID: {authn.CertificateID(front[0])}}
		if id.Name() != "jane" || id.UID() != "7" || !slices.Equal(id.Groups(), []string{"team", "system:authenticated"}) || !reflect.DeepEqual(id.Extra(), want) || id.Method() != authn.RequestHeader {
			t.Errorf("got %q %q %q %v", id.Name(), id.Groups(), id.Extra(), id.Method())
		}
	}
	passed := authn.Forwarded{Name: "jane", Extra: map[string][]string{authn.ExtraCredentialID: {"JTI=1"}}}
	if id := check("credential passed on", front, passed, ""); id.CredentialID() != "JTI=1" {
		t.Errorf("credential %q", id.CredentialID())
	}
	check("other name", other, jane, authn.ReservedName)
	check("client CA", user, jane, authn.BadSignature)
	check("no certificate", nil, jane, authn.Malformed)
	check("nobody", front, authn.Forwarded{}, authn.ReservedName)
	check("site", front, authn.Forwarded{Name: "system:site:one"}, authn.ReservedName)
	check("group of sites", front, authn.Forwarded{Name: "x", Groups: []string{"system:sites"}}, authn.ReservedName)
	for name, ban := range map[string]authn.Ban{"proxy": {Credential: authn.CertificateID(front[0])}, "credential": {Credential: "JTI=1"}, "user": {User: "jane"}} {
		must(t, w.bans.Replace([]authn.Ban{ban}))
		check(name+" banned", front, passed, authn.Banned)
	}
	must(t, w.bans.Replace(nil))
	// What the credential was made with is not lost on the way.
	passed.Extra[authn.ExtraOrigin] = []string{"JTI=0;kid=k0"}
	id := check("line passed on", front, passed, "")
	if made, err := w.chain.Made(id); err != nil || len(made) != 3 || origin.ID(made[0]) != "JTI=1" || origin.ID(made[1]) != authn.CertificateID(front[0]) || made[2] != "JTI=0;kid=k0" {
		t.Errorf("what is made has the line %q, %v", made, err)
	}
	unnamed := authn.Forwarded{Name: "jane", Extra: map[string][]string{authn.ExtraOrigin: {"JTI=0;kid=k0"}}}
	for name, ban := range map[string]authn.Ban{"origin": {Credential: "JTI=0"}, "key of the origin": {IssuerKey: "k0"}} {
		must(t, w.bans.Replace([]authn.Ban{ban}))
		check(name+" banned", front, passed, authn.Banned)
		check(name+" banned, no credential passed on", front, unnamed, authn.Banned)
	}
	must(t, w.bans.Replace(nil))
	check("no line", front, authn.Forwarded{Name: "jane", Extra: map[string][]string{authn.ExtraOrigin: {"JTI=a b"}}}, authn.Malformed)
	// A proxy is nobody by itself.
	if _, err := w.chain.VerifyCertificate(context.Background(), front); authn.ReasonOf(err) != authn.BadSignature {
		t.Errorf("proxy as a user: %v", err)
	}
	w.chain.SetProxyCAs(proxyCA.pool(), nil)
	check("any name", other, jane, "")
	w.clock.advance(2 * time.Hour)
	check("expired", front, jane, authn.Expired)
	w.chain.SetProxyCAs(nil, nil)
	check("no proxy trusted any more", front, jane, authn.UnknownIssuer)
}
