package fastlane

import (
	"context"
	"net"
	"net/http"

	"github.com/google/uuid"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/caller"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// toFrame is the metrics code of a request that the frame answered.
const toFrame = 0

// turn is one request of the lane from its arrival to its answer. Every turn
// ends in exactly one record, which is handed over before the answer is.
type turn struct {
	lane *Lane
	w    http.ResponseWriter
	r    *http.Request
	ev   audit.Event
	// durability of the record; reviews and reads may be Buffered.
	durability audit.Durability
	// silent turns are counted and not recorded.
	silent bool
}

// begin starts the record of a request.
func (l *Lane) begin(w http.ResponseWriter, r *http.Request) *turn {
	t := &turn{lane: l, w: w, r: r}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	t.ev = audit.Event{
		Level: audit.LevelMetadata, AuditID: uuid.NewString(), Stage: audit.StageResponseComplete,
		RequestURI: r.URL.RequestURI(), SourceIPs: []string{host}, UserAgent: r.UserAgent(),
		RequestReceivedTimestamp: audit.MicroTime{Time: l.Now()},
	}
	w.Header()["Audit-Id"] = []string{t.ev.AuditID}
	return t
}

// enter authenticates a caller of the control plane and authorizes need. A nil
// turn means that the request was answered with code.
func (l *Lane) enter(w http.ResponseWriter, r *http.Request, need *authz.Request) (*turn, int) {
	t := l.begin(w, r)
	t.ev.Verb = need.Verb
	t.ev.ObjectRef = &audit.ObjectReference{Resource: need.Resource, APIGroup: need.APIGroup, APIVersion: "v1"}
	id, ok, err := l.Authenticate(r)
	if err != nil || !ok {
		return nil, t.unauthenticated(err)
	}
	who := caller.Of(id)
	t.ev.User = audit.UserInfo{Username: who.Name, UID: who.UID, Groups: who.Groups, Extra: who.Extra}
	allowed, reason, err := l.Reviews.Permit(r.Context(), who, need)
	if err != nil {
		return nil, t.fail(err)
	}
	t.decided(allowed, reason)
	if !allowed {
		return nil, t.fail(fault.Newf(fault.Denied, "%s.%s is forbidden: User %q cannot %s resource %q in API group %q at the cluster scope",
			need.Resource, need.APIGroup, who.Name, need.Verb, need.Resource, need.APIGroup))
	}
	// A question changes nothing; its record may follow within 100 ms.
	t.durability = audit.Buffered
	return t, 0
}

func (t *turn) decided(allowed bool, reason string) {
	decision := "forbid"
	if allowed {
		decision = "allow"
	}
	t.ev.Annotate(audit.AnnotationDecision, decision)
	t.ev.Annotate(audit.AnnotationReason, reason)
}

// unauthenticated answers a request whose credential was missing (nil err) or
// refused. The record says which; the caller learns no more than that.
func (t *turn) unauthenticated(err error) int {
	t.ev.Annotate(audit.AnnotationReason, caller.Detail(err))
	if err == nil || fault.KindOf(err) == fault.Unauthenticated {
		return t.refuse(http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized")
	}
	return t.fail(err)
}

// fail answers with an error of package fault.
func (t *turn) fail(err error) int {
	s := statusOf[fault.KindOf(err)]
	if s.code >= http.StatusInternalServerError {
		t.lane.Log.Warn("request failed", "path", t.r.URL.Path, "audit_id", t.ev.AuditID, "error", err)
	}
	return t.refuse(s.code, s.reason, fault.Public(err))
}

// refuse records the refusal and answers with a Status.
func (t *turn) refuse(code int, reason metav1.StatusReason, message string) int {
	t.durability, t.silent = audit.Durable, false
	t.ev.ResponseStatus = &audit.Status{Status: metav1.StatusFailure, Reason: string(reason), Message: message, Code: int32(code)}
	if !t.record() {
		return refuse(t.w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, unrecorded)
	}
	return refuse(t.w, code, reason, message)
}

// answer records the request and answers with what build appends.
func (t *turn) answer(code int, build func([]byte) []byte) int {
	t.ev.ResponseStatus = &audit.Status{Code: int32(code)}
	if !t.record() {
		return refuse(t.w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, unrecorded)
	}
	s := t.lane.buffers.Get().(*scratch)
	s.out = build(s.out[:0])
	write(t.w, code, s.out)
	if cap(s.out) <= maxReviewBody {
		t.lane.buffers.Put(s)
	}
	return code
}

const unrecorded = "the request cannot be recorded; nothing was decided"

func (t *turn) record() bool {
	if t.silent {
		return true
	}
	t.ev.StageTimestamp = audit.MicroTime{Time: t.lane.Now()}
	if err := t.lane.Recorder.Append(context.WithoutCancel(t.r.Context()), &t.ev, t.durability); err != nil {
		t.lane.Log.Error("request not recorded", "path", t.r.URL.Path, "audit_id", t.ev.AuditID, "error", err)
		return false
	}
	return true
}

// Annotations of a review: what was asked, and what was answered. They stand
// beside the decision on the request itself, which says who may ask.
const (
	annotationSubject  = "review.gatehouse.dev/subject"
	annotationQuestion = "review.gatehouse.dev/question"
	annotationAnswer   = "review.gatehouse.dev/answer"
	annotationReason   = "review.gatehouse.dev/reason"
)

// describeAccess records an access review and its answer.
func (t *turn) describeAccess(spec *authorizationv1.SubjectAccessReviewSpec, status *authorizationv1.SubjectAccessReviewStatus) {
	t.ev.Annotate(annotationSubject, spec.User)
	t.ev.Annotate(annotationQuestion, question(spec))
	t.ev.Annotate(annotationAnswer, answerOf(status))
	reason := status.Reason
	if status.EvaluationError != "" {
		reason += "; " + status.EvaluationError
	}
	if reason != "" {
		t.ev.Annotate(annotationReason, reason)
	}
}

func answerOf(s *authorizationv1.SubjectAccessReviewStatus) string {
	switch {
	case s.Denied:
		return "denied"
	case s.Allowed:
		return "allowed"
	}
	return "no opinion"
}

// question renders what is asked in one line: verb, resource, namespace/name.
func question(spec *authorizationv1.SubjectAccessReviewSpec) string {
	b := make([]byte, 0, 96)
	switch {
	case spec.ResourceAttributes != nil:
		a := spec.ResourceAttributes
		b = append(append(b, a.Verb...), ' ')
		b = append(b, a.Resource...)
		if a.Group != "" {
			b = append(append(b, '.'), a.Group...)
		}
		if a.Subresource != "" {
			b = append(append(b, '/'), a.Subresource...)
		}
		if a.Namespace != "" || a.Name != "" {
			b = append(append(append(append(b, ' '), a.Namespace...), '/'), a.Name...)
		}
	case spec.NonResourceAttributes != nil:
		b = append(append(append(b, spec.NonResourceAttributes.Verb...), ' '), spec.NonResourceAttributes.Path...)
	}
	return string(b)
}
