package fastlane

import (
	"encoding/json"
	"net/http"
	"unicode/utf8"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane/sarwire"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

var (
	createTokenReview = authz.Request{
		ResourceRequest: true, Verb: "create", APIGroup: "authentication.k8s.io", Resource: "tokenreviews",
	}
	tokenReviews = audit.ObjectReference{Resource: "tokenreviews", APIGroup: "authentication.k8s.io", APIVersion: "v1"}
)

// tokenReview answers a TokenReview of the control plane.
func (t *turn) tokenReview() int {
	if code, ok := t.enter(&createTokenReview, &tokenReviews); !ok {
		return code
	}
	if !t.body(maxReviewBody) || !utf8.ValidString(t.read) {
		return toFrame
	}
	var review authenticationv1.TokenReview
	quick := sarwire.DecodeToken(t.read, &review.Spec)
	if !quick {
		review = authenticationv1.TokenReview{}
		if decodeReview(t.read, &review, &review.TypeMeta, "authentication.k8s.io/v1", "TokenReview") != nil || review.Spec.Token == "" {
			return toFrame
		}
	}
	status, err := t.lane.Reviews.Token(t.ctx, &review.Spec)
	if err != nil {
		return t.fail(err)
	}
	t.describeToken(&status)
	t.bodies = true
	review.Status = status
	if quick {
		return t.answer(http.StatusCreated, func(_ *turn, b []byte) []byte { return appendTokenReview(b, &review) })
	}
	return t.answerObject(http.StatusCreated, &review)
}

// describeToken records whose token was shown, never the token.
func (t *turn) describeToken(status *authenticationv1.TokenReviewStatus) {
	if status.Authenticated {
		t.ev.Annotate(annotationSubject, status.User.Username)
		t.ev.Annotate(annotationAnswer, "authenticated")
		if ids := status.User.Extra["authentication.kubernetes.io/credential-id"]; len(ids) > 0 {
			t.ev.Annotate(annotationCredential, ids[0])
		}
		return
	}
	t.ev.Annotate(annotationAnswer, "not authenticated")
	if status.Error != "" {
		t.ev.Annotate(annotationReason, status.Error)
	}
}

const annotationCredential = "review.gatehouse.dev/credential-id"

func (t *turn) answerObject(code int, obj any) int {
	out, err := json.Marshal(obj)
	if err != nil {
		return t.fail(fault.Wrap(fault.Internal, "", err))
	}
	return t.answer(code, func(_ *turn, b []byte) []byte { return append(append(b, out...), '\n') })
}

// decodeReview reads a posted object strictly: unknown and repeated fields
// are refused.
func decodeReview(in string, into any, meta *metav1.TypeMeta, apiVersion, kind string) error {
	strict, err := kjson.UnmarshalStrict([]byte(in), into)
	if err != nil {
		return fault.Newf(fault.Invalid, "the body is not a %s: %s", kind, printable(err))
	}
	if len(strict) > 0 {
		return fault.Newf(fault.Invalid, "strict decoding error: %s", printable(strict[0]))
	}
	if meta.APIVersion != apiVersion || meta.Kind != kind {
		return fault.Newf(fault.Invalid, "the body is a %.100q of %.100q, a %s of %s is required", meta.Kind, meta.APIVersion, kind, apiVersion)
	}
	return nil
}

// printable bounds the text of a decoder, which may quote its input.
func printable(err error) string {
	const limit = 200
	s := err.Error()
	if len(s) <= limit {
		return s
	}
	at := limit
	for at > 0 && !utf8.RuneStart(s[at]) {
		at--
	}
	return s[:at] + "..."
}
