package authorize

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/gatehouse-dev/gatehouse/authz/snapshot"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
)

// placesHere is how many verified tokens need not be verified again for some
// seconds.
const placesHere = 16384

// verifier is the authentication chain by the keys of the policy in force. It
// is safe for concurrent use.
type verifier struct {
	mu      sync.Mutex // serialises changes of current
	current atomic.Pointer[trusting]
}

// trusting is a chain and whom it trusts.
type trusting struct {
	issuers []snapshot.Issuer
	keys    map[string]bool // by id
	chain   *authn.Chain
}

// trust returns the chain for the issuers; what it remembers lasts until they
// change.
func (v *verifier) trust(p *Point, issuers []snapshot.Issuer) (*trusting, error) {
	if t := v.current.Load(); t != nil && slices.Equal(t.issuers, issuers) {
		return t, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if t := v.current.Load(); t != nil && slices.Equal(t.issuers, issuers) {
		return t, nil
	}
	t := &trusting{issuers: issuers, keys: map[string]bool{}}
	cfg := authn.Config{Audiences: []string{nobody}, Exists: p.exists, Places: placesHere, Now: p.cfg.Now}
	for _, issuer := range issuers {
		keys, err := jws.ParseKeySet([]byte(issuer.KeySet))
		if err != nil {
			return nil, fmt.Errorf("keys of issuer %q: %w", issuer.URL, err)
		}
		ring, err := authn.NewKeyRing(keys...)
		if err != nil {
			return nil, fmt.Errorf("keys of issuer %q: %w", issuer.URL, err)
		}
		for _, k := range keys {
			t.keys[k.ID()] = true
		}
		cfg.Issuers = append(cfg.Issuers, authn.TrustedIssuer{URL: issuer.URL, Keys: ring})
	}
	var err error
	if t.chain, err = authn.New(cfg); err != nil {
		return nil, err
	}
	v.current.Store(t)
	return t, nil
}

// beyond says why only the control plane can tell whether a good token is
// banned, or nothing: bans of keys and of sites are not part of policy. What
// such a key signed and what is bound to this site needs no telling: the key did
// not come, and the site is given no policy.
func (t *trusting) beyond(site string, extra map[string]authenticationv1.ExtraValue) string {
	for _, text := range extra[authn.ExtraOrigin] {
		if kid := origin.Parse(text).IssuerKey; kid != "" && !t.keys[kid] {
			return "the token was made with one whose key is not known here"
		}
	}
	if bound := extra[authn.ExtraSiteName]; len(bound) > 0 && bound[0] != site {
		return "the token is bound to another site"
	}
	return ""
}

// sweep gives back the memory of tokens that nobody used lately.
func (v *verifier) sweep() {
	if t := v.current.Load(); t != nil {
		t.chain.Sweep()
	}
}

// exists tells whether an object of the control plane is there, as far as is
// known here.
func (p *Point) exists(_ context.Context, key authn.ObjectKey, uid string) (bool, error) {
	in, err := p.policy()
	if err != nil {
		return false, err
	}
	gone, err := p.gone(in)(key, uid)
	return !gone, err
}

// bearing is what a refusal here means.
type bearing uint8

const (
	// nothing: the token is not of an issuer whose keys are here.
	nothing bearing = iota
	// byPolicy: newer keys, accounts or another clock may say otherwise.
	byPolicy
	// always: nothing can make the token good.
	always
)

// verify verifies a token by the policy in force.
func (p *Point) verify(ctx context.Context, in *snapshot.InForce, site string, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, bearing, error) {
	trusted, err := p.verifier.trust(p, in.Issuers)
	if err != nil {
		p.cfg.Log.Error("the keys that came with the policy cannot be read; no token is verified here", "error", err)
		return authenticationv1.TokenReviewStatus{Error: "the keys that came with the policy cannot be read"}, byPolicy, nil
	}
	status, refused, err := federation.TokenBy(ctx, trusted.chain, site, spec)
	if reason := trusted.beyond(site, status.User.Extra); status.Authenticated && reason != "" {
		status = authenticationv1.TokenReviewStatus{Error: reason}
	}
	knows := byPolicy
	switch refused {
	case authn.UnknownIssuer, authn.Malformed:
		knows = nothing
	case authn.BadSignature, authn.WrongAudience, authn.ReservedName:
		knows = always
	}
	return status, knows, err
}

// Sweep gives back memory that is not needed any more, each minute until ctx
// ends.
func (p *Point) Sweep(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			p.verifier.sweep()
		}
	}
}
