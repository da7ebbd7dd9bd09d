package authzen_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/authzen"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const good = `{"subject":{"type":"user","id":"alice"},"action":{"name":"get"},"resource":{"type":"pods","id":"ns/web"}}`

func TestParseEvaluation(t *testing.T) {
	t.Parallel()
	e, err := authzen.ParseEvaluation([]byte(`{"subject":{"type":"user","id":"alice","properties":{"groups":["dev"],"Groups":1,"groups2":{"a":{"a":1}}}},
		"action":{"name":"get","properties":{"method":"GET"}},"resource":{"type":"pods","id":"","properties":{"owner":"bob"}},
		"context":{"time":"now","Time":"then"},"extension":{"x":[1,{"y":2}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if e.Subject.ID != "alice" || e.Action.Properties["method"] != "GET" || e.Resource.Properties["owner"] != "bob" || e.Context["time"] != "now" || e.Context["Time"] != "then" {
		t.Errorf("got %+v", e)
	}
	nested := strings.Repeat(`{"a":`, 31) + "1" + strings.Repeat("}", 31)
	for body, want := range map[string]string{
		``:                 "the request is not valid JSON",
		`null`:             "the request is not one JSON object",
		`[]`:               "the request is not one JSON object",
		`"x"`:              "the request is not one JSON object",
		good + `{}`:        "the request is not one JSON object",
		good + ` 1`:        "the request is not one JSON object",
		good[:40]:          "the request is not valid JSON",
		`{"subject":}`:     "the request is not valid JSON",
		"{\"a\":\"\xff\"}": "the request is not valid UTF-8",
		`{}`:               "subject: is required",
		strings.Replace(good, `"type":"user",`, ``, 1):                                      "subject.type: is required",
		strings.Replace(good, `,"id":"alice"`, ``, 1):                                       "subject.id: is required",
		strings.Replace(good, `"type":"user"`, `"type":""`, 1):                              "subject.type: is required",
		strings.Replace(good, `"type":"user"`, `"type":7`, 1):                               "subject.type: is not of the expected type, but a JSON number",
		strings.Replace(good, `"type":"user"`, `"type":null`, 1):                            "subject.type: is required",
		strings.Replace(good, `{"name":"get"}`, `{}`, 1):                                    "action.name: is required",
		strings.Replace(good, `{"name":"get"}`, `null`, 1):                                  "action: is required",
		strings.Replace(good, `{"name":"get"}`, `"get"`, 1):                                 "action: is not of the expected type, but a JSON string",
		strings.Replace(good, `,"id":"ns/web"`, ``, 1):                                      "resource.id: is required",
		strings.Replace(good, `"ns/web"`, `"`+strings.Repeat("x", 8193)+`"`, 1):             "request attribute too long: resource.id has 8193 bytes, at most 8192 are allowed",
		strings.Replace(good, `"id":"alice"`, `"id":"alice","id":"root"`, 1):                `the key "id" appears twice in one object`,
		strings.Replace(good, `"id":"alice"`, `"id":"alice","ID":"root"`, 1):                `the key "ID" appears twice in one object`,
		strings.Replace(good, `{"sub`, `{"ſubject":{"type":"user","id":"root"},"sub`, 1):    `the key "subject" appears twice in one object`,
		strings.Replace(good, `"id":"alice"`, `"id":"alice","properties":{"a":1,"a":2}`, 1): `the key "a" appears twice in one object`,
		strings.Replace(good, `"id":"alice"`, `"id":"alice","properties":`+nested, 1):       "the request is nested deeper than 32",
	} {
		_, err := authzen.ParseEvaluation([]byte(body))
		if fault.KindOf(err) != fault.Invalid || fault.Public(err) != want {
			t.Errorf("%.80q: got %q, want %q", body, fault.Public(err), want)
		}
	}
}

func TestParseBatch(t *testing.T) {
	t.Parallel()
	b, err := authzen.ParseBatch([]byte(`{"subject":{"type":"user","id":"alice","properties":{"a":1}},"action":{"name":"read"},"context":{"c":1},
		"evaluations":[{"resource":{"type":"doc","id":"1"}},{"resource":{"type":"doc","id":"2"},"action":{"name":"edit"},"context":{}},
		{"subject":{"type":"user","id":"bob"},"resource":{"type":"doc","id":"3"}},{},{"resource":{"type":"doc"}}],"options":{"other":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	if b.Single || b.Semantic != authzen.ExecuteAll || len(b.Items) != 5 {
		t.Fatalf("got %+v", b)
	}
	for i, want := range []string{"alice read doc 1 map[c:1] map[a:1]", "alice edit doc 2 map[] map[a:1]", "bob read doc 3 map[c:1] map[]"} {
		e := b.Items[i]
		if got := fmt.Sprint(e.Subject.ID, " ", e.Action.Name, " ", e.Resource.Type, " ", e.Resource.ID, " ", e.Context, " ", e.Subject.Properties); got != want || e.Err != nil {
			t.Errorf("%d: got %s (%v), want %s", i, got, e.Err, want)
		}
	}
	for i, want := range map[int]string{3: "evaluations[3].resource: is required", 4: "evaluations[4].resource.id: is required"} {
		if fault.Public(b.Items[i].Err) != want {
			t.Errorf("%d: %v", i, b.Items[i].Err)
		}
	}
	single, err := authzen.ParseBatch([]byte(good))
	if err != nil || !single.Single || len(single.Items) != 1 {
		t.Errorf("single: %+v %v", single, err)
	}
	many := `{"evaluations":[` + strings.TrimSuffix(strings.Repeat("{},", 10_001), ",") + `]}`
	for body, want := range map[string]string{
		`{"evaluations":[]}`: "subject: is required",
		many:                 "evaluations: at most 10000 are answered in one request",
		strings.Replace(good, `{"sub`, `{"options":{"evaluations_semantic":"first"},"sub`, 1): `options.evaluations_semantic: "first" is not one of execute_all, deny_on_first_deny, permit_on_first_permit`,
		`{"evaluations":{}}`: "evaluations: is not of the expected type, but a JSON object",
	} {
		if _, err := authzen.ParseBatch([]byte(body)); fault.KindOf(err) != fault.Invalid || fault.Public(err) != want {
			t.Errorf("%.60q: got %q, want %q", body, fault.Public(err), want)
		}
	}
}

func TestMap(t *testing.T) {
	t.Parallel()
	groups := func(v any) map[string]any { return map[string]any{"groups": v} }
	robot := access.Subject{Name: "system:serviceaccount:ns:robot", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"}}
	for _, tc := range []struct {
		name     string
		subject  authzen.Entity
		resource authzen.Entity
		who      access.Subject
		want     authz.Request
		err      string
	}{
		{name: "an object", subject: authzen.Entity{Type: "user", ID: "alice"}, resource: authzen.Entity{Type: "pods", ID: "ns/web"},
			who: access.Subject{Name: "alice"}, want: authz.Request{ResourceRequest: true, Verb: "v", Resource: "pods", Namespace: "ns", Name: "web"}},
		{name: "a group's list", subject: authzen.Entity{Type: "group", ID: "dev"}, resource: authzen.Entity{Type: "deployments/scale.apps", ID: "ns/"},
			who: access.Subject{Groups: []string{"dev"}}, want: authz.Request{ResourceRequest: true, Verb: "v", APIGroup: "apps", Resource: "deployments", Subresource: "scale", Namespace: "ns"}},
		{name: "cluster scope", subject: authzen.Entity{Type: "user", ID: "alice", Properties: groups([]any{"a", "b"})}, resource: authzen.Entity{Type: "sites.federation.gatehouse.dev", ID: "berlin"},
			who: access.Subject{Name: "alice", Groups: []string{"a", "b"}}, want: authz.Request{ResourceRequest: true, Verb: "v", APIGroup: "federation.gatehouse.dev", Resource: "sites", Name: "berlin"}},
		{name: "everything of a kind", subject: authzen.Entity{Type: "serviceaccount", ID: "ns/robot"}, resource: authzen.Entity{Type: "nodes"},
			who: robot, want: authz.Request{ResourceRequest: true, Verb: "v", Resource: "nodes"}},
		{name: "a path", subject: authzen.Entity{Type: "user", ID: "alice"}, resource: authzen.Entity{Type: "path", ID: "/metrics"},
			who: access.Subject{Name: "alice"}, want: authz.Request{Verb: "v", Path: "/metrics"}},
		{name: "a kind named path", subject: authzen.Entity{Type: "user", ID: "alice"}, resource: authzen.Entity{Type: "path", ID: "a"},
			who: access.Subject{Name: "alice"}, want: authz.Request{ResourceRequest: true, Verb: "v", Resource: "path", Name: "a"}},
		{name: "a foreign id with slashes", subject: authzen.Entity{Type: "user", ID: "alice"}, resource: authzen.Entity{Type: "file", ID: "a/b/c"},
			who: access.Subject{Name: "alice"}, want: authz.Request{ResourceRequest: true, Verb: "v", Resource: "file", Namespace: "a", Name: "b/c"}},
		{name: "a subject of another type", subject: authzen.Entity{Type: "robot", ID: "r2"}, err: `subject type "robot" is not one of user, identity, group, serviceaccount`},
		{name: "a service account that cannot be", subject: authzen.Entity{Type: "serviceaccount", ID: "kube-system:x"}, err: `subject id "kube-system:x" is not NAMESPACE/NAME`},
		{name: "a service account outside the grammar", subject: authzen.Entity{Type: "serviceaccount", ID: "ns/a:b"}, err: `subject id "ns/a:b" is not NAMESPACE/NAME`},
		{name: "groups that are no list", subject: authzen.Entity{Type: "user", ID: "a", Properties: groups("system:masters")}, err: "subject.properties.groups is not a list of strings"},
		{name: "groups that are no strings", subject: authzen.Entity{Type: "user", ID: "a", Properties: groups([]any{"a", 1.0})}, err: "subject.properties.groups is not a list of strings"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			q, err := authzen.Map(&authzen.Evaluation{Subject: tc.subject, Resource: tc.resource, Action: authzen.Action{Name: "v"}})
			if tc.err != "" {
				if fault.KindOf(err) != fault.Invalid || fault.Public(err) != tc.err {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(q.Subject, tc.who) || !reflect.DeepEqual(q.Request, tc.want) {
				t.Errorf("got %+v %+v %v", q.Subject, q.Request, err)
			}
			if back := authzen.ResourceOf(&q.Request); back.Type != tc.resource.Type || back.ID != tc.resource.ID {
				t.Errorf("came back as %+v", back)
			}
		})
	}
}

func TestEntityOf(t *testing.T) {
	t.Parallel()
	for _, s := range []authz.Subject{{Kind: authz.User, Name: "alice"}, {Kind: authz.Group, Name: "dev"}, {Kind: authz.ServiceAccount, Namespace: "ns", Name: "robot"}} {
		e, ok := authzen.EntityOf(s)
		if !ok {
			t.Errorf("%+v has no entity", s)
			continue
		}
		if _, err := authzen.SubjectOf(e); err != nil {
			t.Errorf("%+v came back with %v", e, err)
		}
	}
	if _, ok := authzen.EntityOf(authz.Subject{Kind: "Robot", Name: "r"}); ok {
		t.Error("an unknown kind has an entity")
	}
}

type deciderFunc func(*authzen.Question) (bool, string, error)

func (f deciderFunc) Decide(_ context.Context, q *authzen.Question) (bool, string, error) {
	return f(q)
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	asked := 0
	even := deciderFunc(func(q *authzen.Question) (bool, string, error) {
		asked++
		if q.Request.Name == "broken" {
			return true, "", errors.New("no policy")
		}
		return strings.ContainsAny(q.Request.Name, "02468"), "because", nil
	})
	batch := func(semantic string, ids ...string) []byte {
		var items []string
		for _, id := range ids {
			items = append(items, fmt.Sprintf(`{"resource":{"type":"doc","id":%q}}`, id))
		}
		return fmt.Appendf(nil, `{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},"options":{"evaluations_semantic":%q},"evaluations":[%s]}`, semantic, strings.Join(items, ","))
	}
	const yes, no = `{"decision":true,"context":{"reason_admin":{"en":"because"}}}`, `{"decision":false,"context":{"reason_admin":{"en":"because"}}}`
	for _, tc := range []struct {
		name  string
		body  []byte
		want  string
		asked int
	}{
		{"all", batch("execute_all", "1", "2", "3"), `{"evaluations":[` + no + `,` + yes + `,` + no + `]}`, 3},
		{"and", batch("deny_on_first_deny", "2", "3", "4"), `{"evaluations":[` + yes + `,` + no + `]}`, 2},
		{"or", batch("permit_on_first_permit", "1", "2", "3"), `{"evaluations":[` + no + `,` + yes + `]}`, 2},
		{"single", []byte(good), no, 1},
		{"malformed", []byte(`{"evaluations":[{}]}`), `{"evaluations":[{"decision":false,"context":{"error":{"status":400,"message":"evaluations[0].subject: is required"}}}]}`, 0},
		{"malformed ends an and", []byte(`{"options":{"evaluations_semantic":"deny_on_first_deny"},"evaluations":[{},` + good + `]}`),
			`{"evaluations":[{"decision":false,"context":{"error":{"status":400,"message":"evaluations[0].subject: is required"}}}]}`, 0},
		{"nobody", []byte(strings.Replace(good, `"user"`, `"robot"`, 1)), `{"decision":false,"context":{"reason_admin":{"en":"subject type \"robot\" is not one of user, identity, group, serviceaccount"}}}`, 0},
	} {
		b, err := authzen.ParseBatch(tc.body)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		asked = 0
		response, err := authzen.Evaluate(t.Context(), even, b)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		got, err := json.Marshal(response)
		if err != nil || string(got) != tc.want || asked != tc.asked {
			t.Errorf("%s: asked %d times, got %s %v\nwant %s", tc.name, asked, got, err, tc.want)
		}
	}
	b, err := authzen.ParseBatch(batch("execute_all", "2", "broken"))
	if err != nil {
		t.Fatal(err)
	}
	if response, err := authzen.Evaluate(t.Context(), even, b); err == nil || response.Decision != nil || response.Evaluations != nil {
		t.Errorf("half an answer: %+v %v", response, err)
	}
}

// todo holds the rules of the interoperability scenario, as its description
// states them. The cases prove what is read and how batches are answered.
func todo(q *authzen.Question) (bool, string, error) {
	people := []struct {
		mail  string
		roles string
	}{
		{"rick@the-citadel.com", "admin evil_genius editor viewer"}, {"morty@the-citadel.com", "editor viewer"}, {"summer@the-smiths.com", "editor viewer"},
		{"beth@the-smiths.com", "viewer"}, {"jerry@the-smiths.com", "viewer"},
	}
	// The ids differ in one digit of their encoded form.
	ids := []string{"CiRmZDA2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs", "CiRmZDE2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
		"CiRmZDI2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs", "CiRmZDM2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
		"CiRmZDQ2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs"}
	i := slices.Index(ids, q.Subject.Name)
	if i < 0 {
		return false, "", nil
	}
	has := func(role string) bool { return slices.Contains(strings.Fields(people[i].roles), role) }
	owns := q.Asked.Resource.Properties["ownerID"] == people[i].mail
	switch q.Request.Verb {
	case "can_read_user", "can_read_todos":
		return has("viewer"), "", nil
	case "can_create_todo":
		return has("editor"), "", nil
	case "can_update_todo":
		return has("evil_genius") || has("editor") && owns, "", nil
	case "can_delete_todo":
		return has("admin") || has("editor") && owns, "", nil
	}
	return false, "", nil
}

func TestInteroperability(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/interop/todo-decisions-1_0-02.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases struct {
		Evaluation []struct {
			Request  json.RawMessage
			Expected bool
		}
		Evaluations []struct {
			Request  json.RawMessage
			Expected []struct{ Decision bool }
		}
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases.Evaluation) < 40 || len(cases.Evaluations) < 3 {
		t.Fatalf("only %d and %d cases", len(cases.Evaluation), len(cases.Evaluations))
	}
	for i, c := range cases.Evaluation {
		e, err := authzen.ParseEvaluation(c.Request)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		response, err := authzen.Evaluate(t.Context(), deciderFunc(todo), authzen.Batch{Single: true, Items: []authzen.Item{{Evaluation: e}}})
		if err != nil || response.Decision.Decision != c.Expected {
			t.Errorf("case %d: %+v %v, want %v\n%s", i, response.Decision, err, c.Expected, c.Request)
		}
	}
	for i, c := range cases.Evaluations {
		b, err := authzen.ParseBatch(c.Request)
		if err != nil {
			t.Fatalf("batch %d: %v", i, err)
		}
		response, err := authzen.Evaluate(t.Context(), deciderFunc(todo), b)
		if err != nil || len(response.Evaluations) != len(c.Expected) {
			t.Fatalf("batch %d: %+v %v", i, response, err)
		}
		for j := range c.Expected {
			if response.Evaluations[j].Decision != c.Expected[j].Decision {
				t.Errorf("batch %d, question %d: %v", i, j, response.Evaluations[j])
			}
		}
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(authzen.MetadataFor("https://pdp.example.com/"))
	want := `{"policy_decision_point":"https://pdp.example.com","access_evaluation_endpoint":"https://pdp.example.com/access/v1/evaluation",` +
		`"access_evaluations_endpoint":"https://pdp.example.com/access/v1/evaluations","search_subject_endpoint":"https://pdp.example.com/access/v1/search/subject",` +
		`"search_resource_endpoint":"https://pdp.example.com/access/v1/search/resource","search_action_endpoint":"https://pdp.example.com/access/v1/search/action"}`
	if err != nil || string(got) != want {
		t.Errorf("got %s %v", got, err)
	}
}

// FuzzParseBatch: whatever arrives is answered or refused as Invalid, and what
// is read is complete.
func FuzzParseBatch(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"evaluations":[{},` + good + `],"options":{"evaluations_semantic":"deny_on_first_deny"}}`))
	f.Add([]byte(`{"a":[[{"b":{}}]],"context":{"A":1,"a":2}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := authzen.ParseBatch(body)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Fatalf("%v", err)
			}
			return
		}
		for _, item := range b.Items {
			if item.Err == nil && (item.Subject.Type == "" || item.Resource.Type == "" || item.Action.Name == "") {
				t.Fatalf("incomplete: %+v", item)
			}
		}
		if _, err := authzen.Evaluate(t.Context(), deciderFunc(todo), b); err != nil {
			t.Fatal(err)
		}
	})
}
