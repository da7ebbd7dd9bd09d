package audit_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
)

const hidden = "TOPSECRET"

// TestNoSecretSurvives lists the ways in which a secret gets into an event.
func TestNoSecretSurvives(t *testing.T) {
	t.Parallel()
	r, err := audit.NewRedactor(
		audit.RedactRule{Group: "identity.gatehouse.dev", Kind: "AccessKey", Resource: "accesskeys", Paths: []string{"status.secret", "spec.keys.*.value"}})
	if err != nil {
		t.Fatal(err)
	}
	secrets := &audit.ObjectReference{Resource: "secrets", Namespace: "a"}
	token := &audit.ObjectReference{Resource: "serviceaccounts", Subresource: "token"}
	keys := &audit.ObjectReference{APIGroup: "identity.gatehouse.dev", Resource: "accesskeys"}
	for name, c := range map[string]struct {
		ref  *audit.ObjectReference
		body string
	}{
		"secret":               {secrets, `{"kind":"Secret","apiVersion":"v1","data":{"k":"TOPSECRET"},"stringData":{"k":"TOPSECRET"}}`},
		"other case":           {secrets, `{"kind":"Secret","apiVersion":"v1","Data":{"k":"TOPSECRET"},"STRINGDATA":{"k":"TOPSECRET"}}`},
		"twice":                {secrets, `{"kind":"Secret","apiVersion":"v1","data":{"k":"TOPSECRET"},"data":{}}`},
		"data no map":          {secrets, `{"kind":"Secret","apiVersion":"v1","data":"TOPSECRET","stringData":[["TOPSECRET"]]}`},
		"last applied":         {secrets, `{"kind":"Secret","apiVersion":"v1","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":\"TOPSECRET\"}"}}}`},
		"list":                 {secrets, `{"kind":"SecretList","apiVersion":"v1","items":[{"data":{"k":"TOPSECRET"}}]}`},
		"generic list":         {&audit.ObjectReference{Resource: "things"}, `{"kind":"List","apiVersion":"v1","items":[{"kind":"Secret","apiVersion":"v1","data":{"k":"TOPSECRET"}}]}`},
		"watch event":          {secrets, `{"type":"ADDED","object":{"kind":"Secret","apiVersion":"v1","data":{"k":"TOPSECRET"}}}`},
		"admission review":     {nil, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"object":{"kind":"Secret","apiVersion":"v1","data":{"k":"TOPSECRET"}}}}`},
		"json patch":           {secrets, `[{"op":"add","path":"/data/k","value":"TOPSECRET"}]`},
		"merge patch":          {secrets, `{"data":{"k":"TOPSECRET"}}`},
		"table":                {secrets, `{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[{"cells":["TOPSECRET"]}]}`},
		"wrong kind":           {secrets, `{"kind":"ConfigMap","apiVersion":"v1","data":{"k":"TOPSECRET"}}`},
		"string":               {secrets, `"TOPSECRET"`},
		"not json":             {secrets, `data: TOPSECRET`},
		"two values":           {nil, `{} {"kind":"Secret","data":"TOPSECRET"}`},
		"token request":        {token, `{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","status":{"token":"TOPSECRET"}}`},
		"token request, bare":  {token, `{"status":{"token":"TOPSECRET"}}`},
		"token review":         {&audit.ObjectReference{APIGroup: "authentication.k8s.io", Resource: "tokenreviews"}, `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1beta1","spec":{"token":"TOPSECRET"}}`},
		"exec credential":      {nil, `{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"TOPSECRET"}}`},
		"configured":           {keys, `{"kind":"AccessKey","apiVersion":"identity.gatehouse.dev/v1alpha1","status":{"secret":"TOPSECRET"},"spec":{"keys":[{"value":"TOPSECRET"}]}}`},
		"configured, of a map": {keys, `{"kind":"AccessKey","apiVersion":"identity.gatehouse.dev/v1alpha1","spec":{"keys":{"a":{"value":["TOPSECRET"]}}}}`},
		"configured, patch":    {keys, `{"status":{"secret":"TOPSECRET"}}`},
	} {
		for _, response := range []bool{false, true} {
			e := &audit.Event{ObjectRef: c.ref}
			if response {
				e.ResponseObject = []byte(c.body)
			} else {
				e.RequestObject = []byte(c.body)
			}
			r.Redact(e)
			out := e.AppendJSON(nil)
			if strings.Contains(string(out), hidden) {
				t.Errorf("%s: %s", name, out)
			}
			if !json.Valid(out) {
				t.Errorf("%s: not JSON: %s", name, out)
			}
		}
	}
}

func TestRedactionKeepsTheRest(t *testing.T) {
	t.Parallel()
	r, err := audit.NewRedactor()
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		`{"kind":"Secret","apiVersion":"v1","metadata":{"name":"a","annotations":{"x":"<y>"}},"data":{"k":"v"},"type":"Opaque"}`: `{"apiVersion":"v1","data":{"k":"[redacted]"},"kind":"Secret","metadata":{"annotations":{"x":"<y>"},"name":"a"},"type":"Opaque"}`,
		`{"kind":"ConfigMap","apiVersion":"v1","data":{"k":"v"}, "n": 12345678901234567890.10}`:                                  `{"apiVersion":"v1","data":{"k":"v"},"kind":"ConfigMap","n":12345678901234567890.10}`,
		`{"kind":"Secret","apiVersion":"example.com/v1","data":{"k":"v"}}`:                                                       `{"apiVersion":"example.com/v1","data":{"k":"v"},"kind":"Secret"}`,
	} {
		e := &audit.Event{RequestObject: []byte(in)}
		r.Redact(e)
		if string(e.RequestObject) != want {
			t.Errorf("%s\nbecame %s\nwant   %s", in, e.RequestObject, want)
		}
	}
	for in, want := range map[string]string{
		"/api/v1/pods?watch=true&resourceVersion=5":         "/api/v1/pods?watch=true&resourceVersion=5",
		"/cb?code=TOPSECRET&state=x":                        "/cb?code=[redacted]&state=x",
		"/cb?a=1;to%6ben=TOPSECRET":                         "/cb?a=1&to%6ben=[redacted]",
		"/cb?ACCESS_TOKEN=TOPSECRET#frag":                   "/cb?ACCESS_TOKEN=[redacted]",
		"/cb?%zz=TOPSECRET":                                 "/cb?[redacted]",
		"https://user:TOPSECRET@host/path?x=1":              "https://[redacted]@host/path?x=1",
		"/api/v1/namespaces/a/pods/b/exec?command=ls&token": "/api/v1/namespaces/a/pods/b/exec?command=ls&token",
	} {
		e := &audit.Event{RequestURI: in}
		r.Redact(e)
		if e.RequestURI != want {
			t.Errorf("%s became %s, want %s", in, e.RequestURI, want)
		}
	}
	if _, err := audit.NewRedactor(audit.RedactRule{Kind: "X", Paths: []string{"a..b"}}); err == nil {
		t.Error("an empty step was taken")
	}
	if _, err := audit.NewRedactor(audit.RedactRule{Paths: []string{"a"}}); err == nil {
		t.Error("a rule without kind was taken")
	}
}

// What no event could hold is not parsed; a large Secret is, because little of
// it is left.
func TestRedactionOfLargeBodies(t *testing.T) {
	t.Parallel()
	r, err := audit.NewRedactor()
	if err != nil {
		t.Fatal(err)
	}
	body := func(kind string) []byte {
		return []byte(`{"kind":"` + kind + `","apiVersion":"v1","data":{"k":"` + strings.Repeat("v", 3*audit.MaxEventBytes) + `"}}`)
	}
	for resource, want := range map[string]string{
		"configmaps": "",
		"secrets":    `{"apiVersion":"v1","data":{"k":"[redacted]"},"kind":"Secret"}`,
	} {
		kind := map[string]string{"configmaps": "ConfigMap", "secrets": "Secret"}[resource]
		e := &audit.Event{RequestObject: body(kind), ObjectRef: &audit.ObjectReference{Resource: resource}}
		marked := map[string]string{audit.AnnotationTruncated: "true", audit.AnnotationDropped: "requestObject"}
		if want != "" {
			marked = nil
		}
		if r.Redact(e); string(e.RequestObject) != want || !maps.Equal(e.Annotations, marked) {
			t.Errorf("%s: %.200s %v, want %s", resource, e.RequestObject, e.Annotations, want)
		}
	}
}

// TestMarksAreOfOneEvent: what is left out of the record of one stage is not
// marked at the next, which has the same annotations.
func TestMarksAreOfOneEvent(t *testing.T) {
	t.Parallel()
	r, err := audit.NewRedactor()
	if err != nil {
		t.Fatal(err)
	}
	held := map[string]string{audit.AnnotationDecision: "allow"}
	// The first is dropped before it is parsed, the second after.
	for _, size := range []int{3 * audit.MaxEventBytes, audit.MaxEventBytes + 100} {
		e := audit.Event{RequestObject: []byte(`"` + strings.Repeat("v", size) + `"`), Annotations: held}
		r.Redact(&e)
		if _, err := e.Fit(e.AppendJSON(nil)); err != nil {
			t.Fatal(err)
		}
		if e.Annotations[audit.AnnotationDropped] != "requestObject" || len(held) != 1 {
			t.Errorf("%d bytes: %v, and the caller has %v", size, e.Annotations, held)
		}
	}
}
