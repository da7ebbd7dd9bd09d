package webhookauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
)

// Times and bounds of the issuer's documents.
const (
	// fresh is how long keys are used before they are fetched again; the
	// issuer publishes a key for longer than that before it signs.
	fresh = 10 * time.Minute
	// stale is how long keys are used when they cannot be fetched.
	stale = time.Hour
	// again is the least time between two fetches, whatever callers send.
	again = 10 * time.Second

	maxDocument  = 256 << 10
	fetchTimeout = 5 * time.Second
)

// generation is the keys of one fetch.
type generation struct {
	ring *authn.KeyRing
	at   time.Time
}

// keySource fetches the keys of an issuer and keeps them for a while.
type keySource struct {
	issuer string
	client *http.Client
	now    func() time.Time

	mu      sync.Mutex // guards what follows
	keys    *generation
	tried   time.Time
	failure error
	running chan struct{} // closed when the fetch under way has ended
}

func newKeySource(issuer string, client *http.Client, now func() time.Time) (*keySource, error) {
	own := http.Client{}
	if client != nil {
		own = *client
	}
	own.Timeout = fetchTimeout
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return errors.New("redirects are not followed") }
	return &keySource{issuer: issuer, client: &own, now: now}, nil
}

// https holds a URL to what a token may be sent to, or keys come from.
func https(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q is not an https URL without user, query and fragment", text)
	}
	return nil
}

// current returns the keys in use, or nil when there are none to be used.
func (s *keySource) current(now time.Time) *generation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil || now.Sub(s.keys.at) >= stale {
		return nil
	}
	return s.keys
}

// get returns the keys, fetched again when they are old, or when newer wants
// others than those at hand. At most one fetch runs, and none within again of
// the last.
func (s *keySource) get(ctx context.Context, now time.Time, newer bool) (*generation, error) {
	for {
		s.mu.Lock()
		usable := s.keys != nil && now.Sub(s.keys.at) < stale
		due := newer || s.keys == nil || now.Sub(s.keys.at) >= fresh
		switch {
		case usable && (!due || now.Sub(s.tried) < again):
			defer s.mu.Unlock()
			return s.keys, nil
		case !usable && s.running == nil && !s.tried.IsZero() && now.Sub(s.tried) < again:
			defer s.mu.Unlock()
			return nil, s.failure
		case s.running != nil:
			running := s.running
			if usable && !newer {
				defer s.mu.Unlock()
				return s.keys, nil
			}
			s.mu.Unlock()
			select {
			case <-running:
				newer = false
				continue
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		s.running, s.tried = make(chan struct{}), now
		s.mu.Unlock()
		// The caller's end must not end a fetch that others wait for.
		keys, err := s.fetch(context.WithoutCancel(ctx))
		s.mu.Lock()
		close(s.running)
		s.running, s.failure = nil, err
		if err == nil {
			s.keys = &generation{ring: keys, at: now}
		}
		s.mu.Unlock()
		newer = false
	}
}

// fetch reads the discovery document and the key set it names, both over TLS.
func (s *keySource) fetch(ctx context.Context) (*authn.KeyRing, error) {
	var document struct {
		Issuer  string `json:"issuer"`
		KeysURL string `json:"jwks_uri"`
	}
	data, err := s.read(ctx, strings.TrimSuffix(s.issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("discovery document: %w", err)
	}
	if document.Issuer != s.issuer {
		return nil, fmt.Errorf("the discovery document is of issuer %.200q", document.Issuer)
	}
	if err := https(document.KeysURL); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	if data, err = s.read(ctx, document.KeysURL); err != nil {
		return nil, err
	}
	keys, err := jws.ParseKeySet(data)
	if err != nil {
		return nil, err
	}
	return authn.NewKeyRing(keys...)
}

func (s *keySource) read(ctx context.Context, from string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	return answer(s.client, request, http.StatusOK, maxDocument)
}

// answer sends a request and reads the answer up to a bound.
func answer(client *http.Client, request *http.Request, want, limit int) ([]byte, error) {
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != want {
		return nil, fmt.Errorf("%s %s: status %d", request.Method, request.URL.Redacted(), response.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, int64(limit)+1))
	if err == nil && len(data) > limit {
		err = fmt.Errorf("%s %s: the answer is larger than %d bytes", request.Method, request.URL.Redacted(), limit)
	}
	return data, err
}
