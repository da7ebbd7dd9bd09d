package webhookauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/durable"
)

// Source has tokens minted for calls of one webhook and renews them. Its fields
// are set once. It is safe for concurrent use.
type Source struct {
	// Server is the URL of the control plane's API, and Client what reaches it
	// with a credential that may create serviceaccounts/token of the account
	// for the audience. Required.
	Server string
	Client *http.Client
	// Namespace and ServiceAccount are whom the tokens speak for. Required.
	Namespace, ServiceAccount string
	// Audience is the webhook. Required.
	Audience string
	// AdmissionReviewAPIGroup, if set, is attested: the caller will ask an
	// admission webhook about this API group, or "*" for all.
	AdmissionReviewAPIGroup string
	// Lifetime of each token. 0 means one hour; the least is ten minutes.
	Lifetime time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time

	mu      sync.Mutex // guards what follows; held while a token is fetched
	token   string
	expires time.Time
	renew   time.Time
}

const (
	maxToken     = 1 << 20
	tokenTimeout = 10 * time.Second
	// spare is how long before its end a token is not used any more.
	spare = 30 * time.Second
)

func (s *Source) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// Token returns a token that is good for a while. It is renewed when four
// fifths of its life are over; when that fails, the old one serves until
// shortly before its end.
func (s *Source) Token(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.token != "" && now.Before(s.renew) {
		return s.token, nil
	}
	token, expires, err := s.fetch(ctx)
	if err != nil {
		if s.token != "" && now.Before(s.expires.Add(-spare)) {
			s.renew = now.Add(spare)
			return s.token, nil
		}
		return "", fmt.Errorf("token for %q: %w", s.Audience, err)
	}
	s.token, s.expires, s.renew = token, expires, now.Add(expires.Sub(now)*4/5)
	return token, nil
}

type tokenRequest struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Audiences         []string            `json:"audiences"`
		ExpirationSeconds int64               `json:"expirationSeconds"`
		Attestations      map[string][]string `json:"attestations,omitempty"`
	} `json:"spec"`
	Status struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expirationTimestamp"`
	} `json:"status,omitzero"`
}

func (s *Source) fetch(ctx context.Context) (string, time.Time, error) {
	if err := https(s.Server); err != nil {
		return "", time.Time{}, err
	}
	if s.Client == nil || s.Namespace == "" || s.ServiceAccount == "" || s.Audience == "" {
		return "", time.Time{}, errors.New("client, namespace, service account and audience are required")
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	ask := tokenRequest{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"}
	ask.Spec.Audiences, ask.Spec.ExpirationSeconds = []string{s.Audience}, int64(time.Hour/time.Second)
	if s.Lifetime > 0 {
		ask.Spec.ExpirationSeconds = int64(s.Lifetime / time.Second)
	}
	if s.AdmissionReviewAPIGroup != "" {
		ask.Spec.Attestations = map[string][]string{"admissionReviewAPIGroups": {s.AdmissionReviewAPIGroup}}
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return "", time.Time{}, err
	}
	path := "/api/v1/namespaces/" + url.PathEscape(s.Namespace) + "/serviceaccounts/" + url.PathEscape(s.ServiceAccount) + "/token"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(s.Server, "/")+path, bytes.NewReader(body))
	if err != nil {
		return "", time.Time{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	data, err := answer(s.Client, request, http.StatusCreated, maxToken)
	if err != nil {
		return "", time.Time{}, err
	}
	var out tokenRequest
	if err := json.Unmarshal(data, &out); err != nil || out.Status.Token == "" || !out.Status.Expires.After(s.now()) {
		return "", time.Time{}, errors.New("the answer holds no token that is good")
	}
	return out.Status.Token, out.Status.Expires, nil
}

// Transport adds the token to requests for the audience's own origin, over
// https, and passes everything else on as it is: a redirect elsewhere takes no
// token along. The audience must be an https URL. A request that brings an
// Authorization header keeps it.
func (s *Source) Transport(next http.RoundTripper) (http.RoundTripper, error) {
	if err := https(s.Audience); err != nil {
		return nil, fmt.Errorf("webhookauth: the audience must be the webhook's URL: %w", err)
	}
	u, err := url.Parse(s.Audience)
	if err != nil {
		return nil, err
	}
	if next == nil {
		next = http.DefaultTransport
	}
	return &transport{source: s, host: u.Host, next: next}, nil
}

type transport struct {
	source *Source
	host   string
	next   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" || !strings.EqualFold(r.URL.Host, t.host) || r.Header.Get("Authorization") != "" {
		return t.next.RoundTrip(r)
	}
	token, err := t.source.Token(r.Context())
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return t.next.RoundTrip(r)
}

// retry is how soon a token that was not renewed is asked for again.
const retry = 10 * time.Second

// Keep writes the token to a file, mode 0600, now and whenever it is renewed,
// until ctx ends, and returns nil then; it returns an error only if the first
// token cannot be had or written. report, which may be nil, is told of later
// ones.
func (s *Source) Keep(ctx context.Context, path string, report func(error)) error {
	written := ""
	write := func() error {
		token, err := s.Token(ctx)
		if err != nil || token == written {
			return err
		}
		if err := durable.WriteFile(path, []byte(token)); err != nil {
			return err
		}
		written = token
		return nil
	}
	err := write()
	if err != nil {
		return err
	}
	for {
		s.mu.Lock()
		wait := max(s.renew.Sub(s.now()), time.Second)
		s.mu.Unlock()
		if err != nil {
			wait = min(wait, retry)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if err = write(); err != nil && ctx.Err() == nil && report != nil {
			report(err)
		}
	}
}
