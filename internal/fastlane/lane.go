package fastlane

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/federation/policystream"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Authenticator verifies the credential of a request to the API. The context is
// not that of the request, which ends with its client.
type Authenticator func(ctx context.Context, r *http.Request) (id authn.Identity, ok bool, err error)

// Reviews answers questions. An error means that no answer can be given.
type Reviews interface {
	// Permit decides whether a caller may do what req says.
	Permit(ctx context.Context, caller resource.Caller, req *authz.Request) (allowed bool, reason string, err error)
	// Access answers a SubjectAccessReview of the control plane. A question
	// that is malformed gets a Kubernetes status error.
	Access(ctx context.Context, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error)
	// AccessAtSite answers a site. denials restricts the answer to denied or
	// no opinion.
	AccessAtSite(ctx context.Context, site *federation.Site, denials bool, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error)
	// Token answers a TokenReview of the control plane.
	Token(ctx context.Context, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error)
	// TokenAtSite answers a site about a token for the site's audience.
	TokenAtSite(ctx context.Context, site *federation.Site, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error)
}

// Sites recognises sites and knows what is written about them.
type Sites interface {
	// Verify proves that a client certificate is a site's.
	Verify(ctx context.Context, peer []*x509.Certificate) (authn.Site, error)
	// Get returns a connected site.
	Get(name string) (*federation.Site, bool)
	// Heard notes that a site used a door.
	Heard(name, door string, at time.Time)
}

// Config is what the lane needs. Everything is required that does not say
// otherwise.
type Config struct {
	// Frame serves whatever the lane does not.
	Frame        http.Handler
	Authenticate Authenticator
	Reviews      Reviews
	Sites        Sites
	Recorder     audit.Recorder
	// Policy says what is recorded of each request.
	Policy Policy
	Batch  audit.BatchRecorder
	// SiteTokens signs the tokens of sites; nil closes those doors.
	SiteTokens SiteTokens
	// Objects takes what sites tell of their objects; nil closes that door.
	Objects SiteObjects
	// Totals takes what the kube-apiservers of sites say of their audit events;
	// nil closes that door.
	Totals Totals
	// Snapshots is the policy that sites follow; nil closes those doors.
	Snapshots *policystream.Publisher
	// Acknowledged, if set, is told that a site decides by the policy of a
	// time.
	Acknowledged func(site string, policyOf time.Time)
	// Collect serves the doors at which logs are taken in and reports whether
	// a path is one of them; nil closes those doors.
	Collect func(w http.ResponseWriter, r *http.Request) bool
	// Observe, if set, is told of the events that a site delivered, and what
	// became of them.
	Observe func(site string, events []audit.Event, result audit.BatchResult, err error)
	Now     func() time.Time
	Log     *slog.Logger
	Metrics *Metrics
	// InFlight bounds the requests that are served at once; more are told to
	// come back. No caller gets more than a quarter of it.
	InFlight int

	times times // tests shorten them
}

// times are how long a request may take, its body and its record included.
type times struct{ request, ingest, frameBody time.Duration }

// usualTimes: frameBody is for the bodies that the frame reads; the library
// bounds its answers.
var usualTimes = times{request: 10 * time.Second, ingest: 30 * time.Second, frameBody: 30 * time.Second}

// Lane is the fast lane. It is an http.Handler for the whole listener.
type Lane struct {
	Config
	slots chan struct{}
	// callers and ingest bound what one caller does at once: requests, and
	// posts of events, whose bodies are large.
	callers, ingest *shares
	turns           sync.Pool
	levels          levels
}

// New checks the configuration.
func New(c Config) (*Lane, error) {
	if c.Frame == nil || c.Authenticate == nil || c.Reviews == nil || c.Sites == nil || c.Recorder == nil || c.Policy == nil || c.Batch == nil || c.Now == nil || c.Log == nil || c.Metrics == nil || c.InFlight <= 0 {
		return nil, errors.New("fastlane: incomplete configuration")
	}
	if c.times == (times{}) {
		c.times = usualTimes
	}
	l := &Lane{
		Config: c, slots: make(chan struct{}, c.InFlight),
		callers: newShares(c.InFlight, max(1, c.InFlight/4)),
		ingest:  newShares(maxIngests, maxIngestsOfSite),
	}
	l.levels.policy = c.Policy
	l.turns.New = func() any { return new(turn) }
	return l, nil
}

const (
	pathAccessReview = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
	pathTokenReview  = "/apis/authentication.k8s.io/v1/tokenreviews"
	pathSites        = "/sites/"
	pathEvents       = "/audit"
	pathObjects      = "/objects"
)

// ServeHTTP serves what belongs to the lane and hands on the rest.
func (l *Lane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case path == pathAccessReview:
		if usual(r) {
			l.limited(w, r, routeAccessReview, l.times.request, (*turn).accessReview)
			return
		}
	case path == pathTokenReview:
		if usual(r) {
			l.limited(w, r, routeTokenReview, l.times.request, (*turn).tokenReview)
			return
		}
	case strings.HasPrefix(path, pathSites) && isFollow(path):
		l.snapshot(w, r)
		return
	case strings.HasPrefix(path, pathSites):
		// They read for as long as there is something, and bound it themselves.
		if l.Collect != nil && r.URL.RawPath == "" && l.Collect(w, r) {
			return
		}
		timeout := l.times.request
		if strings.HasSuffix(path, pathEvents) || strings.HasSuffix(path, pathObjects) {
			timeout = l.times.ingest
		}
		l.limited(w, r, routeSite, timeout, (*turn).door)
		return
	}
	l.frame(w, r)
}

// usual reports whether a review can be answered here.
func usual(r *http.Request) bool {
	if r.Method != http.MethodPost || r.URL.RawQuery != "" || r.ContentLength > maxReviewBody {
		return false
	}
	for k, v := range r.Header {
		switch k {
		case "Content-Type":
			if len(v) != 1 || v[0] != "application/json" {
				return false
			}
		case "Accept":
			if len(v) != 1 || v[0] != "application/json" && v[0] != "*/*" && v[0] != "application/json, */*" {
				return false
			}
		case "Content-Encoding", "Expect":
			return false
		default:
			if strings.HasPrefix(k, "Impersonate-") {
				return false
			}
		}
	}
	return r.Header["Content-Type"] != nil
}

// limited serves a request if there is room. Once its time is over, whatever
// it still reads or writes fails: a slow client must not keep a place.
func (l *Lane) limited(w http.ResponseWriter, r *http.Request, to route, timeout time.Duration, serve func(*turn) int) {
	growStack(int(to))
	start := l.Now()
	select {
	case l.slots <- struct{}{}:
	default:
		// Not recorded: who asked is not known, and the record may be what is
		// slow. The metric counts it.
		l.Metrics.observe(to, refuse(w, http.StatusTooManyRequests, "TooManyRequests", "too many requests are in flight; try again"), 0)
		return
	}
	code, read := l.place(w, r, to, start, timeout, serve)
	l.Metrics.observe(to, code, l.Now().Sub(start))
	if code == toFrame {
		l.frame(w, replay(r, read))
	}
}

// growStack makes the stack of a new goroutine as large as a review needs,
// while there are few frames on it: growing by doubling, deep in a call, costs
// a review several microseconds.
//
//go:noinline
func growStack(n int) byte {
	var room [6 << 10]byte
	return room[n]
}

// place serves a request that has a slot and gives the slot back. It returns
// what was read of the body as well.
func (l *Lane) place(w http.ResponseWriter, r *http.Request, to route, start time.Time, timeout time.Duration, serve func(*turn) int) (code int, read string) {
	// A client that goes away must not take the record of what it did along.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), timeout)
	e := &exchange{w: w}
	late := time.AfterFunc(timeout, e.cut)
	t := l.begin(ctx, w, r, to, start)
	defer func() {
		late.Stop()
		e.end()
		cancel()
		l.end(t)
		<-l.slots
	}()
	return t.run(serve), t.read
}
