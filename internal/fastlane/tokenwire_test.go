package fastlane

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/gatehouse-dev/gatehouse/internal/fastlane/sarwire"
)

const reviewHead = `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1",`

// What is read in the quick way is what the general decoder reads, and
// everything else is left to it.
func TestQuickTokenReview(t *testing.T) {
	t.Parallel()
	for in, quick := range map[string]bool{
		reviewHead + `"spec":{"token":"a"}}`: true,
		reviewHead + `"metadata":{"creationTimestamp":null},"spec":{"token":"a.b.c","audiences":["x","y"]},"status":{"user":{}}}`:    true,
		reviewHead + `"metadata":{},"spec":{"token":"ü","audiences":[]},"status":{}}`:                                                true,
		reviewHead + `"spec":{"token":"\u00fc\n\"","audiences":[]},"status":{}}`:                                                     false,
		` { "spec" : { "audiences" : [ "x" ] , "token" : "t" } , "apiVersion":"authentication.k8s.io/v1", "kind" : "TokenReview" } `: true,
		reviewHead + `"metadata":{"name":"n"},"spec":{"token":"a"}}`:                                                                 false,
		reviewHead + `"spec":{"token":"a"},"status":{"authenticated":true}}`:                                                         false,
		reviewHead + `"spec":{"token":"a"},"status":{"user":null}}`:                                                                  false,
		reviewHead + `"spec":{"token":"a","token":"b"}}`:                                                                             false,
		reviewHead + `"spec":{"Token":"a"}}`:                                                                                         false,
		reviewHead + `"spec":{"token":null}}`:                                                                                        false,
		reviewHead + `"spec":{"token":"a","audiences":null}}`:                                                                        false,
		reviewHead + `"spec":{"token":"a","audiences":[1]}}`:                                                                         false,
		reviewHead + `"spec":null}`:                                                                                                  false,
		`{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1beta1","spec":{"token":"a"}}`:                                   false,
		`{"kind":1,"apiVersion":"authentication.k8s.io/v1","spec":{"token":"a"}}`:                                                    false,
		reviewHead + `"spec":{}}`:                                                                                                    false,
		`[]`:                                                                                                                         false, ``: false,
	} {
		if got := agree(t, in); got != quick {
			t.Errorf("%s: quick %v", in, got)
		}
	}
}

// quickTokenReview is what the lane makes of a text by itself.
func quickTokenReview(in string) (review authenticationv1.TokenReview, ok bool) {
	review.Kind, review.APIVersion = "TokenReview", "authentication.k8s.io/v1"
	ok = sarwire.DecodeToken(in, &review.Spec)
	if len(review.Spec.Audiences) == 0 {
		review.Spec.Audiences = nil
	}
	return review, ok
}

// agree reads a text in both ways and compares what comes of it.
func agree(t *testing.T, in string) bool {
	t.Helper()
	quick, ok := quickTokenReview(in)
	if !ok {
		return false
	}
	var general authenticationv1.TokenReview
	if err := decodeReview(in, &general, &general.TypeMeta, "authentication.k8s.io/v1", "TokenReview"); err != nil {
		t.Fatalf("%q: read quickly, and refused in general: %v", in, err)
	}
	if len(general.Spec.Audiences) == 0 {
		general.Spec.Audiences = nil
	}
	if !reflect.DeepEqual(quick, general) {
		t.Fatalf("%q: %+v and %+v", in, quick, general)
	}
	return true
}

func FuzzQuickTokenReview(f *testing.F) {
	f.Add(reviewHead + `"metadata":{"creationTimestamp":null},"spec":{"token":"a.b.c","audiences":["x"]},"status":{"user":{}}}`)
	f.Add(reviewHead + `"spec":{"token":"a"}}`)
	f.Fuzz(func(t *testing.T, in string) {
		if agree(t, in) {
			quick, _ := quickTokenReview(in)
			same(t, &quick)
		}
	})
}

// same compares the quick answer with that of encoding/json.
func same(t *testing.T, r *authenticationv1.TokenReview) {
	t.Helper()
	want, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	got := appendTokenReview(nil, r)
	if err := json.Unmarshal(got, &a); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	if err := json.Unmarshal(want, &b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) || !strings.HasSuffix(string(got), "}\n") {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAppendTokenReview(t *testing.T) {
	t.Parallel()
	review := func(spec authenticationv1.TokenReviewSpec, status authenticationv1.TokenReviewStatus) *authenticationv1.TokenReview {
		r := &authenticationv1.TokenReview{Spec: spec, Status: status}
		r.Kind, r.APIVersion = "TokenReview", "authentication.k8s.io/v1"
		return r
	}
	for _, r := range []*authenticationv1.TokenReview{
		review(authenticationv1.TokenReviewSpec{}, authenticationv1.TokenReviewStatus{Error: "no"}),
		review(authenticationv1.TokenReviewSpec{Token: "a"}, authenticationv1.TokenReviewStatus{}),
		review(authenticationv1.TokenReviewSpec{Token: "<a>\u2028\"", Audiences: []string{"x", "y"}}, authenticationv1.TokenReviewStatus{Error: "no \"way\""}),
		review(authenticationv1.TokenReviewSpec{Token: "a"}, authenticationv1.TokenReviewStatus{
			Authenticated: true, Audiences: []string{"x"},
			User: authenticationv1.UserInfo{Username: "u", UID: "1", Groups: []string{"g", "h"}, Extra: map[string]authenticationv1.ExtraValue{"b": {"1", "2"}, "a": {""}}},
		}),
		review(authenticationv1.TokenReviewSpec{Token: "a"}, authenticationv1.TokenReviewStatus{User: authenticationv1.UserInfo{Groups: []string{"g"}}}),
		review(authenticationv1.TokenReviewSpec{Token: "a"}, authenticationv1.TokenReviewStatus{User: authenticationv1.UserInfo{Extra: map[string]authenticationv1.ExtraValue{"k": {"v"}}}}),
	} {
		same(t, r)
	}
}

func BenchmarkTokenReviewWire(b *testing.B) {
	in := reviewHead + `"metadata":{"creationTimestamp":null},"spec":{"token":"` + strings.Repeat("a", 1100) + `"},"status":{"user":{}}}`
	b.Run("quick", func(b *testing.B) {
		for b.Loop() {
			r, _ := quickTokenReview(in)
			appendTokenReview(nil, &r)
		}
	})
	b.Run("general", func(b *testing.B) {
		for b.Loop() {
			var r authenticationv1.TokenReview
			_ = decodeReview(in, &r, &r.TypeMeta, "authentication.k8s.io/v1", "TokenReview")
			_, _ = json.Marshal(&r)
		}
	})
}
