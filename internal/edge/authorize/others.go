package authorize

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/authzen"
	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const (
	maxQuestions   = 8 << 20 // 10,000 questions of 800 bytes
	requestTimeout = 10 * time.Second
	inFlightOthers = 32
)

// others serves, over HTTPS, what is no door: probes without a credential, and
// AuthZEN and metrics for whoever has a client certificate of the local
// authority.
func (p *Point) others() http.Handler {
	local := p.Local()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", p.livez)
	mux.HandleFunc("GET /readyz", p.readyz)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || len(r.Header["Authorization"]) > 0 {
			refuse(w, http.StatusUnauthorized, "Unauthorized")
			return
		}
		if _, err := p.sites.Verify(r.Context(), r.TLS.PeerCertificates); err != nil {
			refuse(w, http.StatusUnauthorized, "Unauthorized")
			return
		}
		local.ServeHTTP(w, r)
	})
	return mux
}

// Local serves AuthZEN, metrics and probes on a unix socket: the mode of the
// socket says who may ask, and about anybody.
func (p *Point) Local() http.Handler {
	mux := http.NewServeMux()
	slots := make(chan struct{}, inFlightOthers)
	mux.HandleFunc("POST "+authzen.EvaluationPath, p.questions(slots, func(body []byte) (authzen.Batch, error) {
		e, err := authzen.ParseEvaluation(body)
		return authzen.Batch{Single: true, Items: []authzen.Item{{Evaluation: e}}}, err
	}))
	mux.HandleFunc("POST "+authzen.EvaluationsPath, p.questions(slots, authzen.ParseBatch))
	mux.HandleFunc("GET "+authzen.MetadataPath, p.metadata)
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.cfg.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", p.livez)
	mux.HandleFunc("GET /readyz", p.readyz)
	return mux
}

func (p *Point) livez(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "ok\n") // a prober that went away
}

// Ready returns an error while questions get no answer.
func (p *Point) Ready() error {
	_, err := p.cfg.Policy.Current()
	return errors.Join(err, p.cfg.Journal.Ready())
}

func (p *Point) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := p.Ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok\n") // a prober that went away
}

// metadata is the discovery document (AuthZEN 1.0, section 9): searches need
// all policy, which only the control plane has.
func (p *Point) metadata(w http.ResponseWriter, _ *http.Request) {
	m := authzen.MetadataFor(p.cfg.URL)
	m.SearchSubject, m.SearchResource, m.SearchAction = "", "", ""
	answer(w, m)
}

// decider answers AuthZEN questions by the policy of one moment.
type decider struct {
	*Point
	alone bool // the question has an event of its own
}

// Decide reads names as the site knows them.
func (d decider) Decide(ctx context.Context, q *authzen.Question) (allowed bool, reason string, err error) {
	in, err := d.policy()
	if err != nil {
		return false, "", err
	}
	q.Complete()
	r := q.Request
	r.User, r.UID, r.Groups, r.Extra = q.Subject.Name, q.Subject.UID, q.Subject.Groups, q.Subject.Extra
	r.Site, r.Time = d.cfg.Site, d.cfg.Now()
	if sitename.Reserved(r.User) {
		return false, "names of sites have no rights", nil
	}
	dec := access.DecideAtSite(in.Snapshot, &r)
	if d.alone {
		note(ctx, dec)
	}
	return dec.Allowed(), dec.Reason(), nil
}

// questions serves evaluations.
func (p *Point) questions(slots chan struct{}, parse func([]byte) (authzen.Batch, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			w.Header().Set("Retry-After", "1")
			refuse(w, http.StatusTooManyRequests, "too many requests are in flight; try again")
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		// A slow body must not keep the place for longer than an answer may.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(requestTimeout))
		if !authzen.IsJSON(r.Header.Get("Content-Type")) || r.Header.Get("Content-Encoding") != "" {
			refuse(w, http.StatusUnsupportedMediaType, "the body must be application/json")
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestions))
		if err != nil {
			refuse(w, http.StatusRequestEntityTooLarge, "the body is over the limit or broke off")
			return
		}
		ev := p.begin(w, r)
		batch, err := parse(body)
		var out authzen.Response
		if err == nil {
			out, err = authzen.Evaluate(audit.WithNotes(ctx, ev), decider{p, batch.Single}, batch)
		}
		ev.Annotate(annotationQuestions, strconv.Itoa(len(batch.Items)))
		code := http.StatusOK
		switch {
		case err != nil:
			code = http.StatusServiceUnavailable
			if fault.KindOf(err) == fault.Invalid {
				code = http.StatusBadRequest
			}
			ev.ResponseStatus = &audit.Status{Status: "Failure", Message: fault.Public(err), Code: int32(code)}
		case batch.Single:
			e := &batch.Items[0]
			ev.Annotate(annotationSubject, e.Subject.Type+"/"+e.Subject.ID)
			ev.Annotate(annotationQuestion, e.Action.Name+" "+e.Resource.Type+" "+e.Resource.ID)
			ev.Annotate(annotationAnswer, strconv.FormatBool(out.Decision.Decision))
		}
		ev.StageTimestamp = audit.MicroTime{Time: p.cfg.Now()}
		if rerr := (recorder{p}).Append(context.WithoutCancel(ctx), ev, audit.Buffered); rerr != nil {
			p.cfg.Log.Error("question not recorded", "audit_id", ev.AuditID, "error", rerr)
			refuse(w, http.StatusServiceUnavailable, "the request cannot be recorded; nothing was decided")
			return
		}
		if err != nil {
			refuse(w, code, fault.Public(err))
			return
		}
		answer(w, out)
	}
}

// Annotations of a question, as the control plane writes them.
const (
	annotationQuestions = "review.gatehouse.dev/questions"
	annotationSubject   = "review.gatehouse.dev/subject"
	annotationQuestion  = "review.gatehouse.dev/question"
	annotationAnswer    = "review.gatehouse.dev/answer"
)

const maxRequestID = 256

func (p *Point) begin(w http.ResponseWriter, r *http.Request) *audit.Event {
	now := audit.MicroTime{Time: p.cfg.Now()}
	ev := &audit.Event{
		Level: audit.LevelMetadata, AuditID: audit.NewID(), Stage: audit.StageResponseComplete,
		RequestURI: r.URL.Path, Verb: "create", UserAgent: r.UserAgent(), RequestReceivedTimestamp: now,
		User:           audit.UserInfo{Username: sitename.SiteUserPrefix + p.cfg.Site, Groups: []string{sitename.SitesGroup}},
		ResponseStatus: &audit.Status{Code: http.StatusOK},
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		ev.SourceIPs = []string{host}
	}
	w.Header().Set("Audit-Id", ev.AuditID)
	// Section 10.1.2 of AuthZEN: the caller's own id comes back.
	if id := r.Header.Get("X-Request-ID"); id != "" && len(id) <= maxRequestID && !strings.ContainsAny(id, "\r\n") {
		w.Header().Set("X-Request-ID", id)
	}
	return ev
}

// answer and refuse answer as AuthZEN does: errors are strings.
func answer(w http.ResponseWriter, v any) { write(w, http.StatusOK, v) }

func refuse(w http.ResponseWriter, code int, text string) { write(w, code, text) }

func write(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // strings, numbers and booleans
		code, body = http.StatusInternalServerError, []byte(`""`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = w.Write(body) // a client that went away; the record is written
}
