// Package authzenhttp serves the OpenID AuthZEN Authorization API 1.0 over
// HTTPS: evaluation, evaluations, the three searches and the discovery
// document.
//
// It owns the reading of requests, who may ask, limits and the record, and
// holds no rule about what is allowed: package authzen translates and the
// engine decides. Whoever is authenticated may ask about itself; asking about
// others takes the permission to create the matching review of
// access.gatehouse.dev. Start at [New].
package authzenhttp

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/authzen"
	"github.com/gatehouse-dev/gatehouse/internal/access/limit"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/caller"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Bounds of one request and of all.
const (
	maxBody        = 8 << 20 // 10,000 questions of 800 bytes
	requestTimeout = 10 * time.Second
	maxRequestID   = 8 << 10
)

// Config is what a handler needs. Everything is required.
type Config struct {
	// Next serves every other path.
	Next         http.Handler
	Authenticate func(*http.Request) (id authn.Identity, ok bool, err error)
	// Permit decides whether a caller may ask.
	Permit   func(context.Context, resource.Caller, *authz.Request) (allowed bool, reason string, err error)
	Policy   authzen.Policy
	Recorder audit.Recorder
	// AuditPolicy says what of a request is recorded.
	AuditPolicy AuditPolicy
	// URL is where clients reach the server.
	URL string
	Now func() time.Time
	Log *slog.Logger
	// InFlight bounds the requests that are served at once; more are told to
	// come back. One caller has at most a quarter of them.
	InFlight int
}

// AuditPolicy says how much of a request is recorded. Its rules see a request
// to a path, with the method as verb.
type AuditPolicy interface {
	Evaluate(*policy.Request) policy.Decision
}

// handler serves the endpoints.
type handler struct {
	Config
	slots chan struct{}
	// share and large are places by caller: of all requests, and of those with
	// a large body.
	share, large *share
}

// New checks the configuration.
func New(c Config) (http.Handler, error) {
	if c.Next == nil || c.Authenticate == nil || c.Permit == nil || c.Policy.Access == nil || c.Recorder == nil || c.AuditPolicy == nil || c.URL == "" || c.Now == nil || c.Log == nil || c.InFlight <= 0 {
		return nil, errors.New("authzenhttp: incomplete configuration")
	}
	return &handler{Config: c, slots: make(chan struct{}, c.InFlight), share: newShare(c.InFlight), large: newShare(c.InFlight / callerShare)}, nil
}

// endpoint is one route.
type endpoint struct {
	method string
	serve  func(h *handler, t *turn, body []byte) (any, error)
}

var endpoints = map[string]endpoint{
	authzen.EvaluationPath:     {http.MethodPost, (*handler).evaluation},
	authzen.EvaluationsPath:    {http.MethodPost, (*handler).evaluations},
	authzen.SearchSubjectPath:  {http.MethodPost, (*handler).searchSubjects},
	authzen.SearchResourcePath: {http.MethodPost, (*handler).searchResources},
	authzen.SearchActionPath:   {http.MethodPost, (*handler).searchActions},
	authzen.MetadataPath:       {http.MethodGet, (*handler).metadata},
}

// turn is one request, from its arrival to its record.
type turn struct {
	ctx    context.Context
	caller resource.Caller
	ev     audit.Event
	// body is the request, once it was understood.
	body []byte
	held []func() // give the caller's places back
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, ok := endpoints[r.URL.Path]
	if !ok {
		h.Next.ServeHTTP(w, r)
		return
	}
	// Section 10.1.2: the caller's own id comes back, whatever the answer is.
	if id := r.Header.Get("X-Request-ID"); id != "" && len(id) <= maxRequestID {
		w.Header().Set("X-Request-ID", id)
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusTooManyRequests, "too many requests are in flight; try again")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	// A slow body must not keep the place for longer than an answer may.
	_ = http.NewResponseController(w).SetReadDeadline(h.Now().Add(requestTimeout))
	t := h.begin(ctx, w, r)
	answer, err := h.serve(e, t, w, r)
	for _, give := range t.held {
		defer give()
	}
	h.finish(t, w, answer, err)
}

func (h *handler) begin(ctx context.Context, w http.ResponseWriter, r *http.Request) *turn {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	t := &turn{ctx: ctx, ev: audit.Event{
		AuditID: uuid.NewString(), Stage: audit.StageResponseComplete,
		RequestURI: r.URL.Path, Verb: strings.ToLower(r.Method), SourceIPs: []string{host}, UserAgent: r.UserAgent(),
		RequestReceivedTimestamp: audit.MicroTime{Time: h.Now()},
	}}
	w.Header().Set("Audit-Id", t.ev.AuditID)
	return t
}

// unsupported are faults of the request that have a status of their own.
type unsupported struct {
	code int
	text string
}

func (u *unsupported) Error() string { return u.text }

func (h *handler) serve(e endpoint, t *turn, w http.ResponseWriter, r *http.Request) (any, error) {
	id, ok, err := h.Authenticate(r)
	if err != nil || !ok {
		t.ev.Annotate(audit.AnnotationReason, caller.Detail(err))
		if err == nil || fault.KindOf(err) == fault.Unauthenticated {
			return nil, fault.New(fault.Unauthenticated, "Unauthorized")
		}
		return nil, err
	}
	t.caller = caller.Of(id)
	t.ev.User = audit.UserInfo{Username: t.caller.Name, UID: t.caller.UID, Groups: t.caller.Groups, Extra: t.caller.Extra}
	// As soon as it is known who, and before the body is read: a slow or busy
	// caller stands in nobody's way but its own.
	places := []*share{h.share}
	if r.ContentLength < 0 || r.ContentLength > largeBody {
		places = append(places, h.large)
	}
	for _, p := range places {
		give, ok := p.take(t.caller.Name)
		if !ok {
			return nil, fault.New(fault.Exhausted, "too many of your requests are in flight; try again")
		}
		t.held = append(t.held, give)
	}
	for k := range r.Header {
		if strings.HasPrefix(k, "Impersonate-") {
			return nil, fault.New(fault.Invalid, "impersonation is not served here")
		}
	}
	if r.Method != e.method {
		w.Header().Set("Allow", e.method)
		return nil, &unsupported{http.StatusMethodNotAllowed, "use " + e.method}
	}
	if n := len(r.Header.Get("X-Request-ID")); n > maxRequestID {
		return nil, fault.Newf(fault.Invalid, "X-Request-ID: has %d bytes, at most %d are sent back", n, maxRequestID)
	}
	if r.URL.RawQuery != "" {
		return nil, fault.New(fault.Invalid, "no query parameters are known here")
	}
	if e.method == http.MethodGet {
		return e.serve(h, t, nil)
	}
	if !authzen.IsJSON(r.Header.Get("Content-Type")) || r.Header.Get("Content-Encoding") != "" {
		return nil, &unsupported{http.StatusUnsupportedMediaType, "the body must be application/json"}
	}
	if r.ContentLength > maxBody {
		return nil, &unsupported{http.StatusRequestEntityTooLarge, "the body is over the limit"}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, fault.Wrap(fault.Invalid, "the body broke off", err)
	case len(body) > maxBody:
		return nil, &unsupported{http.StatusRequestEntityTooLarge, "the body is over the limit"}
	}
	answer, err := e.serve(h, t, body)
	if err == nil {
		t.body = body
	}
	return answer, err
}

// statuses are those of section 10.1.1, and of HTTP for the rest.
var statuses = map[fault.Kind]int{
	fault.Invalid: http.StatusBadRequest, fault.Unauthenticated: http.StatusUnauthorized, fault.Denied: http.StatusForbidden,
	fault.NotFound: http.StatusNotFound, fault.Conflict: http.StatusConflict, fault.Exhausted: http.StatusTooManyRequests,
	fault.Unavailable: http.StatusServiceUnavailable, fault.Internal: http.StatusInternalServerError,
}

// finish records and answers, in this order.
func (h *handler) finish(t *turn, w http.ResponseWriter, answer any, err error) {
	code, text := http.StatusOK, ""
	durability := audit.Buffered // a question changes nothing
	if err != nil {
		durability = audit.Durable
		code, text = statuses[fault.KindOf(err)], fault.Public(err)
		if own, ok := errors.AsType[*unsupported](err); ok {
			code, text = own.code, own.text
		}
		if code >= http.StatusInternalServerError {
			h.Log.Warn("question not answered", "path", t.ev.RequestURI, "audit_id", t.ev.AuditID, "error", err)
		}
		t.ev.ResponseStatus = &audit.Status{Status: "Failure", Message: text, Code: int32(code)}
	} else {
		t.ev.ResponseStatus = &audit.Status{Code: int32(code)}
	}
	var body []byte
	if err == nil {
		if body, err = json.Marshal(answer); err != nil { // answers are structs of strings, numbers and booleans
			code, text = http.StatusInternalServerError, fault.Public(nil)
			t.ev.ResponseStatus = &audit.Status{Status: "Failure", Message: text, Code: int32(code)}
		}
	}
	if rerr := h.record(t, body, durability); rerr != nil {
		h.Log.Error("question not recorded", "path", t.ev.RequestURI, "audit_id", t.ev.AuditID, "error", rerr)
		refuse(w, http.StatusServiceUnavailable, "the request cannot be recorded; nothing was decided")
		return
	}
	if err != nil {
		if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		if e, ok := limit.Of(err); ok {
			// 299 is a persistent warning (RFC 7234, section 5.5.7).
			w.Header().Set("Warning", "299 - "+strconv.Quote(e.Error()))
		}
		refuse(w, code, text)
		return
	}
	write(w, http.StatusOK, body)
}

// record writes what the policy wants of the request; out is the answer, if
// there is one.
func (h *handler) record(t *turn, out []byte, durability audit.Durability) error {
	known := t.ev.User.Username != ""
	d := h.AuditPolicy.Evaluate(&policy.Request{
		HasUser: known, User: t.ev.User.Username, Groups: t.ev.User.Groups, Verb: t.ev.Verb, Path: t.ev.RequestURI,
	})
	t.ev.Level = d.Level
	ctx := context.WithoutCancel(t.ctx)
	if known && d.Records(audit.StageRequestReceived) {
		if err := h.Recorder.Append(ctx, t.ev.Received(), durability); err != nil {
			return err
		}
	}
	if !d.Records(t.ev.Stage) {
		return nil
	}
	// A body that was not understood is not put on record.
	if d.Level.Rank() >= audit.LevelRequest.Rank() && len(t.body) > 0 {
		t.ev.RequestObject = t.body
	}
	if d.Level.Rank() >= audit.LevelRequestResponse.Rank() && len(out) > 0 {
		t.ev.ResponseObject = out
	}
	t.ev.StageTimestamp = audit.MicroTime{Time: h.Now()}
	return h.Recorder.Append(ctx, &t.ev, durability)
}

// refuse answers with a string, as the specification has errors.
func refuse(w http.ResponseWriter, code int, text string) {
	body, err := json.Marshal(text)
	if err != nil { // a string
		body = nil
	}
	write(w, code, body)
}

func write(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = w.Write(body) // a client that went away; the record is written
}

// The reviews whose creation is the permission to ask about others.
const (
	reviewsOfAccess = "accessreviews"
	reviewsOfWho    = "whocanreviews"
)

// mayAsk refuses a caller without the permission to create a review.
func (h *handler) mayAsk(t *turn, review string) error {
	allowed, reason, err := h.Permit(audit.WithNotes(t.ctx, &t.ev), t.caller, &authz.Request{
		ResourceRequest: true, Verb: "create", APIGroup: "access.gatehouse.dev", Resource: review,
	})
	if err != nil {
		return err
	}
	t.ev.Annotate(audit.AnnotationReason, reason)
	if !allowed {
		t.ev.Annotate(audit.AnnotationDecision, "forbid")
		return fault.Newf(fault.Denied, "user %q may ask about itself only: it cannot create %s.access.gatehouse.dev", t.caller.Name, review)
	}
	t.ev.Annotate(audit.AnnotationDecision, "allow")
	return nil
}

// isSelf reports whether a question is about the caller as it is: the name
// alone, because groups and properties that it claims are not its own.
func (t *turn) isSelf(e *authzen.Entity) bool {
	if len(e.Properties) > 0 {
		return false
	}
	s, err := authzen.SubjectOf(*e)
	return err == nil && s.Name != "" && s.Name == t.caller.Name
}

// self answers questions about the caller with all that is known of it.
type self struct {
	authzen.Policy
	t *turn
}

func (s self) Decide(ctx context.Context, q *authzen.Question) (bool, string, error) {
	if s.t.isSelf(&q.Asked.Subject) {
		c := s.t.caller
		q.Subject = access.Subject{Name: c.Name, UID: c.UID, Groups: c.Groups, Extra: c.Extra}
	}
	return s.Policy.Decide(ctx, q)
}

func (h *handler) evaluation(t *turn, body []byte) (any, error) {
	e, err := authzen.ParseEvaluation(body)
	if err != nil {
		return nil, err
	}
	return h.evaluate(t, authzen.Batch{Single: true, Items: []authzen.Item{{Evaluation: e}}})
}

func (h *handler) evaluations(t *turn, body []byte) (any, error) {
	batch, err := authzen.ParseBatch(body)
	if err != nil {
		return nil, err
	}
	return h.evaluate(t, batch)
}

func (h *handler) evaluate(t *turn, batch authzen.Batch) (any, error) {
	for i := range batch.Items {
		if batch.Items[i].Err == nil && !t.isSelf(&batch.Items[i].Subject) {
			if err := h.mayAsk(t, reviewsOfAccess); err != nil {
				return nil, err
			}
			break
		}
	}
	t.ev.Annotate(annotationQuestions, strconv.Itoa(len(batch.Items)))
	answer, err := authzen.Evaluate(t.ctx, self{h.Policy, t}, batch)
	if err != nil {
		return nil, err
	}
	if batch.Single {
		e := &batch.Items[0]
		t.ev.Annotate(annotationSubject, e.Subject.Type+"/"+e.Subject.ID)
		t.ev.Annotate(annotationQuestion, e.Action.Name+" "+e.Resource.Type+" "+e.Resource.ID)
		t.ev.Annotate(annotationAnswer, strconv.FormatBool(answer.Decision.Decision))
	}
	return answer, nil
}

// Annotations of a question: what was asked, and what was answered.
const (
	annotationQuestions = "review.gatehouse.dev/questions"
	annotationSubject   = "review.gatehouse.dev/subject"
	annotationQuestion  = "review.gatehouse.dev/question"
	annotationAnswer    = "review.gatehouse.dev/answer"
)

func (h *handler) searchSubjects(t *turn, body []byte) (any, error) {
	s, err := authzen.ParseSubjectSearch(body)
	if err != nil {
		return nil, err
	}
	if err := h.mayAsk(t, reviewsOfWho); err != nil {
		return nil, err
	}
	return h.Policy.SearchSubjects(t.ctx, &s)
}

func (h *handler) searchResources(t *turn, body []byte) (any, error) {
	s, err := authzen.ParseResourceSearch(body)
	if err != nil {
		return nil, err
	}
	// What policy names is told to those only who may ask about anybody.
	if err := h.mayAsk(t, reviewsOfAccess); err != nil {
		return nil, err
	}
	return h.Policy.SearchResources(t.ctx, &s)
}

func (h *handler) searchActions(t *turn, body []byte) (any, error) {
	s, err := authzen.ParseActionSearch(body)
	if err != nil {
		return nil, err
	}
	if err := h.mayAsk(t, reviewsOfAccess); err != nil {
		return nil, err
	}
	return h.Policy.SearchActions(t.ctx, &s)
}

func (h *handler) metadata(*turn, []byte) (any, error) {
	return authzen.MetadataFor(h.URL), nil
}
