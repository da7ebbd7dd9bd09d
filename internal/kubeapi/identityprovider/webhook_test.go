package identityprovider

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// reviewer is a token webhook that answers as it is told.
func reviewer(t *testing.T, answer http.HandlerFunc) WebhookConfig {
	t.Helper()
	server := httptest.NewTLSServer(answer)
	t.Cleanup(server.Close)
	return WebhookConfig{
		URL:                  server.URL + "/review",
		CertificateAuthority: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
		Fetching:             Fetching{AllowLoopback: true},
		UsernamePrefix:       "old:", GroupPrefix: "old:",
	}
}

const accepting = `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"authenticated":true,"user":{"username":"jane","uid":"7","groups":["team","system:authenticated"],"extra":{"desk":["3"],"authentication.kubernetes.io/credential-id":["JTI=9"]}}%s}}`

func TestWebhook(t *testing.T) {
	t.Parallel()
	var asked authenticationv1.TokenReview
	audiences := ""
	cfg := reviewer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/review" || json.NewDecoder(r.Body).Decode(&asked) != nil {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		_, _ = w.Write([]byte(strings.Replace(accepting, "%s", audiences, 1)))
	})
	w, err := NewWebhook(cfg)
	must(t, err)
	t.Cleanup(w.Close)
	got, err := w.VerifyToken(t.Context(), "secret", []string{"gatehouse", "other"})
	must(t, err)
	if got.Name != "old:jane" || got.UID != "7" || !slices.Equal(got.Groups, []string{"old:team"}) || got.CredentialID != "JTI=9" || !maps.EqualFunc(got.Extra, map[string][]string{"desk": {"3"}}, slices.Equal) || got.Audiences != nil {
		t.Errorf("got %+v", got)
	}
	if asked.Kind != "TokenReview" || asked.APIVersion != "authentication.k8s.io/v1" || asked.Spec.Token != "secret" || !slices.Equal(asked.Spec.Audiences, []string{"gatehouse", "other"}) {
		t.Errorf("asked %+v", asked)
	}
	audiences = `,"audiences":["other","third"]`
	if got, err = w.VerifyToken(t.Context(), "secret", []string{"gatehouse", "other"}); err != nil || !slices.Equal(got.Audiences, []string{"other"}) {
		t.Errorf("some audiences: %+v, %v", got.Audiences, err)
	}
	if _, err = w.VerifyToken(t.Context(), "secret", []string{"gatehouse"}); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("other audiences: %v", err)
	}
}

// What the webhook cannot say is not held against the token, and what it says
// wrong opens nothing.
func TestWebhookFaults(t *testing.T) {
	t.Parallel()
	plain := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   fault.Kind
	}{
		"refused": {plain(200, `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"error":"no"}}`), fault.Unauthenticated},
		"failing": {plain(500, `{}`), fault.Unavailable},
		"moved": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/review", http.StatusTemporaryRedirect)
		}, fault.Unavailable},
		"no JSON":       {plain(200, `<html>`), fault.Unavailable},
		"other kind":    {plain(200, `{"apiVersion":"v1","kind":"Status"}`), fault.Unavailable},
		"older version": {plain(200, strings.Replace(strings.Replace(accepting, "%s", "", 1), "k8s.io/v1", "k8s.io/v1beta1", 1)), fault.Unavailable},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			for range 1 << 10 {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}, fault.Unavailable},
		"silent": {func(_ http.ResponseWriter, r *http.Request) {
			// Only a request that was read through notices that its client left.
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, fault.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, err := NewWebhook(reviewer(t, tc.answer))
			must(t, err)
			t.Cleanup(w.Close)
			within := time.Minute
			if name == "silent" {
				within = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			if _, err := w.VerifyToken(ctx, "secret", nil); fault.KindOf(err) != tc.want {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := NewWebhook(WebhookConfig{URL: "https://x.example", CertificateAuthority: "nonsense"}); err == nil {
		t.Error("an authority without a certificate was accepted")
	}
}

// Names with a meaning of their own do not come from a webhook, whatever it
// puts before or after them.
func TestWebhookInTheChain(t *testing.T) {
	t.Parallel()
	name := "jane"
	cfg := reviewer(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": map[string]any{
			"authenticated": true, "user": map[string]any{"username": name},
		}})
	})
	cfg.UsernamePrefix, cfg.GroupPrefix = "", ""
	chain, err := authn.New(authn.Config{Audiences: []string{"api"}})
	must(t, err)
	if faults := NewManager(chain).Apply([]Spec{{Name: "old", Webhook: &cfg}}); len(faults) > 0 {
		t.Fatal(faults)
	}
	for i, who := range []string{"jane", "system:admin", "system:serviceaccount:a:b", "gatehouse:x", "", "system:site:blue"} {
		name = who
		id, err := chain.VerifyToken(t.Context(), "opaque-"+string(rune('a'+i)), nil)
		if (err == nil) != (who == "jane") || id.Name() == "system:admin" {
			t.Errorf("%q: %v", who, err)
		}
	}
}

// TestUpstreamWebhookCases has the cases of TestV1WebhookTokenAuthenticator and
// TestV1WebhookCacheAndRetry of k8s.io/apiserver v0.36.3,
// plugin/pkg/authenticator/token/webhook, asked through the chain. Left out:
// client certificates (a webhook is shown no credential) and the same tables for
// v1beta1, which is not spoken. Different on purpose: a webhook that fails is
// asked once for each request and not five times, since whoever waits is told
// to come back; and an empty set of requested audiences means the API's.
func TestUpstreamWebhookCases(t *testing.T) {
	t.Parallel()
	somebody := map[string]any{"username": "somebody"}
	for name, tc := range map[string]struct {
		asked  []string
		status map[string]any
		want   string
		reason authn.Reason
	}{
		"somebody":                          {status: map[string]any{"authenticated": true, "user": somebody}, want: "somebody"},
		"unauthenticated, with a user":      {status: map[string]any{"user": map[string]any{"username": "garbage", "uid": "abcd-1234", "groups": []string{"not-actually-used"}}}, reason: authn.Refused},
		"unauthenticated":                   {status: map[string]any{}, reason: authn.Refused},
		"good audience":                     {asked: []string{"api"}, status: map[string]any{"authenticated": true, "user": somebody}, want: "somebody"},
		"bad audience, said":                {asked: []string{"other"}, status: map[string]any{}, reason: authn.Refused},
		"bad audience, unaware":             {asked: []string{"other"}, status: map[string]any{"authenticated": true, "user": somebody}, reason: authn.WrongAudience},
		"aware, good":                       {asked: []string{"api"}, status: map[string]any{"authenticated": true, "user": somebody, "audiences": []string{"api", "second"}}, want: "somebody"},
		"aware, none asked":                 {status: map[string]any{"authenticated": true, "user": somebody, "audiences": []string{"api"}}, want: "somebody"},
		"aware, the token is for elsewhere": {asked: []string{"api"}, status: map[string]any{"authenticated": true, "user": somebody, "audiences": []string{"other"}}, reason: authn.Refused},
		"everything is passed through": {status: map[string]any{"authenticated": true, "user": map[string]any{
			"username": "person@place.com", "uid": "abcd-1234", "groups": []string{"stuff-dev", "main-eng"}, "extra": map[string]any{"foo": []string{"bar", "baz"}}}}, want: "person@place.com"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chain, _ := webhookChain(t, func() (int, any) { return http.StatusOK, tc.status })
			id, err := chain.VerifyToken(t.Context(), "my-s3cr3t-t0ken", tc.asked)
			if authn.ReasonOf(err) != tc.reason || id.Name() != tc.want || (err == nil) != (tc.reason == "") {
				t.Fatalf("got %q, %v", id.Name(), err)
			}
			if strings.HasPrefix(name, "everything") && (id.UID() != "abcd-1234" || !slices.Equal(id.Groups(), []string{"stuff-dev", "main-eng", "system:authenticated"}) || !slices.Equal(id.Extra()["foo"], []string{"bar", "baz"})) {
				t.Errorf("got %q %q %q", id.UID(), id.Groups(), id.Extra())
			}
		})
	}

	code, authenticated := 0, false
	chain, calls := webhookChain(t, func() (int, any) { return code, map[string]any{"authenticated": authenticated, "user": somebody} })
	for i, step := range []struct {
		token  string
		code   int
		allow  bool
		failed bool
		calls  int32
	}{
		{"t0k3n", 500, false, true, 1},
		{"t0k3n", 404, false, true, 1},
		{"t0k3n", 200, true, false, 1},
		{"t0k3n", 500, false, false, 0}, // remembered
		{"an0th3r", 500, false, true, 1},
		{"an0th3r", 429, false, true, 1},
		{"an0th3r", 200, true, false, 1},
		{"an0th3r", 500, false, false, 0},
	} {
		code, authenticated = step.code, step.allow
		calls.Store(0)
		_, err := chain.VerifyToken(t.Context(), step.token, nil)
		if (err != nil) != step.failed || err != nil && fault.KindOf(err) != fault.Unavailable || calls.Load() != step.calls {
			t.Errorf("step %d: %v after %d calls", i, err, calls.Load())
		}
	}
}

// webhookChain is a chain that asks one webhook about opaque tokens, and how
// often it did.
func webhookChain(t *testing.T, answer func() (code int, status any)) (*authn.Chain, *atomic.Int32) {
	t.Helper()
	calls := new(atomic.Int32)
	cfg := reviewer(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		code, status := answer()
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status})
	})
	cfg.UsernamePrefix, cfg.GroupPrefix = "", ""
	now := time.Now() // what is remembered stays so, however slow the machine
	chain, err := authn.New(authn.Config{Audiences: []string{"api"}, Now: func() time.Time { return now }})
	must(t, err)
	if faults := NewManager(chain).Apply([]Spec{{Name: "hook", Webhook: &cfg}}); len(faults) > 0 {
		t.Fatal(faults)
	}
	return chain, calls
}
