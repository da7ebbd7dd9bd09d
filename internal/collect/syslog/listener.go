package syslog

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/google/uuid"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
	"github.com/gatehouse-dev/gatehouse/internal/collect/entrance"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const (
	kind = auditapi.AuditSourceSyslog

	// maxMessage is the longest message that is taken; what is kept of it is
	// maxKept. RFC 5425 (section 4.3.1) asks for 2,048 bytes at least.
	maxMessage = 1 << 20
	maxKept    = 32 << 10

	maxBatchEntries = 1024
	maxBatchBytes   = 1 << 20

	// maxConnections bounds those that have not shown who they are as well.
	maxConnections = 512
	// maxHandshakes bounds, of one address, those that have not.
	maxHandshakes    = 32
	handshakeTimeout = 10 * time.Second
	// frameTimeout is how long a message may take that has begun.
	frameTimeout = 30 * time.Second
	// retryEvery is how often what was read is tried again to record.
	retryEvery = time.Second
)

// Listener serves syslog over TLS.
type Listener struct {
	// Entrance decides who may write, and records.
	Entrance *entrance.Entrance
	// TLS is the configuration of the server. Client certificates are asked for
	// whatever it says.
	TLS *tls.Config
	Log *slog.Logger
}

// Serve takes connections until ctx ends, then ends them and waits until what
// they brought is on record. It closes the listener.
func (l *Listener) Serve(ctx context.Context, on net.Listener) error {
	conf := l.TLS.Clone()
	conf.ClientAuth, conf.NextProtos = tls.RequireAnyClientCert, nil
	stop := context.AfterFunc(ctx, func() { on.Close() })
	defer stop()
	defer on.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxConnections)
	unknown := handshakes{of: map[string]int{}}
	for {
		c, err := on.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() || isTransient(err) {
				select {
				case <-ctx.Done():
				case <-time.After(50 * time.Millisecond):
				}
				continue
			}
			return fmt.Errorf("accept syslog: %w", err)
		}
		select {
		case slots <- struct{}{}:
		default:
			c.Close()
			continue
		}
		from := hostOf(c)
		if !unknown.begin(from) {
			<-slots
			c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			l.serve(ctx, tls.Server(c, conf), func() { unknown.end(from) })
		})
	}
}

// handshakes counts, by address, who has not shown who it is yet, so that one
// machine without a certificate cannot hold every place.
type handshakes struct {
	mu sync.Mutex // guards of
	of map[string]int
}

func (h *handshakes) begin(from string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of[from] >= maxHandshakes {
		return false
	}
	h.of[from]++
	return true
}

func (h *handshakes) end(from string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of[from]--; h.of[from] == 0 {
		delete(h.of, from)
	}
}

func hostOf(c net.Conn) string {
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		return c.RemoteAddr().String()
	}
	return host
}

// serve reads one connection to its end. known is called once its handshake is
// over.
func (l *Listener) serve(ctx context.Context, c *tls.Conn, known func()) {
	defer c.Close()
	hctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	err := c.HandshakeContext(hctx)
	cancel()
	known()
	if err != nil {
		l.Log.Debug("syslog handshake failed", "peer", c.RemoteAddr().String(), "error", err)
		return
	}
	visit, err := l.Entrance.Connect(ctx, c.ConnectionState().PeerCertificates, c.RemoteAddr().String(), kind)
	if err != nil {
		l.Log.Debug("syslog sender refused", "peer", c.RemoteAddr().String(), "error", err)
		return
	}
	defer visit.Close()
	cut := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer cut()
	if err := l.take(ctx, c, visit); err != nil && ctx.Err() == nil {
		l.Log.Warn("syslog connection ended", "writer", visit.User(), "error", err)
	}
}

// take records what a connection brings. While one batch is being recorded the
// next one is read, and no more than that.
func (l *Listener) take(ctx context.Context, c net.Conn, visit *entrance.Visit) error {
	in := frames{r: bufio.NewReaderSize(c, 64<<10), deadline: func(t time.Time) {
		_ = c.SetReadDeadline(t)
		if ctx.Err() != nil { // the end of the server must not be put off
			_ = c.SetReadDeadline(time.Unix(1, 0))
		}
	}}
	var (
		batch []*collect.Entry
		size  int
		doing chan error
	)
	wait := func() (err error) {
		if doing != nil {
			err, doing = <-doing, nil
		}
		return err
	}
	flush := func() error {
		if err := wait(); err != nil || len(batch) == 0 {
			return err
		}
		doing = make(chan error, 1)
		go func(done chan<- error, entries []*collect.Entry) { done <- record(ctx, visit, entries) }(doing, batch)
		batch, size = nil, 0
		return nil
	}
	for {
		text, full, err := in.next()
		if err != nil {
			rerr := errors.Join(flush(), wait())
			if rerr != nil || errors.Is(err, io.EOF) {
				return rerr
			}
			if fault.KindOf(err) == fault.Invalid {
				visit.Broken(err)
			}
			return err
		}
		id := uuid.New() // a message has no name, and two that are alike are two
		e := entry(text, full, string(id[:]))
		batch = append(batch, e)
		size += len(e.Body)
		if len(batch) == maxBatchEntries || size >= maxBatchBytes || in.r.Buffered() == 0 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

// record tries until the entries are on record: they cannot be asked for
// again. Only a writer that may write no more, or the end of the server, ends
// it.
func record(ctx context.Context, visit *entrance.Visit, entries []*collect.Entry) error {
	for {
		err := visit.Record(ctx, entries)
		switch fault.KindOf(err) {
		case fault.Unavailable, fault.Exhausted:
		case fault.Internal:
			if err == nil || !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryEvery):
		}
	}
}

// frames reads MSG-LEN SP MSG (RFC 5425, section 4.3).
type frames struct {
	r        *bufio.Reader
	deadline func(time.Time)
}

func malformed(text string) error { return fault.New(fault.Invalid, "syslog framing: "+text) }

// next returns a message as far as it is kept, and its length.
func (f *frames) next() (text string, full int64, err error) {
	f.deadline(time.Time{}) // between two messages there is time
	c, err := f.r.ReadByte()
	for err == nil && (c == '\n' || c == '\r') {
		c, err = f.r.ReadByte() // some senders end frames with a line
	}
	if err != nil {
		return "", 0, err
	}
	f.deadline(time.Now().Add(frameTimeout))
	if c < '1' || c > '9' {
		return "", 0, malformed("octet counting is required: a message must begin with its length")
	}
	n := int64(c - '0')
	for {
		if c, err = f.r.ReadByte(); err != nil {
			return "", 0, brokeOff(err)
		}
		if c == ' ' {
			break
		}
		if c < '0' || c > '9' {
			return "", 0, malformed("the length is no number")
		}
		if n = n*10 + int64(c-'0'); n > maxMessage {
			return "", 0, malformed(fmt.Sprintf("a message is longer than %d bytes", maxMessage))
		}
	}
	kept := make([]byte, min(n, maxKept))
	if _, err := io.ReadFull(f.r, kept); err != nil {
		return "", 0, brokeOff(err)
	}
	if _, err := f.r.Discard(int(n) - len(kept)); err != nil {
		return "", 0, brokeOff(err)
	}
	text = string(kept)
	if int64(len(kept)) < n {
		text = whole(text)
	}
	return text, n, nil
}

// brokeOff tells the end of the stream inside a message from one between two.
func brokeOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed("the last message breaks off")
	}
	return err
}
