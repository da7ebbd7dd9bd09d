package authzenhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/authzen"
	"github.com/gatehouse-dev/gatehouse/internal/access/question"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// recorder keeps events, or fails.
type recorder struct {
	events []*audit.Event
	err    error
}

func (r *recorder) Append(_ context.Context, ev *audit.Event, _ audit.Durability) error {
	r.events = append(r.events, ev)
	return r.err
}

type world struct {
	recorder recorder
	mayAsk   bool
	refuse   error
}

// serve sends one request and returns the answer as "CODE BODY".
func (w *world) serve(t *testing.T, r *http.Request) (string, http.Header) {
	t.Helper()
	p := access.NewPolicy()
	p.ClusterRoles.Replace([]*rbacv1.ClusterRole{{ObjectMeta: metav1.ObjectMeta{Name: "r"},
		Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}, ResourceNames: []string{"web"}}}}})
	p.ClusterRoleBindings.Replace([]*rbacv1.ClusterRoleBinding{{ObjectMeta: metav1.ObjectMeta{Name: "b"},
		RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "r"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "ada"}}}})
	p.Roles.Replace(nil)
	p.RoleBindings.Replace(nil)
	p.Sites.Replace(nil)
	a, err := access.New(access.Config{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{
		Next: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }),
		Authenticate: func(*http.Request) (authn.Identity, bool, error) {
			return authn.Identity{}, w.refuse == nil, w.refuse
		},
		Permit: func(context.Context, resource.Caller, *authz.Request) (bool, string, error) {
			return w.mayAsk, "a rule", nil
		},
		Policy:   authzen.Policy{Asker: question.Asker{Access: a, Policy: p, Policies: question.NewPolicies()}},
		Recorder: &w.recorder, URL: "https://pdp.example", Now: time.Now, Log: slog.New(slog.DiscardHandler), InFlight: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	out := httptest.NewRecorder()
	h.ServeHTTP(out, r)
	return fmt.Sprintf("%d %s", out.Code, out.Body), out.Header()
}

func post(path, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

const good = `{"subject":{"type":"user","id":"ada"},"action":{"name":"get"},"resource":{"type":"pods","id":"ns/web"}}`

func TestEndpoints(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ path, body, want string }{
		{authzen.EvaluationPath, good, `200 {"decision":true`},
		{authzen.EvaluationPath, `{"subject":{}}`, `400 "subject.type: is required"`},
		{authzen.EvaluationsPath, `{"subject":{"type":"user","id":"ada"},"action":{"name":"get"},"evaluations":[{"resource":{"type":"pods","id":"ns/web"}},{}]}`, `200 {"evaluations":[{"decision":true`},
		{authzen.SearchSubjectPath, good, `"results":[{"type":"user","id":"ada"}]}`},
		{authzen.SearchResourcePath, good, `"results":[{"type":"pods","id":"web"}]}`},
		{authzen.SearchActionPath, good, `"results":[{"name":"get"}]}`},
		{"/access/v1/other", good, "418 "},
	} {
		w := world{mayAsk: true}
		if got, _ := w.serve(t, post(tc.path, tc.body)); !strings.Contains(got, tc.want) {
			t.Errorf("%s: %s", tc.path, got)
		}
	}
	w := world{}
	if got, _ := w.serve(t, httptest.NewRequest(http.MethodGet, authzen.MetadataPath, nil)); !strings.Contains(got, `"policy_decision_point":"https://pdp.example"`) {
		t.Errorf("discovery: %s", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	header := func(name, value string) *http.Request {
		r := post(authzen.EvaluationPath, good)
		r.Header.Set(name, value)
		return r
	}
	long := post(authzen.EvaluationPath, good)
	long.Body, long.ContentLength = io.NopCloser(io.LimitReader(endless{}, maxBody+2)), -1
	for name, tc := range map[string]struct {
		r     *http.Request
		world world
		code  string
	}{
		"method":          {httptest.NewRequest(http.MethodGet, authzen.EvaluationPath, nil), world{mayAsk: true}, "405"},
		"media type":      {header("Content-Type", "text/plain"), world{mayAsk: true}, "415"},
		"encoding":        {header("Content-Encoding", "gzip"), world{mayAsk: true}, "415"},
		"impersonation":   {header("Impersonate-User", "root"), world{mayAsk: true}, "400"},
		"query":           {post(authzen.EvaluationPath+"?x=y", good), world{mayAsk: true}, "400"},
		"announced size":  {post(authzen.EvaluationPath, strings.Repeat(" ", maxBody+1)), world{mayAsk: true}, "413"},
		"size":            {long, world{mayAsk: true}, "413"},
		"may not ask":     {post(authzen.EvaluationPath, good), world{}, "403"},
		"may not search":  {post(authzen.SearchActionPath, good), world{}, "403"},
		"bad credential":  {post(authzen.EvaluationPath, good), world{refuse: fault.New(fault.Unauthenticated, "no")}, "401"},
		"cannot tell now": {post(authzen.EvaluationPath, good), world{refuse: fault.New(fault.Unavailable, "not now")}, "503"},
		"cannot record":   {post(authzen.EvaluationPath, good), world{mayAsk: true, recorder: recorder{err: errors.New("full")}}, "503"},
	} {
		got, _ := tc.world.serve(t, tc.r)
		if !strings.HasPrefix(got, tc.code) {
			t.Errorf("%s: %s", name, got)
		}
		if len(tc.world.recorder.events) != 1 {
			t.Errorf("%s: %d events", name, len(tc.world.recorder.events))
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestRecordAndRequestID(t *testing.T) {
	t.Parallel()
	w := world{mayAsk: true}
	r := post(authzen.EvaluationPath, good)
	r.Header.Set("X-Request-ID", "42")
	_, header := w.serve(t, r)
	if header.Get("X-Request-ID") != "42" || header.Get("Audit-Id") == "" {
		t.Errorf("headers %v", header)
	}
	text := fmt.Sprint(w.recorder.events[0].Annotations)
	for _, want := range []string{"user/ada", "get pods ns/web", "answer:true", "questions:1"} {
		if !strings.Contains(text, want) {
			t.Errorf("the event lacks %q: %s", want, text)
		}
	}
}

func TestConfigIsComplete(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Error("an empty configuration is accepted")
	}
}
