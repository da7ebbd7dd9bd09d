package identityprovider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/authn/strictjson"
)

// How keys of an issuer age.
const (
	// freshFor is how long keys are used without asking again: the longest
	// that a key the issuer withdrew still verifies.
	freshFor = 5 * time.Minute
	// staleFor is how long keys are used while the issuer does not answer.
	staleFor = time.Hour
	// askAgain is the shortest time between two fetches, whatever tokens ask
	// for: unknown key ids must not make us a source of requests.
	askAgain = 10 * time.Second
)

// remoteKeys are the keys that an issuer publishes. It implements the key set
// of upstream's authenticator.
type remoteKeys struct {
	issuer    string
	discovery string
	client    *http.Client
	now       func() time.Time

	// fetching lets one caller fetch at a time; it is a channel so that the
	// others can stop waiting.
	fetching chan struct{}

	// mu guards what follows.
	mu      sync.Mutex
	keys    map[string]*jws.Key
	fetched time.Time // of the keys
	asked   time.Time // the last attempt
	failure error     // of the last attempt
}

func newRemoteKeys(issuer, discovery string, client *http.Client, now func() time.Time) *remoteKeys {
	if discovery == "" {
		discovery = strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
	}
	return &remoteKeys{issuer: issuer, discovery: discovery, client: client, now: now, fetching: make(chan struct{}, 1)}
}

// errUnavailable marks errors that say nothing about a token.
var errUnavailable = errors.New("the issuer's keys are not available")

// outcome is the context key under which VerifyToken learns that keys were not
// available: between here and there upstream turns errors into text.
type outcome struct{}

// VerifySignature returns the payload of a token that a key of the issuer
// signed.
func (r *remoteKeys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	unverified, err := jws.ParseForeign(token)
	if err != nil {
		return nil, err
	}
	key, err := r.find(ctx, unverified)
	if err != nil {
		if report, ok := ctx.Value(outcome{}).(*error); ok && errors.Is(err, errUnavailable) {
			*report = err
		}
		return nil, err
	}
	return unverified.Verify(key)
}

var errUnknownKey = errors.New("the token names no key of its issuer")

// find returns the key that a token names, fetching keys when they are old or
// the name is new.
func (r *remoteKeys) find(ctx context.Context, token jws.Unverified) (*jws.Key, error) {
	key, fresh, _ := r.look(token)
	if key != nil && fresh {
		return key, nil
	}
	if err := r.refresh(ctx); err != nil {
		return nil, err
	}
	key, _, failure := r.look(token)
	switch {
	case key != nil:
		return key, nil
	case failure != nil:
		// The key may be one that we could not learn of.
		return nil, fmt.Errorf("%w: %w", errUnavailable, failure)
	default:
		return nil, errUnknownKey
	}
}

// look finds a key among those known. A token that names none is verified only
// when the issuer has but one key for its algorithm.
func (r *remoteKeys) look(token jws.Unverified) (key *jws.Key, fresh bool, failure error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	age := r.now().Sub(r.fetched)
	if r.keys == nil || age > staleFor {
		return nil, false, r.failure
	}
	if id := token.KeyID(); id != "" {
		return r.keys[id], age < freshFor, r.failure
	}
	for _, candidate := range r.keys {
		if candidate.Algorithm() != token.Algorithm() {
			continue
		}
		if key != nil {
			return nil, age < freshFor, r.failure
		}
		key = candidate
	}
	return key, age < freshFor, r.failure
}

// refresh fetches the keys unless somebody just did. A failure is kept for
// look; only the end of the caller's own time is returned.
func (r *remoteKeys) refresh(ctx context.Context) error {
	select {
	case r.fetching <- struct{}{}:
		defer func() { <-r.fetching }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errUnavailable, context.Cause(ctx))
	}
	r.mu.Lock()
	recent := !r.asked.IsZero() && r.now().Sub(r.asked) < askAgain
	r.mu.Unlock()
	if recent {
		return nil
	}
	keys, err := r.fetch(ctx)
	if ctx.Err() != nil {
		// Not the issuer's fault, and the next caller may have more time.
		return fmt.Errorf("%w: %w", errUnavailable, context.Cause(ctx))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked, r.failure = r.now(), err
	if err == nil {
		r.keys, r.fetched = keys, r.asked
	}
	return nil
}

func (r *remoteKeys) fetch(ctx context.Context) (map[string]*jws.Key, error) {
	document, err := get(ctx, r.client, r.discovery)
	if err != nil {
		return nil, fmt.Errorf("discovery document: %w", err)
	}
	v, err := strictjson.Parse(document)
	if err != nil {
		return nil, fmt.Errorf("discovery document: %w", err)
	}
	// OpenID Connect Discovery 1.0 §4.3: it must be about this issuer.
	if issuer := v.Get("issuer"); issuer.Kind != strictjson.String || issuer.Text != r.issuer {
		return nil, fmt.Errorf("discovery document: it is about issuer %.200q, not %q", issuer.Text, r.issuer)
	}
	location, err := url.Parse(v.Get("jwks_uri").Text)
	if err != nil || location.Scheme != "https" || location.Host == "" || location.User != nil {
		return nil, errors.New("discovery document: jwks_uri is no https URL")
	}
	data, err := get(ctx, r.client, location.String())
	if err != nil {
		return nil, err
	}
	list, err := jws.ParseKeySet(data)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("key set: no key that verifies signatures")
	}
	keys := make(map[string]*jws.Key, len(list))
	for _, key := range list {
		keys[key.ID()] = key
	}
	return keys, nil
}
