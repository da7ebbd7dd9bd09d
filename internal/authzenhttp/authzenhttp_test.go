package authzenhttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/authzen"
	"github.com/gatehouse-dev/gatehouse/internal/access/question"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
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
	level    policy.Decision // Metadata when it is zero
	mu       sync.Mutex      // guards asked
	asked    []policy.Request
	mayAsk   bool
	refuse   error
}

func (w *world) Evaluate(q *policy.Request) policy.Decision {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, *q)
	if w.level.Level == "" {
		return policy.Decision{Level: audit.LevelMetadata, OmitStages: []audit.Stage{audit.StageRequestReceived}}
	}
	return w.level
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
		Recorder: &w.recorder, AuditPolicy: w, URL: "https://pdp.example", Now: time.Now, Log: slog.New(slog.DiscardHandler), InFlight: 1,
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
		world *world
		code  string
	}{
		"method":          {httptest.NewRequest(http.MethodGet, authzen.EvaluationPath, nil), &world{mayAsk: true}, "405"},
		"media type":      {header("Content-Type", "text/plain"), &world{mayAsk: true}, "415"},
		"charset":         {header("Content-Type", "application/json; charset=utf-16"), &world{mayAsk: true}, "415"},
		"request id":      {header("X-Request-ID", strings.Repeat("x", maxRequestID+1)), &world{mayAsk: true}, "400"},
		"encoding":        {header("Content-Encoding", "gzip"), &world{mayAsk: true}, "415"},
		"impersonation":   {header("Impersonate-User", "root"), &world{mayAsk: true}, "400"},
		"query":           {post(authzen.EvaluationPath+"?x=y", good), &world{mayAsk: true}, "400"},
		"announced size":  {post(authzen.EvaluationPath, strings.Repeat(" ", maxBody+1)), &world{mayAsk: true}, "413"},
		"size":            {long, &world{mayAsk: true}, "413"},
		"may not ask":     {post(authzen.EvaluationPath, good), &world{}, "403"},
		"may not search":  {post(authzen.SearchActionPath, good), &world{}, "403"},
		"bad credential":  {post(authzen.EvaluationPath, good), &world{refuse: fault.New(fault.Unauthenticated, "no")}, "401"},
		"cannot tell now": {post(authzen.EvaluationPath, good), &world{refuse: fault.New(fault.Unavailable, "not now")}, "503"},
		"cannot record":   {post(authzen.EvaluationPath, good), &world{mayAsk: true, recorder: recorder{err: errors.New("full")}}, "503"},
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

// TestSpecification has what the AuthZEN Authorization API 1.0 says a server
// must do with requests at the edge of what it describes.
func TestSpecification(t *testing.T) {
	t.Parallel()
	const subject, action, web, other = `"subject":{"type":"user","id":"ada"}`, `"action":{"name":"get"}`, `"resource":{"type":"pods","id":"ns/web"}`, `"resource":{"type":"pods","id":"ns/other"}`
	batch := func(semantic string, items ...string) string {
		return `{` + subject + `,` + action + `,` + semantic + `"evaluations":[` + strings.Join(items, ",") + `]}`
	}
	yes, no, bad := `{`+web+`}`, `{`+other+`}`, `{"resource":{"type":"pods"}}`
	const permit, deny, all = `"options":{"evaluations_semantic":"permit_on_first_permit"},`, `"options":{"evaluations_semantic":"deny_on_first_deny"},`, `"options":{"evaluations_semantic":"execute_all","another_option":"value"},`
	for name, tc := range map[string]struct {
		path, body string
		code       string
		decisions  string // in order, y or n; empty for other answers
		says       string
	}{
		"unknown fields":                     {path: authzen.EvaluationPath, body: `{` + subject + `,` + action + `,` + web + `,"context":{"time":"2024-05-31T15:22-07:00"},"extension":[1,{"a":null}]}`, code: "200", decisions: "y"},
		"unknown fields inside":              {path: authzen.EvaluationPath, body: `{"subject":{"type":"user","id":"ada","alias":"x"},"action":{"name":"get","properties":{"method":"GET"},"x":1},` + web + `}`, code: "200", decisions: "y"},
		"any order of keys":                  {path: authzen.EvaluationPath, body: `{` + web + `,` + action + `,` + subject + `}`, code: "200", decisions: "y"},
		"a denial is an answer":              {path: authzen.EvaluationPath, body: `{` + subject + `,` + action + `,` + other + `}`, code: "200", decisions: "n"},
		"an unknown type of subject":         {path: authzen.EvaluationPath, body: `{"subject":{"type":"device","id":"7"},` + action + `,` + web + `}`, code: "200", decisions: "n"},
		"no subject":                         {path: authzen.EvaluationPath, body: `{` + action + `,` + web + `}`, code: "400", says: "subject"},
		"no action":                          {path: authzen.EvaluationPath, body: `{` + subject + `,` + web + `}`, code: "400", says: "action"},
		"no name of the action":              {path: authzen.EvaluationPath, body: `{` + subject + `,"action":{},` + web + `}`, code: "400", says: "action.name"},
		"no resource":                        {path: authzen.EvaluationPath, body: `{` + subject + `,` + action + `}`, code: "400", says: "resource"},
		"no type of resource":                {path: authzen.EvaluationPath, body: `{` + subject + `,` + action + `,"resource":{"id":"x"}}`, code: "400", says: "resource.type"},
		"an id that is a number":             {path: authzen.EvaluationPath, body: `{"subject":{"type":"user","id":7},` + action + `,` + web + `}`, code: "400", says: "subject.id"},
		"properties that are a list":         {path: authzen.EvaluationPath, body: `{"subject":{"type":"user","id":"ada","properties":[]},` + action + `,` + web + `}`, code: "400", says: "subject.properties"},
		"a context that is text":             {path: authzen.EvaluationPath, body: `{` + subject + `,` + action + `,` + web + `,"context":"now"}`, code: "400", says: "context"},
		"a list":                             {path: authzen.EvaluationPath, body: `[]`, code: "400", says: "one JSON object"},
		"nothing":                            {path: authzen.EvaluationPath, body: ``, code: "400"},
		"two objects":                        {path: authzen.EvaluationPath, body: good + good, code: "400"},
		"a key twice":                        {path: authzen.EvaluationPath, body: `{` + subject + `,"subject":{"type":"user","id":"eve"},` + action + `,` + web + `}`, code: "400", says: "twice"},
		"no evaluations":                     {path: authzen.EvaluationsPath, body: `{` + subject + `,` + action + `,` + web + `}`, code: "200", decisions: "y"},
		"empty evaluations":                  {path: authzen.EvaluationsPath, body: `{` + subject + `,` + action + `,` + web + `,"evaluations":[]}`, code: "200", decisions: "y"},
		"evaluations that are an object":     {path: authzen.EvaluationsPath, body: `{` + subject + `,` + action + `,` + web + `,"evaluations":{}}`, code: "400", says: "evaluations"},
		"all are executed":                   {path: authzen.EvaluationsPath, body: batch("", yes, no, yes), code: "200", decisions: "yny"},
		"all are executed, said so":          {path: authzen.EvaluationsPath, body: batch(all, yes, no, yes), code: "200", decisions: "yny"},
		"deny on first deny":                 {path: authzen.EvaluationsPath, body: batch(deny, yes, no, yes), code: "200", decisions: "yn"},
		"deny on first deny, none":           {path: authzen.EvaluationsPath, body: batch(deny, yes, yes), code: "200", decisions: "yy"},
		"deny on first failure":              {path: authzen.EvaluationsPath, body: batch(deny, yes, bad, yes), code: "200", decisions: "yn", says: "resource.id"},
		"permit on first permit":             {path: authzen.EvaluationsPath, body: batch(permit, yes, no, yes), code: "200", decisions: "y"},
		"permit on first permit, later":      {path: authzen.EvaluationsPath, body: batch(permit, no, bad, yes, no), code: "200", decisions: "nny"},
		"an unknown semantic":                {path: authzen.EvaluationsPath, body: batch(`"options":{"evaluations_semantic":"first_wins"},`, yes), code: "400", says: "options.evaluations_semantic"},
		"a failure in one only":              {path: authzen.EvaluationsPath, body: batch("", yes, bad, yes), code: "200", decisions: "yny", says: `"status":400`},
		"a default is replaced whole":        {path: authzen.EvaluationsPath, body: `{"resource":{"type":"pods","id":"ns/web","properties":{"a":1}},` + action + `,"evaluations":[{` + subject + `},{"subject":{"type":"user","id":"eve"}},{` + subject + `,` + other + `}]}`, code: "200", decisions: "ynn"},
		"a default that is not needed":       {path: authzen.EvaluationsPath, body: `{"evaluations":[{` + subject + `,` + action + `,` + web + `}]}`, code: "200", decisions: "y"},
		"a search, the id is ignored":        {path: authzen.SearchSubjectPath, body: `{"subject":{"type":"user","id":"somebody"},` + action + `,` + web + `}`, code: "200", says: `"results":[{"type":"user","id":"ada"}]`},
		"a search by another name of a user": {path: authzen.SearchSubjectPath, body: `{"subject":{"type":"identity"},` + action + `,` + web + `}`, code: "200", says: `"results":[{"type":"identity","id":"ada"}]`},
		"a search for what there is none of": {path: authzen.SearchSubjectPath, body: `{"subject":{"type":"device"},` + action + `,` + web + `}`, code: "200", says: `"results":[]`},
		"a search without a type":            {path: authzen.SearchSubjectPath, body: `{"subject":{"id":"ada"},` + action + `,` + web + `}`, code: "400", says: "subject.type"},
		"a search that wants a count":        {path: authzen.SearchActionPath, body: `{` + subject + `,` + web + `,"page":{"limit":0}}`, code: "200", says: `"count":0,"total":1}`},
		"a search with somebody's token":     {path: authzen.SearchActionPath, body: `{` + subject + `,` + web + `,"page":{"token":"alsehrq3495u8"}}`, code: "400", says: "page.token"},
		"a search for actions, one given":    {path: authzen.SearchActionPath, body: `{` + subject + `,` + web + `,"action":{"name":"delete"}}`, code: "200", says: `"results":[{"name":"get"}]`},
	} {
		w := world{mayAsk: true}
		r := post(tc.path, tc.body)
		r.Header.Set("Content-Type", "application/json; charset=UTF-8")
		r.Header.Set("X-Request-ID", "bfe9eb29-ab87-4ca3-be83-a1d5d8305716")
		got, header := w.serve(t, r)
		if !strings.HasPrefix(got, tc.code) || !strings.Contains(got, tc.says) {
			t.Errorf("%s: %s, want %s with %q", name, got, tc.code, tc.says)
		}
		decisions := ""
		for _, rest := range strings.Split(got, `"decision":`)[1:] {
			decisions += map[byte]string{'t': "y", 'f': "n"}[rest[0]]
		}
		if decisions != tc.decisions {
			t.Errorf("%s: decisions %q, want %q", name, decisions, tc.decisions)
		}
		if header.Get("X-Request-ID") != "bfe9eb29-ab87-4ca3-be83-a1d5d8305716" || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: headers %v", name, header)
		}
		var text string
		if body := got[strings.IndexByte(got, ' ')+1:]; tc.code != "200" && json.Unmarshal([]byte(body), &text) != nil {
			t.Errorf("%s: the error is no string: %s", name, body)
		}
	}
}

func TestConfigIsComplete(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Error("an empty configuration is accepted")
	}
}

// TestLevels: the record has of a question what the audit policy wants, which
// is asked with the method and the path.
func TestLevels(t *testing.T) {
	t.Parallel()
	const bad = `{"subject":{}}`
	for _, c := range []struct {
		level             policy.Decision
		body              string
		events            int
		request, response string
	}{
		{policy.Decision{Level: audit.LevelNone}, good, 0, "", ""},
		{policy.Decision{Level: audit.LevelNone}, bad, 0, "", ""},
		{policy.Decision{Level: audit.LevelMetadata}, good, 1, "", ""},
		{policy.Decision{Level: audit.LevelRequest}, good, 1, good, ""},
		{policy.Decision{Level: audit.LevelRequestResponse}, good, 1, good, `{"decision":true}`},
		{policy.Decision{Level: audit.LevelRequestResponse}, bad, 1, "", ""},
		{policy.Decision{Level: audit.LevelRequestResponse, OmitStages: []audit.Stage{audit.StageResponseComplete}}, good, 0, "", ""},
	} {
		w := world{mayAsk: true, level: c.level}
		got, _ := w.serve(t, post(authzen.EvaluationPath, c.body))
		if want := map[string]string{good: "200 ", bad: "400 "}[c.body]; !strings.HasPrefix(got, want) {
			t.Errorf("%+v: %s", c.level, got)
		}
		if len(w.asked) != 1 || w.asked[0].Verb != "post" || w.asked[0].Path != authzen.EvaluationPath || w.asked[0].Resource {
			t.Errorf("the policy is asked %+v", w.asked)
		}
		if len(w.recorder.events) != c.events {
			t.Errorf("%+v: %d events", c.level, len(w.recorder.events))
			continue
		}
		for _, e := range w.recorder.events {
			if e.Level != c.level.Level || string(e.RequestObject) != c.request || !strings.HasPrefix(string(e.ResponseObject), strings.TrimSuffix(c.response, "}")) || (c.response == "") != (len(e.ResponseObject) == 0) {
				t.Errorf("%+v: %s request %q response %q", c.level, e.Level, e.RequestObject, e.ResponseObject)
			}
		}
	}
}
