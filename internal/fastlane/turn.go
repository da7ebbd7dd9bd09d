package fastlane

import (
	"context"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/limit"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/caller"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// toFrame is the code of a turn that left the request to the frame, which
// records it.
const toFrame = 0

// turn is one request of the lane from its arrival to its answer. Every turn
// that is not left to the frame ends in exactly one record, which is handed
// over before the answer is.
//
// Turns are used again; nothing may keep one, or its parts.
type turn struct {
	lane *Lane
	ctx  context.Context // ends with the time of the request, not with its client
	w    http.ResponseWriter
	r    *http.Request
	// read is the body, once it was read.
	read string
	spec authorizationv1.SubjectAccessReviewSpec

	ev     audit.Event
	status audit.Status
	source [1]string
	// durability of the record; reads and reviews may be Buffered.
	durability audit.Durability
	// silent turns are counted and not recorded.
	silent bool
	// to is the route, by which the policy is asked; bodies says that request
	// and answer may be recorded, if the policy wants that: they hold nothing
	// that the redaction does not know.
	to     route
	bodies bool
	// recordAs, when set, is what the record says instead of the message of a
	// refusal, which may quote the request.
	recordAs string
	recorded bool
	// share is who holds a share of the lane for this turn.
	share string
	// stream is set when the answer goes on after the turn.
	stream *stream
	// in and out are room for the body and for the answer.
	in, out []byte
}

// begin starts the record of a request.
func (l *Lane) begin(ctx context.Context, w http.ResponseWriter, r *http.Request, to route, now time.Time) *turn {
	t := l.turns.Get().(*turn)
	t.lane, t.w, t.r, t.to = l, w, r, to
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	t.source[0] = host
	annotations := t.ev.Annotations
	t.ev = audit.Event{
		AuditID: audit.NewID(), Stage: audit.StageResponseComplete,
		RequestURI: r.URL.RequestURI(), SourceIPs: t.source[:], UserAgent: r.UserAgent(),
		RequestReceivedTimestamp: audit.MicroTime{Time: now},
		Annotations:              annotations,
	}
	w.Header()["Audit-Id"] = []string{t.ev.AuditID}
	t.ctx = audit.WithNotes(ctx, &t.ev)
	return t
}

// end gives a turn back.
func (l *Lane) end(t *turn) {
	if t.share != "" {
		l.callers.give(t.share)
	}
	annotations := t.ev.Annotations
	clear(annotations)
	*t = turn{in: kept(t.in), out: kept(t.out)}
	t.ev.Annotations = annotations
	l.turns.Put(t)
}

// kept is room that is worth keeping: not that of rare giants.
func kept(b []byte) []byte {
	if cap(b) > 2*maxReviewBody {
		return nil
	}
	return b[:0]
}

// run serves, and turns a panic into a record and an answer.
func (t *turn) run(serve func(*turn) int) (code int) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		t.lane.Log.Error("request panicked", "path", t.r.URL.Path, "audit_id", t.ev.AuditID, "panic", v, "stack", string(debug.Stack()))
		code = http.StatusInternalServerError
		if t.recorded {
			// The answer may be under way; only the end of the stream is
			// still true.
			cut(t.w)
			return
		}
		t.ev.Stage = audit.StagePanic
		code = t.refuse(code, metav1.StatusReasonInternalError, fault.Public(nil))
	}()
	return serve(t)
}

// enter authenticates a caller of the control plane and authorizes need. The
// request is answered unless it returns true.
func (t *turn) enter(need *authz.Request, object *audit.ObjectReference) (code int, ok bool) {
	t.ev.Verb, t.ev.ObjectRef = need.Verb, object
	id, ok, err := t.lane.Authenticate(t.ctx, t.r)
	if err != nil || !ok {
		return t.unauthenticated(err), false
	}
	who := caller.Of(id)
	t.ev.User = audit.UserInfo{Username: who.Name, UID: who.UID, Groups: who.Groups, Extra: who.Extra}
	t.noteCredential(id)
	allowed, reason, err := t.lane.Reviews.Permit(t.ctx, who, need)
	if err != nil {
		return t.fail(err), false
	}
	t.decided(allowed, reason)
	if !allowed {
		return t.fail(fault.Newf(fault.Denied, "%s.%s is forbidden: User %q cannot %s resource %q in API group %q at the cluster scope",
			need.Resource, need.APIGroup, who.Name, need.Verb, need.Resource, need.APIGroup)), false
	}
	// A question changes nothing; its record may follow within 100 ms.
	t.durability = audit.Buffered
	return t.claim(who.Name)
}

// claim takes a share of the lane for who.
func (t *turn) claim(who string) (code int, ok bool) {
	if !t.lane.callers.take(who) {
		return t.fail(fault.New(fault.Exhausted, "too many of your requests are in flight; try again")), false
	}
	t.share = who
	return 0, true
}

// noteCredential says what the record and the caller should know of the
// caller's credential.
func (t *turn) noteCredential(id authn.Identity) {
	for key, value := range id.Annotations(t.ev.RequestReceivedTimestamp.Time) {
		t.ev.Annotate(key, value)
	}
	for _, text := range id.Warnings() {
		if header, err := utilnet.NewWarningHeader(warningCode, "-", text); err == nil {
			t.w.Header().Add("Warning", header)
		}
	}
}

// warningCode is a persistent warning (RFC 7234, section 5.5.7), as the frame
// sends them.
const warningCode = 299

// warnOfLength warns of an attribute that is too long.
func (t *turn) warnOfLength(err error) {
	if e, ok := limit.Of(err); ok {
		if header, err := utilnet.NewWarningHeader(warningCode, "-", e.Error()); err == nil {
			t.w.Header().Add("Warning", header)
		}
	}
}

func (t *turn) decided(allowed bool, reason string) {
	decision := "forbid"
	if allowed {
		decision = "allow"
	}
	t.ev.Annotate(audit.AnnotationDecision, decision)
	if !allowed && reason == "" {
		reason = audit.ReasonNothingAllows
	}
	t.ev.Annotate(audit.AnnotationReason, reason)
}

// unauthenticated answers a request whose credential was missing (nil err) or
// refused. The record says which; the caller learns no more than that.
func (t *turn) unauthenticated(err error) int {
	t.ev.Annotate(audit.AnnotationReason, caller.Detail(err))
	if err == nil || fault.KindOf(err) == fault.Unauthenticated {
		if t.r.ProtoMajor == 1 {
			// Answered at once: otherwise the server waits for the body first.
			t.w.Header().Set("Connection", "close")
		}
		return t.refuse(http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized")
	}
	return t.fail(err)
}

// fail answers with an error of package fault.
func (t *turn) fail(err error) int {
	s := statusOf[fault.KindOf(err)]
	t.warnOfLength(err)
	if s.code >= http.StatusInternalServerError {
		t.lane.Log.Warn("request failed", "path", t.r.URL.Path, "audit_id", t.ev.AuditID, "error", err)
	}
	return t.refuse(s.code, s.reason, fault.Public(err))
}

// refuse records the refusal and answers with a Status.
func (t *turn) refuse(code int, reason metav1.StatusReason, message string) int {
	t.silent, t.durability = false, audit.Durable
	if code == http.StatusTooManyRequests {
		// Under load the disk must not be what everybody waits for.
		t.durability = audit.Buffered
	}
	recorded := message
	if t.recordAs != "" {
		recorded = t.recordAs
	}
	t.status = audit.Status{Status: metav1.StatusFailure, Reason: string(reason), Message: recorded, Code: int32(code)}
	if !t.record(nil) {
		code, reason, message = http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, unrecorded
	}
	dropBody(t.w, t.r)
	return refuse(t.w, code, reason, message)
}

// answer records the request and answers with what build appends.
func (t *turn) answer(code int, build func(*turn, []byte) []byte) int {
	t.status = audit.Status{Code: int32(code)}
	t.out = build(t, t.out[:0])
	if !t.record(t.out) {
		return refuse(t.w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, unrecorded)
	}
	write(t.w, code, t.out)
	return code
}

const unrecorded = "the request cannot be recorded; nothing was decided"

// record writes the record of the turn, as the policy wants it; out is the
// answer, if it may be recorded.
func (t *turn) record(out []byte) bool {
	t.recorded = true
	if t.silent {
		return true
	}
	d := t.level()
	if t.ev.User.Username != "" && d.Records(audit.StageRequestReceived) {
		// Only now it is known that the frame does not take the request over,
		// which would record its arrival too.
		t.ev.Level = d.Level
		if err := t.lane.Recorder.Append(t.ctx, t.ev.Received(), t.durability); err != nil {
			t.lane.Log.Error("request not recorded", "path", t.r.URL.Path, "audit_id", t.ev.AuditID, "error", err)
			return false
		}
	}
	if !t.apply(d, out) {
		return true
	}
	t.ev.ResponseStatus = &t.status
	t.ev.StageTimestamp = audit.MicroTime{Time: t.lane.Now()}
	if err := t.lane.Recorder.Append(t.ctx, &t.ev, t.durability); err != nil {
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
