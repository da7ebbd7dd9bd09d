package webhook_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
	"github.com/gatehouse-dev/gatehouse/internal/auditsink/webhook"
)

var testKey = ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))

func batch() []sink.Event {
	return []sink.Event{
		{Index: 4, Event: &audit.Event{Level: "Metadata", AuditID: "a", Stage: "Panic", Annotations: map[string]string{"k": "v"}}},
		{Index: 5, Site: "alpha", Event: &audit.Event{Level: "Metadata", AuditID: "b", Stage: "ResponseComplete"}},
	}
}

func config(s *httptest.Server) webhook.Config {
	return webhook.Config{URL: s.URL + "/audit?x=1", Client: s.Client(), Key: testKey, KeyID: "r1", Clock: func() time.Time { return time.Unix(1_790_000_000, 0) }}
}

// TestDeliver checks the post as a receiver would: by upstream's types and by
// the text of RFC 9421.
func TestDeliver(t *testing.T) {
	t.Parallel()
	var got auditv1.EventList
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Error(err)
		}
		digest := sha256.Sum256(body)
		wantDigest := "sha-256=:" + base64.StdEncoding.EncodeToString(digest[:]) + ":"
		params := `("@method" "@target-uri" "content-digest" "content-type");created=1790000000;keyid="r1";alg="ed25519"`
		base := strings.Join([]string{`"@method": POST`, `"@target-uri": https://` + r.Host + `/audit?x=1`, `"content-digest": ` + wantDigest,
			`"content-type": application/json`, `"@signature-params": ` + params}, "\n")
		encoded, ok := strings.CutPrefix(r.Header.Get("Signature"), "gatehouse=:")
		sig, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(encoded, ":"))
		if !ok || err != nil || r.Header.Get("Content-Digest") != wantDigest || r.Header.Get("Signature-Input") != "gatehouse="+params ||
			!ed25519.Verify(testKey.Public().(ed25519.PublicKey), []byte(base), sig) {
			t.Errorf("signature does not verify: %v", r.Header)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer s.Close()
	target, err := webhook.New(config(s))
	if err != nil {
		t.Fatal(err)
	}
	events := batch()
	if err := target.Deliver(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	if got.Kind != "EventList" || got.APIVersion != "audit.k8s.io/v1" || len(got.Items) != 2 {
		t.Fatalf("%+v", got)
	}
	if a := got.Items[0].Annotations; a[sink.AnnotationIndex] != "4" || a["k"] != "v" || a[sink.AnnotationSite] != "" {
		t.Errorf("%v", a)
	}
	if a := got.Items[1].Annotations; a[sink.AnnotationIndex] != "5" || a[sink.AnnotationSite] != "alpha" {
		t.Errorf("%v", a)
	}
	if len(events[0].Annotations) != 1 || events[1].Annotations != nil {
		t.Error("the events were changed")
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		switch r.URL.Query().Get("x") {
		case "500":
			w.WriteHeader(http.StatusInternalServerError)
		case "307":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "hang":
			<-release
		}
	}))
	defer s.Close()
	defer close(release)
	for _, x := range []string{"500", "307", "hang"} {
		cfg := config(s)
		cfg.URL = s.URL + "/?x=" + x
		target, err := webhook.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if err := target.Deliver(ctx, batch()); err == nil {
			t.Errorf("%s was taken for success", x)
		}
		cancel()
	}
	if elsewhere.Load() != 0 {
		t.Error("the record followed a redirect")
	}
	for _, bad := range []string{"http://example.com/", "https://user:pw@example.com/", "ftp://127.0.0.1/", "/audit", "https://example.com/#x", ":"} {
		cfg := config(s)
		cfg.URL = bad
		if _, err := webhook.New(cfg); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	for _, change := range []func(*webhook.Config){func(c *webhook.Config) { c.Key = nil }, func(c *webhook.Config) { c.Client = nil }, func(c *webhook.Config) { c.KeyID = `a"b` }} {
		cfg := config(s)
		change(&cfg)
		if _, err := webhook.New(cfg); err == nil {
			t.Error("an incomplete configuration was accepted")
		}
	}
}
