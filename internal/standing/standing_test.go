package standing

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// world is what the registry of a test asks.
type world struct {
	refused, unavailable atomic.Bool // the credential
	banned, stale        atomic.Bool // the decision
	policy               atomic.Uint64
}

func (w *world) registry(t *testing.T) *Registry {
	t.Helper()
	g, err := New(Config{
		Verify: func(r *http.Request) error {
			if r.Header.Get("Authorization") != "Bearer ada" {
				return fault.New(fault.Unauthenticated, "the credential was taken off")
			}
			switch {
			case w.unavailable.Load():
				return fault.New(fault.Unavailable, "not now")
			case w.refused.Load():
				return fault.New(fault.Unauthenticated, "ended")
			}
			return nil
		},
		Decide: func(_ context.Context, c resource.Caller, q *authz.Request) (bool, string, error) {
			if w.stale.Load() {
				return false, "", errors.New("stale")
			}
			return q.Verb != "never" && !w.banned.Load(), "a rule", nil
		},
		Policy: w.policy.Load,
		Now:    time.Now,
		Log:    slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// open serves one request that stands until its context ends, and returns how
// long it stood after change was called.
func (w *world) open(t *testing.T, target string, change func()) (stood time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := w.registry(t)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- g.Run(ctx) }()
		h := g.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			r.Header.Del("Authorization") // as the frame does
			if ok, _, err := g.Permit(r.Context(), resource.Caller{Name: "ada"}, &authz.Request{Verb: "watch"}); !ok || err != nil {
				t.Errorf("permit: %v %v", ok, err)
			}
			if ok, _, _ := g.Permit(r.Context(), resource.Caller{Name: "ada"}, &authz.Request{Verb: "never"}); ok {
				t.Error("what is refused is not allowed")
			}
			select {
			case <-r.Context().Done():
			case <-time.After(time.Hour):
			}
		}))
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		r.Header.Set("Authorization", "Bearer ada")
		done := make(chan struct{})
		go func() { h.ServeHTTP(httptest.NewRecorder(), r); close(done) }()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("ended before anything changed")
		default:
		}
		began := time.Now()
		change()
		<-done
		stood = time.Since(began)
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if len(g.open) != 0 {
			t.Error("an ended request is remembered")
		}
	})
	return stood
}

func TestEndsWithinTheSecond(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*world){
		"credential refused": func(w *world) { w.refused.Store(true) },
		"right lost":         func(w *world) { w.banned.Store(true); w.policy.Add(1) },
		"right expired":      func(w *world) { w.banned.Store(true) },
	} {
		for _, target := range []string{"/api/v1/pods?watch=true", "/api/v1/watch/pods", "/api/v1/pods?%77atch=1"} {
			t.Run(name+target, func(t *testing.T) {
				t.Parallel()
				var w world
				if stood := w.open(t, target, func() { change(&w) }); stood > 600*time.Millisecond {
					t.Errorf("stood %v", stood)
				}
			})
		}
	}
}

func TestStaysWhereNothingIsDecided(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*world){
		"credential cannot be verified": func(w *world) { w.unavailable.Store(true) },
		"policy is stale":               func(w *world) { w.banned.Store(true); w.stale.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w world
			if stood := w.open(t, "/api/v1/pods?watch=1", func() { change(&w) }); stood < 30*time.Minute {
				t.Errorf("ended after %v", stood)
			}
		})
	}
}

// What was not admitted yet is refused by whoever authenticates it, in its own
// words; ended here it would be answered with a timeout.
func TestEndsOnlyWhatWasAdmitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w world
		w.refused.Store(true)
		g := w.registry(t)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- g.Run(ctx) }()
		r := httptest.NewRequest(http.MethodGet, "/api/v1/pods?labelSelector=a%3Db", nil)
		r.Header.Set("Authorization", "Bearer ada")
		g.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			time.Sleep(10 * time.Second)
			if err := r.Context().Err(); err != nil {
				t.Errorf("ended while it was authenticated: %v", context.Cause(r.Context()))
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
		cancel()
		<-ran
	})
}

// A provider that does not answer is asked about one request; the next one is
// ended in time nevertheless.
func TestOneWaitsForNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w world
		g := w.registry(t)
		verify := g.Verify
		g.Verify = func(r *http.Request) error {
			if r.URL.Path == "/slow" {
				<-r.Context().Done()
				return r.Context().Err()
			}
			return verify(r)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- g.Run(ctx) }()
		h := g.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _, _ = g.Permit(r.Context(), resource.Caller{Name: "ada"}, &authz.Request{Verb: "watch"})
			<-r.Context().Done()
		}))
		done := map[string]chan struct{}{"/slow": make(chan struct{}), "/other": make(chan struct{})}
		for path, c := range done {
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, path+"?watch=1", nil)
			r.Header.Set("Authorization", "Bearer ada")
			go func() { h.ServeHTTP(httptest.NewRecorder(), r); close(c) }()
		}
		time.Sleep(time.Minute)
		began := time.Now()
		w.refused.Store(true)
		<-done["/other"]
		if stood := time.Since(began); stood > 600*time.Millisecond {
			t.Errorf("stood %v", stood)
		}
		cancel()
		<-done["/slow"]
		<-ran
	})
}

func TestOtherRequestsPass(t *testing.T) {
	t.Parallel()
	g := new(world).registry(t)
	g.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if len(g.open) != 0 || r.Context().Value(contextKey{}) != nil {
			t.Error("a list is taken for a standing request")
		}
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/api/v1/pods?limit=500", nil))
}

func TestConfigIsComplete(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Error("an empty configuration is accepted")
	}
}
