package otlp

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
	"github.com/gatehouse-dev/gatehouse/internal/collect/entrance"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const (
	kind = auditapi.AuditSourceOTLP

	// maxBody bounds a request, compressed and not.
	maxBody = 4 << 20
	// maxReading and maxReadingOfSite are how many requests are read at once:
	// one site that sends slowly must not shut out the others.
	maxReading       = 64
	maxReadingOfSite = 8
	// maxDecoding is how many are decoded and recorded at once: decoded, one may
	// be many times its size.
	maxDecoding = 4
	// maxRecorded bounds what is recorded of a request, in bytes of JSON: every
	// record repeats its resource.
	maxRecorded = 32 << 20
	bodyTimeout = 30 * time.Second

	mediaProtobuf = "application/x-protobuf"
	mediaJSON     = "application/json"
)

// Door takes requests. It is safe for concurrent use; [New] makes one.
type Door struct {
	entrance *entrance.Entrance
	decoding chan struct{}

	mu      sync.Mutex // guards the rest
	all     int
	reading map[string]int // by site
}

// New returns a door.
func New(e *entrance.Entrance) *Door {
	return &Door{entrance: e, decoding: make(chan struct{}, maxDecoding), reading: map[string]int{}}
}

// enter takes a place to read.
func (d *Door) enter(site string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all >= maxReading || d.reading[site] >= maxReadingOfSite {
		return false
	}
	d.all++
	d.reading[site]++
	return true
}

func (d *Door) leave(site string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all--
	if d.reading[site]--; d.reading[site] == 0 {
		delete(d.reading, site)
	}
}

// Serve answers an export for a site, whose name stands in the path.
func (d *Door) Serve(w http.ResponseWriter, r *http.Request, site string) {
	visit, err := d.entrance.Open(r, kind, site)
	if err != nil {
		fail(w, r, entrance.Code(err), err)
		return
	}
	defer visit.Close()
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		fail(w, r, http.StatusMethodNotAllowed, fault.New(fault.Invalid, "logs are posted"))
		return
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != mediaProtobuf && media != mediaJSON {
		fail(w, r, http.StatusUnsupportedMediaType, fault.New(fault.Invalid, "the body must be "+mediaProtobuf+" or "+mediaJSON))
		return
	}
	if !d.enter(site) {
		fail(w, r, http.StatusTooManyRequests, fault.New(fault.Exhausted, "too many requests are being read; try again"))
		return
	}
	defer d.leave(site)
	body, code, err := read(w, r)
	if err != nil {
		visit.Refuse(r, err)
		fail(w, r, code, err)
		return
	}
	select {
	case d.decoding <- struct{}{}:
		defer func() { <-d.decoding }()
	case <-r.Context().Done():
		return
	}
	var in collectorv1.ExportLogsServiceRequest
	if media == mediaJSON {
		err = decodeJSON(body, &in)
	} else {
		err = decodeProtobuf(body, &in)
	}
	if err != nil {
		err = fault.New(fault.Invalid, "the body is not an ExportLogsServiceRequest")
		visit.Refuse(r, err)
		fail(w, r, http.StatusBadRequest, err)
		return
	}
	answer, err := d.take(r.Context(), visit, &in, identity(body))
	if err != nil {
		visit.Refuse(r, err)
		fail(w, r, entrance.Code(err), err)
		return
	}
	write(w, media, http.StatusOK, answer)
}

// take records what it can of a request and says what it cannot. It does so
// after everything that it could is on disk.
func (d *Door) take(ctx context.Context, visit *entrance.Visit, in *collectorv1.ExportLogsServiceRequest, id func(int) string) (*collectorv1.ExportLogsServiceResponse, error) {
	var (
		entries  []*collect.Entry
		rejected int64
		why      rejection
		place    int
		size     int
	)
	for _, rl := range in.GetResourceLogs() {
		from := originOf(rl.GetResource())
		for _, sl := range rl.GetScopeLogs() {
			for _, record := range sl.GetLogRecords() {
				if place++; place > audit.MaxBatchEvents {
					return nil, fault.Newf(fault.Invalid, "more than %d log records", audit.MaxBatchEvents)
				}
				e, no := entryOf(from, sl.GetScope(), record)
				if no != "" {
					rejected, why = rejected+1, no
					continue
				}
				if e.ID = id(place); e.At.IsZero() {
					// Without a time two that are alike may well be two.
					e.ID = uuid.NewString()
				}
				if size += len(e.Body); size > maxRecorded {
					return nil, fault.Newf(fault.Invalid, "the records of one request, each with its resource, take more than %d bytes", maxRecorded)
				}
				entries = append(entries, e)
			}
		}
	}
	// All of a request, or nothing.
	if err := visit.Record(ctx, entries); err != nil {
		return nil, err
	}
	out := &collectorv1.ExportLogsServiceResponse{}
	if rejected > 0 {
		out.PartialSuccess = &collectorv1.ExportLogsPartialSuccess{RejectedLogRecords: rejected, ErrorMessage: string(why)}
	}
	return out, nil
}

// read returns the body, unpacked. Both of its sizes are bounded before
// anything is made of it.
func read(w http.ResponseWriter, r *http.Request) ([]byte, int, error) {
	tooLarge := fault.Newf(fault.Invalid, "the body is over %d bytes", maxBody)
	if r.ContentLength > maxBody {
		return nil, http.StatusRequestEntityTooLarge, tooLarge
	}
	// An error says that there is no connection, so that nothing can hang on it.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	var in io.Reader = http.MaxBytesReader(w, r.Body, maxBody)
	switch r.Header.Get("Content-Encoding") {
	case "", "identity":
	case "gzip":
		unpacked, err := gzip.NewReader(in)
		if err != nil {
			return nil, http.StatusBadRequest, fault.New(fault.Invalid, "the body is not gzip")
		}
		in = unpacked
	default:
		return nil, http.StatusUnsupportedMediaType, fault.New(fault.Invalid, "Content-Encoding must be gzip or none")
	}
	body, err := io.ReadAll(io.LimitReader(in, maxBody+1))
	if _, over := errors.AsType[*http.MaxBytesError](err); over || len(body) > maxBody {
		return nil, http.StatusRequestEntityTooLarge, tooLarge
	}
	if err != nil {
		return nil, http.StatusBadRequest, fault.Wrap(fault.Invalid, "the body broke off or is not gzip", err)
	}
	return body, 0, nil
}

// write answers in the encoding of the request, as OTLP wants it.
func write(w http.ResponseWriter, media string, code int, m proto.Message) {
	var body []byte
	var err error
	if media == mediaJSON {
		body, err = protojson.Marshal(m)
	} else {
		media = mediaProtobuf
		body, err = proto.Marshal(m)
	}
	if err != nil { // our own message
		code, body = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(body) // the sender may be gone; it sends again
}

// statusCodes are the gRPC codes behind the HTTP ones.
var statusCodes = map[int]codes.Code{
	http.StatusUnauthorized: codes.Unauthenticated, http.StatusForbidden: codes.PermissionDenied, http.StatusTooManyRequests: codes.ResourceExhausted,
	http.StatusServiceUnavailable: codes.Unavailable, http.StatusInternalServerError: codes.Internal,
}

// fail answers with a google.rpc.Status. Only 429, 502, 503 and 504 make a
// sender try again.
func fail(w http.ResponseWriter, r *http.Request, code int, err error) {
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close") // the body is not read to its end
	}
	media, _, merr := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if merr != nil {
		media = mediaJSON
	}
	grpc, ok := statusCodes[code]
	if !ok {
		grpc = codes.InvalidArgument
	}
	write(w, media, code, status.New(grpc, entrance.Public(err)).Proto())
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
