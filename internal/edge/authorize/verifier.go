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
	chain   *authn.Chain
}

// chain returns the chain for the issuers; what it remembers lasts until they
// change.
func (v *verifier) chain(p *Point, issuers []snapshot.Issuer) (*authn.Chain, error) {
	if t := v.current.Load(); t != nil && slices.Equal(t.issuers, issuers) {
		return t.chain, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if t := v.current.Load(); t != nil && slices.Equal(t.issuers, issuers) {
		return t.chain, nil
	}
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
		cfg.Issuers = append(cfg.Issuers, authn.TrustedIssuer{URL: issuer.URL, Keys: ring})
	}
	chain, err := authn.New(cfg)
	if err != nil {
		return nil, err
	}
	v.current.Store(&trusting{issuers, chain})
	return chain, nil
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
	chain, err := p.verifier.chain(p, in.Issuers)
	if err != nil {
		p.cfg.Log.Error("the keys that came with the policy cannot be read; no token is verified here", "error", err)
		return authenticationv1.TokenReviewStatus{Error: "the keys that came with the policy cannot be read"}, byPolicy, nil
	}
	status, refused, err := federation.TokenBy(ctx, chain, site, spec)
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
