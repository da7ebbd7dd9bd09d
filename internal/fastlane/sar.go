package fastlane

import (
	"net/http"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane/sarwire"
)

// maxReviewBody is the longest review that the lane reads itself.
const maxReviewBody = sarwire.MaxBody

var createAccessReview = authz.Request{
	ResourceRequest: true, Verb: "create", APIGroup: "authorization.k8s.io", Resource: "subjectaccessreviews",
}

// accessReview answers a SubjectAccessReview of the control plane.
func (l *Lane) accessReview(w http.ResponseWriter, r *http.Request) int {
	in, ok := body(r, maxReviewBody)
	var spec authorizationv1.SubjectAccessReviewSpec
	if !ok || !sarwire.Decode(in, &spec) {
		l.Frame.ServeHTTP(w, replay(r, in))
		return toFrame
	}
	t, code := l.enter(w, r, &createAccessReview)
	if t == nil {
		return code
	}
	status, err := l.Reviews.Access(r.Context(), &spec)
	if err != nil {
		return t.fail(err)
	}
	t.describeAccess(&spec, &status)
	return t.answer(http.StatusCreated, func(b []byte) []byte { return sarwire.AppendReview(b, &spec, &status) })
}
