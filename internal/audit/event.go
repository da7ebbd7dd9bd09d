package audit

import (
	"bytes"
	"encoding/json"
	"time"
)

// APIVersion and Kind are the type meta of every event.
const (
	APIVersion = "audit.k8s.io/v1"
	Kind       = "Event"
)

// Level says how much of a request is recorded. The zero Level is not valid on
// the wire; [LevelNone] means "do not record".
type Level string

// The levels, each including the ones before it.
const (
	LevelNone            Level = "None"
	LevelMetadata        Level = "Metadata"
	LevelRequest         Level = "Request"
	LevelRequestResponse Level = "RequestResponse"
)

// Rank orders levels: None 0 to RequestResponse 3; an unknown level is -1.
func (l Level) Rank() int {
	switch l {
	case LevelNone:
		return 0
	case LevelMetadata:
		return 1
	case LevelRequest:
		return 2
	case LevelRequestResponse:
		return 3
	}
	return -1
}

// Stage is the moment of request handling at which an event was made.
type Stage string

// The stages in the order in which a request passes them.
const (
	StageRequestReceived  Stage = "RequestReceived"
	StageResponseStarted  Stage = "ResponseStarted"
	StageResponseComplete Stage = "ResponseComplete"
	StagePanic            Stage = "Panic"
)

// Stages returns every stage once.
func Stages() []Stage {
	return []Stage{StageRequestReceived, StageResponseStarted, StageResponseComplete, StagePanic}
}

// Annotation keys. The first two are upstream's; the others are ours, and
// [Event.Foreign] keeps sites from writing them.
const (
	AnnotationDecision   = "authorization.k8s.io/decision"        // allow or forbid
	AnnotationReason     = "authorization.k8s.io/reason"          // the binding or policy that decided
	AnnotationTruncated  = "audit.k8s.io/truncated"               // "true" when Fit cut something
	AnnotationDropped    = "audit.gatehouse.dev/dropped"          // what Fit cut, comma separated
	AnnotationIntent     = "audit.gatehouse.dev/intent"           // "true" on the record of a change before it is committed
	AnnotationCredential = "audit.gatehouse.dev/credential-id"    // JTI=…, X509SHA256=…, KEY=…
	AnnotationClockSkew  = "audit.gatehouse.dev/clock-skew"       // how far a site's clock ran ahead of ours
	AnnotationGap        = "audit.gatehouse.dev/gap"              // why records may be missing before this one
	AnnotationGapCount   = "audit.gatehouse.dev/gap-count"        // how many, where the sender told
	AnnotationBreakGlass = "audit.gatehouse.dev/break-glass"      // the reason given for break-glass access
	AnnotationDelegation = "audit.gatehouse.dev/delegation-chain" // by which Delegations the caller acted, its own first, as JSON
	AnnotationOnBehalf   = "audit.gatehouse.dev/on-behalf-of"     // whose right the caller used, when a Delegation gave it
	AnnotationDomain     = "audit.gatehouse.dev/domain"           // the domain that the event concerns
	AnnotationNamespace  = "audit.gatehouse.dev/namespace"        // the namespace of ours that a site's event belongs to
	AnnotationSource     = "audit.gatehouse.dev/source"           // which AuditSource wrote it, where it has a certificate of its own
	AnnotationHost       = "audit.gatehouse.dev/host"             // the host that it was collected from
	AnnotationCursor     = "audit.gatehouse.dev/cursor"           // where it stands in the journal of that host
	AnnotationPolicies   = "audit.gatehouse.dev/policies"         // AccessPolicies that took part in the decision
)

// ReasonNothingAllows is the reason of a denial that nothing in particular made.
const ReasonNothingAllows = "no binding and no policy allows it"

// credentialExtra is where kube-apiserver puts the id of the credential.
const credentialExtra = "authentication.kubernetes.io/credential-id"

// Event is one audit event, audit.k8s.io/v1. Its fields mean what they mean
// upstream. An Event is not safe for concurrent modification; Append does not
// keep it.
type Event struct {
	// TypeMeta is written as Kind and APIVersion whatever it holds.
	Kind       string `json:"kind,omitempty"`
	APIVersion string `json:"apiVersion,omitempty"`

	Level                    Level                   `json:"level"`
	AuditID                  string                  `json:"auditID"`
	Stage                    Stage                   `json:"stage"`
	RequestURI               string                  `json:"requestURI"`
	Verb                     string                  `json:"verb"`
	User                     UserInfo                `json:"user"`
	ImpersonatedUser         *UserInfo               `json:"impersonatedUser,omitempty"`
	AuthenticationMetadata   *AuthenticationMetadata `json:"authenticationMetadata,omitempty"`
	SourceIPs                []string                `json:"sourceIPs,omitempty"`
	UserAgent                string                  `json:"userAgent,omitempty"`
	ObjectRef                *ObjectReference        `json:"objectRef,omitempty"`
	ResponseStatus           *Status                 `json:"responseStatus,omitempty"`
	RequestObject            json.RawMessage         `json:"requestObject,omitempty"`
	ResponseObject           json.RawMessage         `json:"responseObject,omitempty"`
	RequestReceivedTimestamp MicroTime               `json:"requestReceivedTimestamp"`
	StageTimestamp           MicroTime               `json:"stageTimestamp"`
	Annotations              map[string]string       `json:"annotations,omitempty"`
}

// UserInfo is who acted (authentication.k8s.io/v1).
type UserInfo struct {
	Username string              `json:"username,omitempty"`
	UID      string              `json:"uid,omitempty"`
	Groups   []string            `json:"groups,omitempty"`
	Extra    map[string][]string `json:"extra,omitempty"`
}

// AuthenticationMetadata says how an impersonation was authorized.
type AuthenticationMetadata struct {
	ImpersonationConstraint string `json:"impersonationConstraint,omitempty"`
}

// ObjectReference names the object of a request.
type ObjectReference struct {
	Resource        string `json:"resource,omitempty"`
	Namespace       string `json:"namespace,omitempty"`
	Name            string `json:"name,omitempty"`
	UID             string `json:"uid,omitempty"`
	APIGroup        string `json:"apiGroup,omitempty"`
	APIVersion      string `json:"apiVersion,omitempty"`
	ResourceVersion string `json:"resourceVersion,omitempty"`
	Subresource     string `json:"subresource,omitempty"`
}

// Status is the outcome of a request (meta/v1 Status). Metadata and Details
// are kept as they came.
type Status struct {
	Metadata json.RawMessage `json:"metadata,omitempty"`
	Status   string          `json:"status,omitempty"`
	Message  string          `json:"message,omitempty"`
	Reason   string          `json:"reason,omitempty"`
	Details  json.RawMessage `json:"details,omitempty"`
	Code     int32           `json:"code,omitempty"`
}

// EventList is the body that a webhook sends and receives.
type EventList struct {
	Kind       string          `json:"kind,omitempty"`
	APIVersion string          `json:"apiVersion,omitempty"`
	Metadata   json.RawMessage `json:"metadata,omitempty"`
	Items      []Event         `json:"items"`
}

// MicroTime is a time with microseconds on the wire, null when zero.
type MicroTime struct{ time.Time }

// microLayout is RFC 3339 with exactly six digits, as meta/v1 MicroTime.
const microLayout = "2006-01-02T15:04:05.000000Z07:00"

// AppendJSON appends the time as JSON.
func (t MicroTime) AppendJSON(b []byte) []byte {
	if t.IsZero() {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = appendMicro(b, t.UTC())
	return append(b, '"')
}

// MarshalJSON implements json.Marshaler.
func (t MicroTime) MarshalJSON() ([]byte, error) { return t.AppendJSON(nil), nil }

// UnmarshalJSON accepts RFC 3339 with any number of fractional digits, and null.
func (t *MicroTime) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		t.Time = time.Time{}
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	parsed, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return err
	}
	t.Time = parsed.UTC()
	return nil
}

// Credential returns the id of the credential that the caller used, or "".
func (e *Event) Credential() string {
	if id := e.Annotations[AnnotationCredential]; id != "" {
		return id
	}
	if ids := e.User.Extra[credentialExtra]; len(ids) > 0 {
		return ids[0]
	}
	return ""
}

// Decision returns "allow", "forbid" or "" when no decision was recorded.
func (e *Event) Decision() string { return e.Annotations[AnnotationDecision] }

// Annotate sets an annotation, making the map if there is none.
func (e *Event) Annotate(key, value string) {
	if e.Annotations == nil {
		e.Annotations = make(map[string]string, 4)
	}
	e.Annotations[key] = value
}
