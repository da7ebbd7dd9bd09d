package identityprovider

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/apis/apiserver"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// site is an OpenID provider on loopback, without a login.
type site struct {
	t       *testing.T
	server  *httptest.Server
	signer  *jws.Signer
	fetches atomic.Int32

	// mu guards what follows.
	mu        sync.Mutex
	at        time.Time
	discovery http.HandlerFunc
	keySet    http.HandlerFunc
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, signer: newSigner(t, "key-1"), at: time.Now()}
	s.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fetches.Add(1)
		s.mu.Lock()
		handler := map[string]http.HandlerFunc{"/.well-known/openid-configuration": s.discovery, "/keys": s.keySet}[r.URL.Path]
		s.mu.Unlock()
		if handler == nil {
			http.NotFound(w, r)
			return
		}
		handler(w, r)
	}))
	t.Cleanup(s.server.Close)
	s.serve(fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, s.server.URL, s.server.URL+"/keys"))
	s.publish(s.signer)
	return s
}

func newSigner(t *testing.T, id string) *jws.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	signer, err := jws.NewSigner(id, key)
	must(t, err)
	return signer
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(body))
	}
}

func (s *site) serve(discovery string) { s.handle(text(discovery), nil) }

func (s *site) publish(signers ...*jws.Signer) {
	s.t.Helper()
	var keys []*jws.Key
	for _, signer := range signers {
		keys = append(keys, signer.Key())
	}
	set, err := jws.MarshalKeySet(keys)
	must(s.t, err)
	s.handle(nil, text(string(set)))
}

func (s *site) handle(discovery, keySet http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if discovery != nil {
		s.discovery = discovery
	}
	if keySet != nil {
		s.keySet = keySet
	}
}

func (s *site) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

func (s *site) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = s.at.Add(d)
}

func (s *site) config() Config {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
	prefix := "login:"
	return Config{
		JWT: apiserver.JWTAuthenticator{
			Issuer: apiserver.Issuer{URL: s.server.URL, Audiences: []string{"gatehouse"}, CertificateAuthority: string(ca)},
			ClaimMappings: apiserver.ClaimMappings{
				Username: apiserver.PrefixedClaimOrExpression{Claim: "sub", Prefix: &prefix},
				Groups:   apiserver.PrefixedClaimOrExpression{Claim: "groups", Prefix: &prefix},
			},
		},
		Fetching: Fetching{AllowLoopback: true},
		Now:      s.now,
	}
}

func (s *site) provider(change ...func(*Config)) *Provider {
	s.t.Helper()
	cfg := s.config()
	for _, f := range change {
		f(&cfg)
	}
	p, err := New(cfg)
	must(s.t, err)
	s.t.Cleanup(p.Close)
	return p
}

func (s *site) token(changes map[string]any) string {
	s.t.Helper()
	return s.signed(s.signer, changes)
}

func (s *site) signed(signer *jws.Signer, changes map[string]any) string {
	s.t.Helper()
	claims := map[string]any{"iss": s.server.URL, "aud": "gatehouse", "sub": "jane", "groups": []string{"team"}, "jti": "t1",
		"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
	maps.Copy(claims, changes)
	payload, err := json.Marshal(claims)
	must(s.t, err)
	token, err := signer.Sign(payload)
	must(s.t, err)
	return token
}

func TestClaimMapping(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	got, err := s.provider().VerifyToken(context.Background(), s.token(nil), nil)
	must(t, err)
	if got.Name != "login:jane" || !slices.Equal(got.Groups, []string{"login:team"}) || got.CredentialID != "JTI=t1" || len(got.Extra) != 0 ||
		time.Until(got.NotAfter) > time.Hour || time.Until(got.NotAfter) < 59*time.Minute {
		t.Errorf("got %+v", got)
	}
	mapped := s.provider(func(c *Config) {
		c.JWT.ClaimMappings = apiserver.ClaimMappings{
			Username: apiserver.PrefixedClaimOrExpression{Expression: `claims.preferred_username + "@example.org"`},
			Groups:   apiserver.PrefixedClaimOrExpression{Expression: `claims.realm_access.roles.filter(r, r != "noise")`},
			UID:      apiserver.ClaimOrExpression{Claim: "sub"},
			Extra:    []apiserver.ExtraMapping{{Key: "example.org/tenant", ValueExpression: "claims.tenant"}},
		}
		c.JWT.ClaimValidationRules = []apiserver.ClaimValidationRule{{Expression: `claims.tenant in ["a", "b"]`, Message: "not our tenant"}}
		c.JWT.UserValidationRules = []apiserver.UserValidationRule{{Expression: `!user.username.startsWith("system:")`, Message: "reserved"}}
	})
	claims := map[string]any{"preferred_username": "jane", "tenant": "a", "realm_access": map[string]any{"roles": []string{"dev", "noise"}}}
	got, err = mapped.VerifyToken(context.Background(), s.token(claims), nil)
	must(t, err)
	if got.Name != "jane@example.org" || !slices.Equal(got.Groups, []string{"dev"}) || got.UID != "jane" || !slices.Equal(got.Extra["example.org/tenant"], []string{"a"}) {
		t.Errorf("got %+v", got)
	}
	for name, change := range map[string]map[string]any{
		"other tenant":  {"tenant": "c"},
		"reserved name": {"preferred_username": "system:admin"},
		"no user name":  {"preferred_username": nil},
	} {
		changed := maps.Clone(claims)
		maps.Copy(changed, change)
		if _, err := mapped.VerifyToken(context.Background(), s.token(changed), nil); fault.KindOf(err) != fault.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTokensRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.provider()
	good := s.token(nil)
	for name, token := range map[string]string{
		"expired":           s.token(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}),
		"far future":        s.token(map[string]any{"nbf": time.Now().Add(1000 * time.Hour).Unix()}),
		"other audience":    s.token(map[string]any{"aud": "other"}),
		"other issuer":      s.token(map[string]any{"iss": "https://other.example"}),
		"no subject":        s.token(map[string]any{"sub": ""}),
		"unknown key":       s.signed(newSigner(t, "key-9"), nil),
		"key of a stranger": s.signed(newSigner(t, "key-1"), nil),
		"payload changed":   good[:len(good)/2] + "A" + good[len(good)/2+1:],
		"garbage":           "a.b.c",
		"alg none":          "eyJhbGciOiJub25lIn0." + strings.Split(good, ".")[1] + ".",
	} {
		if _, err := p.VerifyToken(context.Background(), token, nil); fault.KindOf(err) != fault.Unauthenticated {
			t.Errorf("%s: %v (%v)", name, err, fault.KindOf(err))
		}
	}
	_, err := p.VerifyToken(context.Background(), good, nil)
	must(t, err)
	if n := s.fetches.Load(); n > 4 {
		t.Errorf("%d documents were fetched for ten bad tokens", n)
	}
}

// TestKeyRotation follows the issuer's keys without asking it all the time.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.provider()
	check := func(what, token string, want fault.Kind) {
		t.Helper()
		_, err := p.VerifyToken(context.Background(), token, nil)
		if (err == nil) != (want == fault.Internal) || err != nil && fault.KindOf(err) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	old := s.token(nil)
	check("first", old, fault.Internal)
	second := newSigner(t, "key-2")
	s.publish(s.signer, second)
	fresh := s.signed(second, nil)
	check("new key, asked a moment ago", fresh, fault.Unauthenticated)
	s.advance(askAgain)
	check("new key", fresh, fault.Internal)
	s.publish(second)
	check("old key, keys still fresh", old, fault.Internal)
	s.advance(freshFor)
	check("old key withdrawn", old, fault.Unauthenticated)
	check("new key stays", fresh, fault.Internal)
	// The issuer goes away: what is known serves for a while, what is not is
	// nobody's fault.
	s.handle(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusBadGateway) }, nil)
	s.advance(freshFor)
	check("issuer down, known key", fresh, fault.Internal)
	check("issuer down, unknown key", s.signed(newSigner(t, "key-3"), nil), fault.Unavailable)
	s.advance(staleFor)
	check("issuer down for long", fresh, fault.Unavailable)
	s.serve(fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, s.server.URL, s.server.URL+"/keys"))
	s.advance(askAgain)
	check("issuer back", fresh, fault.Internal)
}

// TestHostileDocuments has an issuer that serves what it should not. Its tokens
// are not accepted, nothing hangs, and the fault is named.
func TestHostileDocuments(t *testing.T) {
	t.Parallel()
	huge := func(w http.ResponseWriter, _ *http.Request) {
		chunk := []byte(strings.Repeat(" ", 64<<10))
		for range 1024 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
	redirect := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }
	slow := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	cases := map[string]struct {
		discovery, keySet func(s *site) http.HandlerFunc
		want              string
	}{
		"huge discovery":     {discovery: func(*site) http.HandlerFunc { return huge }, want: "larger than"},
		"huge key set":       {keySet: func(*site) http.HandlerFunc { return huge }, want: "larger than"},
		"circular discovery": {discovery: func(*site) http.HandlerFunc { return redirect }, want: "redirects are not followed"},
		"circular key set":   {keySet: func(*site) http.HandlerFunc { return redirect }, want: "redirects are not followed"},
		"slow discovery":     {discovery: func(*site) http.HandlerFunc { return slow }, want: "deadline"},
		"slow key set":       {keySet: func(*site) http.HandlerFunc { return slow }, want: "deadline"},
		"a page": {discovery: func(*site) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				_, _ = w.Write([]byte("<html>"))
			}
		}, want: "a page"},
		"no JSON": {discovery: func(*site) http.HandlerFunc { return text("hello") }, want: "json"},
		"about another issuer": {discovery: func(s *site) http.HandlerFunc {
			return text(fmt.Sprintf(`{"issuer":"https://other.example","jwks_uri":%q}`, s.server.URL+"/keys"))
		}, want: "about issuer"},
		"issuer twice": {discovery: func(s *site) http.HandlerFunc {
			return text(fmt.Sprintf(`{"issuer":"x","issuer":%q,"jwks_uri":%q}`, s.server.URL, s.server.URL+"/keys"))
		}, want: "twice"},
		"keys by plain HTTP": {discovery: func(s *site) http.HandlerFunc {
			return text(fmt.Sprintf(`{"issuer":%q,"jwks_uri":"http://127.0.0.1/keys"}`, s.server.URL))
		}, want: "no https URL"},
		"keys in a file": {discovery: func(s *site) http.HandlerFunc {
			return text(fmt.Sprintf(`{"issuer":%q,"jwks_uri":"file:///etc/passwd"}`, s.server.URL))
		}, want: "no https URL"},
		"keys at the metadata": {discovery: func(s *site) http.HandlerFunc {
			return text(fmt.Sprintf(`{"issuer":%q,"jwks_uri":"https://169.254.169.254/latest"}`, s.server.URL))
		}, want: errAddress.Error()},
		"shared secret": {keySet: func(*site) http.HandlerFunc { return text(`{"keys":[{"kty":"oct","kid":"key-1","k":"AAAA"}]}`) }, want: "shared secret"},
		"no keys":       {keySet: func(*site) http.HandlerFunc { return text(`{"keys":[]}`) }, want: "no key that verifies"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			if tc.discovery != nil {
				s.handle(tc.discovery(s), nil)
			}
			if tc.keySet != nil {
				s.handle(nil, tc.keySet(s))
			}
			ctx := context.Background()
			if tc.want == "deadline" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
			}
			_, err := s.provider().VerifyToken(ctx, s.token(nil), nil)
			if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if strings.Contains(fault.Public(err), "http") {
				t.Errorf("the caller learns where the issuer's documents are: %q", fault.Public(err))
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	rules := Fetching{Deny: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd12::/16")}}
	for address, want := range map[string]bool{
		"192.0.2.1": true, "10.0.0.1": true, "2001:db8::1": true,
		"127.0.0.1": false, "127.8.8.8": false, "::1": false, "::ffff:127.0.0.1": false,
		"169.254.169.254": false, "::ffff:169.254.169.254": false, "fe80::1": false, "fe80::1%eth0": false, "fd00:ec2::254": false,
		"0.0.0.0": false, "::": false, "224.0.0.1": false, "ff02::1": false,
		"10.1.2.3": false, "::ffff:10.1.2.3": false, "fd12::1": false, "fd12::1%eth0": false,
	} {
		if got := rules.allowed(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if (Fetching{}).allowed(netip.Addr{}) || !(Fetching{AllowLoopback: true}).allowed(netip.MustParseAddr("::1")) {
		t.Error("loopback and no address")
	}
	s := newSite(t)
	p := s.provider(func(c *Config) { c.Fetching.AllowLoopback = false })
	if _, err := p.VerifyToken(context.Background(), s.token(nil), nil); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), errAddress.Error()) {
		t.Errorf("got %v", err)
	}
	if n := s.fetches.Load(); n != 0 {
		t.Errorf("%d requests reached a forbidden address", n)
	}
}

// TestInTheChain has the whole way: a provider's token is an identity, its
// reserved names are not, whatever the mapping says.
func TestInTheChain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	none := ""
	p := s.provider(func(c *Config) { c.JWT.ClaimMappings.Groups.Prefix = &none })
	chain, err := authn.New(authn.Config{Audiences: []string{"api"}})
	must(t, err)
	must(t, chain.SetProviders([]authn.ProviderConfig{{Name: "login", Issuers: []string{p.Issuer()}, Provider: p}}))
	id, err := chain.VerifyToken(context.Background(), s.token(nil), nil)
	must(t, err)
	if id.Name() != "login:jane" || !slices.Equal(id.Groups(), []string{"team", "system:authenticated"}) || id.CredentialID() != "JTI=t1" || !slices.Equal(id.Audiences(), []string{"api"}) {
		t.Errorf("got %q %q %q", id.Name(), id.Groups(), id.CredentialID())
	}
	if _, err := chain.VerifyToken(context.Background(), s.token(map[string]any{"groups": []string{"system:masters"}}), nil); authn.ReasonOf(err) != authn.ReservedName {
		t.Errorf("system:masters: %v", err)
	}
	if _, err := chain.VerifyToken(context.Background(), s.token(nil), []string{"gatehouse:site:one"}); authn.ReasonOf(err) != authn.WrongAudience {
		t.Errorf("for a site: %v", err)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"
	issuer := func(url string) string {
		return "- issuer: {url: " + url + ", audiences: [a]}\n  claimMappings: {username: {claim: sub, prefix: \"\"}}\n"
	}
	got, err := Load([]byte(head+"jwt:\n"+issuer("https://a.example")+issuer("https://b.example")), nil)
	if err != nil || len(got) != 2 || got[1].Issuer.URL != "https://b.example" {
		t.Errorf("%v, %v", got, err)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"unknown field":     {head + "jwts: []\n", `unknown field "jwts"`},
		"field twice":       {head + "jwt: []\njwt: []\n", "already set"},
		"other kind":        {"apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: []\n", "expected kind AuthenticationConfiguration"},
		"no kind":           {"jwt: []\n", "Object 'Kind' is missing"},
		"anonymous":         {head + "anonymous: {enabled: true}\n", "anonymous is not configured here"},
		"issuer twice":      {head + "jwt:\n" + issuer("https://a.example") + issuer("https://a.example"), "Duplicate value"},
		"our issuer":        {head + "jwt:\n" + issuer("https://ours.example"), "disallowed"},
		"plain HTTP":        {head + "jwt:\n" + issuer("http://a.example"), "scheme must be https"},
		"no expression":     {head + "jwt:\n- issuer: {url: https://a.example, audiences: [a]}\n  claimMappings: {username: {expression: \"claims.\"}}\n", "compilation failed"},
		"no audience":       {head + "jwt:\n- issuer: {url: https://a.example}\n  claimMappings: {username: {claim: sub, prefix: \"\"}}\n", "issuer.audiences"},
		"Kubernetes' extra": {head + "jwt:\n- issuer: {url: https://a.example, audiences: [a]}\n  claimMappings: {username: {claim: sub, prefix: \"\"}, extra: [{key: kubernetes.io/x, valueExpression: \"'a'\"}]}\n", "k8s.io, kubernetes.io"},
	} {
		if _, err := Load([]byte(tc.text), []string{"https://ours.example"}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for name, change := range map[string]func(*Config){
		"no user name":   func(c *Config) { c.JWT.ClaimMappings = apiserver.ClaimMappings{} },
		"no CA in it":    func(c *Config) { c.JWT.Issuer.CertificateAuthority = "nonsense" },
		"egress":         func(c *Config) { c.JWT.Issuer.EgressSelectorType = apiserver.EgressSelectorCluster },
		"our own issuer": func(c *Config) { c.DisallowedIssuers = []string{c.JWT.Issuer.URL} },
	} {
		cfg := s.config()
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestManager changes the configuration while it is in use.
func TestManager(t *testing.T) {
	t.Parallel()
	a, b := newSite(t), newSite(t)
	chain, err := authn.New(authn.Config{Audiences: []string{"api"}})
	must(t, err)
	m := NewManager(chain)
	check := func(what string, s *site, want authn.Reason) {
		t.Helper()
		if _, err := chain.VerifyToken(context.Background(), s.token(map[string]any{"jti": what}), nil); authn.ReasonOf(err) != want || (err == nil) != (want == "") {
			t.Errorf("%s: %v", what, err)
		}
	}
	good := func(faults map[string]error) {
		t.Helper()
		if len(faults) > 0 {
			t.Fatal(faults)
		}
	}
	spec := func(name string, s *site) Spec { return Spec{Name: name, Config: s.config()} }
	good(m.Apply([]Spec{spec("a", a)}))
	check("a alone: a", a, "")
	check("a alone: b", b, authn.UnknownIssuer)
	fetched := a.fetches.Load()
	good(m.Apply([]Spec{spec("b", b), spec("a", a)}))
	check("both: a", a, "")
	check("both: b", b, "")
	if a.fetches.Load() != fetched {
		t.Error("an issuer that did not change was started anew")
	}
	changed := spec("a", a)
	changed.JWT.Issuer.Audiences = []string{"other"}
	good(m.Apply([]Spec{spec("b", b), changed}))
	check("a for another audience: a", a, authn.Refused)
	check("a for another audience: b", b, "")
	broken := spec("c", a)
	broken.JWT.ClaimMappings = apiserver.ClaimMappings{}
	// One that cannot run keeps nobody else from running.
	if faults := m.Apply([]Spec{spec("b", b), broken}); len(faults) != 1 || faults["c"] == nil {
		t.Errorf("broken: %v", faults)
	}
	check("beside a broken one: b", b, "")
	check("beside a broken one: a", a, authn.UnknownIssuer)
	impostor := spec("impostor", b)
	impostor.DisallowedIssuers = []string{b.server.URL}
	faults := m.Apply([]Spec{impostor, spec("a", a), spec("again", a), spec("a", b)})
	if len(faults) != 3 || faults["again"] == nil || faults["impostor"] == nil {
		t.Errorf("one issuer under two names, ours, one name twice: %v", faults)
	}
	check("the first of two: a", a, "")
	check("ours: b", b, authn.UnknownIssuer)
	good(m.Apply(nil))
	check("none: a", a, authn.UnknownIssuer)
	check("none: b", b, authn.UnknownIssuer)
}
