package server

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/declared"
	"github.com/gatehouse-dev/gatehouse/internal/audit/export"
	"github.com/gatehouse-dev/gatehouse/internal/audit/index"
	"github.com/gatehouse-dev/gatehouse/internal/audit/query"
	"github.com/gatehouse-dev/gatehouse/internal/audit/retention"
	"github.com/gatehouse-dev/gatehouse/internal/audit/tiles"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
	"github.com/gatehouse-dev/gatehouse/internal/audit/witness"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// pathEvents is where this replica's record is asked, newest first. Whoever may
// not read all of it gives a domain or a namespace and sees only that.
const pathEvents = "/audit/events"

const (
	// defaultEvents and maxEvents bound an answer.
	defaultEvents = 100
	maxEvents     = 10_000
	// questionTimeout ends a question that no index helps.
	questionTimeout = 30 * time.Second
)

// found is one line of an answer.
type found struct {
	Record uint64          `json:"record"`
	At     time.Time       `json:"at"`
	Site   string          `json:"site,omitempty"`
	Event  json.RawMessage `json:"event"`
}

func (r *record) serveEvents(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	f, domain, err := filterOf(req.URL.Query())
	if err == nil {
		f.Allow, err = r.sees(req.Context(), f, domain)
	}
	if err != nil {
		r.answer(w, nil, err)
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), questionTimeout)
	defer cancel()
	out := bufio.NewWriter(w)
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("Cache-Control", "no-store")
	r.warnOfDropped(w, f)
	begun := false
	err = index.Run(ctx, r.indexed, f, func(m query.Match) error {
		line, err := json.Marshal(found{m.Index, m.At, m.Site, m.Raw})
		if err != nil {
			return err
		}
		begun = true
		_, err = out.Write(append(line, '\n'))
		return err
	})
	switch {
	case err == nil:
		if !begun {
			w.WriteHeader(http.StatusOK) // or the frame sends none of our headers
		}
		if err := out.Flush(); err != nil {
			r.logger.Debug("answer cut off", "error", err)
		}
	case !begun:
		r.answer(w, nil, err)
	default:
		r.logger.Warn("question about the record not answered to its end", "error", err)
		panic(http.ErrAbortHandler) // a cut answer must not look whole
	}
}

// warningCode is a persistent warning (RFC 7234, section 5.5.7), as the frame
// sends them.
const warningCode = 299

// cuts remembers what retention dropped until it drops more.
type cuts struct {
	mu    sync.Mutex // guards what follows
	known bool
	sum   uint64 // of what was dropped since the start
	held  []query.Cut
}

func (c *cuts) get(dir string, dropped map[retention.Class]uint64) ([]query.Cut, error) {
	var sum uint64
	for _, n := range dropped {
		sum += n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known || c.sum != sum {
		held, err := query.Cuts(vfs.OS{}, dir)
		if err != nil {
			return nil, err
		}
		c.known, c.sum, c.held = true, sum, held
	}
	return c.held, nil
}

// warnOfDropped tells a caller that an answer may lack what retention took, as
// a warning that Kubernetes clients show. How much of the whole record that is
// concerns only who may read it.
func (r *record) warnOfDropped(w http.ResponseWriter, f query.Filter) {
	known, err := r.cuts.get(r.dir, r.retention.Dropped())
	if err != nil {
		r.logger.Warn("what retention dropped cannot be counted", "error", err)
		return
	}
	text := query.Warning(f.Missing(known))
	if text == "" {
		return
	}
	if f.Allow != nil {
		text = "records of the time asked about were dropped by retention"
	}
	if header, err := utilnet.NewWarningHeader(warningCode, "-", text); err == nil {
		w.Header().Add("Warning", header)
	}
}

// pathExport is where records of this replica are had with their proofs, by
// the same question and under the same rules as pathEvents.
const pathExport = "/audit/export"

func (r *record) serveExport(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	f, domain, err := filterOf(req.URL.Query())
	if err == nil {
		f.Allow, err = r.sees(req.Context(), f, domain)
	}
	var src *tiles.Source
	if err == nil {
		r.awaitProof(req.Context(), w)
		src, err = openTiles(r.log)
	}
	var signed [][]byte
	if err == nil {
		signed, err = witness.Kept(vfs.OS{}, r.dir)
	}
	if err != nil {
		r.answer(w, nil, err)
		return
	}
	r.warnOfDropped(w, f)
	asked := map[string]string{}
	for name, values := range req.URL.Query() {
		asked[name] = values[0]
	}
	ctx, cancel := context.WithTimeout(req.Context(), questionTimeout)
	defer cancel()
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("Cache-Control", "no-store")
	out := &begun{to: w}
	_, err = export.Write(ctx, out, src, signed, f, asked, r.now(), func(ctx context.Context, f query.Filter, emit func(query.Match) error) error {
		return index.Run(ctx, r.indexed, f, emit)
	})
	switch {
	case err == nil:
	case !out.any:
		r.answer(w, nil, err)
	default:
		// Without its last line the bundle shows that it was cut off.
		r.logger.Warn("export of the record not answered to its end", "error", err)
		panic(http.ErrAbortHandler)
	}
}

// proofWithin is how long an export waits for the checkpoint of the newest
// records, which takes about a second.
const proofWithin = 5 * time.Second

// awaitProof waits until everything on record has its proof, and says so where
// it does not come to that.
func (r *record) awaitProof(ctx context.Context, w http.ResponseWriter) {
	ctx, cancel := context.WithTimeout(ctx, proofWithin)
	defer cancel()
	if r.log.WaitSigned(ctx, r.log.Stats().Size) == nil {
		return
	}
	if header, err := utilnet.NewWarningHeader(warningCode, "-", "the newest records are under no checkpoint yet and are left out"); err == nil {
		w.Header().Add("Warning", header)
	}
}

// begun remembers whether anything was written.
type begun struct {
	to  io.Writer
	any bool
}

func (b *begun) Write(p []byte) (int, error) {
	b.any = true
	return b.to.Write(p)
}

// sees returns what a caller's question lets through, nil for everything.
func (r *record) sees(ctx context.Context, f query.Filter, domain string) (func(string, *audit.Event) bool, error) {
	user, ok := request.UserFrom(ctx)
	if !ok {
		return nil, fault.New(fault.Unauthenticated, "no caller")
	}
	by := resource.Caller{Name: user.GetName(), UID: user.GetUID(), Groups: user.GetGroups(), Extra: user.GetExtra()}
	scope := &declared.Scope{Domain: domain}
	if domain == "" {
		err := r.mayRead(ctx, by, nil)
		if fault.KindOf(err) != fault.Denied || f.Namespace == "" {
			return nil, err
		}
		scope = &declared.Scope{Namespaces: []string{f.Namespace}}
	}
	if err := r.mayRead(ctx, by, scope); err != nil {
		return nil, err
	}
	return r.tenants.Allow(*scope), nil
}

// filterOf reads a question. Unknown and repeated parameters are refused: one
// that is not understood must not make the answer wider.
func filterOf(q url.Values) (f query.Filter, domain string, err error) {
	f.Limit = defaultEvents
	text := map[string]*string{
		"user": &f.User, "group": &f.Group, "credential": &f.Credential, "verb": &f.Verb, "resource": &f.Resource, "namespace": &f.Namespace,
		"name": &f.Name, "decision": &f.Decision, "site": &f.Site, "auditID": &f.AuditID, "domain": &domain,
	}
	for name, values := range q {
		if len(values) != 1 {
			return f, "", fault.Newf(fault.Invalid, "%s: given more than once", name)
		}
		value := values[0]
		if to, ok := text[name]; ok {
			*to = value
			continue
		}
		switch name {
		case "apiGroup":
			f.APIGroup = &value
		case "stage":
			f.Stage = audit.Stage(value)
		case "since":
			f.Since, err = time.Parse(time.RFC3339Nano, value)
		case "until":
			f.Until, err = time.Parse(time.RFC3339Nano, value)
		case "limit":
			if f.Limit, err = strconv.Atoi(value); err == nil && (f.Limit < 1 || f.Limit > maxEvents) {
				err = strconv.ErrRange
			}
		default:
			return f, "", fault.Newf(fault.Invalid, "%q is not a parameter", name)
		}
		if err != nil {
			return f, "", fault.Newf(fault.Invalid, "%s: %q is not valid", name, value)
		}
	}
	return f, domain, nil
}
