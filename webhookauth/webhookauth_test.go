package webhookauth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-dev/gatehouse/internal/issuer"
	"github.com/gatehouse-dev/gatehouse/webhookauth"
)

const audience = "https://hook.example/check"

// plane is a control plane as far as the package speaks to one.
type plane struct {
	t      *testing.T
	server *httptest.Server
	issuer *issuer.Issuer
	key    *ecdsa.PrivateKey

	mu       sync.Mutex
	now      time.Time
	fetches  int
	document func(http.ResponseWriter) bool // replaces the key set
	review   func(token string) string      // answers reviews
	asked    int
	mints    int
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	p := &plane{t: t, now: time.Unix(1_800_000_000, 0)}
	mux := http.NewServeMux()
	p.server = httptest.NewTLSServer(mux)
	t.Cleanup(p.server.Close)
	var err error
	if p.issuer, err = issuer.New(issuer.Config{URL: p.server.URL, Now: p.clock}); err != nil {
		t.Fatal(err)
	}
	p.rotate()
	mux.HandleFunc(issuer.DiscoveryPath, func(w http.ResponseWriter, _ *http.Request) {
		d, _ := p.issuer.Documents()
		_, _ = w.Write(d.Discovery)
	})
	mux.HandleFunc(issuer.KeySetPath, func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		p.fetches++
		document := p.document
		p.mu.Unlock()
		if document != nil && document(w) {
			return
		}
		d, _ := p.issuer.Documents()
		_, _ = w.Write(d.KeySet)
	})
	mux.HandleFunc("/apis/authentication.k8s.io/v1/tokenreviews", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Spec struct{ Token string } }
		_ = json.NewDecoder(r.Body).Decode(&in)
		p.mu.Lock()
		p.asked++
		review := p.review
		p.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(review(in.Spec.Token)))
	})
	mux.HandleFunc("/api/v1/namespaces/ns/serviceaccounts/robot/token", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Spec struct {
				Audiences         []string
				ExpirationSeconds int64
				Attestations      map[string][]string
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		p.mu.Lock()
		p.mints++
		fail := p.review == nil && p.mints > 100
		p.mu.Unlock()
		if fail {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		token := p.mint(func(c *issuer.Claims) {
			c.Audiences, c.Attestations, c.Lifetime = in.Spec.Audiences, in.Spec.Attestations, time.Duration(in.Spec.ExpirationSeconds)*time.Second
		})
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"status":{"token":%q,"expirationTimestamp":%q}}`, token, p.clock().Add(time.Duration(in.Spec.ExpirationSeconds)*time.Second).UTC().Format(time.RFC3339))
	})
	return p
}

func (p *plane) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *plane) advance(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

func (p *plane) count() (fetches, asked, mints int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetches, p.asked, p.mints
}

func (p *plane) set(document func(http.ResponseWriter) bool, review func(string) string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.document, p.review = document, review
}

func (p *plane) rotate() {
	p.t.Helper()
	var err error
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		p.t.Fatal(err)
	}
	if err := p.issuer.SetKeys(issuer.Keys{Signing: p.key}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *plane) mint(change func(*issuer.Claims)) string {
	p.t.Helper()
	c := issuer.Claims{Namespace: "ns", Account: issuer.Ref{Name: "robot", UID: "7"}, Audiences: []string{audience}, Lifetime: time.Hour}
	if change != nil {
		change(&c)
	}
	token, err := p.issuer.Mint(context.Background(), c)
	if err != nil {
		p.t.Error(err)
	}
	return token.Text.Reveal()
}

func (p *plane) verifier(change func(*webhookauth.Config)) *webhookauth.Verifier {
	p.t.Helper()
	c := webhookauth.Config{Issuer: p.server.URL, Audience: audience, Client: p.server.Client(), Now: p.clock}
	if change != nil {
		change(&c)
	}
	v, err := webhookauth.New(c)
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

func TestVerify(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	v := p.verifier(nil)
	got, err := v.Verify(t.Context(), "Bearer "+p.mint(func(c *issuer.Claims) {
		c.Pod, c.Container = &issuer.Ref{Name: "web", UID: "9"}, "main"
		c.Attestations = map[string][]string{"admissionReviewAPIGroups": {"apps"}}
	}))
	if err != nil || got.User != "system:serviceaccount:ns:robot" || got.UID != "7" || got.Namespace != "ns" || got.ServiceAccount != "robot" ||
		got.Pod != "web" || got.PodUID != "9" || got.Container != "main" || !strings.HasPrefix(got.CredentialID, "JTI=") || !got.Expires.Equal(p.clock().Add(time.Hour)) {
		t.Errorf("caller %+v, %v", got, err)
	}
	if !got.MayReview("apps") || got.MayReview("batch") || got.MayReview("") || !(webhookauth.Caller{AdmissionReviewAPIGroup: "*"}).MayReview("") || (webhookauth.Caller{}).MayReview("") {
		t.Error("attested groups")
	}

	stranger := newPlane(t)
	good := p.mint(nil)
	header, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	shared, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: must(x509.MarshalPKIXPublicKey(p.key.Public()))(t)}, (&jose.SignerOptions{}).WithHeader("kid", p.issuer.SigningKeyID()))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		t.Fatal(err)
	}
	confused := must(must(shared.Sign(claims))(t).CompactSerialize())(t)
	for name, authorization := range map[string]string{
		"nothing":             "",
		"no token":            "Bearer ",
		"another scheme":      "Basic YTpi",
		"two tokens":          "Bearer " + good + " " + good,
		"garbage":             "Bearer garbage",
		"another audience":    "Bearer " + p.mint(func(c *issuer.Claims) { c.Audiences = []string{"gatehouse"} }),
		"a longer audience":   "Bearer " + p.mint(func(c *issuer.Claims) { c.Audiences = []string{audience + "/more"} }),
		"a stranger's token":  "Bearer " + stranger.mint(nil),
		"no algorithm":        "Bearer " + encode(`{"alg":"none"}`) + "." + payload + ".",
		"the key as a secret": "Bearer " + confused,
		"another signature":   "Bearer " + header + "." + payload + "." + signature[:len(signature)-4] + "AAAA",
		"a megabyte":          "Bearer " + header + "." + strings.Repeat("A", 1<<20) + "." + signature,
	} {
		if c, err := v.Verify(t.Context(), authorization); !errors.Is(err, webhookauth.ErrUnauthenticated) || c.User != "" {
			t.Errorf("%s: %+v %v", name, c, err)
		}
	}
	if _, err := v.Verify(t.Context(), "bearer "+good); err != nil {
		t.Errorf("the scheme in lower case: %v", err)
	}
	// What was proven is not proven again, and ends all the same.
	p.advance(time.Hour + 2*time.Minute)
	if _, err := v.Verify(t.Context(), "Bearer "+good); !errors.Is(err, webhookauth.ErrUnauthenticated) {
		t.Errorf("an expired token: %v", err)
	}
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// Keys are fetched when they are needed, when they are old, and when a token
// names a new one, but never because strangers send tokens.
func TestKeysFollow(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	v := p.verifier(nil)
	verify := func(token string) error { _, err := v.Verify(t.Context(), "Bearer "+token); return err }
	fetches := func(want int, when string) {
		t.Helper()
		if got, _, _ := p.count(); got != want {
			t.Errorf("%s: %d fetches, want %d", when, got, want)
		}
	}
	old := p.mint(nil)
	if err := verify(old); err != nil {
		t.Fatal(err)
	}
	stranger := newPlane(t)
	for range 10 {
		if err := verify(stranger.mint(nil)); err == nil {
			t.Fatal("a stranger's token is accepted")
		}
	}
	fetches(1, "strangers")
	p.rotate()
	fresh := p.mint(nil)
	if err := verify(fresh); err == nil {
		t.Error("keys are fetched as often as tokens name unknown ones")
	}
	p.advance(11 * time.Second)
	if err := verify(fresh); err != nil {
		t.Errorf("a token of the next key: %v", err)
	}
	fetches(2, "a new key")
	if err := verify(old); !errors.Is(err, webhookauth.ErrUnauthenticated) {
		t.Errorf("a token of a key that was withdrawn: %v", err)
	}
	// The issuer is away: what is known serves for an hour.
	p.set(func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusInternalServerError); return true }, nil)
	p.advance(30 * time.Minute)
	if err := verify(fresh); err != nil {
		t.Errorf("with keys of half an hour ago: %v", err)
	}
	p.advance(31 * time.Minute)
	if err := verify(p.mint(nil)); !errors.Is(err, webhookauth.ErrUnavailable) {
		t.Errorf("with keys of an hour ago: %v", err)
	}
	p.set(nil, nil)
	p.advance(11 * time.Second)
	if err := verify(p.mint(nil)); err != nil {
		t.Errorf("the issuer is back: %v", err)
	}
}

// Whatever serves for the issuer cannot hurt: it is refused, in time.
func TestHostileDocuments(t *testing.T) {
	t.Parallel()
	for name, document := range map[string]func(http.ResponseWriter) bool{
		"huge":    func(w http.ResponseWriter) bool { _, _ = w.Write(make([]byte, 1<<20)); return true },
		"no JSON": func(w http.ResponseWriter) bool { _, _ = w.Write([]byte("<html>")); return true },
		"a redirect": func(w http.ResponseWriter) bool {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(302)
			return true
		},
		"a secret key": func(w http.ResponseWriter) bool {
			_, _ = w.Write([]byte(`{"keys":[{"kty":"oct","k":"AAAA","kid":"x","alg":"HS256"}]}`))
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlane(t)
			p.set(document, nil)
			_, err := p.verifier(nil).Verify(t.Context(), "Bearer "+p.mint(nil))
			if err == nil {
				t.Error("accepted")
			}
		})
	}
	p := newPlane(t)
	other := newPlane(t)
	v := p.verifier(func(c *webhookauth.Config) { c.Issuer = p.server.URL + "/other" })
	if _, err := v.Verify(t.Context(), "Bearer "+other.mint(nil)); !errors.Is(err, webhookauth.ErrUnavailable) {
		t.Errorf("no documents: %v", err)
	}
	for name, c := range map[string]webhookauth.Config{
		"no audience":            {Issuer: p.server.URL},
		"plain HTTP":             {Issuer: "http://issuer", Audience: audience},
		"an issuer with a user":  {Issuer: "https://a:b@issuer", Audience: audience},
		"a review over HTTP":     {Issuer: p.server.URL, Audience: audience, Review: &webhookauth.Review{Server: "http://x", Client: http.DefaultClient}},
		"a review without hands": {Issuer: p.server.URL, Audience: audience, Review: &webhookauth.Review{Server: "https://x"}},
	} {
		if _, err := webhookauth.New(c); err == nil {
			t.Errorf("%s: a verifier", name)
		}
	}
}

func TestReview(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	const yes = `{"status":{"authenticated":true,"audiences":["` + audience + `"],"user":{"username":"system:serviceaccount:ns:robot","uid":"7"}}}`
	answer := atomic.Pointer[string]{}
	say := func(s string) { answer.Store(&s) }
	p.set(nil, func(string) string { return *answer.Load() })
	v := p.verifier(func(c *webhookauth.Config) {
		c.Review = &webhookauth.Review{Server: p.server.URL, Client: p.server.Client(), Remember: time.Hour}
	})
	token := p.mint(nil)
	verify := func() error { _, err := v.Verify(t.Context(), "Bearer "+token); return err }
	say(yes)
	for range 3 {
		if err := verify(); err != nil {
			t.Fatal(err)
		}
	}
	if _, asked, _ := p.count(); asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	for name, c := range map[string]struct {
		answer string
		want   error
	}{
		"refused":        {`{"status":{"authenticated":false,"error":"banned"}}`, webhookauth.ErrUnauthenticated},
		"no audience":    {strings.Replace(yes, `"audiences":["`+audience+`"],`, "", 1), webhookauth.ErrUnauthenticated},
		"another user":   {strings.Replace(yes, "robot", "other", 1), webhookauth.ErrUnauthenticated},
		"another uid":    {strings.Replace(yes, `"7"`, `"8"`, 1), webhookauth.ErrUnauthenticated},
		"nothing useful": {`nonsense`, webhookauth.ErrUnavailable},
	} {
		// Ten seconds are the most that a confirmation counts.
		p.advance(10 * time.Second)
		say(c.answer)
		if err := verify(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		say(yes)
		if err := verify(); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
	forged := newPlane(t).mint(nil)
	_, before, _ := p.count()
	if _, err := v.Verify(t.Context(), "Bearer "+forged); err == nil {
		t.Error("a forged token is accepted because a review says so")
	}
	if _, after, _ := p.count(); after != before {
		t.Error("the control plane is asked about forged tokens")
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	h := p.verifier(nil).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := webhookauth.FromContext(r.Context())
		fmt.Fprint(w, ok, " ", c.ServiceAccount, " ", r.Header.Get("Authorization"))
	}), func(c webhookauth.Caller) bool { return c.Pod == "" })
	serve := func(values ...string) (int, string) {
		r := httptest.NewRequest(http.MethodPost, "/check", nil)
		r.Header["Authorization"] = values
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	token := p.mint(nil)
	if code, body := serve("Bearer " + token); code != 200 || body != "true robot " {
		t.Errorf("served %d %q", code, body)
	}
	bound := p.mint(func(c *issuer.Claims) { c.Pod = &issuer.Ref{Name: "a", UID: "b"} })
	for name, c := range map[string]struct {
		values []string
		code   int
	}{
		"no header":   {nil, 401},
		"two headers": {[]string{"Bearer " + token, "Bearer " + token}, 401},
		"forged":      {[]string{"Bearer " + newPlane(t).mint(nil)}, 401},
		"unpermitted": {[]string{"Bearer " + bound}, 403},
	} {
		if code, body := serve(c.values...); code != c.code || strings.Contains(body, "robot") {
			t.Errorf("%s: %d %q", name, code, body)
		}
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	s := &webhookauth.Source{Server: p.server.URL, Client: p.server.Client(), Namespace: "ns", ServiceAccount: "robot", Audience: audience, AdmissionReviewAPIGroup: "apps", Now: p.clock}
	v := p.verifier(nil)
	take := func() string {
		t.Helper()
		token, err := s.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if c, err := v.Verify(t.Context(), "Bearer "+token); err != nil || !c.MayReview("apps") {
			t.Errorf("its token: %+v %v", c, err)
		}
		return token
	}
	first := take()
	p.advance(47 * time.Minute)
	if take() != first {
		t.Error("renewed too early")
	}
	p.advance(2 * time.Minute)
	if take() == first {
		t.Error("not renewed in time")
	}
	// A server that is away costs nothing until the token is nearly over.
	p.mu.Lock()
	p.mints = 100
	p.mu.Unlock()
	p.advance(50 * time.Minute)
	take()
	p.advance(11 * time.Minute)
	if _, err := s.Token(t.Context()); err == nil {
		t.Error("an expired token is handed out")
	}
	for name, bad := range map[string]*webhookauth.Source{
		"plain HTTP": {Server: "http://x", Client: http.DefaultClient, Namespace: "ns", ServiceAccount: "robot", Audience: audience},
		"no account": {Server: p.server.URL, Client: p.server.Client(), Namespace: "ns", Audience: audience},
		"no client":  {Server: p.server.URL, Namespace: "ns", ServiceAccount: "robot", Audience: audience},
	} {
		if _, err := bad.Token(t.Context()); err == nil {
			t.Errorf("%s: a token", name)
		}
	}
}

// The token goes to the webhook and nowhere else.
func TestTransport(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	heard := make(chan string, 8)
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		heard <- "elsewhere " + r.Header.Get("Authorization")
	}))
	t.Cleanup(elsewhere.Close)
	hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		heard <- "hook " + scheme
		if r.URL.Path == "/away" {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}
	}))
	t.Cleanup(hook.Close)
	s := &webhookauth.Source{Server: p.server.URL, Client: p.server.Client(), Namespace: "ns", ServiceAccount: "robot", Audience: hook.URL + "/check", Now: p.clock}
	roots := x509.NewCertPool()
	roots.AddCert(hook.Certificate())
	roots.AddCert(elsewhere.Certificate())
	base := hook.Client().Transport.(*http.Transport).Clone()
	base.TLSClientConfig.RootCAs = roots
	through, err := s.Transport(base)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: through}
	call := func(url, own string, want ...string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if own != "" {
			r.Header.Set("Authorization", own)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		for _, text := range want {
			if got := <-heard; got != text {
				t.Errorf("%s: %q, want %q", url, got, text)
			}
		}
	}
	call(hook.URL+"/check", "", "hook Bearer")
	call(hook.URL+"/check", "Basic YTpi", "hook Basic")
	call(hook.URL+"/away", "", "hook Bearer", "elsewhere ")
	call(elsewhere.URL, "", "elsewhere ")
	if _, err := (&webhookauth.Source{Audience: "name"}).Transport(nil); err == nil {
		t.Error("a transport for an audience without an origin")
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	s := &webhookauth.Source{Server: p.server.URL, Client: p.server.Client(), Namespace: "ns", ServiceAccount: "robot", Audience: audience, Now: p.clock}
	path := filepath.Join(t.TempDir(), "token")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Keep(ctx, path, nil); err == nil {
		t.Error("kept without a token")
	}
	if _, err := s.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(ctx, path, nil); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	info, serr := os.Stat(path)
	if err != nil || serr != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v %v", err, serr, info)
	}
	if _, err := p.verifier(nil).Verify(t.Context(), "Bearer "+string(data)); err != nil {
		t.Errorf("the file's token: %v", err)
	}
	if err := s.Keep(t.Context(), filepath.Join(path, "nowhere"), nil); err == nil {
		t.Error("kept in a file that cannot be written")
	}
}
