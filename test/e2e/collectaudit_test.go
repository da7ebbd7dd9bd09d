package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// eventList is the body of an audit webhook.
func eventList(items ...string) []byte {
	return fmt.Appendf(nil, `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[%s]}`, strings.Join(items, ","))
}

// auditEvent is one item of it, with further members.
func auditEvent(id string, at time.Time, more string) string {
	stamp := at.UTC().Format("2006-01-02T15:04:05.000000Z")
	return fmt.Sprintf(`{"level":"RequestResponse","auditID":%q,"stage":"ResponseComplete","requestURI":"/api/v1/namespaces","verb":"list","user":{"username":"kim"},"requestReceivedTimestamp":%q,"stageTimestamp":%q%s}`, id, stamp, stamp, more)
}

// Events that are too large, too many, from the future or of somebody else are
// cut, marked or refused, as the documentation says, and never there by half.
func TestBadEvents(t *testing.T) {
	t.Parallel()
	g := start(t)
	dir, _ := connect(t, g, "blue")
	connect(t, g, "red")
	c := bareClient(t, g, pair(t, dir, "site"))
	var annotations strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&annotations, `,"a%d":"v"`, i)
	}
	now := time.Now()
	for name, bad := range map[string]struct {
		path string
		body []byte
		code int
	}{
		"one megabyte":    {"blue", eventList(auditEvent("large", now, `,"requestObject":{"x":"`+strings.Repeat("x", 1<<20)+`"},"responseObject":{"kind":"Small"}`)), 200},
		"annotations":     {"blue", eventList(auditEvent("many", now, `,"annotations":{"authorization.k8s.io/decision":"allow"`+annotations.String()+`}`)), 200},
		"the future":      {"blue", eventList(auditEvent("future", now.Add(100*365*24*time.Hour), "")), 200},
		"ours claimed":    {"blue", eventList(auditEvent("claims", now, `,"annotations":{"audit.gatehouse.dev/break-glass":"yes","audit.gatehouse.dev/source":"web-1","audit.gatehouse.dev/gap":"none"}`)), 200},
		"not UTF-8":       {"blue", bytes.Replace(eventList(auditEvent("whole", now, ""), auditEvent("half", now, "")), []byte("kim"), []byte("k\xffm"), 1), 400},
		"another site":    {"red", eventList(auditEvent("foreign", now, "")), 403},
		"one of two":      {"blue", eventList(auditEvent("first", now, ""), `{"level":"Metadata","auditID":"second","stage":"Nowhere"}`), 400},
		"cut off":         {"blue", eventList(auditEvent("cut", now, ""))[:300], 400},
		"10,001 events":   {"blue", eventList(strings.Repeat(auditEvent("many-1", now, "")+",", 10_000) + auditEvent("many-2", now, "")), 400},
		"over the limit":  {"blue", eventList(auditEvent("giant", now, `,"requestObject":"`+strings.Repeat("x", 12<<20)+`"`)), 413},
		"another version": {"blue", bytes.Replace(eventList(auditEvent("beta", now, "")), []byte("audit.k8s.io/v1"), []byte("audit.k8s.io/v1beta1"), 1), 400},
	} {
		if code, body := c.send(http.MethodPost, "/sites/"+bad.path+"/audit", nil, bad.body); code != bad.code {
			t.Errorf("%s: %d %.200s, want %d", name, code, body, bad.code)
		}
	}
	got := map[string]event{}
	for _, e := range record(t, g, "--user", "kim") {
		got[e.AuditID] = e
	}
	if len(got) != 4 {
		t.Errorf("%d events on record: %v", len(got), got)
	}
	if e := got["large"]; len(e.raw) > 64_000 || e.RequestObject != nil || e.Annotations["audit.k8s.io/truncated"] != "true" || !strings.Contains(e.Annotations["audit.gatehouse.dev/dropped"], "requestObject") {
		t.Errorf("one megabyte: %.500s", e.raw)
	}
	if e := got["many"]; len(e.Annotations) > 140 || e.Annotations["authorization.k8s.io/decision"] != "allow" || !strings.Contains(e.Annotations["audit.gatehouse.dev/dropped"], "annotations:") {
		t.Errorf("annotations: %d: %.500s", len(e.Annotations), e.raw)
	}
	if e := got["future"]; e.Annotations["audit.gatehouse.dev/clock-skew"] == "" {
		t.Errorf("the future: %.500s", e.raw)
	}
	if e := got["claims"]; e.Annotations["audit.gatehouse.dev/break-glass"] != "" || e.Annotations["audit.gatehouse.dev/source"] != "" || e.Annotations["audit.gatehouse.dev/gap"] != "" || e.Annotations["claimed-by-sender.audit.gatehouse.dev/source"] != "web-1" {
		t.Errorf("ours claimed: %.500s", e.raw)
	}
}

// clusterRequests is how many requests the story below makes; it holds for any
// number.
const clusterRequests = 4000

// A stock kube-apiserver ships its events while the control plane is killed and
// started again three times: each request that it answered is on record once.
func TestClusterEventsOutliveCrashes(t *testing.T) {
	t.Parallel()
	g := start(t)
	_, flags := connect(t, g, "busy")
	// The sender waits this long before it tries a batch again, and longer
	// each time; ten seconds is what it does by itself.
	cluster := startCluster(t, append(flags, "--audit-webhook-initial-backoff=2s")...)
	base, config, err := as(t, cluster).k.Endpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu       sync.Mutex
		answered = map[string]bool{}
		wg       sync.WaitGroup
	)
	const senders = 8
	third := make(chan struct{}, clusterRequests)
	var failed sync.Once
	failure := make(chan struct{})
	for range senders {
		wg.Go(func() {
			client := &http.Client{Timeout: commandWithin, Transport: &http.Transport{TLSClientConfig: cloned(config), ForceAttemptHTTP2: true}}
			defer client.CloseIdleConnections()
			for range clusterRequests / senders {
				resp, err := client.Get(base + "/api/v1/namespaces/default/configmaps?limit=1")
				if err != nil {
					t.Error(err)
					failed.Do(func() { close(failure) })
					return
				}
				resp.Body.Close()
				mu.Lock()
				answered[resp.Header.Get("Audit-Id")] = true
				mu.Unlock()
				third <- struct{}{}
			}
		})
	}
	for range 3 {
		for range clusterRequests / 4 {
			select {
			case <-third:
			case <-failure:
				wg.Wait()
				t.FailNow()
			}
		}
		g.Kill()
		if err := g.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if len(answered) != clusterRequests {
		t.Fatalf("%d requests with an audit id of their own, want %d", len(answered), clusterRequests)
	}
	// What the cluster itself threw away, because the control plane was away for
	// longer than it tries, is not the control plane's to record.
	var count map[string]int
	inRecord(t, "all events of the cluster", func() bool {
		count = map[string]int{}
		for _, e := range record(t, g, "--site", "busy", "--resource", "configmaps") {
			if answered[e.AuditID] && e.Stage == "ResponseComplete" {
				count[e.AuditID]++
			}
		}
		return len(count) >= clusterRequests-senderDropped(t, cluster)
	})
	for id, n := range count {
		if n != 1 {
			t.Errorf("event %s is on record %d times", id, n)
		}
	}
}

func cloned(c *tls.Config) *tls.Config { return c.Clone() }
