package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// The questions of administrators, asked by command and by kubectl.
func TestQuestions(t *testing.T) {
	t.Parallel()
	g := start(t)
	k := as(t, g)
	k.namespace("questions")
	k.run("create", "role", "reader", "-n", "questions", "--verb=get,list", "--resource=pods")
	k.run("create", "rolebinding", "quentin-reads", "-n", "questions", "--role=reader", "--user=quentin")
	k.feed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: questions-deny}
spec:
  effect: Deny
  subjects: [{kind: User, name: quentin}]
  rules: [{apiGroups: [""], resources: [secrets], verbs: ["*"]}]
  sites: [gatehouse]
---
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: questions-allow}
spec:
  effect: Allow
  subjects: [{kind: Group, name: quality}]
  rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
  sites: [gatehouse]
  namespaces: {names: [questions]}
`, "apply", "-f", "-")
	ask := func(code int, texts []string, args ...string) {
		t.Helper()
		got := command(t, g.Kubeconfig, args...)
		if got.Code != code {
			t.Errorf("gatehouse %s: %v", strings.Join(args, " "), got)
		}
		for _, text := range texts {
			if !strings.Contains(got.Stdout+got.Stderr, text) {
				t.Errorf("gatehouse %s does not say %q: %v", strings.Join(args, " "), text, got)
			}
		}
	}
	eventually(t, commandWithin, "the policies count", func() bool {
		return command(t, g.Kubeconfig, "can-i", "get", "pods", "-n", "questions", "--as", "quentin").Code == 0 &&
			command(t, g.Kubeconfig, "can-i", "get", "pods", "-n", "questions", "--as", "x", "--as-group", "quality").Code == 0
	})
	ask(0, []string{"yes", "system:masters"}, "can-i", "get", "secrets", "-A")
	ask(1, []string{"no", "questions-deny"}, "can-i", "get", "secrets", "-n", "questions", "--as", "quentin")
	ask(1, []string{`"denied": true`}, "can-i", "get", "secrets", "-n", "questions", "--as", "quentin", "-o", "json")

	file := filepath.Join(t.TempDir(), "questions")
	if err := os.WriteFile(file, []byte("get pods\n\nlist pods web\ndelete pods\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask(1, []string{"yes", "delete pods in namespace questions"}, "can-i", "--file", file, "-n", "questions", "--as", "quentin")
	ask(0, []string{"yes", "no"}, "can-i", "--file", file, "--any", "-n", "questions", "--as", "quentin")

	ask(0, []string{"User/quentin", "Group/quality", "Group/system:masters", "questions-allow"}, "who-can", "get", "pods", "-n", "questions")
	ask(1, []string{"Group/system:masters"}, "who-can", "smell", "pods", "-n", "questions")

	ask(0, []string{"allowed", "RoleBinding", "quentin-reads", "rule: get,list pods"}, "explain", "get", "pods", "-n", "questions", "--as", "quentin")
	ask(1, []string{"denied", "questions-deny"}, "explain", "get", "secrets", "-n", "questions", "--as", "quentin")
	ask(1, []string{"nothing grants it", "quentin-reads", "lacks the verb"}, "explain", "delete", "pods", "-n", "questions", "--as", "quentin")
	ask(1, []string{"kind: RoleBinding", "name: quentin-reads"}, "explain", "delete", "pods", "-n", "questions", "--as", "quentin", "-o", "yaml")

	for _, wrong := range [][]string{
		{"can-i", "get"}, {"can-i"}, {"can-i", "get", "/x", "y"}, {"can-i", "get", "pods", "--any"}, {"can-i", "get", "pods", "-o", "xml"},
		{"can-i", "get", "pods", "--file", file}, {"can-i", "--file", "no-such"}, {"explain", "get", "pods", "--as-uid", "1"}, {"who-can", "get"},
	} {
		ask(2, nil, wrong...)
	}
	got, err := harness.RunGatehouse(t.Context(), "can-i", "get", "pods", "--kubeconfig", "no-such")
	if err != nil || got.Code != 2 {
		t.Errorf("no kubeconfig: %v %v", err, got)
	}

	// Whoever may not ask about others may still ask about themselves.
	k.run("create", "serviceaccount", "curious", "-n", "questions")
	curious := withToken(t, g, strings.TrimSpace(k.run("create", "token", "curious", "-n", "questions")))
	config := filepath.Join(t.TempDir(), "curious")
	if err := os.WriteFile(config, []byte(curious.run("config", "view", "--raw", "--flatten", "--minify")), 0o600); err != nil {
		t.Fatal(err)
	}
	for code, args := range map[int][]string{
		0: {"can-i", "get", "/version"},
		1: {"can-i", "get", "pods", "-n", "questions"},
	} {
		if got := command(t, config, args...); got.Code != code {
			t.Errorf("%v: %v", args, got)
		}
	}
	if got := command(t, config, "can-i", "get", "pods", "-n", "questions", "--as", "quentin"); got.Code != 1 || !strings.Contains(got.Stderr, "forbidden") {
		t.Errorf("about others: %v", got)
	}

	// The same by kubectl.
	out := k.feed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessReview
spec:
  subject: {user: quentin}
  questions:
  - resourceAttributes: {verb: get, resource: pods, namespace: questions}
  - resourceAttributes: {verb: get, resource: secrets, namespace: questions}
`, "create", "--validate=ignore", "-f", "-", "-o", "jsonpath={.status.all} {.status.any} {.status.answers[*].allowed}")
	if out != "false true true false" {
		t.Errorf("kubectl create: %s", out)
	}
}

// An AuthZEN client asks over HTTPS.
func TestAuthZEN(t *testing.T) {
	t.Parallel()
	g := start(t)
	k := as(t, g)
	k.feed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: authzen-story}
spec:
  effect: Allow
  subjects: [{kind: User, name: zoe}]
  rules: [{apiGroups: [""], resources: [record], resourceNames: ["101"], verbs: [view]}]
  sites: [gatehouse]
---
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: authzen-story-own}
spec:
  effect: Allow
  subjects: [{kind: User, name: zoe}]
  rules: [{apiGroups: [""], resources: [record], verbs: [edit]}]
  sites: [gatehouse]
  condition: object.resource.properties.owner == request.user
`, "apply", "-f", "-")
	admin := adminClient(t, g)
	post := func(path, body string) string {
		t.Helper()
		code, answer := admin.send(http.MethodPost, path, nil, []byte(body))
		return fmt.Sprintf("%d %s", code, answer)
	}
	const question = `{"subject":{"type":"user","id":"zoe"},"action":{"name":"view"},"resource":{"type":"record","id":"101"}}`
	promptly(t, effectWithin, "the policy counts", func() bool {
		return strings.Contains(post("/access/v1/evaluation", question), `"decision":true`)
	})
	for _, tc := range []struct{ path, body, want string }{
		{"/access/v1/evaluation", strings.Replace(question, "101", "102", 1), `200 {"decision":false`},
		{"/access/v1/evaluation", `{"subject":{"type":"user","id":"zoe"},"action":{"name":"edit"},"resource":{"type":"record","id":"7","properties":{"owner":"zoe"}}}`, `200 {"decision":true`},
		{"/access/v1/evaluation", `{"subject":{"type":"user","id":"zoe"},"action":{"name":"edit"},"resource":{"type":"record","id":"7","properties":{"owner":"ann"}}}`, `200 {"decision":false`},
		{"/access/v1/evaluation", `{"subject":{"type":"user"},"action":{"name":"edit"},"resource":{"type":"record","id":"7"}}`, `400 "subject.id: is required"`},
		{"/access/v1/evaluation", `{`, `400 "the request is not valid JSON`},
		{"/access/v1/evaluations", `{"subject":{"type":"user","id":"zoe"},"action":{"name":"view"},"evaluations":[{"resource":{"type":"record","id":"101"}},{"resource":{"type":"record","id":"9"}}]}`, `200 {"evaluations":[{"decision":true`},
		{"/access/v1/search/subject", `{"subject":{"type":"user"},"action":{"name":"view"},"resource":{"type":"record","id":"101"}}`, `"results":[{"type":"user","id":"zoe"}]`},
		{"/access/v1/search/resource", `{"subject":{"type":"user","id":"zoe"},"action":{"name":"view"},"resource":{"type":"record"}}`, `"results":[{"type":"record","id":"101"}]`},
		{"/access/v1/search/action", `{"subject":{"type":"user","id":"zoe"},"resource":{"type":"record","id":"101"}}`, `"results":[{"name":"view"}]`},
	} {
		if got := post(tc.path, tc.body); !strings.Contains(got, tc.want) {
			t.Errorf("%s %s: %s", tc.path, tc.body, got)
		}
	}
	var metadata map[string]string
	admin.get("/.well-known/authzen-configuration", &metadata)
	if metadata["policy_decision_point"] != g.URL || metadata["access_evaluations_endpoint"] != g.URL+"/access/v1/evaluations" {
		t.Errorf("discovery: %v", metadata)
	}

	// As many questions as one request may hold.
	var batch strings.Builder
	batch.WriteString(`{"subject":{"type":"user","id":"zoe"},"action":{"name":"view"},"evaluations":[`)
	for i := range 10_000 {
		if i > 0 {
			batch.WriteByte(',')
		}
		fmt.Fprintf(&batch, `{"resource":{"type":"record","id":"%d"}}`, i)
	}
	batch.WriteString("]}")
	began := time.Now()
	got := post("/access/v1/evaluations", batch.String())
	t.Logf("10,000 questions in one request took %v", time.Since(began).Round(time.Millisecond))
	if strings.Count(got, `"decision":true`) != 1 || strings.Count(got, `"decision":false`) != 9_999 {
		t.Errorf("a batch: %.200s", got)
	}

	// Everybody may ask about themselves, and only about themselves.
	k.namespace("authzen")
	k.run("create", "serviceaccount", "asker", "-n", "authzen")
	asker := tokenClient(t, g, strings.TrimSpace(k.run("create", "token", "asker", "-n", "authzen")))
	for body, want := range map[string]int{
		`{"subject":{"type":"serviceaccount","id":"authzen/asker"},"action":{"name":"get"},"resource":{"type":"pods","id":"authzen/x"}}`: http.StatusOK,
		question: http.StatusForbidden,
		`{"subject":{"type":"serviceaccount","id":"authzen/asker","properties":{"groups":["system:masters"]}},"action":{"name":"get"},"resource":{"type":"pods","id":"authzen/x"}}`: http.StatusForbidden,
	} {
		if code, answer := asker.send(http.MethodPost, "/access/v1/evaluation", asker.header, []byte(body)); code != want {
			t.Errorf("%s: %d %s", body, code, answer)
		}
	}
	nobody := bareClient(t, g)
	for _, path := range []string{"/access/v1/evaluation", "/access/v1/search/action"} {
		if code, answer := nobody.send(http.MethodPost, path, nil, []byte(question)); code != http.StatusUnauthorized {
			t.Errorf("without a credential: %d %s", code, answer)
		}
	}
}
