// Package entrance is what the HTTP doors of collectors have in common: who
// comes in, how many at once, how a refusal is answered and recorded, and how
// entries get on record.
//
// It owns: [Entrance] and [Visit]. It refuses: formats of bodies, which belong
// to the doors themselves.
//
// Start at [Entrance.Open].
package entrance

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"hash/fnv"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
	"github.com/gatehouse-dev/gatehouse/internal/collect/marks"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Bounds of what is taken in at once, of each kind: connections that stay open
// must not keep out uploads that end. Each visit holds a batch or two.
const (
	maxVisits       = 256
	maxVisitsOfSite = 64
	maxVisitsOfOne  = 4 // of a source with a certificate of its own
	appendTimeout   = 30 * time.Second
)

// Config is what an entrance needs; everything is required.
type Config struct {
	Sources   *collect.Sources
	Recorder  audit.Recorder
	Collected audit.CollectedRecorder
	IDs       *collect.IDs
	// Marks remembers what is on record of numbered series.
	Marks *marks.Marks
	// Count is told how many entries of a site were recorded, and how many
	// came again.
	Count func(site string, kind auditapi.AuditSourceKind, recorded, duplicates int)
	// Stop ends when the server does; long visits then end too.
	Stop context.Context
	Now  func() time.Time
	Log  *slog.Logger
}

// Entrance lets writers in. It is safe for concurrent use.
type Entrance struct {
	Config

	mu   sync.Mutex // guards held
	held map[string]int
}

// New checks the configuration.
func New(c Config) (*Entrance, error) {
	if c.Sources == nil || c.Recorder == nil || c.Collected == nil || c.IDs == nil || c.Marks == nil || c.Count == nil || c.Stop == nil || c.Now == nil || c.Log == nil {
		return nil, errors.New("collect entrance: incomplete configuration")
	}
	return &Entrance{Config: c, held: map[string]int{}}, nil
}

// A Visit is a writer that may write now.
type Visit struct {
	collect.Writer
	Peer collect.Peer

	e     *Entrance
	kind  auditapi.AuditSourceKind
	peer  []*x509.Certificate
	keys  []string
	trail *marks.Trail
}

// Open proves who calls and that it may write in this way, at the site that it
// names. The caller closes the visit. An error is of package fault, and its
// refusal is on record.
func (e *Entrance) Open(r *http.Request, kind auditapi.AuditSourceKind, site string) (*Visit, error) {
	var peer []*x509.Certificate
	if r.TLS != nil {
		peer = r.TLS.PeerCertificates
	}
	v := &Visit{e: e, kind: kind, peer: peer, trail: e.Marks.Begin(), Peer: collect.Peer{Address: hostOf(r.RemoteAddr), Agent: r.UserAgent()}}
	var err error
	switch {
	case len(r.Header["Authorization"]) > 0:
		// A writer is recognised by its certificate and by nothing else.
		err = fault.New(fault.Unauthenticated, "a token came with a certificate")
	default:
		v.Writer, err = e.Sources.Admit(r.Context(), peer, kind)
	}
	if err == nil && impersonates(r.Header) {
		err = fault.New(fault.Denied, "a writer cannot impersonate")
	}
	if err == nil && v.Site != site {
		err = fault.Newf(fault.Denied, "%q may use only the doors of its own site", v.User())
	}
	if err == nil {
		err = e.enter(v)
	}
	if err != nil {
		e.refused(r, v.Writer, err)
		return nil, err
	}
	return v, nil
}

// Connect is Open for a connection that is not HTTP: its site is the one that
// the certificate names.
func (e *Entrance) Connect(ctx context.Context, peer []*x509.Certificate, address string, kind auditapi.AuditSourceKind) (*Visit, error) {
	v := &Visit{e: e, kind: kind, peer: peer, trail: e.Marks.Begin(), Peer: collect.Peer{Address: hostOf(address)}}
	var err error
	if v.Writer, err = e.Sources.Admit(ctx, peer, kind); err == nil {
		err = e.enter(v)
	}
	if err != nil {
		e.note(ctx, v.Writer, v.Peer, "connect", strings.ToLower(string(kind)), err)
		return nil, err
	}
	return v, nil
}

// Broken records why a connection that is not HTTP was ended.
func (v *Visit) Broken(err error) {
	v.e.note(context.Background(), v.Writer, v.Peer, "connect", strings.ToLower(string(v.kind)), err)
}

func impersonates(h http.Header) bool {
	for k := range h {
		if strings.HasPrefix(k, "Impersonate-") {
			return true
		}
	}
	return false
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// enter takes a place.
func (e *Entrance) enter(v *Visit) error {
	kind := string(v.kind)
	bounds := map[string]int{kind: maxVisits, kind + " of site " + v.Site: maxVisitsOfSite}
	if v.Source != "" {
		bounds["source "+v.Source] = maxVisitsOfOne
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	full := false
	for key, bound := range bounds {
		full = full || e.held[key] >= bound
	}
	if full {
		return fault.New(fault.Exhausted, "too many uploads are open; try again")
	}
	for key := range bounds {
		e.held[key]++
		v.keys = append(v.keys, key)
	}
	return nil
}

// Close gives the place back.
func (v *Visit) Close() {
	v.e.mu.Lock()
	defer v.e.mu.Unlock()
	for _, key := range v.keys {
		if v.e.held[key]--; v.e.held[key] == 0 {
			delete(v.e.held, key)
		}
	}
}

// Record puts entries on record and returns when they are on disk. It asks
// again whether the writer may write: a ban ends an upload that is under way.
func (v *Visit) Record(ctx context.Context, entries []*collect.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	// A client that goes away must not take along what it sent.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	now := v.e.Now()
	if _, err := v.e.Sources.Admit(ctx, v.peer, v.kind); err != nil {
		return err
	}
	events := make([]audit.Event, 0, len(entries))
	noted := make([]marks.Mark, 0, len(entries))
	newest := map[string]time.Time{}
	known := 0
	for _, entry := range entries {
		event := v.Event(v.e.IDs, entry, v.Peer, now)
		host := event.ObjectRef.Name
		if at, ok := newest[host]; !ok || entry.At.After(at) {
			newest[host] = entry.At
		}
		if entry.Series != "" {
			mark := v.mark(entry, &event)
			if v.trail.Known(ctx, mark) {
				known++
				continue
			}
			noted = append(noted, mark)
		}
		events = append(events, event)
	}
	var result audit.BatchResult
	if len(events) > 0 {
		var err error
		if result, err = v.e.Collected.AppendCollected(ctx, v.Site, events); err != nil {
			return err
		}
		v.trail.Add(noted)
	}
	v.e.Count(v.Site, v.kind, result.Recorded, result.Duplicates+known)
	for host, at := range newest {
		v.e.Sources.Heard(v.Writer, v.kind, host, at)
	}
	return nil
}

// mark is what is remembered of an entry. Its print comes from the auditID, in
// which all of the entry's place is, and a key of ours.
func (v *Visit) mark(entry *collect.Entry, event *audit.Event) marks.Mark {
	host := ""
	if v.Source == "" {
		host = entry.Host
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(event.AuditID)) // it never fails
	return marks.Mark{Series: v.e.IDs.ID("series", string(v.kind), v.Site, v.Source, host, entry.Series), Number: entry.Number, Print: max(1, sum.Sum32())}
}

// Refuse records that a visit ended in a refusal.
func (v *Visit) Refuse(r *http.Request, err error) {
	v.e.refused(r, v.Writer, err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), appendTimeout)
	defer cancel()
	v.trail.Broken(ctx)
}

// refused records a refusal. A full house is counted by the metrics of the
// server and not recorded: under load the disk must not be what all wait for.
func (e *Entrance) refused(r *http.Request, w collect.Writer, err error) {
	e.note(r.Context(), w, collect.Peer{Address: hostOf(r.RemoteAddr), Agent: r.UserAgent()}, strings.ToLower(r.Method), r.URL.RequestURI(), err)
}

func (e *Entrance) note(ctx context.Context, w collect.Writer, from collect.Peer, verb, uri string, err error) {
	if fault.KindOf(err) == fault.Exhausted {
		return
	}
	code := int32(Code(err))
	now := audit.MicroTime{Time: e.Now()}
	ev := &audit.Event{
		Level: audit.LevelMetadata, AuditID: uuid.NewString(), Stage: audit.StageResponseComplete,
		RequestURI: uri, Verb: verb, SourceIPs: []string{from.Address}, UserAgent: collect.Clip(from.Agent, 256),
		RequestReceivedTimestamp: now, StageTimestamp: now,
		ResponseStatus: &audit.Status{Status: metav1.StatusFailure, Code: code, Reason: string(reasons[fault.KindOf(err)]), Message: fault.Public(err)},
	}
	if w.Credential != "" {
		ev.User = audit.UserInfo{Username: w.User(), Groups: []string{w.Group()}}
		ev.Annotate(audit.AnnotationCredential, w.Credential)
	}
	text := fault.Public(err)
	if refusal, ok := errors.AsType[*authn.Refusal](err); ok {
		text = refusal.Error() // the record says more than the caller learns
	}
	ev.Annotate(audit.AnnotationReason, text)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	if err := e.Recorder.Append(ctx, ev, audit.Durable); err != nil {
		e.Log.Error("refused upload not recorded", "uri", uri, "error", err)
	}
}

// codes and reasons are how kinds of errors show in HTTP.
var (
	codes = map[fault.Kind]int{
		fault.Internal: http.StatusInternalServerError, fault.Invalid: http.StatusBadRequest, fault.Unauthenticated: http.StatusUnauthorized,
		fault.Denied: http.StatusForbidden, fault.NotFound: http.StatusNotFound, fault.Conflict: http.StatusConflict,
		fault.Exhausted: http.StatusTooManyRequests, fault.Unavailable: http.StatusServiceUnavailable,
	}
	reasons = map[fault.Kind]metav1.StatusReason{
		fault.Internal: metav1.StatusReasonInternalError, fault.Invalid: metav1.StatusReasonBadRequest, fault.Unauthenticated: metav1.StatusReasonUnauthorized,
		fault.Denied: metav1.StatusReasonForbidden, fault.NotFound: metav1.StatusReasonNotFound, fault.Conflict: metav1.StatusReasonConflict,
		fault.Exhausted: metav1.StatusReasonTooManyRequests, fault.Unavailable: metav1.StatusReasonServiceUnavailable,
	}
)

// Code is the HTTP status of an error.
func Code(err error) int { return codes[fault.KindOf(err)] }

// Public is the text that a caller reads of an error.
func Public(err error) string {
	if fault.KindOf(err) == fault.Unauthenticated {
		return "Unauthorized" // who is nobody learns nothing
	}
	return fault.Public(err)
}

// Answer writes an error as a Kubernetes Status.
func Answer(w http.ResponseWriter, r *http.Request, err error) {
	code := Code(err)
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close") // the body is not read to its end
	}
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{ // the caller may be gone
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
		Message: Public(err), Reason: reasons[fault.KindOf(err)], Code: int32(code),
	})
}
