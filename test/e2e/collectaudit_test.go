package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
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
