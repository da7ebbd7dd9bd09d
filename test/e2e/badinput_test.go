package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// A badRequest is what somebody might send, and the answer that names the fault.
type badRequest struct {
	name         string
	method, path string
	header       http.Header
	body         string
	code         int
	reason       string
	says         []string
}

const (
	maps1  = "/api/v1/namespaces/bad/configmaps"
	roles1 = "/apis/rbac.authorization.k8s.io/v1/namespaces/bad/roles"
	binds1 = "/apis/rbac.authorization.k8s.io/v1/namespaces/bad/rolebindings"
	sar1   = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
	tr1    = "/apis/authentication.k8s.io/v1/tokenreviews"
)

func mediaType(value string) http.Header { return http.Header{"Content-Type": {value}} }

// object is a JSON object of a kind, with the rest of its fields.
func object(apiVersion, kind, name, rest string) string {
	return fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":%q}%s}`, apiVersion, kind, name, rest)
}

const rbac1 = "rbac.authorization.k8s.io/v1"

var badRequests = []badRequest{
	// The body as such.
	{name: "empty body", method: "POST", path: maps1, code: 400, reason: "BadRequest"},
	{name: "truncated body", method: "POST", path: maps1, body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"na`, code: 400, reason: "BadRequest"},
	{name: "not JSON", method: "POST", path: maps1, body: "\x00\xff\xfe", code: 400, reason: "BadRequest"},
	{name: "an array", method: "POST", path: maps1, body: `[]`, code: 400, reason: "BadRequest"},
	{name: "wrong media type", method: "POST", path: maps1, header: mediaType("text/plain"), body: object("v1", "ConfigMap", "a", ""), code: 415, reason: "UnsupportedMediaType"},
	{name: "wrong media type of a patch", method: "PATCH", path: maps1 + "/kept", header: mediaType("application/json"), body: `{}`, code: 415, reason: "UnsupportedMediaType"},
	{name: "unacceptable answer", method: "GET", path: maps1, header: http.Header{"Accept": {"image/png"}}, code: 406, reason: "NotAcceptable"},
	{name: "body over the limit", method: "POST", path: maps1, body: object("v1", "ConfigMap", "a", `,"data":{"k":"`+strings.Repeat("x", 4<<20)+`"}`), code: 413, reason: "RequestEntityTooLarge"},
	{name: "nested too deep", method: "POST", path: maps1, body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":` + strings.Repeat(`{"a":`, 20000) + `1` + strings.Repeat(`}`, 20001), code: 400, reason: "BadRequest"},
	{name: "truncated protobuf", method: "POST", path: maps1, header: mediaType("application/vnd.kubernetes.protobuf"), body: "k8s\x00\x0a\xff", code: 400, reason: "BadRequest"},

	// Fields.
	{name: "unknown field", method: "POST", path: maps1 + "?fieldValidation=Strict", body: object("v1", "ConfigMap", "a", `,"spec":{}`), code: 400, reason: "BadRequest", says: []string{`unknown field "spec"`}},
	{name: "field twice", method: "POST", path: maps1 + "?fieldValidation=Strict", body: object("v1", "ConfigMap", "a", `,"data":{},"data":{}`), code: 400, reason: "BadRequest", says: []string{`duplicate field "data"`}},
	{name: "wrong type", method: "POST", path: maps1, body: object("v1", "ConfigMap", "a", `,"data":"text"`), code: 400, reason: "BadRequest", says: []string{"ConfigMap"}},
	{name: "wrong kind", method: "POST", path: maps1, body: object("v1", "Secret", "a", ""), code: 400, reason: "BadRequest"},
	{name: "unknown kind", method: "POST", path: maps1, body: object("v1", "Nonsense", "a", ""), code: 400, reason: "BadRequest", says: []string{"Nonsense"}},
	{name: "wrong namespace", method: "POST", path: maps1, body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"other"}}`, code: 400, reason: "BadRequest", says: []string{"namespace"}},
	{name: "name breaks the grammar", method: "POST", path: maps1, body: object("v1", "ConfigMap", "Bad_Name", ""), code: 422, reason: "Invalid", says: []string{"metadata.name"}},
	{name: "name too long", method: "POST", path: maps1, body: object("v1", "ConfigMap", strings.Repeat("a", 254), ""), code: 422, reason: "Invalid", says: []string{"metadata.name"}},
	{name: "no name", method: "POST", path: maps1, body: object("v1", "ConfigMap", "", ""), code: 422, reason: "Invalid", says: []string{"metadata.name"}},
	{name: "bad key", method: "POST", path: maps1, body: object("v1", "ConfigMap", "a", `,"data":{"no/slash":"x"}`), code: 422, reason: "Invalid", says: []string{"data[no/slash]"}},
	{name: "bad namespace name", method: "POST", path: "/api/v1/namespaces", body: object("v1", "Namespace", "has.dot", ""), code: 422, reason: "Invalid", says: []string{"metadata.name"}},
	{name: "secret is not base64", method: "POST", path: "/api/v1/namespaces/bad/secrets", body: object("v1", "Secret", "a", `,"data":{"k":"%%%"}`), code: 400, reason: "BadRequest"},
	{name: "role without verbs", method: "POST", path: roles1, body: object(rbac1, "Role", "a", `,"rules":[{"apiGroups":[""],"resources":["pods"]}]`), code: 422, reason: "Invalid", says: []string{"rules[0].verbs"}},
	{name: "namespaced role for a URL", method: "POST", path: roles1, body: object(rbac1, "Role", "a", `,"rules":[{"nonResourceURLs":["/x"],"verbs":["get"]}]`), code: 422, reason: "Invalid", says: []string{"rules[0].nonResourceURLs"}},
	{name: "binding to nothing", method: "POST", path: binds1, body: object(rbac1, "RoleBinding", "a", ``), code: 422, reason: "Invalid", says: []string{"roleRef"}},
	{name: "subject of unknown kind", method: "POST", path: binds1, body: object(rbac1, "RoleBinding", "a", `,"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"r"},"subjects":[{"kind":"Robot","name":"x"}]`), code: 422, reason: "Invalid", says: []string{"subjects[0].kind"}},
	{name: "changed role of a binding", method: "PATCH", path: binds1 + "/kept", header: mediaType("application/merge-patch+json"), body: `{"roleRef":{"name":"other"}}`, code: 422, reason: "Invalid", says: []string{"roleRef"}},
	{name: "pod without containers", method: "POST", path: "/api/v1/namespaces/bad/pods", body: object("v1", "Pod", "a", `,"spec":{"containers":[],"serviceAccountName":"runner"}`), code: 422, reason: "Invalid", says: []string{"spec.containers"}},

	// Reviews.
	{name: "review of nothing", method: "POST", path: sar1, body: `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{}}`, code: 422, reason: "Invalid", says: []string{"spec"}},
	{name: "review of both", method: "POST", path: sar1, body: `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"a","resourceAttributes":{"verb":"get","resource":"pods"},"nonResourceAttributes":{"verb":"get","path":"/x"}}}`, code: 422, reason: "Invalid", says: []string{"spec.nonResourceAttributes"}},
	{name: "review of nobody", method: "POST", path: sar1, body: `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}}`, code: 422, reason: "Invalid", says: []string{"spec.user"}},
	{name: "review of a wrong type", method: "POST", path: sar1, body: `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":7}}`, code: 400, reason: "BadRequest"},
	{name: "truncated review", method: "POST", path: sar1, body: `{"apiVersion":"authorization.k8s.io/v1","kind":"Subj`, code: 400, reason: "BadRequest"},
	{name: "review in a wrong media type", method: "POST", path: sar1, header: mediaType("text/plain"), body: `{}`, code: 415, reason: "UnsupportedMediaType"},
	{name: "review over the limit", method: "POST", path: sar1, body: `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"` + strings.Repeat("x", 4<<20) + `"}}`, code: 413, reason: "RequestEntityTooLarge"},
	{name: "token review without a token", method: "POST", path: tr1, body: `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{}}`, code: 400, reason: "BadRequest", says: []string{"token"}},
	{name: "local review of another namespace", method: "POST", path: "/apis/authorization.k8s.io/v1/namespaces/bad/localsubjectaccessreviews", body: `{"apiVersion":"authorization.k8s.io/v1","kind":"LocalSubjectAccessReview","metadata":{"namespace":"bad"},"spec":{"user":"a","resourceAttributes":{"namespace":"other","verb":"get","resource":"pods"}}}`, code: 422, reason: "Invalid", says: []string{"spec.resourceAttributes.namespace"}},

	// Paths and parameters.
	{name: "unknown path", method: "GET", path: "/nonsense", code: 404},
	{name: "unknown group", method: "GET", path: "/apis/nonsense.example/v1/things", code: 404},
	{name: "unknown resource", method: "GET", path: "/api/v1/namespaces/bad/nonsense", code: 404, reason: "NotFound"},
	{name: "unknown object", method: "GET", path: maps1 + "/gone", code: 404, reason: "NotFound", says: []string{`configmaps "gone" not found`}},
	{name: "method not allowed", method: "PUT", path: maps1, body: `{}`, code: 405, reason: "MethodNotAllowed"},
	{name: "bad limit", method: "GET", path: maps1 + "?limit=many", code: 400, reason: "BadRequest"},
	{name: "bad selector", method: "GET", path: maps1 + "?labelSelector=((", code: 400, reason: "BadRequest"},
	{name: "bad version", method: "GET", path: maps1 + "?resourceVersion=soon", code: 400},
	{name: "bad continue", method: "GET", path: maps1 + "?continue=nonsense", code: 400},
	{name: "bad dry run", method: "POST", path: maps1 + "?dryRun=Maybe", body: object("v1", "ConfigMap", "a", ""), code: 422, reason: "Invalid", says: []string{"dryRun"}},
	{name: "bad patch", method: "PATCH", path: maps1 + "/kept", header: mediaType("application/json-patch+json"), body: `[{"op":"explode"}]`, code: 422},
	{name: "name of the object changed", method: "PUT", path: maps1 + "/kept", body: object("v1", "ConfigMap", "other", ""), code: 400, reason: "BadRequest", says: []string{"name"}},
	{name: "into a namespace that is not there", method: "POST", path: "/api/v1/namespaces/never/configmaps", body: object("v1", "ConfigMap", "a", ""), code: 404, reason: "NotFound", says: []string{`namespaces "never" not found`}},
}

// Bad input gets an error that names the fault, and changes nothing.
func TestBadInput(t *testing.T) {
	onEither(t, func(t *testing.T, server hasKubectl) {
		k := as(t, server)
		k.namespace("bad")
		k.run("create", "configmap", "kept", "-n", "bad", "--from-literal=k=v")
		k.run("create", "rolebinding", "kept", "-n", "bad", "--clusterrole=view", "--user=ada")
		k.run("create", "serviceaccount", "runner", "-n", "bad")
		c := adminClient(t, server)
		before := c.fingerprint("bad")
		for _, bad := range badRequests {
			t.Run(strings.ReplaceAll(bad.name, " ", "-"), func(t *testing.T) {
				code, body := c.send(bad.method, bad.path, bad.header, []byte(bad.body))
				if code != bad.code {
					t.Fatalf("answered %d, want %d: %.400s", code, bad.code, body)
				}
				if bad.reason == "" {
					return
				}
				var s status
				if err := json.Unmarshal(body, &s); err != nil || s.Kind != "Status" || s.Status != "Failure" || s.Code != bad.code || s.Reason != bad.reason {
					t.Fatalf("answered %.400s (%v), want a Status of reason %s", body, err, bad.reason)
				}
				for _, text := range bad.says {
					if !strings.Contains(s.Message, text) {
						t.Errorf("message %q does not name %q", s.Message, text)
					}
				}
				if bad.code == http.StatusUnprocessableEntity && len(s.Details.Causes) == 0 {
					t.Errorf("no cause names the field: %s", body)
				}
			})
		}
		if after := c.fingerprint("bad"); after != before {
			t.Errorf("something changed:\n%s\n%s", before, after)
		}
	})
}
