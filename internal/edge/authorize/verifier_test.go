package authorize

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/authz/snapshot"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
	"github.com/gatehouse-dev/gatehouse/internal/issuer"
)

// mint is the issuer of the control plane, its chain, and bans that it knows.
type mint struct {
	*world
	*issuer.Issuer
	chain *authn.Chain
	bans  *authn.Bans
}

func newMint(t testing.TB, site string) *mint {
	t.Helper()
	m := &mint{world: newWorld(t, site), bans: authn.NewBans()}
	var err error
	m.Issuer, err = issuer.New(issuer.Config{URL: "https://gatehouse.example", Now: m.clock})
	if err != nil {
		t.Fatal(err)
	}
	m.rotate()
	m.chain, err = authn.New(authn.Config{Audiences: []string{"gatehouse"}, Issuers: []authn.TrustedIssuer{m.Trusted()}, Objects: m.index, Bans: m.bans, Now: m.clock})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// rotate withdraws every key; what is shipped next has the new one.
func (m *mint) rotate() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err == nil {
		err = m.SetKeys(issuer.Keys{Signing: key})
	}
	if err != nil {
		m.t.Fatal(err)
	}
	documents, err := m.Documents()
	if err != nil {
		m.t.Fatal(err)
	}
	m.issuers = []snapshot.Issuer{{URL: m.URL(), KeySet: string(documents.KeySet)}}
}

func (m *mint) token(c issuer.Claims) issuer.Token {
	token, err := m.Mint(m.t.Context(), c)
	if err != nil {
		m.t.Fatal(err)
	}
	return token
}

// answers is what the control plane answers about a token; see package server.
func (m *mint) answers(token string) authenticationv1.TokenReviewStatus {
	site := &federationapi.Site{}
	site.Name = m.cfg.Site
	status, err := federation.TokenForSite(m.t.Context(), m.chain, site, spec(token))
	if err != nil {
		m.t.Fatal(err)
	}
	extra := map[string][]string{}
	for k, v := range status.User.Extra {
		extra[k] = v
	}
	who := access.Subject{Name: status.User.Username, UID: status.User.UID, Groups: status.User.Groups, Extra: extra}
	if reason, banned := access.BannedAtSite(m.engine.Snapshot(), m.cfg.Site, who, m.clock()); status.Authenticated && banned {
		return authenticationv1.TokenReviewStatus{Error: reason}
	}
	return status
}

func (d draw) claims() issuer.Claims {
	ref := func(name string) *issuer.Ref { return &issuer.Ref{Name: name, UID: d.pick("uid-1", "uid-1", "uid-2")} }
	c := issuer.Claims{Namespace: d.pick("lab", "den"), Account: *ref(d.pick("robot", "other")), Lifetime: time.Duration(1+d.IntN(5)) * 10 * time.Minute,
		Audiences: d.some("gatehouse:site:blue", "gatehouse:site:blue", "gatehouse:site:blue", "gatehouse:site:red", "gatehouse")}
	switch d.IntN(5) {
	case 0:
		c.Pod, c.Container = ref("p"), d.pick("", "main")
		if d.IntN(2) == 0 {
			c.Node = &issuer.Ref{Name: "n1", UID: d.pick("", "uid-1")}
		}
	case 1:
		c.Secret = ref("s")
	case 2:
		c.Node = ref("n1")
	case 3:
		c.Attestations = map[string][]string{"admissionReviewAPIGroups": {"apps"}}
	}
	return c
}

// TestTokensAreVerifiedAsAtTheCentre asks both about random tokens, never shown
// before, while the control plane is away: the same tokens are good, of the same
// callers.
func TestTokensAreVerifiedAsAtTheCentre(t *testing.T) {
	t.Parallel()
	var good, bad int
	for seed := range uint64(30) {
		d := draw{rand.New(rand.NewPCG(seed, 31))}
		m := newMint(t, "blue")
		for _, ns := range []string{"lab", "den"} {
			for _, key := range []authn.ObjectKey{
				{Kind: authn.ServiceAccountObject, Namespace: ns, Name: "robot"}, {Kind: authn.ServiceAccountObject, Namespace: ns, Name: "other"},
				{Kind: authn.PodObject, Namespace: ns, Name: "p"}, {Kind: authn.SecretObject, Namespace: ns, Name: "s"}, {Kind: authn.NodeObject, Name: "n1"},
			} {
				if d.IntN(5) > 0 {
					m.index.Put(key, authn.ObjectState{UID: "uid-1"})
				}
			}
		}
		var tokens []string
		var last issuer.Token
		for i := range 30 {
			if i == 8 && d.IntN(2) == 0 {
				m.rotate() // what was minted before is over
			}
			last = m.token(d.claims())
			tokens = append(tokens, last.Text.Reveal())
		}
		var bans []authn.Ban
		m.engine.Update(func(tx *authz.Tx) {
			tx.PutSite(authz.Site{Name: "blue"})
			if d.IntN(2) == 0 {
				tx.PutBan(authz.Ban{Name: "one", CredentialIDs: []string{last.CredentialID()}, Sites: []string{"*"}})
				bans = append(bans, authn.Ban{Name: "one", Credential: last.CredentialID()})
			}
			if d.IntN(3) == 0 { // the engine's alone
				tx.PutBan(authz.Ban{Name: "here", Sites: []string{d.pick("blue", "red")}, NotAfter: noon.Add(time.Duration(d.IntN(40)) * time.Minute),
					Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.ServiceAccount, Namespace: "den", Name: "robot"}}}})
			}
			if d.IntN(6) == 0 {
				tx.PutBan(authz.Ban{Name: "all", Sites: []string{"*"},
					Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.Group, Name: "system:serviceaccounts:lab"}}}})
				bans = append(bans, authn.Ban{Name: "all", Group: "system:serviceaccounts:lab"})
			}
		})
		if err := m.bans.Replace(bans); err != nil {
			t.Fatal(err)
		}
		m.ship()
		m.connect(false)
		m.away(unavailable)
		for range 3 {
			for i, token := range tokens {
				if d.IntN(10) == 0 {
					token = token[:len(token)-5] + "AAAAA"
				}
				want := m.answers(token)
				got, err := m.review(token)
				if err != nil || got.Authenticated != want.Authenticated || got.Authenticated && !reflect.DeepEqual(got, want) || !got.Authenticated && got.Error == "" {
					t.Fatalf("seed %d, token %d:\ncentre %+v\nhere   %+v %v", seed, i, want, got, err)
				}
				if got.Authenticated {
					good++
				} else {
					bad++
				}
			}
			m.pass(20 * time.Minute)
		}
		if n := m.Point.answers.memory.Load() + m.Point.answers.centre.Load(); n > 0 {
			t.Fatalf("%d tokens were not verified here", n)
		}
	}
	if good < 200 || bad < 500 {
		t.Errorf("%d good, %d bad: the tokens say little", good, bad)
	}
}

func robotClaims() issuer.Claims {
	return issuer.Claims{Namespace: "lab", Account: issuer.Ref{Name: "robot", UID: "uid-1"}, Audiences: []string{"gatehouse:site:blue"}, Lifetime: time.Hour}
}

// TestNewerThanThePolicy: what is not known here yet is the control plane's to
// say, and what it said counts until the policy is newer.
func TestNewerThanThePolicy(t *testing.T) {
	t.Parallel()
	m := newMint(t, "blue")
	m.engine.Update(func(tx *authz.Tx) { tx.PutSite(authz.Site{Name: "blue"}) })
	m.ship()
	robot := authn.ObjectKey{Kind: authn.ServiceAccountObject, Namespace: "lab", Name: "robot"}
	m.index.Put(robot, authn.ObjectState{UID: "uid-1"})
	claims := robotClaims()
	claims.Pod = &issuer.Ref{Name: "p", UID: "uid-1"}
	m.index.Put(authn.ObjectKey{Kind: authn.PodObject, Namespace: "lab", Name: "p"}, authn.ObjectState{UID: "uid-1"})
	bound := m.token(claims).Text.Reveal()
	m.rotate()
	newest := m.token(robotClaims()).Text.Reveal()
	m.says = map[string]authenticationv1.TokenReviewStatus{bound: good(robotUser, "uid-1", nil), newest: good(robotUser, "uid-1", nil)}
	check := func(when, token string, want bool) {
		t.Helper()
		s, err := m.review(token)
		if err != nil || s.Authenticated != want || !want && s.Error == "" {
			t.Errorf("%s: %+v %v", when, s, err)
		}
	}
	m.pass(time.Second)
	asked := m.asked
	check("bound to a pod that is new", bound, true)
	check("signed by a key that is new", newest, true)
	if m.asked != asked+2 {
		t.Errorf("asked %d times", m.asked-asked)
	}
	m.connect(false)
	m.away(unavailable)
	check("away, after the control plane spoke", bound, true)
	check("away, after the control plane spoke", newest, true)
	// The policy that comes next knows better than what was said.
	m.pass(time.Second)
	m.ship()
	check("its key was withdrawn", bound, false)
	check("known now", newest, true)
	m.index.Delete(robot)
	m.ship()
	check("its account is gone", newest, false)
	if m.Point.answers.here.Load() != 1 {
		t.Errorf("%d tokens were verified here", m.Point.answers.here.Load())
	}
}

// TestBansBeyondThePolicy: bans of keys and sites are not shipped, so that what
// they might end by way of another credential or site is not good here alone.
func TestBansBeyondThePolicy(t *testing.T) {
	t.Parallel()
	m := newMint(t, "blue")
	m.engine.Update(func(tx *authz.Tx) { tx.PutSite(authz.Site{Name: "blue"}) })
	m.index.Put(authn.ObjectKey{Kind: authn.ServiceAccountObject, Namespace: "lab", Name: "robot"}, authn.ObjectState{UID: "uid-1"})
	for _, site := range []string{"blue", "red"} {
		m.index.Put(authn.ObjectKey{Kind: authn.SiteObject, Name: site}, authn.ObjectState{UID: "uid-1"})
	}
	m.ship()
	mint := func(change func(*issuer.Claims)) string {
		claims := robotClaims()
		change(&claims)
		return m.token(claims).Text.Reveal()
	}
	first := mint(func(*issuer.Claims) {})
	id, err := m.chain.VerifyToken(t.Context(), first, []string{"gatehouse:site:blue"})
	if err != nil {
		t.Fatal(err)
	}
	line, err := m.chain.Made(id)
	if err != nil {
		t.Fatal(err)
	}
	made := mint(func(c *issuer.Claims) { c.Origin = line })
	ours := mint(func(c *issuer.Claims) { c.Site = &issuer.SiteRef{Ref: issuer.Ref{Name: "blue", UID: "uid-1"}} })
	other := mint(func(c *issuer.Claims) { c.Site = &issuer.SiteRef{Ref: issuer.Ref{Name: "red", UID: "uid-1"}} })
	check := func(when, token string, want bool, asks int) {
		t.Helper()
		asked := m.asked
		s, err := m.review(token)
		if err != nil || s.Authenticated != want || m.asked != asked+asks {
			t.Errorf("%s: asked %d times, %+v %v", when, m.asked-asked, s, err)
		}
	}
	check("made with a key that is known", made, true, 0)
	check("bound to this site", ours, true, 0)
	check("bound to another", other, false, 1)
	// A ban of the key takes it out of what is shipped.
	m.rotate()
	made = mint(func(c *issuer.Claims) { c.Origin = line })
	m.ship()
	check("made with a key that is not known", made, false, 1)
	m.says = map[string]authenticationv1.TokenReviewStatus{made: good(robotUser, "uid-1", nil), other: good(robotUser, "uid-1", nil)}
	check("the control plane says so", made, true, 1)
	check("the control plane says so", other, true, 1)
	m.connect(false)
	m.away(unavailable)
	m.says = nil
	m.pass(time.Second)
	m.ship()
	check("away, and the policy is newer", made, false, 1)
	check("away, and the policy is newer", other, false, 1)
}

// TestForgedTokensAreNotAskedAbout: nothing can make them good, and the control
// plane is spared.
func TestForgedTokensAreNotAskedAbout(t *testing.T) {
	t.Parallel()
	m := newMint(t, "blue")
	m.engine.Update(func(tx *authz.Tx) { tx.PutSite(authz.Site{Name: "blue"}) })
	m.index.Put(authn.ObjectKey{Kind: authn.ServiceAccountObject, Namespace: "lab", Name: "robot"}, authn.ObjectState{UID: "uid-1"})
	m.ship()
	real := m.token(robotClaims()).Text.Reveal()
	elsewhere := robotClaims()
	elsewhere.Audiences = []string{"gatehouse:site:red", "gatehouse"}
	parts := strings.Split(real, ".")
	for name, token := range map[string]string{
		"signature": parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])),
		"audience":  m.token(elsewhere).Text.Reveal(),
	} {
		if s, err := m.review(token); err != nil || s.Authenticated || s.Error == "" {
			t.Errorf("%s: %+v %v", name, s, err)
		}
	}
	if s, err := m.review(real); err != nil || !s.Authenticated {
		t.Errorf("the real one: %+v %v", s, err)
	}
	if m.asked != 0 {
		t.Errorf("the control plane was asked %d times", m.asked)
	}
	// After the end of the policy nothing is verified either.
	m.pass(25 * time.Hour)
	if s, err := m.review(real); err == nil || s.Authenticated {
		t.Errorf("after the end of the policy: %+v %v", s, err)
	}
}

// TestKeysThatCannotBeRead: the control plane judges, nothing is taken on trust.
func TestKeysThatCannotBeRead(t *testing.T) {
	t.Parallel()
	m := newMint(t, "blue")
	m.engine.Update(func(tx *authz.Tx) { tx.PutSite(authz.Site{Name: "blue"}) })
	m.issuers[0].KeySet = `{"keys":[{"kty":"oct","k":"AAAA","kid":"x"}]}`
	m.ship()
	m.says = map[string]authenticationv1.TokenReviewStatus{"t": good("ada", "", nil)}
	if s, err := m.review("t"); err != nil || !s.Authenticated {
		t.Errorf("heard: %+v %v", s, err)
	}
	m.pass(time.Second)
	m.ship()
	m.connect(false)
	m.away(unavailable)
	if s, err := m.review("t"); err != nil || s.Authenticated || s.Error == "" {
		t.Errorf("away: %+v %v", s, err)
	}
}

// BenchmarkToken is one token at the door, without its way there: shown again,
// and shown for the first time.
func BenchmarkToken(b *testing.B) {
	m := newMint(b, "blue")
	m.engine.Update(func(tx *authz.Tx) { tx.PutSite(authz.Site{Name: "blue"}) })
	m.index.Put(authn.ObjectKey{Kind: authn.ServiceAccountObject, Namespace: "lab", Name: "robot"}, authn.ObjectState{UID: "uid-1"})
	m.ship()
	token := m.token(robotClaims()).Text.Reveal()
	review := func(b *testing.B, token string) {
		if s, err := m.review(token); err != nil || !s.Authenticated {
			b.Fatal(s, err)
		}
	}
	b.Run("warm", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			review(b, token)
		}
	})
	b.Run("cold", func(b *testing.B) {
		tokens := make([]string, b.N)
		for i := range tokens {
			tokens[i] = m.token(robotClaims()).Text.Reveal()
		}
		b.ReportAllocs()
		b.ResetTimer()
		for _, token := range tokens {
			review(b, token)
		}
	})
}
