package sink_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
)

// The cases of the tests that upstream removed with its dynamic audit backend
// (Kubernetes 1.18, plugin/pkg/audit/dynamic): what went in, what had to come
// out.

func parse(t *testing.T, rules string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte("{apiVersion: audit.k8s.io/v1, kind: Policy, rules: " + rules + "}"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestUpstreamEnforced is the table of dynamic/enforced: a sink's own policy is
// enforced on events that were recorded at a higher level.
func TestUpstreamEnforced(t *testing.T) {
	t.Parallel()
	event := func(user string) *audit.Event {
		return &audit.Event{
			Level: audit.LevelRequestResponse, AuditID: "e", Stage: audit.StageResponseComplete, RequestURI: "/apis/extensions/v1beta1",
			User: audit.UserInfo{Username: user}, RequestObject: []byte(`"test"`), ResponseObject: []byte(`"test"`),
		}
	}
	const anonymous = "system:anonymous"
	for _, c := range []struct {
		name  string
		event *audit.Event
		rules string
		want  audit.Level // "" for no event
		// request and response say which bodies are left.
		request, response bool
	}{
		{"enforce level", event(""), "[{level: Metadata}]", audit.LevelMetadata, false, false},
		{"enforce policy rule", event(anonymous), `[{level: None, users: ["system:anonymous"]}, {level: Metadata}]`, "", false, false},
		{"nil event", nil, "[{level: Metadata}]", "", false, false},
		// Further: the rule is about somebody else, and the levels between.
		{"a rule about another", event("jane"), `[{level: None, users: ["system:anonymous"]}, {level: Metadata}]`, audit.LevelMetadata, false, false},
		{"request", event(""), "[{level: Request}]", audit.LevelRequest, true, false},
		{"as recorded", event(""), "[{level: RequestResponse}]", audit.LevelRequestResponse, true, true},
		{"stage left out", event(""), "[{level: Metadata, omitStages: [ResponseComplete]}]", "", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fsys := crashfs.New(1)
				l := openLog(t, fsys)
				defer l.Close()
				if c.event != nil {
					if err := l.Append(t.Context(), c.event, audit.Durable); err != nil {
						t.Fatal(err)
					}
				}
				cfg := config(l, fsys)
				cfg.Policy = parse(t, c.rules)
				to := &receiver{}
				_, stop := start(t, cfg, to)
				settle()
				stop()
				if c.want == "" {
					if len(to.got) != 0 {
						t.Errorf("came: %+v", to.got[0].Event)
					}
					return
				}
				if len(to.got) != 1 {
					t.Fatalf("%d events", len(to.got))
				}
				e := to.got[0].Event
				if e.Level != c.want || e.RequestURI != c.event.RequestURI || e.Stage != c.event.Stage || (len(e.RequestObject) > 0) != c.request || (len(e.ResponseObject) > 0) != c.response {
					t.Errorf("came: %+v", e)
				}
			})
		})
	}
}

// TestUpstreamDynamic goes through the steps of dynamic.TestDynamic: none, one,
// a bad one that is removed with events waiting, two, one deleted, one changed,
// only its metadata changed, shutdown.
func TestUpstreamDynamic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New(1)
		l := openLog(t, fsys)
		defer l.Close()
		s, stop := set(t, fsys, l)
		sent := 0
		process := func() string {
			t.Helper()
			id := fmt.Sprint("event-", sent)
			sent++
			e := &audit.Event{Level: audit.LevelMetadata, AuditID: id, Stage: audit.StageResponseStarted, Verb: "get", RequestURI: "/test/path"}
			if err := l.Append(t.Context(), e, audit.Durable); err != nil {
				t.Fatal(err)
			}
			settle()
			return id
		}
		came := func(to *receiver, id string) int {
			to.mu.Lock()
			defer to.mu.Unlock()
			n := 0
			for _, e := range to.got {
				if e.Event.AuditID == id && e.Event.RequestURI == "/test/path" && e.Event.Stage == audit.StageResponseStarted {
					n++
				}
			}
			return n
		}
		expect := func(step, id string, want map[*receiver]int) {
			t.Helper()
			for to, n := range want {
				if got := came(to, id); got != n {
					t.Errorf("%s: the event came %d times, want %d", step, got, n)
				}
			}
		}
		sinks := func(step string, names ...string) {
			t.Helper()
			states := s.States()
			for _, name := range names {
				if _, ok := states[name]; !ok {
					t.Errorf("%s: no sink %s", step, name)
				}
			}
			if len(states) != len(names) {
				t.Errorf("%s: %d sinks", step, len(states))
			}
		}
		rules := parse(t, "[{level: Metadata, omitStages: [RequestReceived, ResponseComplete, Panic]}]")
		server1, server2, bad := &receiver{}, &receiver{}, &receiver{}
		bad.set(errors.New("no such host"), 0)

		sinks("find none")
		test1 := spec("test1", "test1", 1, server1)
		test1.Policy, test1.Since = rules, time.Now()
		s.Put(test1)
		sinks("find one", "test1")
		expect("find one", process(), map[*receiver]int{server1: 1})

		badly := spec("bad", "bad", 1, bad)
		badly.Policy, badly.Since = rules, time.Now()
		s.Put(badly)
		process()
		id := process()
		sinks("bad config", "test1", "bad")
		if s.States()["bad"].Error == "" {
			t.Error("bad config: no error in its state")
		}
		s.Remove("bad")
		settle()
		sinks("bad config removed", "test1")
		expect("bad config", id, map[*receiver]int{server1: 1, bad: 0})

		test2 := spec("test2", "test2", 1, server2)
		test2.Policy, test2.Since = rules, time.Now()
		s.Put(test2)
		sinks("find two", "test1", "test2")
		expect("find two", process(), map[*receiver]int{server1: 1, server2: 1})

		s.Remove("test1")
		sinks("delete one", "test2")
		expect("delete one", process(), map[*receiver]int{server1: 0, server2: 1})

		test2 = spec("test2", "test2", 2, server1)
		test2.Policy = rules
		s.Put(test2)
		sinks("update one", "test2")
		expect("update one", process(), map[*receiver]int{server1: 1, server2: 0})

		// The same generation: nothing starts anew.
		s.Put(test2)
		expect("update meta only", process(), map[*receiver]int{server1: 1, server2: 0})

		began := time.Now()
		stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("shutdown took %v", took)
		}
	})
}
