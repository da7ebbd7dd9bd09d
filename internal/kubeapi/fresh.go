package kubeapi

import (
	"context"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/responsewriter"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// withService answers 503 while no decision can be made, and for changes while
// none can be recorded; the library's filters would make both a 500. Requests
// of the process to itself pass, because they bring the policy, and so do
// questions about its health.
func (f *Frame) withService(next http.Handler, s runtime.NegotiatedSerializer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := f.cfg.Fresh()
		if err == nil && changes(r) {
			err = f.cfg.Recordable()
		}
		unavailable := func(w http.ResponseWriter, refusal *apierrors.StatusError) {
			responsewriters.ErrorNegotiated(refusal, s, schema.GroupVersion{Version: "v1"}, w, r)
		}
		if err == nil || r.Context().Value(loopbackKey{}) != nil || isHealth(r.URL.Path) {
			if changes(r) {
				// The one that finds the disk full is not told of by Recordable.
				w = responsewriter.WrapForHTTP1Or2(&unrecorded{ResponseWriter: w, refused: f.backend.refused, answer: unavailable})
			}
			next.ServeHTTP(w, r)
			return
		}
		refusal := apierrors.NewServiceUnavailable(fault.Public(err))
		f.recordRefusal(r, nil, refusal)
		unavailable(w, refusal)
	})
}

// Unrecordable is what a caller reads whose change was refused because it could
// not be recorded.
const Unrecordable = "changes are refused: the audit log cannot be written, and what cannot be recorded must not happen"

// unrecorded turns the library's 500 for a request that could not be recorded
// into the answer that every later one gets.
type unrecorded struct {
	http.ResponseWriter
	refused  func(auditID string) bool
	answer   func(http.ResponseWriter, *apierrors.StatusError)
	replaced bool
}

var _ responsewriter.UserProvidedDecorator = (*unrecorded)(nil)

// Unwrap implements responsewriter.UserProvidedDecorator.
func (u *unrecorded) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (u *unrecorded) WriteHeader(code int) {
	if code == http.StatusInternalServerError && u.refused(u.Header().Get(auditinternal.HeaderAuditID)) {
		u.replaced = true
		u.answer(u.ResponseWriter, apierrors.NewServiceUnavailable(Unrecordable))
		return
	}
	u.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (u *unrecorded) Write(p []byte) (int, error) {
	if u.replaced {
		return len(p), nil
	}
	return u.ResponseWriter.Write(p)
}

// changes reports whether a request may change something. Reviews are posted
// and only ask.
func changes(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	case http.MethodPost:
		return !strings.HasPrefix(r.URL.Path, "/apis/authorization.k8s.io/") && !strings.HasPrefix(r.URL.Path, "/apis/authentication.k8s.io/")
	}
	return true
}

// isHealth reports whether a path only says whether the process lives and
// serves; what it says in detail is left out.
func isHealth(path string) bool { return path == "/livez" || path == "/readyz" || path == "/healthz" }

// recordRefusal records a request that was refused before the library saw it;
// who is nil when nobody asked who made it.
func (f *Frame) recordRefusal(r *http.Request, who *resource.Caller, err *apierrors.StatusError) {
	host, _, splitErr := net.SplitHostPort(r.RemoteAddr)
	if splitErr != nil {
		host = r.RemoteAddr
	}
	now := audit.MicroTime{Time: time.Now()}
	ev := &audit.Event{
		Level: audit.LevelMetadata, AuditID: uuid.NewString(), Stage: audit.StageResponseComplete,
		RequestURI: r.URL.RequestURI(), Verb: strings.ToLower(r.Method), SourceIPs: []string{host}, UserAgent: r.UserAgent(),
		ResponseStatus:           &audit.Status{Status: err.ErrStatus.Status, Reason: string(err.ErrStatus.Reason), Message: err.ErrStatus.Message, Code: err.ErrStatus.Code},
		RequestReceivedTimestamp: now, StageTimestamp: now,
		Annotations: map[string]string{audit.AnnotationReason: err.ErrStatus.Message},
	}
	if who != nil {
		ev.User = audit.UserInfo{Username: who.Name, UID: who.UID, Groups: who.Groups, Extra: who.Extra}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), recordTimeout)
	defer cancel()
	// The request is refused whether or not this succeeds.
	_ = f.cfg.Recorder.Append(ctx, ev, audit.Buffered)
}
