package webhookauth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

// Config is what a verifier needs.
type Config struct {
	// Issuer is the iss of the control plane's tokens, an https URL. The
	// discovery documents are fetched from below it. Required.
	Issuer string
	// Audience is the webhook: what callers have their tokens minted for. Its
	// https URL is the right choice. Required.
	Audience string
	// Client fetches the documents; it brings the trust in the server's
	// certificate, and a credential where the documents are not public. Nil
	// means one with the roots of the system. Redirects are never followed.
	Client *http.Client
	// Review asks the control plane about every token that its keys prove. Nil
	// trusts the keys alone: then a token is good until it expires, also after
	// its account was deleted or it was banned.
	Review *Review
	// Leeway is how far clocks may be apart. 0 means one minute.
	Leeway time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Caller is who calls a webhook.
type Caller struct {
	// User, UID and Groups are the service account by the names of the control
	// plane.
	User, UID string
	Groups    []string
	// Namespace and ServiceAccount are the account.
	Namespace, ServiceAccount string
	// CredentialID is "JTI=…": the control plane's record and bans use it.
	CredentialID string
	Expires      time.Time
	// Pod, PodUID, Container and Node say what the token is bound to; empty
	// where it is not.
	Pod, PodUID, Container, Node string
	// AdmissionReviewAPIGroup is the API group about which the caller may ask
	// an admission webhook, "*" for all, or empty if the token attests none.
	AdmissionReviewAPIGroup string
}

// MayReview reports whether the caller may ask about objects of an API group
// (KEP-6060). The core group has no name that could be attested: it needs "*".
func (c Caller) MayReview(group string) bool {
	return c.AdmissionReviewAPIGroup == "*" || group != "" && c.AdmissionReviewAPIGroup == group
}

// Why a call is not authenticated. Errors of [Verifier.Verify] wrap one of
// them.
var (
	// ErrUnauthenticated is a call without a token, or with one that is
	// refused.
	ErrUnauthenticated = errors.New("the call is not authenticated")
	// ErrUnavailable is a call about whose token nothing can be said now: it
	// must be refused too, and may be made again.
	ErrUnavailable = errors.New("the call cannot be authenticated now")
)

// Verifier proves who calls. It is safe for concurrent use.
type Verifier struct {
	audience string
	leeway   time.Duration
	now      func() time.Time
	keys     *keySource
	review   *Review

	mu sync.Mutex // guards proven
	// proven are tokens that were proven lately, by hash.
	proven map[[sha256.Size]byte]proof
}

type proof struct {
	caller Caller
	// reviewed is when the control plane last confirmed the token.
	reviewed time.Time
	keys     *generation
}

// maxProven bounds the tokens that are remembered.
const maxProven = 4096

// New returns a verifier. It fetches nothing until the first call.
func New(c Config) (*Verifier, error) {
	if c.Audience == "" {
		return nil, errors.New("webhookauth: no audience: a token for anybody would be accepted")
	}
	if err := https(c.Issuer); err != nil {
		return nil, fmt.Errorf("webhookauth: issuer: %w", err)
	}
	if c.Review != nil {
		if err := https(c.Review.Server); err != nil {
			return nil, fmt.Errorf("webhookauth: review: %w", err)
		}
		if c.Review.Client == nil {
			return nil, errors.New("webhookauth: review: a client with a credential is required")
		}
	}
	v := &Verifier{audience: c.Audience, leeway: c.Leeway, now: c.Now, review: c.Review, proven: map[[sha256.Size]byte]proof{}}
	if v.leeway <= 0 {
		v.leeway = time.Minute
	}
	if v.now == nil {
		v.now = time.Now
	}
	keys, err := newKeySource(c.Issuer, c.Client, v.now)
	v.keys = keys
	return v, err
}

// Verify proves the value of an Authorization header.
func (v *Verifier) Verify(ctx context.Context, authorization string) (Caller, error) {
	scheme, token, ok := strings.Cut(authorization, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" || strings.ContainsAny(token, " \t") {
		return Caller{}, fmt.Errorf("%w: no bearer token", ErrUnauthenticated)
	}
	now, sum := v.now(), sha256.Sum256([]byte(token))
	known, ok := v.known(sum, now)
	if !ok {
		caller, keys, err := v.prove(ctx, token, now)
		if err != nil {
			return Caller{}, err
		}
		known = proof{caller: caller, keys: keys}
	}
	if v.review != nil && now.Sub(known.reviewed) >= v.review.remember() {
		if err := v.review.ask(ctx, token, v.audience, known.caller); err != nil {
			v.forget(sum)
			return Caller{}, err
		}
		known.reviewed = now
		ok = false
	}
	if !ok {
		v.remember(sum, known)
	}
	return known.caller, nil
}

// known finds a token that was proven and still holds by itself: it has not
// expired, and its keys are the current ones.
func (v *Verifier) known(sum [sha256.Size]byte, now time.Time) (proof, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p, ok := v.proven[sum]
	if ok && (!now.Before(p.caller.Expires) || p.keys != v.keys.current(now)) {
		delete(v.proven, sum)
		ok = false
	}
	return p, ok
}

func (v *Verifier) forget(sum [sha256.Size]byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.proven, sum)
}

func (v *Verifier) remember(sum [sha256.Size]byte, p proof) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, there := v.proven[sum]; !there && len(v.proven) >= maxProven {
		clear(v.proven) // a flood of good tokens costs their verification again
	}
	v.proven[sum] = p
}

// prove verifies a token with the issuer's keys. A key that is not known may
// be new: then they are fetched again, but not more often than a flood of
// forged tokens may cause.
func (v *Verifier) prove(ctx context.Context, token string, now time.Time) (Caller, *generation, error) {
	keys, err := v.keys.get(ctx, now, false)
	if err != nil {
		return Caller{}, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	o, err := authn.VerifyOffline(token, v.keys.issuer, keys.ring, now, v.leeway)
	if authn.ReasonOf(err) == authn.UnknownKey {
		if keys, err = v.keys.get(ctx, now, true); err != nil {
			return Caller{}, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		o, err = authn.VerifyOffline(token, v.keys.issuer, keys.ring, now, v.leeway)
	}
	if err != nil {
		return Caller{}, nil, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	if !slices.Contains(o.Audiences, v.audience) {
		return Caller{}, nil, fmt.Errorf("%w: the token is for %.200q, not for %q", ErrUnauthenticated, o.Audiences, v.audience)
	}
	c := Caller{
		User: o.User(), UID: o.AccountUID, Groups: o.Groups(), Namespace: o.Namespace, ServiceAccount: o.Account,
		Expires: o.Expires, Pod: o.PodName, PodUID: o.PodUID, Container: o.Container, Node: o.NodeName,
		AdmissionReviewAPIGroup: o.Attested,
	}
	if o.ID != "" {
		c.CredentialID = "JTI=" + o.ID
	}
	return c, keys, nil
}

type callerKey struct{}

// FromContext returns who makes the request that a handler behind
// [Verifier.Handler] serves.
func FromContext(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// Handler serves what is authenticated and permitted, and refuses the rest:
// with 401 without a proven caller, 403 when permit, which may be nil for
// everybody, says no, and 503 when nothing can be said now. The token is taken
// off the request.
func (v *Verifier) Handler(next http.Handler, permit func(Caller) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		values := r.Header.Values("Authorization")
		if len(values) != 1 {
			unauthorized(w)
			return
		}
		caller, err := v.Verify(r.Context(), values[0])
		switch {
		case errors.Is(err, ErrUnavailable):
			http.Error(w, "callers cannot be authenticated now", http.StatusServiceUnavailable)
			return
		case err != nil:
			unauthorized(w)
			return
		case permit != nil && !permit(caller):
			http.Error(w, "this caller is not served", http.StatusForbidden)
			return
		}
		r = r.Clone(context.WithValue(r.Context(), callerKey{}, caller))
		r.Header.Del("Authorization")
		next.ServeHTTP(w, r)
	})
}

func unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", "Bearer")
	http.Error(w, "a token for this webhook is required", http.StatusUnauthorized)
}
