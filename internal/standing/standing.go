// Package standing ends requests that stand open, such as watches, once their
// caller could not make them any more: its credential ended, it was banned, or
// it lost the right.
//
// A standing request is admitted again and again: its credential is verified
// and every question that was answered with yes when it came in is asked
// anew. The package owns that repetition and the end of the request; it holds
// no rule of its own. It looks only at requests that may stand open for long,
// by the letter of their URL, and lets all others pass untouched.
//
// Start with [New].
package standing

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Config is what a registry asks. Everything is required.
type Config struct {
	// Verify verifies the credential of a request again. An error of kind
	// Unauthenticated ends the request.
	Verify func(*http.Request) error
	// Decide answers a question. An error means that nothing was decided; the
	// request then stays.
	Decide func(context.Context, resource.Caller, *authz.Request) (allowed bool, reason string, err error)
	// Policy is a number that changes when the answers of Decide may.
	Policy func() uint64
	Now    func() time.Time
	Log    *slog.Logger
}

// How soon a standing request notices. Both leave room for a watch to deliver
// the change inside one second.
const (
	// afterChange is how often it is looked whether policy has changed.
	afterChange = 100 * time.Millisecond
	// always is how often every request is admitted again, because credentials
	// end and policies expire without any change.
	always = 500 * time.Millisecond
	// maxQuestions bounds what is remembered of one request. Impersonation asks
	// one question for each group; a request with more is admitted again by the
	// questions that came last.
	maxQuestions = 256
)

// Registry knows the standing requests. It is safe for concurrent use.
type Registry struct {
	Config

	mu   sync.Mutex // guards open
	open map[*request]struct{}
}

// request is one standing request.
type request struct {
	// credential is the request as it came in, for Verify.
	credential *http.Request
	end        context.CancelCauseFunc

	mu        sync.Mutex // guards questions and looking
	questions []question
	// looking is set while the request is looked at: an identity provider that
	// does not answer holds up the requests of its own users only.
	looking bool
}

type question struct {
	caller resource.Caller
	ask    authz.Request
}

// New returns a registry without requests.
func New(c Config) (*Registry, error) {
	if c.Verify == nil || c.Decide == nil || c.Policy == nil || c.Now == nil || c.Log == nil {
		return nil, errors.New("standing: incomplete configuration")
	}
	return &Registry{Config: c, open: map[*request]struct{}{}}, nil
}

type contextKey struct{}

// Handler serves with next and registers what may stand open.
func (g *Registry) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !standing(r) {
			next.ServeHTTP(w, r)
			return
		}
		ctx, end := context.WithCancelCause(r.Context())
		defer end(nil)
		// Whoever authenticates takes the credential off the request that is
		// served; what is verified again is a copy.
		s := &request{
			credential: &http.Request{Method: r.Method, URL: r.URL, Header: r.Header.Clone(), TLS: r.TLS, RemoteAddr: r.RemoteAddr, Host: r.Host},
			end:        end,
		}
		g.mu.Lock()
		g.open[s] = struct{}{}
		g.mu.Unlock()
		defer func() {
			g.mu.Lock()
			delete(g.open, s)
			g.mu.Unlock()
		}()
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, contextKey{}, s)))
	})
}

// standing reports whether a request may last: a watch, in either form, or an
// upgraded connection. It takes any use of the parameter for one, because the
// frame's reading of "true" is generous.
func standing(r *http.Request) bool {
	return strings.Contains(r.URL.RawQuery, "watch") || strings.Contains(r.URL.RawQuery, "follow") ||
		strings.Contains(r.URL.RawQuery, "%") || strings.Contains(r.URL.Path, "/watch/") || len(r.Header["Upgrade"]) > 0
}

// Permit answers with Decide and notes, for a standing request, what was
// allowed.
func (g *Registry) Permit(ctx context.Context, caller resource.Caller, ask *authz.Request) (allowed bool, reason string, err error) {
	allowed, reason, err = g.Config.Decide(ctx, caller, ask)
	if s, ok := ctx.Value(contextKey{}).(*request); ok && allowed && err == nil {
		s.note(question{caller, *ask})
	}
	return allowed, reason, err
}

func (s *request) note(q question) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.questions) == maxQuestions {
		s.questions = slices.Delete(s.questions, 0, 1)
	}
	s.questions = append(s.questions, q)
}

// Run admits standing requests again until ctx ends.
func (g *Registry) Run(ctx context.Context) error {
	tick := time.NewTicker(afterChange)
	defer tick.Stop()
	var looks sync.WaitGroup
	defer looks.Wait()
	var policy uint64
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, number := g.Now(), g.Policy()
		if number == policy && now.Sub(last) < always {
			continue
		}
		policy, last = number, now
		g.review(ctx, &looks)
	}
}

// review looks at every admitted request once, at each on its own.
func (g *Registry) review(ctx context.Context, looks *sync.WaitGroup) {
	g.mu.Lock()
	all := make([]*request, 0, len(g.open))
	for s := range g.open {
		all = append(all, s)
	}
	g.mu.Unlock()
	for _, s := range all {
		questions, ok := s.look()
		if !ok {
			continue
		}
		looks.Go(func() {
			defer s.looked()
			if why := g.over(ctx, s.credential, questions); why != nil {
				g.Log.Info("open request ended", "path", s.credential.URL.Path, "reason", fault.Public(why))
				s.end(why)
			}
		})
	}
}

// look returns what was allowed to a request, unless it is being looked at or
// nothing was allowed yet: what was not admitted is answered by whoever refuses
// it, not ended here.
func (s *request) look() (questions []question, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looking || len(s.questions) == 0 {
		return nil, false
	}
	s.looking = true
	return slices.Clone(s.questions), true
}

func (s *request) looked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looking = false
}

// over returns why a request may not go on, or nil.
func (g *Registry) over(ctx context.Context, credential *http.Request, questions []question) error {
	if err := g.Verify(credential.WithContext(ctx)); err != nil && fault.KindOf(err) == fault.Unauthenticated {
		return err
	}
	for i := range questions {
		q := &questions[i]
		if allowed, reason, err := g.Config.Decide(ctx, q.caller, &q.ask); err == nil && !allowed {
			return fault.Newf(fault.Denied, "user %q may not %s any more: %s", q.caller.Name, q.ask.Verb, reason)
		}
	}
	return nil
}
