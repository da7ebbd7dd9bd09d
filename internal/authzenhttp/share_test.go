package authzenhttp

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/authzen"
	"github.com/gatehouse-dev/gatehouse/internal/access/question"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Nobody's places are another's.
func TestShare(t *testing.T) {
	t.Parallel()
	s := newShare(8)
	var give []func()
	for _, caller := range []string{"a", "a", "b", "b", "c", "c"} {
		g, ok := s.take(caller)
		if !ok {
			t.Fatalf("%s has none", caller)
		}
		give = append(give, g)
	}
	if _, ok := s.take("a"); ok {
		t.Error("a takes more than its share")
	}
	for _, caller := range []string{"d", "e"} {
		if _, ok := s.take(caller); !ok {
			t.Errorf("%s is kept out", caller)
		}
	}
	if _, ok := s.take("f"); ok {
		t.Error("more than there are")
	}
	for _, g := range give {
		g()
	}
	if len(s.held) != 2 || s.taken != 2 {
		t.Errorf("%d, %v", s.taken, s.held)
	}
	if _, ok := s.take("a"); !ok {
		t.Error("a has its place back")
	}
}

// A caller whose bodies do not end keeps itself out while places are left.
func TestSlowCallerHasItsShare(t *testing.T) {
	t.Parallel()
	p := access.NewPolicy()
	p.ClusterRoles.Replace(nil)
	p.ClusterRoleBindings.Replace(nil)
	p.Roles.Replace(nil)
	p.RoleBindings.Replace(nil)
	p.Sites.Replace(nil)
	a, err := access.New(access.Config{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	slow := make(chan struct{}, 8) // a body of the slow caller is being read
	h, err := New(Config{
		Next:         http.NotFoundHandler(),
		Authenticate: func(*http.Request) (authn.Identity, bool, error) { return authn.Identity{}, true, nil },
		Permit:       func(context.Context, resource.Caller, *authz.Request) (bool, string, error) { return true, "", nil },
		Policy:       authzen.Policy{Asker: question.Asker{Access: a, Policy: p, Policies: question.NewPolicies()}},
		Recorder:     unread{}, AuditPolicy: &world{}, URL: "https://pdp.example", Now: time.Now, Log: slog.New(slog.DiscardHandler), InFlight: 8,
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(body io.Reader) int {
		r := httptest.NewRequest(http.MethodPost, authzen.EvaluationPath, body)
		r.ContentLength = int64(len(good))
		r.Header.Set("Content-Type", "application/json")
		out := httptest.NewRecorder()
		h.ServeHTTP(out, r)
		return out.Code
	}
	end := make(chan struct{})
	done := make(chan int, 8)
	for range 8 / callerShare {
		go func() { done <- ask(&blocked{slow, end, strings.NewReader(good)}) }()
	}
	for range 8 / callerShare {
		<-slow
	}
	if code := ask(strings.NewReader(good)); code != http.StatusTooManyRequests {
		t.Errorf("one more of the slow caller: %d", code)
	}
	close(end)
	for range 8 / callerShare {
		if code := <-done; code != http.StatusOK {
			t.Errorf("the slow caller, once its bodies end: %d", code)
		}
	}
	if code := ask(strings.NewReader(good)); code != http.StatusOK {
		t.Errorf("the slow caller, its places given back: %d", code)
	}
}

// blocked says that it is read, and goes on when it may.
type blocked struct {
	read chan<- struct{}
	end  <-chan struct{}
	rest io.Reader
}

func (b *blocked) Read(p []byte) (int, error) {
	if b.read != nil {
		b.read <- struct{}{}
		<-b.end
		b.read = nil
	}
	return b.rest.Read(p)
}

// unread keeps no events.
type unread struct{}

func (unread) Append(context.Context, *audit.Event, audit.Durability) error { return nil }
