package fastlane

import (
	"errors"
	"net/http"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane/sarwire"
)

// maxReviewBody is the longest review that the lane reads itself.
const maxReviewBody = sarwire.MaxBody

// What a caller of a review needs, and how the record names it. Shared and
// never changed.
var (
	createAccessReview = authz.Request{
		ResourceRequest: true, Verb: "create", APIGroup: "authorization.k8s.io", Resource: "subjectaccessreviews",
	}
	accessReviews = audit.ObjectReference{Resource: "subjectaccessreviews", APIGroup: "authorization.k8s.io", APIVersion: "v1"}
)

// accessReview answers a SubjectAccessReview of the control plane. The caller
// is known before a byte of the body is read: nobody else may keep a place by
// sending slowly.
func (t *turn) accessReview() int {
	if code, ok := t.enter(&createAccessReview, &accessReviews); !ok {
		return code
	}
	if !t.body(maxReviewBody) || !sarwire.Decode(t.read, &t.spec) {
		return toFrame
	}
	status, err := t.lane.Reviews.Access(t.ctx, &t.spec)
	if err != nil {
		if malformed := apierrors.APIStatus(nil); errors.As(err, &malformed) {
			// The frame words it, with every field that is wrong.
			return toFrame
		}
		return t.fail(err)
	}
	t.describeAccess(&t.spec, &status)
	t.bodies = true
	return t.answer(http.StatusCreated, func(t *turn, b []byte) []byte { return sarwire.AppendReview(b, &t.spec, &status) })
}

// objectOf is what a question is about, so that the record can be searched by
// it.
func objectOf(spec *authorizationv1.SubjectAccessReviewSpec) *audit.ObjectReference {
	a := spec.ResourceAttributes
	if a == nil {
		return nil
	}
	return &audit.ObjectReference{Resource: a.Resource, Subresource: a.Subresource, APIGroup: a.Group, APIVersion: a.Version, Namespace: a.Namespace, Name: a.Name}
}
