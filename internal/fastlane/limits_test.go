package fastlane_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane"
)

// TestReviewsAnswer is the usual case: one answer, one record, no secret.
func TestReviewsAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, http1 := range []bool{false, true} {
		c := w.client(w.admin, http1)
		for _, allowed := range []bool{true, false} {
			verb := map[bool]string{true: "get", false: "delete"}[allowed]
			got := w.do(c, call{path: sarPath, body: sar("alice", verb, "pods", "g1")})
			review := decode[authorizationv1.SubjectAccessReview](t, got.body)
			if got.code != 201 || review.Status.Allowed != allowed || review.Spec.User != "alice" || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%d %s", got.code, got.body)
			}
			ev := w.one()
			if ev.User.Username != "admin" || ev.Decision() != "allow" || ev.Annotations["review.gatehouse.dev/subject"] != "alice" ||
				ev.Annotations["review.gatehouse.dev/question"] != verb+" pods lab/" || ev.Credential() != idOf(w.admin) ||
				(ev.Annotations["review.gatehouse.dev/answer"] == "allowed") != allowed || ev.SourceIPs[0] != "127.0.0.1" {
				t.Errorf("recorded %+v", ev)
			}
		}
		token := w.token(apiAudience)
		got := w.do(c, call{path: tokenPath, body: tokenReview(token)})
		status := decode[authenticationv1.TokenReview](t, got.body).Status
		if got.code != 201 || !status.Authenticated || status.User.Username != "system:serviceaccount:lab:robot" {
			t.Errorf("%d %s", got.code, got.body)
		}
		ev := w.one()
		if out, _ := ev.MarshalJSON(); strings.Contains(string(out), token) || ev.Annotations["review.gatehouse.dev/subject"] != status.User.Username {
			t.Errorf("recorded %s", out)
		}
	}
	if len(w.frame.take()) != 0 {
		t.Error("a usual review reached the frame")
	}
}

// TestUnusualReviewsAreLeftToTheFrame: whole, and without a record of the
// lane, because the frame writes one.
func TestUnusualReviewsAreLeftToTheFrame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client(w.admin, false)
	usual := sar("alice", "get", "pods")
	header := func(k string, v ...string) http.Header { return http.Header{k: v} }
	for name, in := range map[string]call{
		"another path":         {path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body: usual},
		"a trailing slash":     {path: sarPath + "/", body: usual},
		"a doubled slash":      {path: "/" + sarPath, body: usual},
		"doubled sites":        {path: "//sites/one/authorize", body: usual},
		"sites alone":          {path: "/sites", body: usual},
		"a query":              {path: sarPath + "?dryRun=All", body: usual},
		"GET":                  {path: sarPath, method: "GET"},
		"impersonation":        {path: sarPath, body: usual, header: header("Impersonate-User", "bob")},
		"impersonation, extra": {path: sarPath, body: usual, header: header("Impersonate-Extra-Scopes", "x")},
		"protobuf":             {path: sarPath, body: "k8s\x00...", header: header("Content-Type", "application/vnd.kubernetes.protobuf")},
		"a charset":            {path: sarPath, body: usual, header: header("Content-Type", "application/json; charset=utf-8")},
		"a table":              {path: sarPath, body: usual, header: header("Accept", "application/json;as=Table")},
		"an encoding":          {path: sarPath, body: usual, header: header("Content-Encoding", "gzip")},
		"a long body":          {path: sarPath, body: usual + strings.Repeat(" ", 70_000)},
		"a long body in parts": {path: sarPath, body: usual + strings.Repeat(" ", 70_000), chunked: true},
		"an unknown field":     {path: sarPath, body: strings.Replace(usual, "{", `{"x":1,`, 1)},
		"a field twice":        {path: sarPath, body: strings.Replace(usual, `"verb"`, `"verb":"list","verb"`, 1)},
		"invalid UTF-8":        {path: sarPath, body: strings.Replace(usual, "alice", "\xff", 1)},
		"no JSON":              {path: sarPath, body: "<xml/>"},
		"no body":              {path: sarPath},
		"neither question":     {path: sarPath, body: `{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{"user":"alice"}}`},
		"an empty token":       {path: tokenPath, body: tokenReview("")},
		"a token, twice":       {path: tokenPath, body: strings.Replace(tokenReview("x"), `"token"`, `"token":"y","token"`, 1)},
		"a token, not UTF-8":   {path: tokenPath, body: strings.Replace(tokenReview("x"), `"x"`, "\"\xff\"", 1)},
	} {
		if got := w.do(c, in); got.code != fromFrame {
			t.Errorf("%s: answered %d by the lane: %s", name, got.code, got.body)
		}
		if left := w.frame.take(); len(left) != 1 || left[0] != in.body {
			t.Errorf("%s: the frame got %.100q", name, left)
		}
		if events, _ := w.record.take(); len(events) != 0 {
			t.Errorf("%s: the lane recorded %+v", name, events)
		}
	}
}

// TestNothingIsDecidedUnrecorded: while the record cannot be written, every
// route answers 503, and says nothing else.
func TestNothingIsDecidedUnrecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.record.fail(unavailable)
	admin, one := w.client(w.admin, false), w.client(w.siteOne, false)
	for name, got := range map[string]answer{
		"an access review":   w.do(admin, call{path: sarPath, body: sar("alice", "get", "pods")}),
		"a token review":     w.do(admin, call{path: tokenPath, body: tokenReview(w.token(apiAudience))}),
		"authorize":          w.do(one, call{path: "/sites/one/authorize", body: sar("alice", "get", "pods")}),
		"authenticate":       w.do(one, call{path: "/sites/one/authenticate", body: tokenReview(w.token("gatehouse:site:one"))}),
		"audit":              w.do(one, call{path: "/sites/one/audit", body: events(1)}),
		"a refusal":          w.do(w.client(nil, false), call{path: "/sites/one/authorize"}),
		"a refused reviewer": w.do(w.client(w.nobody, false), call{path: sarPath, body: sar("alice", "get", "pods")}),
	} {
		if got.code != 503 || got.header.Get("Retry-After") == "" || strings.Contains(got.body, "llowed") || strings.Contains(got.body, "robot") {
			t.Errorf("%s: %d %s", name, got.code, got.body)
		}
	}
}

// A fault in what the lane asks costs that one request.
func TestPanicIsRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.answers.broken = func() error { panic("a fault in the policy") }
	got := w.do(w.client(w.admin, false), call{path: sarPath, body: sar("alice", "get", "pods")})
	if got.code != 500 || strings.Contains(got.body, "fault in the policy") {
		t.Errorf("%d %s", got.code, got.body)
	}
	if ev := w.one(); ev.Stage != audit.StagePanic || ev.User.Username != "admin" || ev.ResponseStatus.Code != 500 {
		t.Errorf("recorded %+v", ev)
	}
	w.answers.mu.Lock()
	w.answers.broken = nil
	w.answers.mu.Unlock()
	if got := w.do(w.client(w.admin, false), call{path: sarPath, body: sar("alice", "get", "pods")}); got.code != 201 {
		t.Errorf("after a panic: %d %s", got.code, got.body)
	}
	w.one()
}

// TestErrorsOfReviews: a malformed question is the frame's to word, and what
// nobody classified keeps its text.
func TestErrorsOfReviews(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client(w.admin, false)
	for name, b := range map[string]struct {
		err  error
		code int
	}{
		"malformed":    {apierrors.NewBadRequest("no"), fromFrame},
		"stale":        {unavailable, 503},
		"unclassified": {errors.New("connection to 10.0.0.1 refused"), 500},
	} {
		w.answers.broken = func() error { return b.err }
		got := w.do(c, call{path: sarPath, body: sar("alice", "get", "pods")})
		if got.code != b.code || strings.Contains(got.body, "10.0.0.1") {
			t.Errorf("%s: %d %s", name, got.code, got.body)
		}
		if events, _ := w.record.take(); len(events) != 1 && b.code != fromFrame {
			t.Errorf("%s: %d records", name, len(events))
		}
	}
}

// raw opens a connection of HTTP/1.1 and sends the start of a request.
func (w *world) raw(cert *tls.Certificate, head string) net.Conn {
	w.t.Helper()
	cfg := w.client(cert, true).Transport.(*http.Transport).TLSClientConfig
	conn, err := tls.Dial("tcp", strings.TrimPrefix(w.url, "https://"), cfg)
	must(w.t, err)
	w.t.Cleanup(func() { conn.Close() })
	must(w.t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, head)
	must(w.t, err)
	return conn
}

// TestStrangersDoNotKeepPlaces: who is nobody is refused before its body is
// read, however slowly that comes, and the connection does not wait for it.
func TestStrangersDoNotKeepPlaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *fastlane.Config) { c.InFlight = 4 })
	var last net.Conn
	for _, path := range []string{sarPath, tokenPath, "/sites/one/authorize", "/sites/one/audit"} {
		for range 6 {
			conn := w.raw(nil, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{")
			started := time.Now()
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || resp.StatusCode != 401 || time.Since(started) > 5*time.Second { // a body has ten
				t.Fatalf("%s: %v %v after %v", path, err, resp, time.Since(started))
			}
			resp.Body.Close()
			w.one()
			last = conn
		}
	}
	if _, err := io.Copy(io.Discard, last); err != nil {
		t.Errorf("the connection is not closed: %v", err)
	}
}

// TestNobodyTakesTheWholeLane: a caller who sends slowly keeps a quarter of
// the lane at most; others are served beside it.
func TestNobodyTakesTheWholeLane(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *fastlane.Config) { c.InFlight = 8 })
	const head = "POST /sites/one/authorize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 600\r\n\r\n{"
	var held []net.Conn
	for range 2 {
		held = append(held, w.raw(w.siteOne, head))
	}
	one, admin := w.client(w.siteOne, false), w.client(w.admin, false)
	ask := call{path: "/sites/one/authorize", body: sar("alice", "get", "pods")}
	eventually(t, "the site has used up its share", func() bool { return w.do(one, ask).code == 429 })
	if got := w.do(admin, call{path: sarPath, body: sar("alice", "get", "pods")}); got.code != 201 {
		t.Errorf("another caller: %d %s", got.code, got.body)
	}
	for _, conn := range held {
		conn.Close()
	}
	eventually(t, "the site is served again", func() bool { return w.do(one, ask).code == 200 })
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !check(); {
		if time.Now().After(deadline) {
			t.Fatal("not in time: " + what)
		}
	}
}

// TestFullLane: beyond its places the lane says so at once.
func TestFullLane(t *testing.T) {
	t.Parallel()
	enter, leave := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(c *fastlane.Config) {
		c.InFlight = 1
		verify := c.Authenticate
		c.Authenticate = func(ctx context.Context, r *http.Request) (authn.Identity, bool, error) {
			enter <- struct{}{}
			<-leave
			return verify(ctx, r)
		}
	})
	c := w.client(w.admin, false)
	first := make(chan answer, 1)
	go func() { first <- w.do(c, call{path: sarPath, body: sar("alice", "get", "pods")}) }()
	<-enter
	if got := w.do(c, call{path: sarPath, body: sar("alice", "get", "pods")}); got.code != 429 || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", got.code, got.body)
	}
	close(leave)
	if got := <-first; got.code != 201 {
		t.Errorf("%d %s", got.code, got.body)
	}
}

// events is a list of n events.
func events(n int) string {
	var b strings.Builder
	b.WriteString(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"futureField":{"a":[1]},"items":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"level":"Metadata","auditID":"id-%d","stage":"ResponseComplete","requestURI":"/","verb":"get","user":{"username":"u"},"newField":1}`, i)
	}
	return b.String() + "]}"
}

// TestEventLists: the lists that a site posts are taken whole or not at all,
// and a list of too many is refused before it fills the memory.
func TestEventLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client(w.siteOne, false)
	const path = "/sites/one/audit"
	if got := w.do(c, call{path: path, body: events(3)}); got.code != 200 || len(w.record.batch) != 1 || len(w.record.batch[0]) != 3 || w.record.batch[0][2].AuditID != "id-2" {
		t.Errorf("%d %s, taken %+v", got.code, got.body, w.record.batch)
	}
	if own, _ := w.record.take(); len(own) != 0 {
		t.Errorf("a delivery left %d records of its own", len(own))
	}
	if got := w.do(c, call{path: path, body: `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":null}`}); got.code != 200 {
		t.Errorf("an empty list: %d %s", got.code, got.body)
	}
	taken := len(w.record.batch)
	hint := strings.Repeat("{},", 1<<20)
	for name, b := range map[string]string{
		"too many":         `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + hint + `{}]}`,
		"items twice":      `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[],"items":[]}`,
		"a map of items":   `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":{"a":{}}}`,
		"a wrong type":     `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"auditID":7}]}`,
		"cut off":          events(3)[:200],
		"another version":  strings.Replace(events(1), "v1", "v1beta1", 1),
		"another case":     strings.Replace(events(1), `"kind"`, `"Kind"`, 1),
		"followed by more": events(1) + "{}",
	} {
		if got := w.do(c, call{path: path, body: b}); got.code != 400 {
			t.Errorf("%s: %d %s", name, got.code, got.body)
		}
		w.one()
	}
	if got := w.do(c, call{path: path, body: strings.Repeat(" ", 12<<20) + events(1), chunked: true}); got.code != 413 {
		t.Errorf("over the limit: %d %s", got.code, got.body)
	}
	if len(w.record.batch) != taken {
		t.Error("a refused list was taken")
	}
}

// TestManyAtOnce: turns are used again, so nothing of one request may show in
// another.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	log := openLedger(t)
	w := newWorld(t, func(c *fastlane.Config) { c.InFlight = 256; c.Recorder = both{c.Recorder, log} })
	admin, one := w.client(w.admin, false), w.client(w.siteOne, false)
	const workers, each = 8, 40
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for j := range each {
				user := fmt.Sprintf("user-%d-%d", i, j)
				c, path := admin, sarPath
				if j%2 == 1 {
					c, path = one, "/sites/one/authorize"
				}
				got := w.do(c, call{path: path, body: sar(user, "get", "pods", "g-"+user)})
				if got.code >= 400 || j%2 == 0 && !strings.Contains(got.body, `"`+user+`"`) {
					t.Errorf("%s: %d %s", user, got.code, got.body)
				}
			}
		})
	}
	wg.Wait()
	recorded, _ := w.record.take()
	if len(recorded) != workers*each {
		t.Fatalf("%d records of %d requests", len(recorded), workers*each)
	}
	seen := map[string]bool{}
	for _, ev := range recorded {
		subject := ev.Annotations["review.gatehouse.dev/subject"]
		bySite := ev.User.Username == "system:site:one"
		if seen[subject] || seen[ev.AuditID] || bySite != strings.HasPrefix(ev.RequestURI, "/sites/") || bySite == (len(ev.User.Groups) == 2) {
			t.Errorf("mixed up: %+v", ev)
		}
		seen[subject], seen[ev.AuditID] = true, true
	}
}

// both records twice: where tests read, and where the product does.
type both struct{ one, other audit.Recorder }

func (b both) Append(ctx context.Context, ev *audit.Event, d audit.Durability) error {
	if err := b.other.Append(ctx, ev, d); err != nil {
		return err
	}
	return b.one.Append(ctx, ev, d)
}

// dawdle announces a body, sends none of it, and returns when that is over.
func (w *world) dawdle(cert *tls.Certificate, path string, http1 bool) error {
	w.t.Helper()
	if http1 {
		conn := w.raw(cert, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 600\r\n\r\n{")
		_, err := io.Copy(io.Discard, conn)
		return err
	}
	never, end := io.Pipe()
	defer end.Close()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+path, never)
	must(w.t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client(cert, false).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// stuck never records.
type stuck struct{}

func (stuck) Append(ctx context.Context, _ *audit.Event, _ audit.Durability) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestSlowBodiesEnd: whoever sends slowly loses the request when its time is
// over, in the lane and in the frame, over both versions of HTTP.
func TestSlowBodiesEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *fastlane.Config) { fastlane.Hurry(c, 100*time.Millisecond) })
	for name, at := range map[string]struct {
		cert *tls.Certificate
		path string
	}{
		"a door":               {w.siteOne, "/sites/one/authorize"},
		"a delivery":           {w.siteOne, "/sites/one/audit"},
		"the frame":            {w.admin, "/api/v1/namespaces"},
		"the frame, no caller": {nil, "/api/v1/namespaces"},
	} {
		for _, http1 := range []bool{true, false} {
			started := time.Now()
			err := w.dawdle(at.cert, at.path, http1)
			if took := time.Since(started); took > 20*time.Second || took < 100*time.Millisecond {
				t.Errorf("%s, http1=%t: ended after %v: %v", name, http1, took, err)
			}
			if at.cert == w.siteOne {
				eventually(t, "a record", func() bool { e, _ := w.record.take(); return len(e) == 1 })
				continue
			}
			eventually(t, "the frame is told", func() bool {
				left := w.frame.take()
				return len(left) == 1 && strings.Contains(left[0], "!")
			})
		}
	}
}

// TestStuckRecord: the answer waits for the record as long as the request may
// take, and is then that nothing was decided.
func TestStuckRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *fastlane.Config) {
		fastlane.Hurry(c, 50*time.Millisecond)
		c.Recorder = stuck{}
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+sarPath, strings.NewReader(sar("alice", "get", "pods")))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client(w.admin, false).Do(req)
	if err != nil {
		return // the connection was cut, which answers nothing either
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != 503 || strings.Contains(string(out), "allowed")) {
		t.Errorf("%d %s", resp.StatusCode, out)
	}
}
