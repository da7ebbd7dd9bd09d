package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// A fake is a provider that answers what a test wants.
type fake struct {
	t      *testing.T
	server *httptest.Server
	mu     sync.Mutex // guards what follows
	doc    map[string]any
	claims map[string]any
	token  func(form url.Values) (int, string) // nil: tokens
	forms  []url.Values
	device url.Values
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, claims: map[string]any{}}
	f.server = httptest.NewTLSServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.server.Close)
	f.doc = map[string]any{
		"issuer": f.server.URL, "authorization_endpoint": f.server.URL + "/auth?tenant=a", "token_endpoint": f.server.URL + "/token",
		"device_authorization_endpoint": f.server.URL + "/device", "code_challenge_methods_supported": []string{"plain", "S256"},
	}
	return f
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(f.doc)
	case "/token":
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		f.forms = append(f.forms, form)
		if f.token != nil {
			code, text := f.token(form)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, text)
			return
		}
		_, _ = io.WriteString(w, f.answer())
	case "/device":
		body, _ := io.ReadAll(r.Body)
		f.device, _ = url.ParseQuery(string(body))
		_, _ = io.WriteString(w, fmt.Sprintf(`{"device_code":"d","user_code":"AB-12","verification_uri":%q,"interval":0.001,"expires_in":30}`, f.server.URL+"/d"))
	case "/redirect/.well-known/openid-configuration":
		http.Redirect(w, r, "/.well-known/openid-configuration", http.StatusFound)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// answer is a token answer with the claims of the moment.
func (f *fake) answer() string {
	all := map[string]any{"iss": f.server.URL, "aud": "gatehouse", "sub": "ada", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(all, f.claims)
	body, err := json.Marshal(all)
	if err != nil {
		f.t.Error(err)
	}
	return fmt.Sprintf(`{"id_token":"e30.%s.c2ln","refresh_token":"r2"}`, base64.RawURLEncoding.EncodeToString(body))
}

func (f *fake) client() *Client {
	f.t.Helper()
	c, err := New(Config{
		Issuer: f.server.URL, ClientID: "gatehouse", Scopes: []string{"groups"}, Now: time.Now,
		CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.server.Certificate().Raw}),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// signIn runs a code sign-in whose browser does what back says with the
// question.
func (f *fake) signIn(back func(question url.Values, send func(url.Values) int)) (Tokens, error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	var browser sync.WaitGroup
	defer browser.Wait()
	return f.client().Code(ctx, Loopback{Show: func(address string) {
		browser.Go(func() {
			u, err := url.Parse(address)
			if err != nil {
				f.t.Error(err)
				return
			}
			question := u.Query()
			f.mu.Lock()
			if f.claims["nonce"] == nil {
				f.claims["nonce"] = question.Get("nonce")
			}
			f.mu.Unlock()
			back(question, func(answer url.Values) int {
				response, err := http.Get(question.Get("redirect_uri") + "?" + answer.Encode())
				if err != nil {
					f.t.Error(err)
					return 0
				}
				response.Body.Close()
				return response.StatusCode
			})
		})
	}})
}

func TestCode(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var question url.Values
	got, err := f.signIn(func(q url.Values, send func(url.Values) int) {
		question = q
		// What others of this machine send ends nothing.
		for name, answer := range map[string]url.Values{
			"no state": {"code": {"evil"}}, "another state": {"code": {"evil"}, "state": {"x"}}, "two states": {"code": {"evil"}, "state": {q.Get("state"), "x"}},
		} {
			if code := send(answer); code != http.StatusBadRequest {
				t.Errorf("%s: %d", name, code)
			}
		}
		request, _ := http.NewRequest(http.MethodGet, q.Get("redirect_uri")+"?code=evil&state="+q.Get("state"), nil)
		request.Host = "attacker.example"
		if response, err := http.DefaultClient.Do(request); err != nil || response.StatusCode != http.StatusNotFound {
			t.Errorf("another host: %v %v", response, err)
		}
		if code := send(url.Values{"code": {"good"}, "state": {q.Get("state")}, "iss": {f.server.URL}}); code != http.StatusOK {
			t.Errorf("the answer: %d", code)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Subject != "ada" || got.Refresh.Reveal() != "r2" || got.ID.Len() == 0 || time.Until(got.Expires) < 50*time.Minute {
		t.Errorf("tokens: %+v", got)
	}
	form := f.forms[0]
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	if form.Get("code") != "good" || form.Get("redirect_uri") != question.Get("redirect_uri") || form.Get("client_id") != "gatehouse" ||
		question.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) || question.Get("code_challenge_method") != "S256" {
		t.Errorf("question %v, form %v", question, form)
	}
	if question.Get("scope") != "openid groups" || question.Get("tenant") != "a" || len(question.Get("state")) != 43 || len(form.Get("code_verifier")) != 43 {
		t.Errorf("question %v", question)
	}
}

func TestCodeRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		claims map[string]any
		doc    map[string]any
		answer url.Values
		says   string
		denied bool
	}{
		"the person says no":   {answer: url.Values{"error": {"access_denied"}, "error_description": {"no\x1b[2J"}}, says: `"no\x1b[2J"`, denied: true},
		"another provider":     {answer: url.Values{"code": {"c"}, "iss": {"https://evil.example"}}, says: "another provider", denied: true},
		"a provider unnamed":   {doc: map[string]any{"authorization_response_iss_parameter_supported": true}, answer: url.Values{"code": {"c"}}, says: "another provider", denied: true},
		"two codes":            {answer: url.Values{"code": {"a", "b"}}, says: "without a code"},
		"another nonce":        {claims: map[string]any{"nonce": "x"}, answer: url.Values{"code": {"c"}}, says: "nonce"},
		"another audience":     {claims: map[string]any{"aud": []string{"other"}}, answer: url.Values{"code": {"c"}}, says: "another client"},
		"another party":        {claims: map[string]any{"aud": []string{"gatehouse", "other"}, "azp": "other"}, answer: url.Values{"code": {"c"}}, says: "another client"},
		"another issuer":       {claims: map[string]any{"iss": "https://evil.example"}, answer: url.Values{"code": {"c"}}, says: "issuer"},
		"expired":              {claims: map[string]any{"exp": 1}, answer: url.Values{"code": {"c"}}, says: "expired"},
		"nobody":               {claims: map[string]any{"sub": ""}, answer: url.Values{"code": {"c"}}, says: "nobody"},
		"claims of a bad type": {claims: map[string]any{"exp": "soon"}, answer: url.Values{"code": {"c"}}, says: "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			maps.Copy(f.claims, c.claims)
			maps.Copy(f.doc, c.doc)
			_, err := f.signIn(func(q url.Values, send func(url.Values) int) {
				answer := maps.Clone(c.answer)
				answer.Set("state", q.Get("state"))
				send(answer)
			})
			if err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, ErrDenied) != c.denied {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestDiscoveryRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		doc  map[string]any
		says string
	}{
		"another issuer":  {map[string]any{"issuer": "https://evil.example"}, "about issuer"},
		"plain http":      {map[string]any{"token_endpoint": "http://127.0.0.1/token"}, "https"},
		"credentials":     {map[string]any{"token_endpoint": "https://a:b@127.0.0.1/token"}, "https"},
		"no S256":         {map[string]any{"code_challenge_methods_supported": []string{"plain"}}, "S256"},
		"too large":       {map[string]any{"padding": strings.Repeat("x", maxDocument)}, "larger"},
		"escape sequence": {map[string]any{"authorization_endpoint": "https://127.0.0.1/\x1b[2J"}, "https"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			maps.Copy(f.doc, c.doc)
			if _, err := f.client().Refresh(t.Context(), secret.NewString("r"), "ada"); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	f := newFake(t)
	c := f.client()
	c.cfg.Issuer += "/redirect"
	if _, err := c.Refresh(t.Context(), secret.NewString("r"), "ada"); err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("a redirect: %v", err)
	}
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		claims map[string]any
		token  func(url.Values) (int, string)
		want   error
	}{
		"good":             {},
		"ended":            {token: func(url.Values) (int, string) { return 400, `{"error":"invalid_grant"}` }, want: ErrLogin},
		"somebody else":    {claims: map[string]any{"sub": "eve"}, want: ErrLogin},
		"no ID token":      {token: func(url.Values) (int, string) { return 200, `{"access_token":"a"}` }, want: ErrLogin},
		"away":             {token: func(url.Values) (int, string) { return 503, `{"error":"invalid_grant"}` }, want: ErrUnreachable},
		"no JSON":          {token: func(url.Values) (int, string) { return 200, `{"id_token":` }, want: ErrUnreachable},
		"too large":        {token: func(url.Values) (int, string) { return 200, `"` + strings.Repeat("x", maxTokens) + `"` }, want: ErrUnreachable},
		"error is no JSON": {token: func(url.Values) (int, string) { return 400, `<html>` }, want: ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			maps.Copy(f.claims, c.claims)
			f.token = c.token
			got, err := f.client().Refresh(t.Context(), secret.NewString("r1"), "ada")
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("got %v", err)
			}
			if err == nil && (got.Refresh.Reveal() != "r2" || f.forms[0].Get("refresh_token") != "r1") {
				t.Errorf("got %+v %v", got, f.forms)
			}
			if err != nil && strings.Contains(err.Error(), "r1") {
				t.Errorf("the refresh token is in the error: %v", err)
			}
		})
	}
	// A provider that does not rotate leaves the old one good.
	f := newFake(t)
	f.token = func(url.Values) (int, string) { return 200, strings.Replace(f.answer(), `"r2"`, `""`, 1) }
	if got, err := f.client().Refresh(t.Context(), secret.NewString("r1"), "ada"); err != nil || got.Refresh.Reveal() != "r1" {
		t.Errorf("without rotation: %v %v", got.Refresh.Reveal(), err)
	}
}

func TestDevice(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	answers := []string{`{"error":"authorization_pending"}`, `{"error":"authorization_pending"}`}
	f.token = func(url.Values) (int, string) {
		if len(answers) > 0 {
			next := answers[0]
			answers = answers[1:]
			return 400, next
		}
		return 200, f.answer()
	}
	var shown Prompt
	got, err := f.client().Device(t.Context(), func(p Prompt) { shown = p })
	if err != nil || got.Subject != "ada" || shown.Code != "AB-12" || shown.URL != f.server.URL+"/d" {
		t.Errorf("%+v %+v %v", got, shown, err)
	}
	sum := sha256.Sum256([]byte(f.forms[len(f.forms)-1].Get("code_verifier")))
	if f.device.Get("code_challenge_method") != "S256" || f.device.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) || f.device.Get("client_id") != "gatehouse" {
		t.Errorf("asked for a device code with %v, for tokens with %v", f.device, f.forms)
	}
	if form := f.forms[len(f.forms)-1]; len(f.forms) != 3 || form.Get("device_code") != "d" || form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:device_code" {
		t.Errorf("forms: %v", f.forms)
	}
	for _, code := range []string{"access_denied", "expired_token", "invalid_grant"} {
		f := newFake(t)
		f.token = func(url.Values) (int, string) { return 400, `{"error":"` + code + `"}` }
		if _, err := f.client().Device(t.Context(), func(Prompt) {}); !errors.Is(err, ErrDenied) {
			t.Errorf("%s: %v", code, err)
		}
	}
	delete(f.doc, "device_authorization_endpoint")
	if _, err := f.client().Device(t.Context(), func(Prompt) {}); err == nil {
		t.Error("a provider without the endpoint")
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	if done, err := f.client().Revoke(t.Context(), secret.NewString("r")); done || err != nil {
		t.Errorf("without the endpoint: %v %v", done, err)
	}
	f.doc["revocation_endpoint"] = f.server.URL + "/token"
	f.token = func(url.Values) (int, string) { return 200, "" }
	if done, err := f.client().Revoke(t.Context(), secret.NewString("r")); !done || err != nil || f.forms[0].Get("token") != "r" || f.forms[0].Get("client_id") != "gatehouse" {
		t.Errorf("%v %v %v", done, err, f.forms)
	}
	f.token = func(url.Values) (int, string) { return 400, `{"error":"invalid_client"}` }
	if done, err := f.client().Revoke(t.Context(), secret.NewString("r")); done || err == nil {
		t.Errorf("refused: %v %v", done, err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := Config{Issuer: "https://login.example/a", ClientID: "c", Now: time.Now}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"http":        func(c *Config) { c.Issuer = "http://login.example" },
		"query":       func(c *Config) { c.Issuer += "?x" },
		"no client":   func(c *Config) { c.ClientID = "" },
		"scope":       func(c *Config) { c.Scopes = []string{"a b"} },
		"no clock":    func(c *Config) { c.Now = nil },
		"authorities": func(c *Config) { c.CA = []byte("x") },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// No ID token, whatever it says, gets past the checks or brings them down.
func FuzzIDToken(f *testing.F) {
	f.Add("e30.e30.c2ln", "")
	f.Add("e30."+base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"https://a","aud":["c"],"sub":"s","exp":99999999999}`))+".c2ln", "n")
	c, err := New(Config{Issuer: "https://a", ClientID: "c", Now: time.Now})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token, nonce string) {
		claims, err := c.check(token, nonce)
		if err == nil && (claims.Issuer != "https://a" || claims.Subject == "" || nonce != "" && claims.Nonce != nonce) {
			t.Errorf("%q passes as %+v", token, claims)
		}
	})
}
