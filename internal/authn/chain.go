package authn

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Config is what a chain needs. The zero value of every field that is not
// marked required is safe.
type Config struct {
	// Audiences are those of this control plane's API: a token is for us when
	// it has one of them and nobody asks for another. Required.
	Audiences []string
	// Issuers are trusted for service account tokens, each for its own only.
	Issuers []TrustedIssuer
	// Objects tells whether what tokens are bound to still exists. Required
	// with Issuers, unless Exists is given.
	Objects Objects
	// Exists is asked about bound objects instead of Objects where they are
	// known by their UIDs alone. It is asked on every use of a token, and must
	// answer from memory.
	Exists func(ctx context.Context, key ObjectKey, uid string) (bool, error)
	// Sites tells of objects inside of connected sites. Nil refuses tokens that
	// are bound to one.
	Sites SiteObjects
	// Revoked reports certificates that their CA took back. It is asked on
	// every use and must answer from memory. Nil revokes none.
	Revoked func(*x509.Certificate) bool
	// Bans ends credentials from outside. Nil bans nobody.
	Bans *Bans
	// BootstrapTokens and AccessKeys are asked for tokens of their form; nil
	// refuses them all.
	BootstrapTokens BootstrapTokens
	AccessKeys      AccessKeys
	// Legacy accepts tokens in Secrets; nil refuses them. It needs Objects.
	Legacy *LegacyTokens
	// Leeway is how far the clocks of minting and verifying machines may be
	// apart. 0 means one minute, as in Kubernetes.
	Leeway time.Duration
	// DeletionLeeway is how long a token outlives the deletion timestamp of
	// what it is bound to. 0 is not at all: a pod's token lasts through its
	// grace period and no longer. Kubernetes allows one minute.
	DeletionLeeway time.Duration
	// Remember is how long a verified token need not be verified again. 0
	// means ten seconds.
	Remember time.Duration
	// Places is how many tokens are remembered. 0 means 131072, which cost up
	// to 20 MB when all are used.
	Places int
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// TrustedIssuer is one issuer of service account tokens.
type TrustedIssuer struct {
	// URL is the iss claim, compared byte for byte.
	URL  string
	Keys *KeyRing
}

// Chain verifies credentials. It is safe for concurrent use.
type Chain struct {
	audiences      []string
	objects        Objects
	exists         func(context.Context, ObjectKey, string) (bool, error)
	sites          SiteObjects
	revoked        func(*x509.Certificate) bool
	bans           *Bans
	leeway         time.Duration
	deletionLeeway time.Duration
	now            func() time.Time

	hash     *hasher
	verified *memory[*verified]
	refused  *memory[*refused]
	certs    certificateMemory
	crypto   *gate

	clientCAs, siteCAs         atomic.Pointer[x509.CertPool]
	foreignCAs                 atomic.Pointer[x509.CertPool]
	proxies                    atomic.Pointer[proxies]
	certificate, requestHeader source

	// own are the sources by issuer that the configuration fixed.
	own                   map[string]*source
	bootstrap, accessKeys *source
	// setProviders serialises changes of providers.
	setProviders sync.Mutex
	providers    atomic.Pointer[providerSet]

	accounts interned[*account]
	shared   interned[*sharedClaims]
}

// source is one origin of credentials.
type source struct {
	method Method
	name   string
	// verify proves a token. It does not look at audiences beyond refusing
	// early, nor at bans.
	verify func(ctx context.Context, token string, want []string, now time.Time) (*verified, error)
	// check tells whether a credential that was verified once still holds.
	check func(ctx context.Context, v *verified, now time.Time) error
	// anyAudience marks credentials that carry no audiences and are for this
	// control plane only.
	anyAudience bool
	// retired is set when the source was replaced or removed.
	retired atomic.Bool
}

// Bounds of the chain itself.
const (
	defaultRemember = 10 * time.Second
	defaultPlaces   = 131072
	refusedPlaces   = 4096
	refusedSeconds  = 1
	maxWanted       = 64
	// maxWaiting is how many callers may wait for the processor at once; what
	// comes on top is told to come back.
	maxWaiting = 4096
)

// New returns a chain without any CA and without identity providers: it
// refuses certificates until SetClientCAs.
func New(cfg Config) (*Chain, error) {
	if len(cfg.Audiences) == 0 {
		return nil, errors.New("authn: no API audience")
	}
	if len(cfg.Issuers) > 0 && cfg.Objects == nil && cfg.Exists == nil {
		return nil, errors.New("authn: issuers without objects to bind to")
	}
	c := &Chain{
		audiences:      slices.Clone(cfg.Audiences),
		objects:        cfg.Objects,
		exists:         cfg.Exists,
		sites:          cfg.Sites,
		revoked:        cfg.Revoked,
		bans:           cfg.Bans,
		leeway:         orDefault(cfg.Leeway, time.Minute),
		deletionLeeway: cfg.DeletionLeeway,
		now:            cfg.Now,
		hash:           newHasher(),
		crypto:         newGate(4*runtime.GOMAXPROCS(0), maxWaiting),
		own:            map[string]*source{},
		certificate:    source{method: Certificate, anyAudience: true},
		requestHeader:  source{method: RequestHeader, anyAudience: true},
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.bans == nil {
		c.bans = NewBans()
	}
	remember := orDefault(cfg.Remember, defaultRemember)
	if remember < time.Second || remember > time.Minute {
		return nil, fmt.Errorf("authn: tokens can be remembered for one second to one minute, not %v", remember)
	}
	places := cfg.Places
	if places <= 0 {
		places = defaultPlaces
	}
	c.verified = newMemory[*verified](places, uint32(remember/time.Second))
	c.refused = newMemory[*refused](refusedPlaces, refusedSeconds)
	c.providers.Store(&providerSet{})
	for _, issuer := range cfg.Issuers {
		if issuer.URL == "" || issuer.Keys == nil {
			return nil, errors.New("authn: an issuer needs a URL and keys")
		}
		if _, twice := c.own[issuer.URL]; twice {
			return nil, fmt.Errorf("authn: issuer %q is given twice", issuer.URL)
		}
		c.own[issuer.URL] = c.newServiceAccounts(issuer)
	}
	if cfg.Legacy != nil {
		if cfg.Legacy.Keys == nil || cfg.Legacy.Secrets == nil || cfg.Objects == nil || c.own[LegacyIssuer] != nil {
			return nil, errors.New("authn: legacy tokens need keys, secrets and objects of their own")
		}
		c.own[LegacyIssuer] = c.newLegacy(*cfg.Legacy)
	}
	if cfg.BootstrapTokens != nil {
		c.bootstrap = c.newBootstrap(cfg.BootstrapTokens)
	}
	if cfg.AccessKeys != nil {
		if cfg.Objects == nil {
			return nil, errors.New("authn: access keys need objects, so that those of service accounts end with them")
		}
		c.accessKeys = c.newAccessKeys(cfg.AccessKeys)
	}
	return c, nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// Sweep gives back the memory of credentials that were not used lately. It is
// meant to be called every minute or so.
func (c *Chain) Sweep() {
	now := uint32(c.now().Unix())
	c.verified.sweep(now)
	c.refused.sweep(now)
}

// KeyRing holds the public keys of one issuer. It is safe for concurrent use;
// a token whose key left the ring is refused from then on.
type KeyRing struct {
	keys atomic.Pointer[map[string]*jws.Key]
}

// NewKeyRing returns a ring with these keys.
func NewKeyRing(keys ...*jws.Key) (*KeyRing, error) {
	r := &KeyRing{}
	return r, r.Replace(keys)
}

// Replace sets the keys. Keys that were there before and are equal to new ones
// stay, so that what they verified stays remembered.
func (r *KeyRing) Replace(keys []*jws.Key) error {
	old := r.keys.Load()
	next := make(map[string]*jws.Key, len(keys))
	for _, key := range keys {
		if next[key.ID()] != nil {
			return fmt.Errorf("key ring: id %.64q occurs twice", key.ID())
		}
		next[key.ID()] = key
		if old != nil {
			if before := (*old)[key.ID()]; before != nil && before.Equal(key) {
				next[key.ID()] = before
			}
		}
	}
	r.keys.Store(&next)
	return nil
}

// Get returns the key with this id, or nil.
func (r *KeyRing) Get(id string) *jws.Key {
	return (*r.keys.Load())[id]
}

// gate bounds how much verification runs at once, so that a flood of tokens
// that must be verified cannot starve requests that need none.
type gate struct {
	slots   chan struct{}
	waiting atomic.Int32
	limit   int32
}

func newGate(slots, waiting int) *gate {
	return &gate{slots: make(chan struct{}, slots), limit: int32(waiting)}
}

var (
	errBusy    = fault.New(fault.Exhausted, "too many credentials are being verified; try again")
	errStopped = "the request ended before its credential was verified"
)

func (g *gate) enter(ctx context.Context) error {
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	if g.waiting.Add(1) > g.limit {
		g.waiting.Add(-1)
		return errBusy
	}
	defer g.waiting.Add(-1)
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, errStopped, context.Cause(ctx))
	}
}

func (g *gate) leave() { <-g.slots }
