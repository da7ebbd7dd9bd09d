// Package syslog delivers events as RFC 5424 messages over TLS (RFC 5425).
//
// Each message is the event as JSON with facility "log audit" (13) and severity
// informational, for a denial warning; its structured data says log, record
// and site, so that a receiver can sort and deduplicate without reading JSON.
//
// The protocol acknowledges nothing. A batch counts as delivered when the
// system took it, but is kept until the next one went through the same
// connection; when a connection broke, both are sent.
//
// It owns: the messages and the connection. It refuses: UDP, and TCP without
// TLS.
package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
)

// enterprise is the number after @ in our structured data: 32473 is what RFC
// 5612 sets aside for documentation, since the project has none of its own.
const enterprise = "32473"

const (
	facility      = 13 // log audit
	severityWarn  = 4
	severityInfo  = 6
	timestamp     = "2006-01-02T15:04:05.000000Z07:00" // RFC 5424, section 6.2.3
	maxHeaderName = 255
)

// Config describes the receiver. Everything is required.
type Config struct {
	Address string // host:port
	TLS     *tls.Config
	Dialer  *net.Dialer
	// Log is the id of the log, Host the name of this replica.
	Log, Host string
	// Unconfirmed outlives the target: what the last one sent and nobody knows
	// the fate of.
	Unconfirmed *Unconfirmed
}

// Unconfirmed is what was sent last. One target uses it at a time.
type Unconfirmed struct{ batch []byte }

// Target is a sink.Target and an io.Closer.
type Target struct {
	cfg  Config
	conn net.Conn
	gone chan struct{} // closed when the receiver closed the connection
}

// New checks the configuration. The connection is made by the first delivery.
func New(cfg Config) (*Target, error) {
	if _, _, err := net.SplitHostPort(cfg.Address); err != nil {
		return nil, fmt.Errorf("audit syslog: address: %w", err)
	}
	if cfg.TLS == nil || cfg.Dialer == nil || cfg.Log == "" || cfg.Unconfirmed == nil {
		return nil, errors.New("audit syslog: incomplete configuration")
	}
	cfg.Host = headerField(cfg.Host)
	return &Target{cfg: cfg}, nil
}

// Deliver implements sink.Target.
func (t *Target) Deliver(ctx context.Context, batch []sink.Event) error {
	if t.conn != nil {
		select {
		case <-t.gone:
			t.hangUp()
		default:
		}
	}
	var out []byte
	if t.conn == nil {
		if err := t.dial(ctx); err != nil {
			return fmt.Errorf("audit syslog: %w", err)
		}
		out = append(out, t.cfg.Unconfirmed.batch...)
	}
	fresh := len(out)
	for _, e := range batch {
		out = t.frame(out, e)
	}
	// However ctx ends, a write that is stuck ends with it.
	conn := t.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := t.conn.Write(out); err != nil {
		t.hangUp()
		return fmt.Errorf("audit syslog: %w", err)
	}
	t.cfg.Unconfirmed.batch = append(t.cfg.Unconfirmed.batch[:0], out[fresh:]...)
	return nil
}

func (t *Target) dial(ctx context.Context) error {
	d := tls.Dialer{NetDialer: t.cfg.Dialer, Config: t.cfg.TLS}
	conn, err := d.DialContext(ctx, "tcp", t.cfg.Address)
	if err != nil {
		return err
	}
	t.conn, t.gone = conn, make(chan struct{})
	go func(gone chan struct{}) {
		defer close(gone)
		// A receiver says nothing; reading ends when it hangs up.
		_, _ = io.Copy(io.Discard, conn)
	}(t.gone)
	return nil
}

func (t *Target) hangUp() {
	t.conn.Close()
	<-t.gone
	t.conn = nil
}

// Close implements io.Closer.
func (t *Target) Close() error {
	if t.conn != nil {
		t.hangUp()
	}
	return nil
}

// frame appends one message with its length before it (RFC 5425, section 4.3).
func (t *Target) frame(b []byte, e sink.Event) []byte {
	m := t.message(nil, e)
	b = strconv.AppendInt(b, int64(len(m)), 10)
	b = append(b, ' ')
	return append(b, m...)
}

// message appends one message (RFC 5424, section 6).
func (t *Target) message(b []byte, e sink.Event) []byte {
	severity := severityInfo
	if d := e.Decision(); d != "" && d != "allow" {
		severity = severityWarn
	}
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(facility*8+severity), 10)
	b = append(b, ">1 "...)
	b = e.At.UTC().AppendFormat(b, timestamp)
	b = append(b, ' ')
	b = append(b, t.cfg.Host...)
	b = append(b, " gatehouse - audit [audit@"+enterprise+" log=\""...)
	b = appendParam(b, t.cfg.Log)
	b = append(b, `" record="`...)
	b = strconv.AppendUint(b, e.Index, 10)
	b = append(b, `" auditID="`...)
	b = appendParam(b, e.AuditID)
	if e.Site != "" {
		b = append(b, `" site="`...)
		b = appendParam(b, e.Site)
	}
	// The byte order mark says that the message is UTF-8.
	b = append(b, "\"] \ufeff"...)
	return e.Annotated().AppendJSON(b)
}

// appendParam escapes a value (RFC 5424, section 6.3.3). Invalid UTF-8 and
// control characters do not pass.
func appendParam(b []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r == '"' || r == '\\' || r == ']':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			b = append(b, '?')
		default:
			b = append(b, string(r)...)
		}
	}
	return b
}

// headerField keeps printable ASCII of a name; "-" stands for none.
func headerField(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s) && len(out) < maxHeaderName; i++ {
		if s[i] > ' ' && s[i] < 0x7f {
			out = append(out, s[i])
		}
	}
	if len(out) == 0 {
		return "-"
	}
	return string(out)
}
