package fastlane

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
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
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Authenticator verifies the credential of a request to the API.
type Authenticator func(r *http.Request) (id authn.Identity, ok bool, err error)

// Reviews answers questions. An error means that no answer can be given.
type Reviews interface {
	// Permit decides whether a caller may do what req says.
	Permit(ctx context.Context, caller resource.Caller, req *authz.Request) (allowed bool, reason string, err error)
	// Access answers a SubjectAccessReview of the control plane.
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

// Config is what the lane needs. Everything is required.
type Config struct {
	// Frame serves whatever the lane does not.
	Frame        http.Handler
	Authenticate Authenticator
	Reviews      Reviews
	Sites        Sites
	Recorder     audit.Recorder
	Batch        audit.BatchRecorder
	Now          func() time.Time
	Log          *slog.Logger
	Metrics      *Metrics
	// InFlight bounds the requests that are served at once; more are told to
	// come back.
	InFlight int
}

// Lane is the fast lane. It is an http.Handler for the whole listener.
type Lane struct {
	Config
	slots   chan struct{}
	buffers sync.Pool
}

// New checks the configuration.
func New(c Config) (*Lane, error) {
	if c.Frame == nil || c.Authenticate == nil || c.Reviews == nil || c.Sites == nil || c.Recorder == nil || c.Batch == nil || c.Now == nil || c.Log == nil || c.Metrics == nil || c.InFlight <= 0 {
		return nil, errors.New("fastlane: incomplete configuration")
	}
	l := &Lane{Config: c, slots: make(chan struct{}, c.InFlight)}
	l.buffers.New = func() any { return new(scratch) }
	return l, nil
}

// scratch is reused between requests.
type scratch struct{ out []byte }

// requestTimeout bounds one request of the lane, its record included.
const requestTimeout = 10 * time.Second

const (
	pathAccessReview = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
	pathTokenReview  = "/apis/authentication.k8s.io/v1/tokenreviews"
	pathSites        = "/sites/"
)

// ServeHTTP serves what belongs to the lane and hands on the rest.
func (l *Lane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == pathAccessReview:
		if usual(r) {
			l.limited(w, r, "subjectaccessreview", l.accessReview)
			return
		}
	case r.URL.Path == pathTokenReview:
		if usual(r) {
			l.limited(w, r, "tokenreview", l.tokenReview)
			return
		}
	case strings.HasPrefix(r.URL.Path, pathSites):
		l.limited(w, r, "site", l.door)
		return
	}
	l.Frame.ServeHTTP(w, r)
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

// limited serves a request if there is room.
func (l *Lane) limited(w http.ResponseWriter, r *http.Request, route string, serve func(http.ResponseWriter, *http.Request) int) {
	start := l.Now()
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	default:
		l.Metrics.observe(route, refuse(w, http.StatusTooManyRequests, "TooManyRequests", "too many requests are in flight; try again"), 0)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	code := serve(w, r.WithContext(ctx))
	l.Metrics.observe(route, code, l.Now().Sub(start))
}

// body reads at most limit bytes; ok is false when there are more or the body
// broke off.
func body(r *http.Request, limit int64) (string, bool) {
	var b strings.Builder
	if r.ContentLength > 0 && r.ContentLength <= limit {
		b.Grow(int(r.ContentLength))
	}
	n, err := io.Copy(&b, io.LimitReader(r.Body, limit+1))
	return b.String(), err == nil && n <= limit
}

// replay gives the frame a request whose body the lane has read.
func replay(r *http.Request, read string) *http.Request {
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(strings.NewReader(read), r.Body), r.Body}
	return r
}
