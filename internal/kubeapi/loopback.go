package kubeapi

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"sync"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	restclient "k8s.io/client-go/rest"
)

// loopbackKey marks requests that this process makes to itself. The value
// lives in the context, so no request from a network can carry it.
type loopbackKey struct{}

// loopback is a transport that calls the frame's handler without a socket.
// The admission plugins of the frame come as API clients; this lets them ask
// in process, and leaves no privileged token that could leak.
type loopback struct {
	mu      sync.RWMutex
	handler http.Handler // set once the handler chain exists
}

// config is a client configuration that uses the transport.
func (l *loopback) config() *restclient.Config {
	return &restclient.Config{
		Host:      "https://loopback.invalid",
		Transport: l,
		QPS:       -1,
	}
}

func (l *loopback) serve(h http.Handler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handler = h
}

// RoundTrip implements http.RoundTripper. The body of the answer streams, so
// that watches work.
func (l *loopback) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.RLock()
	h := l.handler
	l.mu.RUnlock()
	if h == nil {
		return nil, http.ErrServerClosed
	}
	ctx, cancel := context.WithCancel(context.WithValue(r.Context(), loopbackKey{}, true))
	in := r.Clone(ctx)
	in.RequestURI = in.URL.RequestURI()
	in.URL = &url.URL{Path: in.URL.Path, RawPath: in.URL.RawPath, RawQuery: in.URL.RawQuery}
	in.RemoteAddr = "loopback"
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/2.0", 2, 0
	if in.Body == nil {
		in.Body = http.NoBody
	}
	pr, pw := io.Pipe()
	w := &pipeWriter{header: http.Header{}, body: pw, ready: make(chan struct{})}
	go func() {
		defer func() {
			if recover() != nil {
				// What was written so far must not pass for a whole answer.
				w.WriteHeader(http.StatusInternalServerError)
				pw.CloseWithError(io.ErrUnexpectedEOF)
				return
			}
			w.WriteHeader(http.StatusOK)
			pw.Close()
		}()
		h.ServeHTTP(w, in)
	}()
	select {
	case <-w.ready:
	case <-r.Context().Done():
		cancel()
		pr.CloseWithError(r.Context().Err())
		return nil, r.Context().Err()
	}
	return &http.Response{
		Status: http.StatusText(w.code), StatusCode: w.code,
		Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: w.sent, Body: &pipeBody{pr, cancel}, ContentLength: -1, Request: r,
	}, nil
}

type pipeWriter struct {
	header http.Header // the handler's, who may go on to change it
	body   *io.PipeWriter
	once   sync.Once
	ready  chan struct{}
	code   int         // set before ready is closed
	sent   http.Header // set before ready is closed
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(code int) {
	w.once.Do(func() {
		w.code = code
		w.sent = w.header.Clone()
		close(w.ready)
	})
}

func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

func (w *pipeWriter) Flush() {}

// CloseNotify is asked for by the watch handlers; the request's context does
// the work.
func (w *pipeWriter) CloseNotify() <-chan bool { return make(chan bool) }

type pipeBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (b *pipeBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}

// loopbackUser is who the control plane is to itself.
var loopbackUser = &user.DefaultInfo{Name: user.APIServerUser, Groups: []string{user.SystemPrivilegedGroup, user.AllAuthenticated}}

// withLoopback answers for requests of this process and passes on the rest.
func withLoopback(next authenticator.Request) authenticator.Request {
	return authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		if r.Context().Value(loopbackKey{}) != nil {
			return &authenticator.Response{User: loopbackUser}, true, nil
		}
		return next.AuthenticateRequest(r)
	})
}
