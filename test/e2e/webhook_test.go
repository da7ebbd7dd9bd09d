package e2e

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-dev/gatehouse/test/harness"
	"github.com/gatehouse-dev/gatehouse/webhookauth"
)

// hook is an admission webhook that allows whatever an authenticated caller
// asks.
type hook struct {
	server *httptest.Server

	mu      sync.Mutex
	callers []string
	calls   int
}

func (h *hook) seen() (calls int, callers string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls, strings.Join(h.callers, " ")
}

func newHook(t *testing.T, path string, config webhookauth.Config) *hook {
	t.Helper()
	h := &hook{}
	var handler http.Handler
	h.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.calls++
		h.mu.Unlock()
		handler.ServeHTTP(w, r)
	}))
	h.server.StartTLS()
	t.Cleanup(h.server.Close)
	config.Audience = h.server.URL + path
	verifier, err := webhookauth.New(config)
	if err != nil {
		t.Fatal(err)
	}
	handler = verifier.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, _ := webhookauth.FromContext(r.Context())
		h.mu.Lock()
		h.callers = append(h.callers, who.User)
		h.mu.Unlock()
		var review struct{ Request struct{ UID string } }
		body, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(body, &review)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":%q,"allowed":true}}`, review.Request.UID)
	}), nil)
	return h
}

func (h *hook) host() string { return strings.TrimPrefix(h.server.URL, "https://") }

// A stock kube-apiserver proves to its admission webhooks who it is; a call
// without a token, with one for another place, or by a banned account is
// refused. The keys are public on a listener of their own, and rotate.
func TestWebhookAuthentication(t *testing.T) {
	t.Parallel()
	public, err := harness.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "gatehouse.yaml")
	write := func(path, text string) string {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write(config, "apiVersion: config.gatehouse.dev/v1alpha1\nkind: Configuration\ntokens: {issuer: \"https://"+public+"\", discoveryListen: \""+public+"\"}\n")
	g := start(t, "--config", config)
	k, admin := as(t, g), adminClient(t, g)
	k.namespace("hooks")
	k.run("create", "serviceaccount", "kube-apiserver", "-n", "hooks")

	// Anybody gets the keys, and nothing else, without a credential.
	anybody := bareClient(t, g)
	anybody.base = "https://" + public
	for path, want := range map[string]int{
		"/.well-known/openid-configuration": 200, "/openid/v1/jwks": 200,
		"/": 404, "/api": 404, "/livez": 404, "/metrics": 404, "/openid/v1/jwks/": 404, "/sites/x/authenticate": 404,
	} {
		if code, body := anybody.send(http.MethodGet, path, nil, nil); code != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, _ := anybody.send(http.MethodPost, "/openid/v1/jwks", nil, []byte("{}")); code != http.StatusMethodNotAllowed {
		t.Errorf("a POST: %d", code)
	}

	verify := webhookauth.Config{Issuer: "https://" + public, Client: anybody.http}
	reviewed := verify
	reviewed.Review = &webhookauth.Review{Server: g.URL, Client: admin.http}
	good, tokenless, foreign := newHook(t, "/check", reviewed), newHook(t, "/check", verify), newHook(t, "/check", verify)

	bin, err := harness.BuildGatehouse()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "good.token")
	keep, err := harness.Start("gatehouse tokens keep", bin, nil, "tokens", "keep", "--kubeconfig", g.Kubeconfig,
		"-n", "hooks", "--service-account", "kube-apiserver", "--audience", good.server.URL+"/check", "--file", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keep.Kill)
	eventually(t, commandWithin, "the token is in its file", func() bool { _, err := os.Stat(file); return err == nil })
	elsewhere := write(filepath.Join(dir, "foreign.token"), strings.TrimSpace(k.run("create", "token", "kube-apiserver", "-n", "hooks", "--audience", "https://elsewhere.example")))

	kubeconfig := write(filepath.Join(dir, "hooks.kubeconfig"), fmt.Sprintf(`apiVersion: v1
kind: Config
users:
- {name: %q, user: {tokenFile: %q}}
- {name: %q, user: {tokenFile: %q}}
`, good.host(), file, foreign.host(), elsewhere))
	admission := write(filepath.Join(dir, "admission.yaml"), `apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: ValidatingAdmissionWebhook
  configuration: {apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration, kubeConfigFile: `+kubeconfig+"}\n")
	cluster := startCluster(t, "--admission-control-config-file="+admission)
	stock := as(t, cluster)
	for name, h := range map[string]*hook{"good": good, "tokenless": tokenless, "foreign": foreign} {
		ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.server.Certificate().Raw}))
		stock.feed(fmt.Sprintf(`apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: %s}
webhooks:
- name: %s.example.com
  clientConfig: {url: %q, caBundle: %s}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  objectSelector: {matchLabels: {hook: %s}}
  failurePolicy: Fail
  sideEffects: None
  timeoutSeconds: 30
  admissionReviewVersions: [v1]
`, name, name, h.server.URL+"/check", ca, name), "create", "-f", "-")
	}
	n := 0
	ask := func(name string) harness.Result {
		n++
		return stock.exec(fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: asked-%d, namespace: default, labels: {hook: %s}}\n", n, name), "create", "-f", "-")
	}
	asked := func(h *hook) func() bool { return func() bool { calls, _ := h.seen(); return calls > 0 } }
	for name, h := range map[string]*hook{"tokenless": tokenless, "foreign": foreign} {
		var got harness.Result
		eventually(t, commandWithin, "the webhook is asked", func() bool { got = ask(name); return asked(h)() })
		if _, callers := h.seen(); got.Code == 0 || callers != "" {
			t.Errorf("%s: %v, callers %q", name, got, callers)
		}
	}
	eventually(t, commandWithin, "the webhook is asked", func() bool { ask("good"); return asked(good)() })
	if got := ask("good"); got.Code != 0 {
		t.Errorf("with a token: %v", got)
	}
	if _, callers := good.seen(); !strings.Contains(callers, "system:serviceaccount:hooks:kube-apiserver") {
		t.Errorf("callers %q", callers)
	}

	// A new key signs; what the old one signed stays good.
	old := keySetAt(t, anybody)
	out := gatehouse(t, 0, "tokens", "rotate-keys", "--lead", "0s", "--kubeconfig", g.Kubeconfig, "-o", "json").Stdout
	var rotated struct {
		KeyID string
		Keys  []struct{ KeyID, VerifiesUntil string }
	}
	if err := json.Unmarshal([]byte(out), &rotated); err != nil || len(rotated.Keys) != 2 || rotated.Keys[0].VerifiesUntil == "" || rotated.Keys[1].KeyID != rotated.KeyID {
		t.Fatalf("rotation: %s %v", out, err)
	}
	end, err := time.Parse(time.RFC3339, rotated.Keys[0].VerifiesUntil)
	if err != nil || time.Until(end) < 24*time.Hour {
		t.Errorf("the old key goes at %v, before what it signed (%v)", end, err)
	}
	eventually(t, commandWithin, "the new key signs", func() bool {
		token := strings.TrimSpace(k.run("create", "token", "kube-apiserver", "-n", "hooks"))
		head, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
		return err == nil && strings.Contains(string(head), rotated.KeyID)
	})
	set := keySetAt(t, anybody)
	if len(set.Keys) != 2 || len(set.Key(rotated.KeyID)) != 1 || len(set.Key(old.Keys[0].KeyID)) != 1 {
		t.Errorf("published: %d keys", len(set.Keys))
	}
	if got := ask("good"); got.Code != 0 {
		t.Errorf("with a token of the old key: %v", got)
	}
	if got := gatehouse(t, 2, "tokens", "rotate-keys", "--lead", "-1s", "--kubeconfig", g.Kubeconfig); !strings.Contains(got.Stderr, "negative") {
		t.Errorf("a negative lead: %v", got)
	}

	// A ban reaches the webhook, which asks about every call.
	revoke(t, g, "subject", "serviceaccount/hooks/kube-apiserver")
	promptly(t, effectWithin, "the banned account is refused", func() bool { return ask("good").Code != 0 })
}

func keySetAt(t *testing.T, c client) jose.JSONWebKeySet {
	t.Helper()
	var set jose.JSONWebKeySet
	code, body := c.send(http.MethodGet, "/openid/v1/jwks", nil, nil)
	if err := json.Unmarshal(body, &set); code != http.StatusOK || err != nil {
		t.Fatalf("key set: %d %s %v", code, body, err)
	}
	return set
}
