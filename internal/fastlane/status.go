package fastlane

import (
	"encoding/json"
	"net/http"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// statusOf is the HTTP status and the Kubernetes reason of each kind of fault.
var statusOf = map[fault.Kind]struct {
	code   int
	reason metav1.StatusReason
}{
	fault.Internal:        {http.StatusInternalServerError, metav1.StatusReasonInternalError},
	fault.Invalid:         {http.StatusBadRequest, metav1.StatusReasonBadRequest},
	fault.Unauthenticated: {http.StatusUnauthorized, metav1.StatusReasonUnauthorized},
	fault.Denied:          {http.StatusForbidden, metav1.StatusReasonForbidden},
	fault.NotFound:        {http.StatusNotFound, metav1.StatusReasonNotFound},
	fault.Conflict:        {http.StatusConflict, metav1.StatusReasonConflict},
	fault.Exhausted:       {http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests},
	fault.Unavailable:     {http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable},
}

// refuse answers with a Kubernetes Status.
func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) int {
	body, err := json.Marshal(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Message: message, Reason: reason, Code: int32(code),
	})
	if err != nil { // a struct of strings and numbers
		body = nil
	}
	h := w.Header()
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	write(w, code, body)
	return code
}

// write answers with JSON.
func write(w http.ResponseWriter, code int, body []byte) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Cache-Control"] = noStore
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(code)
	// An error here is the client's who went away; the record is written.
	_, _ = w.Write(body)
}

var (
	jsonType = []string{"application/json"}
	noStore  = []string{"no-cache, private"}
)
