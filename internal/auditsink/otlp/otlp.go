// Package otlp delivers events as OpenTelemetry logs: OTLP/HTTP with JSON
// encoding, one log record an event, whose body is the event as JSON and whose
// attributes are what one searches by.
//
// It owns: the post. It refuses: retries, which are the runner's, and records
// that the receiver rejects for good: those are reported and passed over,
// because the specification forbids sending them again.
package otlp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
)

// maxAnswer bounds what is read of a receiver's answer.
const maxAnswer = 64 << 10

// Severity numbers of the OTLP data model.
const (
	severityInfo = 9
	severityWarn = 13
)

// Config describes the receiver. Everything is required.
type Config struct {
	URL    string
	Client *http.Client
	// Log is the id of the log, Host the name of this replica.
	Log, Host string
	// Rejected is told of records that the receiver did not want.
	Rejected func(count int64, why string)
}

// Target is a sink.Target.
type Target struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Target, error) {
	if cfg.URL == "" || cfg.Client == nil || cfg.Log == "" || cfg.Rejected == nil {
		return nil, errors.New("audit otlp: incomplete configuration")
	}
	return &Target{cfg}, nil
}

// partial is the answer (opentelemetry.proto.collector.logs.v1).
type partial struct {
	PartialSuccess struct {
		RejectedLogRecords json.RawMessage `json:"rejectedLogRecords"`
		ErrorMessage       string          `json:"errorMessage"`
	} `json:"partialSuccess"`
}

// Deliver implements sink.Target. Only 200 counts as taken.
func (t *Target) Deliver(ctx context.Context, batch []sink.Event) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.cfg.URL, bytes.NewReader(t.encode(batch)))
	if err != nil {
		return fmt.Errorf("audit otlp: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := t.cfg.Client.Do(req)
	if err != nil {
		return fmt.Errorf("audit otlp: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("audit otlp: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("audit otlp: receiver answered %d", resp.StatusCode)
	}
	// An answer that is no JSON rejects nothing.
	var p partial
	if json.Unmarshal(answer, &p) == nil {
		// 64-bit numbers may come as strings in protobuf's JSON.
		if n, err := strconv.ParseInt(string(bytes.Trim(p.PartialSuccess.RejectedLogRecords, `"`)), 10, 64); err == nil && n > 0 {
			t.cfg.Rejected(n, p.PartialSuccess.ErrorMessage)
		}
	}
	return nil
}

// encode writes an ExportLogsServiceRequest.
func (t *Target) encode(batch []sink.Event) []byte {
	b := []byte(`{"resourceLogs":[{"resource":{"attributes":[`)
	b = attribute(b, "service.name", "gatehouse")
	b = append(b, ',')
	b = attribute(b, "service.instance.id", t.cfg.Log)
	if t.cfg.Host != "" {
		b = append(b, ',')
		b = attribute(b, "host.name", t.cfg.Host)
	}
	b = append(b, `]},"scopeLogs":[{"scope":{"name":"audit.k8s.io/v1"},"logRecords":[`...)
	for i, e := range batch {
		if i > 0 {
			b = append(b, ',')
		}
		b = record(b, e)
	}
	return append(b, "]}]}]}"...)
}

// record appends one LogRecord.
func record(b []byte, e sink.Event) []byte {
	at := e.StageTimestamp.Time
	if at.IsZero() {
		at = e.At
	}
	b = append(b, `{"timeUnixNano":"`...)
	b = strconv.AppendInt(b, at.UnixNano(), 10)
	b = append(b, `","observedTimeUnixNano":"`...)
	b = strconv.AppendInt(b, e.At.UnixNano(), 10)
	if d := e.Decision(); d != "" && d != "allow" {
		b = append(b, `","severityNumber":`+strconv.Itoa(severityWarn)+`,"severityText":"WARN"`...)
	} else {
		b = append(b, `","severityNumber":`+strconv.Itoa(severityInfo)+`,"severityText":"INFO"`...)
	}
	b = append(b, `,"eventName":"audit.k8s.io/v1","body":{"stringValue":`...)
	b = audit.AppendString(b, string(e.Annotated().AppendJSON(nil)))
	b = append(b, `},"attributes":[`...)
	b = attribute(b, "audit.id", e.AuditID)
	for _, a := range [][2]string{
		{"audit.record", strconv.FormatUint(e.Index, 10)}, {"audit.site", e.Site}, {"audit.stage", string(e.Stage)},
		{"audit.verb", e.Verb}, {"user.name", e.User.Username}, {"audit.credential", e.Credential()}, {"audit.decision", e.Decision()},
		{"k8s.namespace.name", namespaceOf(e.Event)},
	} {
		if a[1] != "" {
			b = append(b, ',')
			b = attribute(b, a[0], a[1])
		}
	}
	return append(b, "]}"...)
}

func namespaceOf(e *audit.Event) string {
	if e.ObjectRef == nil {
		return ""
	}
	return e.ObjectRef.Namespace
}

func attribute(b []byte, key, value string) []byte {
	b = append(b, `{"key":`...)
	b = audit.AppendString(b, key)
	b = append(b, `,"value":{"stringValue":`...)
	b = audit.AppendString(b, value)
	return append(b, "}}"...)
}
