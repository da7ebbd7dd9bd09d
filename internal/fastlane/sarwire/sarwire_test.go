package sarwire_test

import (
	"encoding/json"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"

	"github.com/gatehouse-dev/gatehouse/internal/fastlane/sarwire"
)

// strict reads a body as the frame does.
func strict(t testing.TB) func(body []byte) (*authorizationv1.SubjectAccessReview, error) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := authorizationv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	s := kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, scheme, scheme, kjson.SerializerOptions{Strict: true})
	return func(body []byte) (*authorizationv1.SubjectAccessReview, error) {
		out := &authorizationv1.SubjectAccessReview{}
		_, _, err := s.Decode(body, nil, out)
		return out, err
	}
}

const usual = `{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{"creationTimestamp":null},` +
	`"spec":{"resourceAttributes":{"namespace":"a","verb":"get","group":"apps","version":"v1","resource":"deployments","subresource":"scale","name":"n"},` +
	`"user":"jane","groups":["dev","system:authenticated"],"extra":{"k":["v","w"],"empty":[]},"uid":"1"},"status":{"allowed":false}}`

var bodies = []string{
	usual,
	`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"nonResourceAttributes":{"path":"/x","verb":"get"},"user":"j"}}`,
	` { "apiVersion" : "authorization.k8s.io/v1" , "kind" : "SubjectAccessReview" , "spec" : { } } `,
	`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"ü","groups":[]}}`,
}

func TestDecodeAgreesWithTheFrame(t *testing.T) {
	t.Parallel()
	read := strict(t)
	for _, body := range bodies {
		var spec authorizationv1.SubjectAccessReviewSpec
		if !sarwire.Decode(body, &spec) {
			t.Errorf("left to the strict decoder: %s", body)
			continue
		}
		want, err := read([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if !equality.Semantic.DeepEqual(want.Spec, spec) {
			t.Errorf("%s\n got %+v\nwant %+v", body, spec, want.Spec)
		}
	}
}

func TestDecodeLeavesTheUnusual(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"", "null", "[]", "{", usual[:len(usual)-1], usual + "x", usual + usual,
		`{"apiVersion":"authorization.k8s.io/v1beta1","kind":"SubjectAccessReview","spec":{}}`,
		`{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{}}`,
		`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview"}`,
		`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"a","user":"b"}}`,
		`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"User":"a"}}`,
		`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"\u0061"}}`,
		`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":1}}`,
		`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"` + "\xff" + `"}}`,
		`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","metadata":{"name":"x"},"spec":{}}`,
		`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{},"status":{"allowed":true}}`,
		`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"resourceAttributes":{"fieldSelector":{}}}}`,
		`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"extra":{"k":["a"],"k":["b"]}}}`,
	} {
		var spec authorizationv1.SubjectAccessReviewSpec
		if sarwire.Decode(body, &spec) {
			t.Errorf("accepted %q", body)
		}
	}
}

func TestEncodeIsReadAsItWasMeant(t *testing.T) {
	t.Parallel()
	read := strict(t)
	for _, body := range bodies {
		in, err := read([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		in.Status = authorizationv1.SubjectAccessReviewStatus{Denied: true, Reason: `RBAC: "a<b>&\" ` + "\u2028\x01", EvaluationError: "é"}
		out, err := read(sarwire.AppendReview(nil, &in.Spec, &in.Status))
		if err != nil {
			t.Fatal(err)
		}
		if !equality.Semantic.DeepEqual(in.Status, out.Status) {
			t.Errorf("got %+v", out.Status)
		}
		if in.Spec.Extra != nil && in.Spec.Extra["empty"] == nil {
			t.Error("an empty extra value was lost")
		}
		if a, b := js(t, in.Spec), js(t, out.Spec); a != b {
			t.Errorf("got  %s\nwant %s", b, a)
		}
		answer, err := read(sarwire.AppendAnswer(nil, &in.Status))
		if err != nil || !equality.Semantic.DeepEqual(in.Status, answer.Status) {
			t.Errorf("answer %+v %v", answer, err)
		}
	}
}

func js(t *testing.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func FuzzDecode(f *testing.F) {
	for _, b := range bodies {
		f.Add(b)
	}
	read := strict(f)
	f.Fuzz(func(t *testing.T, body string) {
		var spec authorizationv1.SubjectAccessReviewSpec
		if !sarwire.Decode(body, &spec) {
			return
		}
		want, err := read([]byte(body))
		if err != nil {
			t.Fatalf("accepted what the frame refuses: %v", err)
		}
		if !equality.Semantic.DeepEqual(want.Spec, spec) {
			t.Fatalf("got %+v, want %+v", spec, want.Spec)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		var spec authorizationv1.SubjectAccessReviewSpec
		if !sarwire.Decode(usual, &spec) {
			b.Fatal("refused")
		}
	}
}
