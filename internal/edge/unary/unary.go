// Package unary serves gRPC's unary calls over HTTP/2 without TLS, for a socket
// on this machine.
//
// It owns: the framing of messages, deadlines, and how a status is told. It
// refuses: streams of messages, compression, HTTP/1, and what is over its
// bounds. The module google.golang.org/grpc could do all of that, but links a
// template engine, which keeps every method of every type in the program: a
// fourth of gatehouse-edge. Start at [Server.Serve].
package unary

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Method answers a serialised request with a serialised answer. An error is
// told by its gRPC status; one without is Unknown to the caller.
type Method func(ctx context.Context, request []byte) ([]byte, error)

// Server serves methods. It is safe for concurrent use.
type Server struct {
	// Methods has the method of each path, "/package.Service/Method".
	Methods map[string]Method
	Log     *slog.Logger
}

// Bounds on who calls, what is sent, and how long anything takes.
const (
	maxConnections = 64
	maxCalls       = 64 // at once on one connection
	maxMessage     = 1 << 20
	maxHeader      = 16 << 10
	prefaceTimeout = 5 * time.Second
	callTimeout    = 30 * time.Second
	idleTimeout    = 10 * time.Minute
	stopTimeout    = 10 * time.Second
	prefix         = 5 // a flag and the length of the message
	media          = "application/grpc"
)

// Serve answers until the context ends, and returns when the calls under way
// have been answered. It closes the listener. The error is nil when the context
// ended it.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:        http.HandlerFunc(s.answer),
		Protocols:      &protocols,
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: maxCalls},
		MaxHeaderBytes: maxHeader,
		ReadTimeout:    callTimeout,
		WriteTimeout:   callTimeout + time.Second, // so that a deadline is told
		IdleTimeout:    idleTimeout,
		ErrorLog:       slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	over, cancel := context.WithCancel(ctx)
	go func() {
		<-over.Done()
		wait, done := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer done()
		err := server.Shutdown(wait)
		if err != nil {
			err = errors.Join(err, server.Close())
		}
		stopped <- err
	}()
	err := server.Serve(impatient{netutil.LimitListener(l, maxConnections)})
	cancel()
	stop := <-stopped
	if errors.Is(err, http.ErrServerClosed) {
		return stop
	}
	return err
}

// impatient has a connection begin to speak soon. net/http lifts the deadline
// when it has read the first words of HTTP/2.
type impatient struct{ net.Listener }

func (l impatient) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if err := c.SetReadDeadline(time.Now().Add(prefaceTimeout)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "calls are posted", http.StatusMethodNotAllowed)
		return
	}
	if m, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || m != media && m != media+"+proto" {
		http.Error(w, "a call is "+media, http.StatusUnsupportedMediaType)
		return
	}
	out, err := s.call(r)
	w.Header().Set("Content-Type", media)
	if err != nil {
		// Headers alone, which are trailers at once.
		tell(w.Header(), "", err)
		w.WriteHeader(http.StatusOK)
		return
	}
	tell(w.Header(), http.TrailerPrefix, nil)
	frame := make([]byte, prefix, prefix+len(out))
	binary.BigEndian.PutUint32(frame[1:], uint32(len(out)))
	_, _ = w.Write(append(frame, out...)) // a caller that is gone misses nothing
}

// call reads the one request of a call and has it answered in time.
func (s *Server) call(r *http.Request) ([]byte, error) {
	method := s.Methods[r.URL.Path]
	if method == nil {
		return nil, status.Errorf(codes.Unimplemented, "there is no method %.200q", r.URL.Path)
	}
	limit := callTimeout
	if text := r.Header.Get("Grpc-Timeout"); text != "" {
		asked, err := timeout(text)
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		limit = min(limit, asked)
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	in, err := readMessage(r.Body)
	if err != nil {
		return nil, err
	}
	out, err := method(ctx, in)
	if err != nil && ctx.Err() != nil {
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if err == nil && len(out) > maxMessage {
		return nil, status.Error(codes.ResourceExhausted, "the answer is too large")
	}
	return out, err
}

// readMessage reads a stream that holds one message.
func readMessage(r io.Reader) ([]byte, error) {
	var head [prefix]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, status.Error(codes.Internal, "the call has no message")
	}
	switch head[0] {
	case 0:
	case 1:
		return nil, status.Error(codes.Unimplemented, "messages are not compressed here")
	default:
		return nil, status.Error(codes.Internal, "the flag of the message is not known")
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxMessage {
		return nil, status.Errorf(codes.ResourceExhausted, "the message is over %d bytes", maxMessage)
	}
	// One byte more, which must not be there. Memory is taken as bytes arrive.
	in, err := io.ReadAll(io.LimitReader(r, int64(size)+1))
	if err != nil {
		return nil, status.Error(codes.Canceled, "the call broke off")
	}
	if len(in) != int(size) {
		return nil, status.Error(codes.Internal, "the call is not one whole message")
	}
	return in, nil
}

// timeout reads the header grpc-timeout: at most eight digits and a unit.
func timeout(text string) (time.Duration, error) {
	unit, ok := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second,
		'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}[text[len(text)-1]]
	digits := text[:len(text)-1]
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || len(digits) > 8 {
		return 0, fmt.Errorf("grpc-timeout is %.20q", text)
	}
	// Eight digits of hours are more than a Duration holds.
	if time.Duration(n) > idleTimeout/unit {
		return idleTimeout, nil
	}
	return time.Duration(n) * unit, nil
}

// tell writes how a call ended.
func tell(h http.Header, where string, err error) {
	st := status.Convert(err)
	h.Set(where+"Grpc-Status", strconv.Itoa(int(st.Code())))
	if st.Message() != "" {
		h.Set(where+"Grpc-Message", escape(st.Message()))
	}
}

// escape keeps what is printable ASCII and writes other bytes as %XX.
func escape(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
