package kubeapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
)

// Nothing that a request says makes it one of the process to itself.
func TestNobodyBecomesTheControlPlane(t *testing.T) {
	t.Parallel()
	const path = "/api/v1/configmaps?becoming=1"
	for name, r := range map[string]struct {
		request
		code int
	}{
		"no credential":                   {request{as: "-"}, 401},
		"a refused credential":            {request{as: "forged"}, 401},
		"the name":                        {request{as: "system:apiserver"}, 403},
		"impersonation of the name":       {request{as: "boss", header: http.Header{"Impersonate-User": {"system:apiserver"}}}, 403},
		"impersonation of the group":      {request{as: "boss", header: http.Header{"Impersonate-User": {"x"}, "Impersonate-Group": {"system:masters"}}}, 403},
		"impersonation without the right": {request{as: "jane", header: http.Header{"Impersonate-User": {"admin"}}}, 403},
		"a proxy's header":                {request{as: "-", header: http.Header{"X-Remote-User": {"admin"}, "X-Remote-Group": {"system:masters"}}}, 401},
		"the loopback's host":             {request{as: "-", header: http.Header{"Host": {"loopback.invalid"}, "X-Forwarded-For": {"loopback"}}}, 401},
		"a token in the query":            {request{as: "-", path: path + "&access_token=x&token=x"}, 401},
	} {
		if r.path == "" {
			r.path = path
		}
		a, err := shared.send(t.Context(), r.request)
		if err != nil || a.code != r.code {
			t.Errorf("%s: %d %s %v, want %d", name, a.code, a.body, err, r.code)
		}
	}
}

// What a client writes into its headers about itself stays out of the record,
// and cannot keep a request out of it.
func TestTheRecordIsNotTheClientsToWrite(t *testing.T) {
	t.Parallel()
	for i, id := range []string{"mine", strings.Repeat("x", 300), "\x00", "7f0f2a34-0000-4000-8000-000000000001"} {
		path := "/api/v1/secrets?recorded=" + string(rune('a'+i))
		header := http.Header{"X-Forwarded-For": {"203.0.113.7"}, "X-Real-Ip": {"203.0.113.7"}}
		if id != "\x00" { // which no client can send
			header["Audit-Id"] = []string{id}
		}
		do(t, 200, request{path: path, header: header})
		var found []audit.Event
		eventually(t, "the read is on record", func() bool { found = shared.record.of(path); return len(found) > 0 })
		for _, ev := range found {
			if ev.AuditID == id || len(ev.AuditID) != 36 {
				t.Errorf("recorded under the client's id %.40q", ev.AuditID)
			}
			if strings.Join(ev.SourceIPs, ",") != "127.0.0.1" {
				t.Errorf("recorded from %q", ev.SourceIPs)
			}
		}
	}
}

// A change is on record before it is stored, and once more when it is done.
func TestChangesAreRecordedTwice(t *testing.T) {
	t.Parallel()
	maps := newNamespace(t, "recorded") + "/configmaps"
	do(t, 201, request{as: "jane", method: "POST", path: maps, body: configMap("r", "secret value")})
	var events []audit.Event
	eventually(t, "two records", func() bool { events = shared.record.of(maps); return len(events) >= 2 })
	if len(events) != 2 || events[0].Stage != audit.StageRequestReceived || events[0].Annotations[audit.AnnotationIntent] != "true" ||
		events[1].Stage != audit.StageResponseComplete || events[1].ResponseStatus.Code != 201 || events[0].AuditID != events[1].AuditID {
		t.Errorf("recorded %+v", events)
	}
	for _, ev := range events {
		if ev.User.Username != "jane" {
			t.Errorf("recorded as by %q", ev.User.Username)
		}
	}
}

// The first change that finds the disk full is answered as the later ones are.
func TestUnrecordableChangesAreUnavailable(t *testing.T) {
	t.Parallel()
	maps := newNamespace(t, "full-disk") + "/configmaps"
	shared.record.refuse(maps)
	a := do(t, 503, request{as: "jane", method: "POST", path: maps, body: configMap("r", "v")})
	var status metav1.Status
	if err := json.Unmarshal(a.body, &status); err != nil || status.Reason != metav1.StatusReasonServiceUnavailable || status.Code != 503 || status.Message != kubeapi.Unrecordable {
		t.Errorf("%v: %s", err, a.body)
	}
	if got := do(t, 200, request{as: "jane", path: maps}); strings.Contains(string(got.body), `"name":"r"`) {
		t.Errorf("what could not be recorded was done: %s", got.body)
	}
}
