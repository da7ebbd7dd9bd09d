package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What a policy file and AuditPolicies want of reviews is what is recorded of
// them, in the fast lane as in the frame, and of AuthZEN questions alike.
func TestLevelsOfReviews(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	policy, config := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "config.yaml")
	const robot = "system:serviceaccount:lab:"
	for path, text := range map[string]string{
		policy: `apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: None, users: ["` + robot + `none"]}
- {level: Metadata, users: ["` + robot + `meta"]}
- {level: Request, users: ["` + robot + `request"], omitStages: [RequestReceived]}
- {level: RequestResponse, users: ["` + robot + `arrival"], omitStages: [ResponseComplete]}
- {level: RequestResponse, users: ["` + robot + `full"]}
- {level: Metadata, omitStages: [RequestReceived]}
`,
		config: fmt.Sprintf("apiVersion: config.gatehouse.dev/v1alpha1\nkind: Configuration\naudit: {policyFile: %q}\n", policy),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := start(t, "--config", config)
	k := as(t, g)
	k.run("create", "namespace", "lab")
	k.run("create", "clusterrole", "asks", "--verb=create", "--resource=subjectaccessreviews.authorization.k8s.io,tokenreviews.authentication.k8s.io,accessreviews.access.gatehouse.dev")
	k.run("create", "clusterrolebinding", "asks", "--clusterrole=asks", "--group=system:serviceaccounts:lab")
	bare := bareClient(t, g)

	requests := map[string]struct{ path, body string }{
		"access": {"/apis/authorization.k8s.io/v1/subjectaccessreviews", `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"zoe","resourceAttributes":{"verb":"get","resource":"pods"}}}`},
		"token":  {"/apis/authentication.k8s.io/v1/tokenreviews", `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"not-a-token-of-anybody"}}`},
		"zen":    {"/access/v1/evaluation", `{"subject":{"type":"user","id":"zoe"},"action":{"name":"view"},"resource":{"type":"record","id":"101"}}`},
	}
	want := map[string]string{
		"none":    "",
		"meta":    "RequestReceived Metadata, ResponseComplete Metadata",
		"request": "ResponseComplete Request +request",
		"arrival": "RequestReceived RequestResponse",
		"full":    "RequestReceived RequestResponse, ResponseComplete RequestResponse +request +response",
	}
	tokens := map[string]string{}
	send := func(who, request, query, mark string) {
		t.Helper()
		r := requests[request]
		header := http.Header{"Authorization": {"Bearer " + tokens[who]}, "User-Agent": {mark}}
		if code, body := bare.send(http.MethodPost, r.path+query, header, []byte(r.body)); code/100 != 2 {
			t.Fatalf("%s by %s: %d %s", request, who, code, body)
		}
	}
	// recorded is what there is of requests, by mark.
	recorded := func() map[string]string {
		t.Helper()
		all := map[string][]string{}
		for _, e := range record(t, g) {
			var more struct{ UserAgent, Level string }
			if err := json.Unmarshal([]byte(e.raw), &more); err != nil {
				t.Fatal(err)
			}
			line := e.Stage + " " + more.Level
			if len(e.RequestObject) > 0 {
				line += " +request"
			}
			if len(e.ResponseObject) > 0 {
				line += " +response"
			}
			if strings.Contains(e.raw, "not-a-token-of-anybody") {
				t.Errorf("a token is on record: %s", e.raw)
			}
			all[more.UserAgent] = append(all[more.UserAgent], line)
		}
		out := map[string]string{}
		for mark, lines := range all {
			slices.Sort(lines)
			out[mark] = strings.Join(lines, ", ")
		}
		return out
	}
	// until waits for a later event, since the record is in order.
	until := func(mark string) (got map[string]string) {
		t.Helper()
		send("meta", "zen", "", mark)
		eventually(t, commandWithin, "the marker", func() bool {
			got = recorded()
			return got[mark] != ""
		})
		return got
	}
	for who := range want {
		k.run("create", "serviceaccount", who, "-n", "lab")
		tokens[who] = strings.TrimSpace(k.run("create", "token", who, "-n", "lab"))
		for request := range requests {
			send(who, request, "", request+" lane "+who)
			if request != "zen" {
				// The fast lane knows no parameters.
				send(who, request, "?pretty=true", request+" frame "+who)
			}
		}
	}
	got := until("first marker")
	for who, events := range want {
		for request := range requests {
			for _, route := range []string{"lane", "frame"} {
				if request == "zen" && route == "frame" {
					continue
				}
				if is := got[request+" "+route+" "+who]; is != events {
					t.Errorf("%s by %s through the %s: %q, want %q", request, who, route, is, events)
				}
			}
		}
	}

	// AuditPolicies raise, from the next request on, and end.
	k.feed("apiVersion: audit.gatehouse.dev/v1alpha1\nkind: AuditPolicy\nmetadata: {name: questions}\nspec:\n  omitStages: [RequestReceived]\n  rules:\n"+
		"  - {level: RequestResponse, nonResourceURLs: [/access/v1/*], verbs: [post]}\n  - {level: Request, resources: [{group: authorization.k8s.io}]}\n", "apply", "-f", "-")
	try := 0
	holds := func(what, zen, access string) {
		t.Helper()
		eventually(t, commandWithin, what, func() bool {
			try++
			mark := fmt.Sprint("again ", try)
			send("none", "zen", "", mark+" zen")
			send("none", "access", "", mark+" access")
			got := until(mark + " marker")
			return got[mark+" zen"] == zen && got[mark+" access"] == access
		})
	}
	holds("AuditPolicies raise questions and reviews", "ResponseComplete RequestResponse +request +response", "ResponseComplete Request +request")
	k.run("delete", "auditpolicy", "questions")
	holds("the base holds again", "", "")
}
