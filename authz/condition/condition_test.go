package condition

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func environment(t testing.TB) *Environment {
	t.Helper()
	env, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func request() *authz.Request {
	return &authz.Request{
		User: "alice", UID: "7", Groups: []string{"dev", "ops"}, Extra: map[string][]string{"tenant": {"a", "b"}},
		Verb: "get", APIGroup: "apps", Resource: "deployments", Subresource: "scale", Namespace: "web", Name: "front",
		ResourceRequest: true, Site: "edge", CredentialID: "JTI=1", Time: noon,
	}
}

func TestHolds(t *testing.T) {
	t.Parallel()
	env := environment(t)
	for _, tc := range []struct {
		expression string
		want       bool
		fails      bool
	}{
		{expression: `true`, want: true},
		{expression: `request.user == "alice" && request.uid == "7"`, want: true},
		{expression: `"ops" in request.groups`, want: true},
		{expression: `request.groups.exists(g, g.startsWith("admin"))`},
		{expression: `"tenant" in request.extra && "b" in request.extra["tenant"]`, want: true},
		{expression: `request.extra["absent"][0] == "x"`, fails: true},
		{expression: `request.verb == "get" && request.apiGroup + "/" + request.resource + "/" + request.subresource == "apps/deployments/scale"`, want: true},
		{expression: `request.namespace == "web" && request.name == "front" && request.site == "edge" && request.isResource`, want: true},
		{expression: `request.credentialID.startsWith("JTI=") && request.path == ""`, want: true},
		{expression: `request.time < timestamp("2030-01-01T12:00:01Z") && request.time.getHours() == 12`, want: true},
		{expression: `object.metadata.labels.team == "a"`, want: true},
		{expression: `has(object.metadata.labels.other)`},
		{expression: `object.spec.replicas > oldObject.spec.replicas`, fails: true},
		{expression: `object.metadata.labels.team == "b" || oldObject == null && object != null`, fails: false, want: true},
	} {
		c, err := env.Compile(tc.expression)
		if err != nil {
			t.Errorf("compile %s: %v", tc.expression, err)
			continue
		}
		q := request()
		q.Object = map[string]any{"metadata": map[string]any{"labels": map[string]any{"team": "a"}}, "spec": map[string]any{"replicas": 3}}
		got, err := c.Holds(q)
		if got != tc.want || (err != nil) != tc.fails {
			t.Errorf("%s: %v, %v", tc.expression, got, err)
		}
		if reads := strings.Contains(strings.ToLower(tc.expression), "object."); c.ReadsObject() != reads {
			t.Errorf("%s: reads object %v", tc.expression, c.ReadsObject())
		}
	}
}

func TestMissingTimeIsAnError(t *testing.T) {
	t.Parallel()
	c, err := environment(t).Compile(`request.time > timestamp("2000-01-01T00:00:00Z")`)
	if err != nil {
		t.Fatal(err)
	}
	q := request()
	q.Time = time.Time{}
	if ok, err := c.Holds(q); ok || err == nil {
		t.Errorf("without a time: %v, %v", ok, err)
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	env := environment(t)
	for expression, want := range map[string]string{
		`request.usr == "a"`:                    "undeclared reference",
		`request.user == 1`:                     "no matching overload",
		`request.user`:                          "not bool",
		`1 +`:                                   "Syntax error",
		`object.spec.replicas`:                  "not bool",
		strings.Repeat("!", maxLength) + "true": "at most",
		`request.groups.all(a, request.groups.all(b, request.groups.all(c, request.groups.all(d, a + b + c + d != ""))))`: "may cost",
		`request.user.matches("(")`: "invalid matches argument",
	} {
		if _, err := env.Compile(expression); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", expression, err, want)
		}
	}
}

// TestRunawayIsStopped holds the limit of one evaluation: data larger than the
// estimate assumes cannot make it costly.
func TestRunawayIsStopped(t *testing.T) {
	t.Parallel()
	c, err := environment(t).Compile(`request.groups.all(g, g.contains("zz") || g != "")`)
	if err != nil {
		t.Fatal(err)
	}
	q := request()
	q.Groups = make([]string, 20_000)
	for i := range q.Groups {
		q.Groups[i] = strings.Repeat("g", 200)
	}
	if ok, err := c.Holds(q); ok || err == nil || !strings.Contains(err.Error(), "cost limit") {
		t.Errorf("a runaway condition gave %v, %v", ok, err)
	}
}

func TestInPolicy(t *testing.T) {
	t.Parallel()
	c, err := environment(t).Compile(`request.extra["tenant"][0] == request.namespace`)
	if err != nil {
		t.Fatal(err)
	}
	e := authz.New()
	s := e.Update(func(tx *authz.Tx) {
		tx.PutPolicy(authz.Policy{
			Name: "own-tenant", Effect: authz.Allow, Sites: []string{"*"}, Condition: c,
			Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.Group, Name: "dev"}}},
			Rules:    []authz.Rule{{Verbs: []string{"get"}, APIGroups: []string{"*"}, Resources: []string{"*"}}},
		})
	})
	q := request()
	for namespace, want := range map[string]bool{"a": true, "b": false} {
		q.Namespace = namespace
		if d := s.Decide(q); d.Allowed() != want {
			t.Errorf("namespace %s: %v", namespace, d.Effect())
		}
	}
	q.Extra = nil
	if d := s.Decide(q); d.Allowed() {
		t.Error("an allowing condition that fails grants")
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(`request.user == "alice" && object.x > 1`)
	env := environment(f)
	f.Fuzz(func(t *testing.T, expression string) {
		if c, err := env.Compile(expression); err == nil {
			_, _ = c.Holds(request())
		}
	})
}

func BenchmarkHolds(b *testing.B) {
	c, err := environment(b).Compile(`request.user == "alice" && "ops" in request.groups && request.time < timestamp("2031-01-01T00:00:00Z")`)
	if err != nil {
		b.Fatal(err)
	}
	q := request()
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := c.Holds(q); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

// BenchmarkDecideUnderCondition is a whole decision of which one policy with a
// condition is a part.
func BenchmarkDecideUnderCondition(b *testing.B) {
	c, err := environment(b).Compile(`request.user.startsWith("alice") && "ops" in request.groups && request.time.getHours() < 18`)
	if err != nil {
		b.Fatal(err)
	}
	s := authz.New().Update(func(t *authz.Tx) {
		t.PutPolicy(authz.Policy{Name: "p", Effect: authz.Allow, Sites: []string{"*"}, Condition: c,
			Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.User, Name: "alice"}}},
			Rules:    []authz.Rule{{Verbs: []string{"get"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}})
	})
	q := request()
	q.Subresource = ""
	if !s.Decide(q).Allowed() {
		b.Fatal("not allowed")
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Decide(q)
	}
}
