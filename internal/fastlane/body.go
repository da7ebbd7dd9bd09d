package fastlane

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// refusedBodyTimeout is how long the rest of a body may take that nobody wants
// any more. Deadlines of connections are of this machine's own clock.
const refusedBodyTimeout = 2 * time.Second

// longAgo as a deadline fails reads and writes that wait, and later ones.
var longAgo = time.Unix(1, 0)

// cut ends the exchange with a client.
func cut(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	// An error says that w has no connection, so that nothing can hang on it.
	_ = c.SetReadDeadline(longAgo)
	_ = c.SetWriteDeadline(longAgo)
}

// exchange lets a timer cut off a client while its handler runs, and never
// after: the writer is then another's.
type exchange struct {
	w http.ResponseWriter

	mu   sync.Mutex // guards over, and keeps the handler until cut is through
	over bool
}

func (e *exchange) cut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.over {
		cut(e.w)
	}
}

// cutBody ends only what the client still sends.
func (e *exchange) cutBody() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.over {
		_ = http.NewResponseController(e.w).SetReadDeadline(longAgo)
	}
}

func (e *exchange) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
}

// frame hands a request to the frame, with a bound on the time that its body
// may take. The library bounds the answer.
func (l *Lane) frame(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		l.Frame.ServeHTTP(w, r)
		return
	}
	e := &exchange{w: w}
	defer e.end()
	b := &timedBody{ReadCloser: r.Body, late: time.AfterFunc(l.times.frameBody, e.cutBody)}
	r.Body = b
	l.Frame.ServeHTTP(w, r)
	if b.late.Stop() {
		dropBody(w, r)
	}
}

// timedBody disarms its timer when there is nothing left to read.
type timedBody struct {
	io.ReadCloser
	late *time.Timer
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.late.Stop()
	}
	return n, err
}

// dropBody bounds the time that the server waits for the unread rest of a
// body before it takes the next request of an HTTP/1 connection.
func dropBody(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(refusedBodyTimeout))
	}
}

// body reads at most limit bytes into t.read; false says that there are more
// or that the body broke off.
func (t *turn) body(limit int64) bool {
	b := t.in[:0]
	// One byte more than announced, so that the end is seen without growing.
	if n := t.r.ContentLength; n > 0 && n <= limit {
		b = slices.Grow(b, int(n)+1)
	}
	var err error
	for err == nil && int64(len(b)) <= limit {
		b = slices.Grow(b, 512)
		var n int
		n, err = t.r.Body.Read(b[len(b):min(int64(cap(b)), limit+1)])
		b = b[:len(b)+n]
	}
	t.in, t.read = b, string(b)
	return err == io.EOF && int64(len(b)) <= limit
}

// replay gives the frame a request whose body the lane has read.
func replay(r *http.Request, read string) *http.Request {
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(strings.NewReader(read), r.Body), r.Body}
	return r
}
