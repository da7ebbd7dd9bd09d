package e2e

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
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

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// A siem receives EventLists and remembers them by auditID and stage.
type siem struct {
	*httptest.Server
	mu     sync.Mutex
	events map[string]event // guarded by mu
	down   bool             // guarded by mu
	check  func(r *http.Request, body []byte) error
	bad    error // guarded by mu
}

func newSIEM(t *testing.T) *siem {
	t.Helper()
	s := &siem{events: map[string]event{}}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *siem) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || s.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if s.check != nil && s.bad == nil {
		s.bad = s.check(r, body)
	}
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		s.bad = err
	}
	for _, raw := range list.Items {
		e := event{raw: string(raw)}
		if err := json.Unmarshal(raw, &e); err != nil {
			s.bad = err
		}
		s.events[e.AuditID+"/"+e.Stage] = e
	}
}

func (s *siem) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// has reports whether an event came whose JSON holds all texts.
func (s *siem) has(texts ...string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		found := true
		for _, text := range texts {
			found = found && strings.Contains(e.raw, text)
		}
		if found {
			return true
		}
	}
	return false
}

func (s *siem) sinkYAML(name, more string) string {
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return fmt.Sprintf("apiVersion: audit.gatehouse.dev/v1alpha1\nkind: AuditSink\nmetadata: {name: %s}\nspec:\n  webhook: {url: %q, caBundle: %s}\n%s",
		name, s.URL+"/audit", base64.StdEncoding.EncodeToString(bundle), more)
}

// auditing is a control plane whose static policy records nothing of
// configmaps, so that what raises it shows, and whose confined sinks may reach
// the test.
func auditing(t *testing.T) *harness.Gatehouse {
	t.Helper()
	dir := t.TempDir()
	policy, config := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "config.yaml")
	for path, text := range map[string]string{
		policy: "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n" +
			"- {level: None, resources: [{resources: [configmaps]}]}\n- {level: Request, resources: [{resources: [namespaces]}]}\n- {level: Metadata}\n",
		config: fmt.Sprintf("apiVersion: config.gatehouse.dev/v1alpha1\nkind: Configuration\naudit: {policyFile: %q, allowLoopbackSinks: true}\n", policy),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return start(t, "--config", config)
}

// Sinks come, change and go while the server runs, over a base that nobody can
// lower; each gets its own, an outage loses nothing.
func TestAuditSinks(t *testing.T) {
	t.Parallel()
	g := auditing(t)
	k := as(t, g)
	for _, n := range []string{"blue", "green"} {
		k.run("create", "namespace", n+"-shop")
		k.run("label", "namespace", n+"-shop", "gatehouse.dev/domain="+n)
	}
	all, blue, green := newSIEM(t), newSIEM(t), newSIEM(t)
	all.check = signedBy(t, k)
	k.feed(all.sinkYAML("all", ""), "apply", "-f", "-")
	k.feed(blue.sinkYAML("blue", "  scope: {domain: blue}\n"), "apply", "-f", "-")
	k.feed(green.sinkYAML("green", "  scope: {namespaces: [green-shop]}\n  policy: {rules: [{level: Metadata, verbs: [create]}]}\n"), "apply", "-f", "-")

	account := func(namespace, name string) { k.run("create", "serviceaccount", name, "-n", namespace) }
	account("blue-shop", "b1")
	account("green-shop", "g1")
	account("default", "d1")
	k.run("get", "serviceaccount", "g1", "-n", "green-shop")
	eventually(t, commandWithin, "every sink has its events", func() bool {
		return all.has(`"name":"b1"`) && all.has(`"name":"g1"`) && all.has(`"name":"d1"`) && blue.has(`"name":"b1"`) && green.has(`"name":"g1"`)
	})

	// An outage: nobody else waits, nothing is lost.
	all.setDown(true)
	account("blue-shop", "b2")
	eventually(t, commandWithin, "the other sink while one is away", func() bool { return blue.has(`"name":"b2"`) })
	eventually(t, commandWithin, "the failure shows in status", func() bool {
		return strings.Contains(k.run("get", "auditsink", "all", "-o", "jsonpath={.status.replicas[0].error}"), "503")
	})
	k.shows([]string{`gatehouse_audit_sink_lag_records{sink="all"}`, `gatehouse_audit_sink_failures_total{sink="all"}`}, "get", "--raw", "/metrics")
	g.Kill()
	all.setDown(false)
	if err := g.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, commandWithin, "what was recorded in the outage, across a kill -9", func() bool { return all.has(`"name":"b2"`) })

	// AuditPolicies raise, live, and never lower.
	k.run("create", "configmap", "quiet", "-n", "blue-shop")
	k.feed("apiVersion: audit.gatehouse.dev/v1alpha1\nkind: AuditPolicy\nmetadata: {name: more}\nspec:\n  rules:\n"+
		"  - {level: RequestResponse, resources: [{resources: [configmaps]}]}\n  - {level: None}\n", "apply", "-f", "-")
	eventually(t, commandWithin, "configmaps are recorded", func() bool {
		k.run("create", "configmap", fmt.Sprint("loud-", time.Now().UnixNano()), "-n", "blue-shop")
		return blue.has(`"resource":"configmaps"`, `"name":"loud-`, `"responseObject"`)
	})
	k.run("create", "namespace", "still-recorded")
	eventually(t, commandWithin, "None did not lower the base", func() bool { return all.has(`"name":"still-recorded"`, `"requestObject"`) })
	if all.has(`"name":"quiet"`) {
		t.Error("recorded before anything asked for it")
	}
	k.run("delete", "auditpolicy", "more")
	eventually(t, commandWithin, "the base holds again", func() bool {
		name := fmt.Sprint("after-", time.Now().UnixNano())
		k.run("create", "configmap", name, "-n", "blue-shop")
		account("blue-shop", name)
		eventually(t, commandWithin, "the marker", func() bool { return blue.has(`"resource":"serviceaccounts"`, name) })
		return !blue.has(`"resource":"configmaps"`, `"name":"`+name)
	})

	// Changed: the level of a sink only takes away. Removed: nothing comes.
	k.feed(blue.sinkYAML("blue", "  scope: {domain: blue}\n  policy: {rules: [{level: None, resources: [{resources: [serviceaccounts]}]}, {level: Metadata}]}\n"), "apply", "-f", "-")
	eventually(t, commandWithin, "the change is in force", func() bool {
		return k.run("get", "auditsink", "blue", "-o", "jsonpath={.status.replicas[0].observedGeneration}") == "2"
	})
	account("blue-shop", "b3")
	eventually(t, commandWithin, "the sink of everything", func() bool { return all.has(`"name":"b3"`) })
	k.run("delete", "auditsink", "green")
	account("green-shop", "g2")
	eventually(t, commandWithin, "the sink of everything", func() bool { return all.has(`"name":"g2"`) })
	if blue.has(`"name":"b3"`) || green.has(`"name":"g2"`) {
		t.Error("a sink got what it does not ask for any more")
	}

	// Each tenant saw only its own.
	for _, other := range []string{"green-shop", `"namespace":"default"`, "still-recorded"} {
		if blue.has(other) {
			t.Errorf("the sink of blue got %s", other)
		}
	}
	for _, other := range []string{"blue-shop", `"namespace":"default"`, `"verb":"get"`} {
		if green.has(other) {
			t.Errorf("the sink of green got %s", other)
		}
	}
	for _, s := range []*siem{all, blue, green} {
		s.mu.Lock()
		if s.bad != nil {
			t.Error(s.bad)
		}
		s.mu.Unlock()
	}
}

// signedBy checks the signature of a post with the keys that the server
// publishes.
func signedBy(t *testing.T, k kube) func(r *http.Request, body []byte) error {
	t.Helper()
	var published struct {
		Keys []struct {
			KeyID     string `json:"keyID"`
			PublicKey []byte `json:"publicKey"`
		} `json:"keys"`
	}
	if err := json.Unmarshal([]byte(k.run("get", "--raw", "/audit/keys")), &published); err != nil || len(published.Keys) == 0 {
		t.Fatalf("%v %+v", err, published)
	}
	return func(r *http.Request, body []byte) error {
		params, ok := strings.CutPrefix(r.Header.Get("Signature-Input"), "gatehouse=")
		sig, err := base64.StdEncoding.DecodeString(strings.Trim(strings.TrimPrefix(r.Header.Get("Signature"), "gatehouse="), ":"))
		if !ok || err != nil {
			return fmt.Errorf("no signature: %v", r.Header)
		}
		digest := sha256.Sum256(body)
		if r.Header.Get("Content-Digest") != "sha-256=:"+base64.StdEncoding.EncodeToString(digest[:])+":" {
			return fmt.Errorf("the digest is not the body's")
		}
		base := fmt.Sprintf("\"@method\": POST\n\"@target-uri\": https://%s%s\n\"content-digest\": %s\n\"content-type\": %s\n\"@signature-params\": %s",
			r.Host, r.URL.Path, r.Header.Get("Content-Digest"), r.Header.Get("Content-Type"), params)
		for _, key := range published.Keys {
			if !strings.Contains(params, `keyid="`+key.KeyID+`"`) {
				continue
			}
			public, err := x509.ParsePKIXPublicKey(key.PublicKey)
			if err != nil {
				return err
			}
			if ed25519.Verify(public.(ed25519.PublicKey), []byte(base), sig) {
				return nil
			}
		}
		return fmt.Errorf("not signed by a published key: %s", params)
	}
}

// Nobody passes on what they may not read, nor a secret that is not theirs.
func TestAuditSinkRights(t *testing.T) {
	t.Parallel()
	g := start(t)
	k := as(t, g)
	k.run("create", "namespace", "mine")
	k.run("create", "serviceaccount", "keeper", "-n", "mine")
	k.run("create", "clusterrole", "sinks", "--verb=*", "--resource=auditsinks.audit.gatehouse.dev")
	k.run("create", "clusterrolebinding", "sinks", "--clusterrole=sinks", "--serviceaccount=mine:keeper")
	k.feed(`{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: reader, namespace: mine}, rules: [{apiGroups: [audit.gatehouse.dev], resources: [auditevents], verbs: [get]}]}`, "apply", "-f", "-")
	k.run("create", "rolebinding", "reader", "-n", "mine", "--role=reader", "--serviceaccount=mine:keeper")
	keeper := withToken(t, g, strings.TrimSpace(k.run("create", "token", "keeper", "-n", "mine")))
	sink := func(name, scope string) string {
		return "apiVersion: audit.gatehouse.dev/v1alpha1\nkind: AuditSink\nmetadata: {name: " + name + "}\nspec:\n  webhook: {url: \"https://siem.invalid/\"}\n" + scope
	}
	keeper.failsFed(sink("all", ""), 1, []string{"may not read the record"}, "apply", "-f", "-")
	keeper.failsFed(sink("other", "  scope: {namespaces: [mine, default]}\n"), 1, []string{"namespace default"}, "apply", "-f", "-")
	keeper.failsFed(sink("domain", "  scope: {domain: default}\n"), 1, []string{"domain default"}, "apply", "-f", "-")
	keeper.failsFed(sink("secret", "  scope: {namespaces: [mine]}\n  credential: {namespace: mine, name: token}\n"), 1, []string{"may not use secret mine/token"}, "apply", "-f", "-")
	keeper.feed(sink("mine", "  scope: {namespaces: [mine]}\n"), "apply", "-f", "-")
	keeper.failsFed(sink("mine", ""), 1, []string{"may not read the record"}, "apply", "-f", "-")
	// A sink of all that another made cannot be pointed elsewhere.
	k.feed(sink("theirs", ""), "apply", "-f", "-")
	keeper.failsFed(sink("theirs", "  scope: {namespaces: [mine]}\n"), 1, []string{"may not read the record"}, "apply", "-f", "-")
	// Nor ended, alone or with others.
	keeper.fails(1, []string{"may not read the record"}, "delete", "auditsink", "theirs")
	token := strings.TrimSpace(k.run("create", "token", "keeper", "-n", "mine"))
	bare := bareClient(t, g)
	if code, body := bare.send(http.MethodDelete, "/apis/audit.gatehouse.dev/v1alpha1/auditsinks", http.Header{"Authorization": {"Bearer " + token}}, nil); code != http.StatusForbidden || !strings.Contains(string(body), "may not read the record") {
		t.Errorf("all sinks deleted at once: %d %s", code, body)
	}
	k.run("get", "auditsink", "theirs")
	// A tenant's receiver on this machine is refused.
	k.feed("apiVersion: audit.gatehouse.dev/v1alpha1\nkind: AuditSink\nmetadata: {name: near}\nspec:\n  webhook: {url: \""+g.URL+"/\"}\n  scope: {namespaces: [mine]}\n", "apply", "-f", "-")
	k.feed("apiVersion: audit.gatehouse.dev/v1alpha1\nkind: AuditSink\nmetadata: {name: beside}\nspec:\n  kafka: {brokers: [\""+strings.TrimPrefix(g.URL, "https://")+"\"], topic: audit}\n  scope: {namespaces: [mine]}\n", "apply", "-f", "-")
	k.run("create", "serviceaccount", "marker", "-n", "mine")
	for _, name := range []string{"near", "beside"} {
		eventually(t, commandWithin, "the refusal of "+name+" shows in status", func() bool {
			return strings.Contains(k.run("get", "auditsink", name, "-o", "jsonpath={.status.replicas[0].error}"), "must not be on this machine")
		})
	}
}
