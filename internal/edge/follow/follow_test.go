package follow

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/authz/snapshot"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane/followwire"
)

// centre stands for the control plane: an http.RoundTripper that signs.
type centre struct {
	t   *testing.T
	key ed25519.PrivateKey

	mu       sync.Mutex // guards the rest
	away     bool
	status   int // of the stream's door, if not 200
	mode     string
	streams  []*io.PipeWriter
	requests []followwire.Request
	acks     []followwire.Ack
}

func newCentre(t *testing.T) *centre {
	return &centre{t: t, key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))}
}

func (c *centre) KeyID() string                 { return "k1" }
func (c *centre) Sign(m []byte) ([]byte, error) { return ed25519.Sign(c.key, m), nil }

func (c *centre) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return nil, errors.New("connection refused")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	answer := &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("{}"))}
	switch r.URL.String() {
	case "https://gatehouse.example/sites/blue/snapshot/ack":
		var in followwire.Ack
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, err
		}
		c.acks = append(c.acks, in)
	case "https://gatehouse.example/sites/blue/snapshot":
		var in followwire.Request
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, err
		}
		c.requests = append(c.requests, in)
		if c.status != 0 {
			answer.StatusCode = c.status
			break
		}
		read, write := io.Pipe()
		context.AfterFunc(r.Context(), func() { read.CloseWithError(r.Context().Err()) })
		c.streams = append(c.streams, write)
		answer.Body, answer.Header = read, http.Header{followwire.HeaderMode: {c.mode}}
	default:
		answer.StatusCode = http.StatusNotFound
	}
	return answer, nil
}

// stream waits for the newest stream, of which there must have been n.
func (c *centre) stream(n int) *io.PipeWriter {
	c.t.Helper()
	for range 1000 {
		c.mu.Lock()
		if len(c.streams) >= n {
			defer c.mu.Unlock()
			return c.streams[len(c.streams)-1]
		}
		c.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatalf("no stream %d", n)
	return nil
}

func (c *centre) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = true
	for _, s := range c.streams {
		s.CloseWithError(io.ErrUnexpectedEOF)
	}
}

func send(t *testing.T, to io.Writer, messages ...[]byte) {
	t.Helper()
	for _, m := range messages {
		if err := snapshot.WriteFrame(to, m); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
}

func (c *centre) keys() []byte {
	m, err := followwire.AppendKeys(nil, []followwire.Key{{ID: "k1", Public: c.key.Public().(ed25519.PublicKey)}})
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *centre) header(sequence uint64) snapshot.Header {
	return snapshot.Header{Site: "blue", Sequence: sequence, Issued: time.Now(), Ends: time.Now().Add(24 * time.Hour), Conditions: "v1"}
}

// policy is a full frame by which a user is allowed.
func (c *centre) policy(sequence uint64, user string) []byte {
	content := authz.New().Update(func(tx *authz.Tx) {
		tx.PutSite(authz.Site{Name: "blue"})
		tx.PutPolicy(authz.Policy{Name: "p", Effect: authz.Allow, Sites: []string{"blue"},
			Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.User, Name: user}}},
			Rules:    []authz.Rule{{Verbs: []string{"get"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}})
	}).Content()
	frame, _, err := snapshot.Seal(&content, snapshot.Credentials{}, c.header(sequence), c)
	if err != nil {
		c.t.Fatal(err)
	}
	return frame
}

func (c *centre) renewal(sequence uint64, of []byte) []byte {
	old, _, _, err := snapshot.Parts(of)
	if err != nil {
		c.t.Fatal(err)
	}
	h := c.header(sequence)
	h.Digest = old.Digest
	frame, err := snapshot.Renew(h, c)
	if err != nil {
		c.t.Fatal(err)
	}
	return frame
}

func openFollower(t *testing.T, c *centre, dir string) (f *Follower, stop func()) {
	t.Helper()
	f, err := Open(Config{
		Servers: []string{"https://gatehouse.example/"}, Site: "blue", Name: "host-1", Client: &http.Client{Transport: c}, Dir: dir,
		Conditions: "v1", Compile: func(string) (authz.Condition, error) { return nil, errors.New("none") },
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = f.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return f, stop
}

func allows(f *Follower, user string) bool {
	p, err := f.Current()
	return err == nil && p.Snapshot.Decide(&authz.Request{User: user, Verb: "get", Resource: "pods", ResourceRequest: true, Site: "blue", Time: time.Now()}).Allowed()
}

func TestFollow(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policy")
	synctest.Test(t, func(t *testing.T) {
		c := newCentre(t)
		f, stop := openFollower(t, c, dir)
		if _, err := f.Current(); !errors.Is(err, snapshot.ErrEnded) || f.Connected() {
			t.Errorf("before any policy: %v", err)
		}
		s := c.stream(1)
		first := c.policy(10, "ada")
		send(t, s, c.keys(), first)
		if !allows(f, "ada") || !f.Connected() {
			t.Fatalf("%+v", f.Status())
		}
		second := c.policy(11, "bea")
		send(t, s, second)
		if allows(f, "ada") || !allows(f, "bea") {
			t.Error("a change is not in force")
		}
		c.mu.Lock()
		if n := len(c.acks); n == 0 || c.acks[n-1] != (followwire.Ack{Follower: "host-1", Sequence: 11}) {
			t.Errorf("acknowledged: %+v", c.acks)
		}
		c.mu.Unlock()

		// The control plane leaves; what is held goes on deciding to its end,
		// renewed until then.
		time.Sleep(12 * time.Second)
		send(t, s, c.renewal(12, second))
		c.leave()
		time.Sleep(time.Minute)
		if f.Connected() || !allows(f, "bea") {
			t.Errorf("after it left: %+v", f.Status())
		}
		stop()

		// A restart meanwhile changes nothing.
		f, _ = openFollower(t, c, dir)
		if !allows(f, "bea") || f.Status().Held.Sequence != 12 {
			t.Errorf("after a restart: %+v", f.Status())
		}
		time.Sleep(24 * time.Hour)
		if _, err := f.Current(); !errors.Is(err, snapshot.ErrEnded) {
			t.Errorf("a day later: %v", err)
		}
		// Back again, it asks for what it does not have, and gets it renewed.
		c.mu.Lock()
		c.away = false
		n := len(c.streams)
		c.mu.Unlock()
		s = c.stream(n + 1)
		c.mu.Lock()
		if in := c.requests[len(c.requests)-1]; in.Sequence != 12 || len(in.Digest) != 64 {
			t.Errorf("resumes with %+v", in)
		}
		c.mu.Unlock()
		send(t, s, c.keys(), c.renewal(13, second))
		if !allows(f, "bea") {
			t.Errorf("renewed: %+v", f.Status())
		}
		// Silence is an end, too.
		time.Sleep(silence + time.Second)
		if c.stream(n + 2); f.Status().Last == nil {
			t.Errorf("after silence: %+v", f.Status())
		}
	})
}

func TestRefusedFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, mallory := newCentre(t), newCentre(t)
		mallory.key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))
		other := c.header(30)
		other.Site = "red"
		content := authz.Content{}
		foreign, _, err := snapshot.Seal(&content, snapshot.Credentials{}, other, c)
		if err != nil {
			t.Fatal(err)
		}
		cut := c.policy(31, "eve")
		changed := bytes.Clone(c.policy(32, "eve"))
		changed[len(changed)-1] ^= 1
		f, _ := openFollower(t, c, filepath.Join(t.TempDir(), "policy"))
		streams := 1
		send(t, c.stream(streams), c.keys(), c.policy(20, "ada"))
		for name, frame := range map[string][]byte{
			"of another key": mallory.policy(33, "eve"), "older": c.policy(19, "eve"), "the same number": c.policy(20, "eve"),
			"of another site": foreign, "cut": cut[:len(cut)-1], "changed": changed, "nonsense": []byte("nonsense"),
			"no keys": []byte("gatehouse policy keys 1\n{}"),
		} {
			refused := f.Status().Refused
			send(t, c.stream(streams), c.keys(), frame)
			if s := f.Status(); s.Refused != refused+1 || s.Held.Sequence != 20 || !allows(f, "ada") || allows(f, "eve") {
				t.Errorf("%s: %+v", name, s)
			}
			streams++ // it is tried again
			c.stream(streams)
		}
		// A renewal of policy that is not held: the whole is asked for.
		send(t, c.stream(streams), c.keys(), c.renewal(40, c.policy(39, "bea")))
		streams++
		c.stream(streams)
		c.mu.Lock()
		if in := c.requests[len(c.requests)-1]; in.Sequence != 0 || in.Digest != "" {
			t.Errorf("asks with %+v", in)
		}
		c.mu.Unlock()
		send(t, c.stream(streams), c.keys(), c.policy(41, "bea"))
		if !allows(f, "bea") {
			t.Errorf("%+v", f.Status())
		}
	})
}

// TestStateOnDisk changes what is kept while nothing runs.
func TestStateOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCentre(t)
		origin := filepath.Join(t.TempDir(), "policy")
		f, stop := openFollower(t, c, origin)
		send(t, c.stream(1), c.keys(), c.policy(50, "ada"))
		send(t, c.stream(1), c.policy(51, "bea"))
		if !allows(f, "bea") {
			t.Fatal("no policy")
		}
		stop()
		c.leave()
		files := map[string][]byte{}
		entries, err := os.ReadDir(origin)
		if err != nil {
			t.Fatal(err)
		}
		body := ""
		for _, e := range entries {
			if files[e.Name()], err = os.ReadFile(filepath.Join(origin, e.Name())); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(e.Name(), bodyPrefix) {
				body = e.Name()
			}
		}
		if len(files) != 3 {
			t.Errorf("kept: %v", entries)
		}
		flip := func(name string) func(map[string][]byte) {
			return func(m map[string][]byte) { b := bytes.Clone(m[name]); b[len(b)-1] ^= 1; m[name] = b }
		}
		evil := c.policy(52, "eve")
		_, evilHead, evilBody, err := snapshot.Parts(evil)
		if err != nil {
			t.Fatal(err)
		}
		mallory := newCentre(t)
		mallory.key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))
		_, forgedHead, _, err := snapshot.Parts(mallory.policy(53, "bea"))
		if err != nil {
			t.Fatal(err)
		}
		for name, harm := range map[string]func(map[string][]byte){
			"body changed": flip(body), "head changed": flip(headFile), "keys changed": flip(keysFile),
			"body gone": func(m map[string][]byte) { delete(m, body) }, "keys gone": func(m map[string][]byte) { delete(m, keysFile) },
			"head gone": func(m map[string][]byte) { delete(m, headFile) }, "head empty": func(m map[string][]byte) { m[headFile] = nil },
			"another body": func(m map[string][]byte) { m[body] = evilBody },
			"another head": func(m map[string][]byte) { m[headFile] = evilHead },
			"forged head":  func(m map[string][]byte) { m[headFile] = forgedHead },
			"whole frame":  func(m map[string][]byte) { m[headFile] = evil },
		} {
			dir := filepath.Join(t.TempDir(), "policy")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			changed := map[string][]byte{}
			for k, v := range files {
				changed[k] = v
			}
			harm(changed)
			for k, v := range changed {
				if err := os.WriteFile(filepath.Join(dir, k), v, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			g, stop := openFollower(t, c, dir)
			if _, err := g.Current(); !errors.Is(err, snapshot.ErrEnded) || allows(g, "eve") {
				t.Errorf("%s: decides: %v", name, err)
			}
			stop()
		}
		// Untouched it decides, and nothing older counts any more.
		c.mu.Lock()
		c.away = false
		n := len(c.streams)
		c.mu.Unlock()
		f, _ = openFollower(t, c, origin)
		if !allows(f, "bea") {
			t.Fatalf("%+v", f.Status())
		}
		send(t, c.stream(n+1), c.keys(), c.policy(50, "ada"))
		if s := f.Status(); s.Refused != 1 || !allows(f, "bea") || allows(f, "ada") {
			t.Errorf("went back: %+v", s)
		}
	})
}

// TestBarred turns the site off and on again.
func TestBarred(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policy")
	synctest.Test(t, func(t *testing.T) {
		c := newCentre(t)
		f, stop := openFollower(t, c, dir)
		send(t, c.stream(1), c.keys(), c.policy(1, "ada"))
		turn := func(status int) {
			c.mu.Lock()
			c.status = status
			c.streams[len(c.streams)-1].Close()
			c.mu.Unlock()
			time.Sleep(10 * time.Second)
		}
		// What is no refusal of the site changes nothing.
		for _, status := range []int{401, 429, 500, 503} {
			if turn(status); !allows(f, "ada") {
				t.Errorf("status %d: %+v", status, f.Status())
			}
		}
		if turn(403); allows(f, "ada") {
			t.Error("a site that is turned off decides")
		}
		stop()
		f, _ = openFollower(t, c, dir)
		if _, err := f.Current(); !errors.Is(err, ErrBarred) {
			t.Errorf("after a restart: %v", err)
		}
		c.mu.Lock()
		n := len(c.streams)
		c.mu.Unlock()
		turn(0)
		send(t, c.stream(n+1), c.keys(), c.policy(2, "ada"))
		if !allows(f, "ada") {
			t.Errorf("turned on again: %+v", f.Status())
		}
		if _, err := os.Stat(filepath.Join(dir, barredFile)); err == nil {
			t.Error("still barred on disk")
		}
	})
}

// TestDenyOnly has the control plane take the right to grant, and give it back.
func TestDenyOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policy")
	synctest.Test(t, func(t *testing.T) {
		c := newCentre(t)
		c.mode = "Full"
		f, stop := openFollower(t, c, dir)
		send(t, c.stream(1), c.keys(), c.policy(1, "ada"))
		if f.DenyOnly() {
			t.Error("mode full")
		}
		turn := func(mode string, n int) {
			c.mu.Lock()
			c.mode = mode
			c.streams[len(c.streams)-1].Close()
			c.mu.Unlock()
			time.Sleep(10 * time.Second)
			send(t, c.stream(n), c.keys())
		}
		if turn("Deny", 2); !f.DenyOnly() {
			t.Error("mode deny is not heard")
		}
		stop()
		f, _ = openFollower(t, c, dir)
		if !f.DenyOnly() {
			t.Error("mode deny is forgotten over a restart")
		}
		// A server that does not say it changes nothing.
		send(t, c.stream(3), c.keys())
		if turn("", 4); !f.DenyOnly() {
			t.Error("silence gives back the right to grant")
		}
		if turn("Full", 5); f.DenyOnly() {
			t.Error("mode full is not heard")
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"no server": func(c *Config) { c.Servers = nil }, "http": func(c *Config) { c.Servers = []string{"http://x"} },
		"a name that does not print": func(c *Config) { c.Name = "a\nb" }, "no site": func(c *Config) { c.Site = "" },
		"a file for a directory": func(c *Config) { c.Dir = "/dev/null" },
	} {
		cfg := Config{Servers: []string{"https://x"}, Site: "blue", Name: "h", Client: &http.Client{}, Dir: filepath.Join(t.TempDir(), "d"),
			Conditions: "v1", Compile: func(string) (authz.Condition, error) { return nil, nil }, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		change(&cfg)
		if _, err := Open(cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}
