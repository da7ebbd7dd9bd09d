package authn

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Claimed is what an identity provider says about the holder of a token. The
// chain decides what of it becomes an identity: names with a meaning of their
// own are refused.
type Claimed struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
	// CredentialID is "JTI=…" if the token has an id.
	CredentialID string
	// Audiences are those the provider accepted the token for. Empty means
	// the control plane's own.
	Audiences []string
	// NotAfter is when the token ends; the zero time is unknown.
	NotAfter time.Time
}

// Provider verifies the tokens of one identity provider. An error of kind
// fault.Unauthenticated says that the token is bad; any other that the
// provider could not tell. It is called concurrently, each call with a
// deadline that it must keep. Its dynamic type must be comparable.
type Provider interface {
	VerifyToken(ctx context.Context, token string, audiences []string) (Claimed, error)
}

// ProviderConfig puts a provider into the chain.
type ProviderConfig struct {
	// Name tells it apart in status, metrics and the record. Required.
	Name string
	// Issuers are the exact iss claims of its tokens. Without any it is asked
	// about opaque tokens.
	Issuers []string
	// Provider does the work. A provider given again under the same name keeps
	// what it verified remembered.
	Provider Provider
	// Timeout bounds one call; 0 means five seconds.
	Timeout time.Duration
	// Concurrent bounds the calls at one time; 0 means 32. Four times as many
	// may wait, what comes on top is told to come back.
	Concurrent int
}

// ProviderStatus is how a provider does.
type ProviderStatus struct {
	Name string
	// Down is set when its last call could not tell about a token.
	Down bool
	// Detail is the error of that call, for the operator.
	Detail string
	// Since is when Down last changed; zero before the first call.
	Since time.Time
}

// providerSet is the providers at one time.
type providerSet struct {
	byIssuer map[string]*source
	opaque   []*source
	all      []*provider
}

func (p *providerSet) hasOpaque() bool { return len(p.opaque) > 0 }

// provider is one provider in the chain.
type provider struct {
	cfg    ProviderConfig
	src    *source
	gate   *gate
	status atomic.Pointer[ProviderStatus]
}

// SetProviders replaces the identity providers. What removed ones verified is
// refused from now on. On an error nothing changes.
func (c *Chain) SetProviders(configs []ProviderConfig) error {
	c.setProviders.Lock()
	defer c.setProviders.Unlock()
	before := c.providers.Load()
	next := &providerSet{byIssuer: map[string]*source{}}
	names := map[string]bool{}
	for _, cfg := range configs {
		if cfg.Name == "" || cfg.Provider == nil || names[cfg.Name] {
			return fmt.Errorf("identity provider %q: it needs a name of its own and an implementation", cfg.Name)
		}
		if !reflect.TypeOf(cfg.Provider).Comparable() {
			return fmt.Errorf("identity provider %q: its type cannot be compared; give a pointer", cfg.Name)
		}
		names[cfg.Name] = true
		p := before.same(cfg)
		if p == nil {
			p = c.newProvider(cfg)
		}
		next.all = append(next.all, p)
		if len(cfg.Issuers) == 0 {
			next.opaque = append(next.opaque, p.src)
		}
		for _, issuer := range cfg.Issuers {
			if issuer == "" || c.own[issuer] != nil || next.byIssuer[issuer] != nil {
				return fmt.Errorf("identity provider %q: issuer %q is empty, ours, or another provider's", cfg.Name, issuer)
			}
			next.byIssuer[issuer] = p.src
		}
	}
	c.providers.Store(next)
	for _, old := range before.all {
		if next.same(old.cfg) != old {
			old.src.retired.Store(true)
		}
	}
	return nil
}

// same returns the provider that already runs with this configuration.
func (p *providerSet) same(cfg ProviderConfig) *provider {
	for _, candidate := range p.all {
		if candidate.cfg.Name == cfg.Name && candidate.cfg.Provider == cfg.Provider && candidate.cfg.Timeout == cfg.Timeout && candidate.cfg.Concurrent == cfg.Concurrent {
			return candidate
		}
	}
	return nil
}

// Providers returns how each provider does, in their order.
func (c *Chain) Providers() []ProviderStatus {
	set := c.providers.Load()
	out := make([]ProviderStatus, len(set.all))
	for i, p := range set.all {
		out[i] = *p.status.Load()
	}
	return out
}

func (c *Chain) newProvider(cfg ProviderConfig) *provider {
	concurrent := cfg.Concurrent
	if concurrent <= 0 {
		concurrent = 32
	}
	p := &provider{cfg: cfg, gate: newGate(concurrent, 4*concurrent)}
	p.status.Store(&ProviderStatus{Name: cfg.Name})
	p.src = &source{method: ProviderToken, name: cfg.Name}
	p.src.verify = func(ctx context.Context, token string, want []string, now time.Time) (*verified, error) {
		claimed, err := p.ask(ctx, token, want, now)
		if err != nil {
			return nil, err
		}
		return c.believe(p, token, claimed, want)
	}
	return p
}

// ask calls the provider under its limits, so that one that hangs holds up
// nothing but its own tokens.
func (p *provider) ask(ctx context.Context, token string, want []string, now time.Time) (Claimed, error) {
	ctx, cancel := context.WithTimeout(ctx, orDefault(p.cfg.Timeout, 5*time.Second))
	defer cancel()
	if err := p.gate.enter(ctx); err != nil {
		return Claimed{}, err
	}
	defer p.gate.leave()
	claimed, err := p.cfg.Provider.VerifyToken(ctx, token, want)
	switch {
	case err == nil:
		p.report(nil, now)
		return claimed, nil
	case fault.KindOf(err) == fault.Unauthenticated:
		p.report(nil, now)
		return Claimed{}, refuseBecause(Refused, "identity provider "+p.cfg.Name, err)
	case errors.Is(err, context.Canceled):
		// The caller went away; that says nothing about the provider.
		return Claimed{}, fault.Wrap(fault.Unavailable, errStopped, err)
	default:
		p.report(err, now)
		return Claimed{}, fault.Wrap(fault.Unavailable, "an identity provider does not answer", fmt.Errorf("identity provider %s: %w", p.cfg.Name, err))
	}
}

func (p *provider) report(err error, now time.Time) {
	before := p.status.Load()
	after := &ProviderStatus{Name: p.cfg.Name, Down: err != nil, Since: before.Since}
	if err != nil {
		after.Detail = err.Error()
	}
	if before.Down == after.Down && before.Detail == after.Detail && !before.Since.IsZero() {
		return
	}
	if before.Down != after.Down || before.Since.IsZero() {
		after.Since = now
	}
	p.status.Store(after)
}

// believe turns what a provider said into what the chain keeps.
func (c *Chain) believe(p *provider, token string, claimed Claimed, want []string) (*verified, error) {
	if err := allowedForeign(claimed.Name, claimed.UID, claimed.Groups, claimed.Extra); err != nil {
		return nil, refuseBecause(ReservedName, "identity provider "+p.cfg.Name, err)
	}
	credential := claimed.CredentialID
	if credential == "" && isSigned(token) {
		// A signed token without an id still needs one to be banned by. Its
		// hash gives nothing away: a signature cannot be guessed.
		sum := sha256.Sum256([]byte(token))
		credential = "JWTSHA256=" + hex.EncodeToString(sum[:])
	}
	who, err := newAccount(account{
		name: claimed.Name, uid: claimed.UID, groups: claimed.Groups,
		extra: maps.Clone(claimed.Extra), credential: credential,
	})
	if err != nil {
		return nil, refuseBecause(ReservedName, "identity provider "+p.cfg.Name, err)
	}
	v := &verified{who: who, src: p.src, shared: &sharedClaims{audiences: cloneAll(claimed.Audiences), asked: cloneAll(want)}}
	if len(claimed.Audiences) == 0 {
		v.shared = &sharedClaims{audiences: c.audiences}
	}
	if !claimed.NotAfter.IsZero() {
		v.expires = max(claimed.NotAfter.Unix(), 1)
	}
	return v, nil
}

// verifyOpaque asks the providers of opaque tokens one after the other. One
// that cannot tell does not keep the next from being asked, but without an
// acceptance nobody may conclude that the token is bad.
func (c *Chain) verifyOpaque(ctx context.Context, key digest, token string, want []string, now time.Time) (*verified, error) {
	refusal, unavailable := refuse(UnknownIssuer, "no identity provider knows the token"), error(nil)
	for _, src := range c.providers.Load().opaque {
		v, err := src.verify(ctx, token, want, now)
		switch {
		case err == nil:
			c.remember(key, v, now)
			return v, nil
		case fault.KindOf(err) == fault.Unauthenticated:
			refusal = err
		case unavailable == nil:
			unavailable = err
		}
	}
	if unavailable != nil {
		return nil, unavailable
	}
	return nil, refusal
}

// isSigned reports whether a token has the shape of a signed one.
func isSigned(token string) bool {
	_, err := jws.Split(token)
	return err == nil
}
