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
	// maxReading is how many requests are read at once: decoded, one may be
	// many times its size.
	maxReading  = 8
	bodyTimeout = 30 * time.Second

	mediaProtobuf = "application/x-protobuf"
	mediaJSON     = "application/json"
)

// Door takes requests. It is safe for concurrent use; [New] makes one.
type Door struct {
	entrance *entrance.Entrance
	slots    chan struct{}
}

// New returns a door.
func New(e *entrance.Entrance) *Door { return &Door{e, make(chan struct{}, maxReading)} }

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
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	default:
		fail(w, r, http.StatusTooManyRequests, fault.New(fault.Exhausted, "too many requests are being read; try again"))
		return
	}
	body, code, err := read(w, r)
	if err != nil {
		visit.Refuse(r, err)
		fail(w, r, code, err)
		return
	}
	var in collectorv1.ExportLogsServiceRequest
	if media == mediaJSON {
		err = decodeJSON(body, &in)
	} else {
		err = proto.Unmarshal(body, &in)
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
	)
	for _, rl := range in.GetResourceLogs() {
		for _, sl := range rl.GetScopeLogs() {
			for _, record := range sl.GetLogRecords() {
				if place++; place > audit.MaxBatchEvents {
					return nil, fault.Newf(fault.Invalid, "more than %d log records", audit.MaxBatchEvents)
				}
				e, no := entryOf(rl.GetResource(), sl.GetScope(), record)
				if no != "" {
					rejected, why = rejected+1, no
					continue
				}
				if e.ID = id(place); e.At.IsZero() {
					// Without a time two that are alike may well be two.
					e.ID = uuid.NewString()
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
