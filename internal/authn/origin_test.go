package authn_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/accesskey"
	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
)

// A ban on a credential ends what was made with it at any distance, whatever it
// speaks for, and lifting the ban brings it back.
func TestBansReachWhatWasMade(t *testing.T) {
	t.Parallel()
	keys := accesskey.NewMemory()
	keys.Replace(nil)
	w := newWorld(t, func(c *authn.Config) { c.AccessKeys = keys })
	stolen := w.accepted(w.token(w.claims()))
	made := func(id authn.Identity) []string {
		line, err := w.chain.Made(id)
		must(t, err)
		return line
	}
	key := func(line []string) string {
		text, record, err := accesskey.New(accesskey.Request{User: "ada", Audience: audience, Namespace: "ns", Lifetime: 24 * time.Hour, Origin: line}, w.clock.now())
		must(t, err)
		keys.Put(record)
		return text.Reveal()
	}
	first := key(made(stolen))
	// A token asked for with the key, and a certificate with the token.
	token := w.token(w.with(object{"jti": "second", "gatehouse.dev": object{"origin": made(w.accepted(first))}}))
	line := made(w.accepted(token))
	if len(line) != 3 || origin.ID(line[2]) != stolen.CredentialID() || !strings.Contains(line[2], ";exp=") || !strings.Contains(line[2], ";kid="+stolen.IssuerKey()) {
		t.Fatalf("line %q", line)
	}
	ca := newAuthority(t, w.clock, "clients", nil)
	w.chain.SetClientCAs(ca.pool())
	extension, err := origin.Extension(line)
	must(t, err)
	cert := ca.issue(pkix.Name{CommonName: "bob"}, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{extension} })
	session, record, err := accesskey.New(accesskey.Request{User: "ada", Audience: audience, Namespace: "ns", Lifetime: time.Hour, OpenedBy: w.accepted(first).CredentialID()}, w.clock.now())
	must(t, err)
	keys.Put(record)

	uses := map[string]func() error{
		"key":     func() error { _, err := w.verify(first); return err },
		"token":   func() error { _, err := w.verify(token); return err },
		"session": func() error { _, err := w.verify(session.Reveal()); return err },
		"certificate": func() error {
			_, err := w.chain.VerifyCertificate(context.Background(), []*x509.Certificate{cert})
			return err
		},
	}
	check := func(when string, reach bool) {
		t.Helper()
		for what, use := range uses {
			if err := use(); (err != nil) != reach || reach && authn.ReasonOf(err) != authn.Banned {
				t.Errorf("%s: %s: %v", when, what, err)
			}
		}
	}
	check("before", false)
	for what, ban := range map[string]authn.Ban{
		"credential": {Name: "b", Credential: stolen.CredentialID()},
		"issuer key": {Name: "b", IssuerKey: stolen.IssuerKey()},
	} {
		must(t, w.bans.Replace([]authn.Ban{ban}))
		check("ban of the "+what, true)
		must(t, w.bans.Replace(nil))
		check("no ban of the "+what, false)
	}
	spares := authn.Ban{Name: "b", Credential: stolen.CredentialID(), KeepsMade: true}
	must(t, w.bans.Replace([]authn.Ban{spares}))
	check("a ban of the one alone", false)
	if _, err := w.verify(w.token(w.claims())); authn.ReasonOf(err) != authn.Banned {
		t.Errorf("the banned one itself: %v", err)
	}
	// Beside one that spares, whichever lasts longer, the other counts.
	ends := authn.Ban{Name: "c", Credential: stolen.CredentialID(), Until: w.clock.now().Add(time.Minute)}
	must(t, w.bans.Replace([]authn.Ban{spares, ends}))
	check("both", true)
	w.clock.advance(2 * time.Minute)
	check("one is over", false)
	if got := w.accepted(first).Extra()[authn.ExtraOrigin]; !slices.Equal(got, made(stolen)) {
		t.Errorf("extra says %q", got)
	}
}

// A line that nobody of ours can have written is no line.
func TestMalformedLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, line := range map[string]any{
		"empty": []string{}, "text": "JTI=a", "numbers": []any{1}, "nothing": []string{""}, "blanks": []string{"JTI=a b"},
		"too many": slices.Repeat([]string{"JTI=a"}, origin.Max+1), "too long": []string{strings.Repeat("x", 4096)},
	} {
		err := w.refused(w.token(w.with(object{"gatehouse.dev": object{"origin": line}})), authn.Malformed)
		if !strings.Contains(err.Error(), `claim "origin"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ca := newAuthority(t, w.clock, "clients", nil)
	w.chain.SetClientCAs(ca.pool())
	broken, err := origin.Extension([]string{"JTI=a", ""})
	must(t, err)
	cert := ca.issue(pkix.Name{CommonName: "bob"}, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{broken} })
	if _, err := w.chain.VerifyCertificate(context.Background(), []*x509.Certificate{cert}); authn.ReasonOf(err) != authn.Malformed {
		t.Errorf("certificate: %v", err)
	}
	// Of somebody else's authority it means nothing.
	w.chain.SetClientCAs(x509.NewCertPool())
	w.chain.SetForeignCAs(ca.pool())
	id, err := w.chain.VerifyCertificate(context.Background(), []*x509.Certificate{cert})
	if err != nil || id.Origin() != nil {
		t.Errorf("foreign certificate: %v %q", err, id.Origin())
	}
}

// What a provider said of somebody is said of their key, and nothing else is.
func TestKeyExtra(t *testing.T) {
	t.Parallel()
	got := authn.KeyExtra(map[string][]string{
		"example.org/department": {"sales", "ops"}, "empty.example/x": {}, "Upper.example/x": {"a"}, "": {"a"},
		authn.ExtraCredentialID: {"JTI=a"}, authn.ExtraOrigin: {"JTI=b"}, authn.ExtraPodName: {"p"}, authn.ExtraKeyNamespace: {"ns"},
		"big.example/x": {strings.Repeat("x", 20<<10)},
	})
	if len(got) != 1 || !slices.Equal(got["example.org/department"], []string{"sales", "ops"}) {
		t.Errorf("carried: %v", got)
	}
	for name, extra := range map[string]map[string][]string{
		"ours":     {authn.ExtraOrigin: {"JTI=b"}},
		"upstream": {authn.ExtraCredentialID: {"JTI=b"}},
		"too big":  {"example.org/x": {strings.Repeat("x", 20<<10)}},
	} {
		if err := authn.CheckKeySubject(accesskey.Record{User: "ada", Namespace: "ns", Extra: extra}); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
}
