package fastlane_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane"
)

// static is a policy that a test changes.
type static struct{ chain *policy.Chain }

func (s *static) Chain() *policy.Chain { return s.chain }

// set takes rules, and perhaps more of a policy.
func (s *static) set(t *testing.T, rules string) {
	t.Helper()
	p, err := policy.Parse([]byte("{apiVersion: audit.k8s.io/v1, kind: Policy, " + rules + "}"))
	if err != nil {
		t.Fatal(err)
	}
	s.chain = policy.NewChain(p)
}

// TestLevels: reviews and doors are recorded as the policy says, from the next
// request on.
func TestLevels(t *testing.T) {
	t.Parallel()
	p := &static{}
	p.set(t, "rules: [{level: Metadata}]")
	w := newWorld(t, func(c *fastlane.Config) { c.Policy = p })
	admin, site := w.client(w.admin, false), w.client(w.siteOne, false)
	redactor, err := audit.NewRedactor()
	if err != nil {
		t.Fatal(err)
	}
	token := w.token(apiAudience)
	asks := map[string]func() int{
		"review": func() int { return w.do(admin, call{path: sarPath, body: sar("alice", "get", "pods")}).code },
		"token":  func() int { return w.do(admin, call{path: tokenPath, body: tokenReview(token)}).code },
		"door": func() int {
			return w.do(site, call{path: "/sites/one/authorize", body: sar("alice", "get", "pods")}).code
		},
		"nobody": func() int {
			return w.do(w.client(nil, false), call{path: sarPath, body: sar("alice", "get", "pods")}).code
		},
	}
	for _, c := range []struct {
		rules string
		want  map[string]string
	}{
		{"[{level: Metadata}]", map[string]string{"review": "Metadata", "token": "Metadata", "door": "Metadata", "nobody": "Metadata"}},
		{"[{level: None}]", nil},
		{"[{level: Metadata, omitStages: [ResponseComplete]}]", nil},
		{"[{level: None, resources: [{group: authorization.k8s.io}]}, {level: Request}]", map[string]string{"token": "Request", "door": "Request"}},
		{"[{level: RequestResponse, resources: [{group: authorization.k8s.io, resources: [subjectaccessreviews]}]}]", map[string]string{"review": "RequestResponse", "nobody": "RequestResponse"}},
		{"[{level: RequestResponse, resources: [{group: authentication.k8s.io}], users: [admin]}]", map[string]string{"token": "RequestResponse"}},
		{"[{level: RequestResponse, nonResourceURLs: [/sites/one/*]}]", map[string]string{"door": "RequestResponse"}},
		{"[{level: Request, userGroups: [\"system:sites\"]}, {level: Metadata, verbs: [create]}]", map[string]string{"review": "Metadata", "token": "Metadata", "door": "Request", "nobody": "Metadata"}},
	} {
		p.set(t, "omitStages: [RequestReceived], rules: "+c.rules)
		for name, ask := range asks {
			w.record.take()
			code := ask()
			if wantCode := map[string]int{"review": 201, "token": 201, "door": 200, "nobody": 401}[name]; code != wantCode {
				t.Errorf("%s with %s: %d", name, c.rules, code)
			}
			events, _ := w.record.take()
			want := c.want[name]
			if want == "" {
				if len(events) != 0 {
					t.Errorf("%s with %s is recorded: %+v", name, c.rules, events)
				}
				continue
			}
			if len(events) != 1 || string(events[0].Level) != want {
				t.Errorf("%s with %s: %+v, want %s", name, c.rules, events, want)
				continue
			}
			ev := events[0]
			if answered := code < 400; (len(ev.RequestObject) > 0) != (answered && ev.Level.Rank() >= 2) || (len(ev.ResponseObject) > 0) != (answered && ev.Level.Rank() >= 3) {
				t.Errorf("%s at %s: request %q, response %q", name, ev.Level, ev.RequestObject, ev.ResponseObject)
			}
			redactor.Redact(&ev)
			if strings.Contains(string(ev.AppendJSON(nil)), token) {
				t.Errorf("%s at %s: the record holds a token", name, ev.Level)
			}
		}
	}
}

// TestArrivals: where the policy wants a request's arrival on record, it is,
// without what came of it; a door that has no opinion leaves nothing.
func TestArrivals(t *testing.T) {
	t.Parallel()
	p := &static{}
	p.set(t, "rules: [{level: RequestResponse, nonResourceURLs: [/sites/one/authorize]}, {level: Request, omitStages: [ResponseComplete]}]")
	w := newWorld(t, func(c *fastlane.Config) { c.Policy = p })
	admin, site := w.client(w.admin, false), w.client(w.siteOne, false)
	stages := func() (out []string) {
		events, _ := w.record.take()
		for i, e := range events {
			if e.AuditID != events[0].AuditID || e.Stage == audit.StageRequestReceived &&
				(e.ResponseStatus != nil || len(e.RequestObject) > 0 || len(e.ResponseObject) > 0 || len(e.Annotations) > 0 || !e.StageTimestamp.Equal(e.RequestReceivedTimestamp.Time)) {
				t.Errorf("event %d: %+v", i, e)
			}
			out = append(out, string(e.Stage)+" "+string(e.Level))
		}
		return out
	}
	for _, c := range []struct {
		what string
		ask  func() int
		want []string
	}{
		{"review", func() int { return w.do(admin, call{path: sarPath, body: sar("alice", "get", "pods")}).code }, []string{"RequestReceived Request"}},
		{"door", func() int {
			return w.do(site, call{path: "/sites/one/authorize", body: sar("alice", "get", "pods")}).code
		}, []string{"RequestReceived RequestResponse", "ResponseComplete RequestResponse"}},
		{"no opinion", func() int {
			return w.do(site, call{path: "/sites/one/authorize/deny", body: sar("alice", "get", "pods")}).code
		}, nil},
		// As in the frame, whose arrivals are those of somebody.
		{"nobody", func() int {
			return w.do(w.client(nil, false), call{path: sarPath, body: sar("alice", "get", "pods")}).code
		}, nil},
	} {
		w.record.take()
		code := c.ask()
		if got := stages(); !slices.Equal(got, c.want) {
			t.Errorf("%s (%d): %q, want %q", c.what, code, got, c.want)
		}
	}
}
