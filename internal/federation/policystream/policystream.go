// Package policystream gives each connected site the policy that decides there,
// as a stream of signed frames, so that a local decision point has the answers
// of the control plane and keeps them while it is away.
//
// It owns when policy is compiled (once for each site and change, however many
// follow it), the sequence of frames, and who follows. It refuses to sign while
// the policy here may be out of date, and more followers than it can serve. It
// does not know who may follow, nor how frames travel: package fastlane does.
//
// Start at [New]; [Publisher.Run] compiles, [Publisher.Follow] subscribes.
package policystream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/authz/snapshot"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

// Bounds and times.
const (
	// DefaultMaxAge is how long policy decides after it was signed.
	DefaultMaxAge = 24 * time.Hour
	// Beat is how often policy that did not change is signed anew. A follower
	// that hears nothing for some beats looks for another replica.
	Beat = 5 * time.Second

	// look is how often it is looked whether policy changed.
	look = 50 * time.Millisecond
	// maxPause bounds the pause after a round that took long.
	maxPause        = 500 * time.Millisecond
	maxFollowers    = 1024
	maxOfSite       = 32
	sequenceTimeout = 3 * time.Second
)

// Objects lists what credentials are bound to.
type Objects interface {
	// Generation changes whenever an object comes, goes or is deleted.
	Generation() uint64
	Each(yield func(authn.ObjectKey, authn.ObjectState) bool)
}

// Config is what a publisher needs. Everything is required but MaxAge.
type Config struct {
	Policy  func() *authz.Snapshot
	Objects Objects
	Keys    func() *keys.Set[keys.PolicySnapshots]
	// Issuers returns those whose tokens sites may verify by themselves. It is
	// asked often and must answer from memory.
	Issuers func() []snapshot.Issuer
	// Sequence returns a number above every one before, of all replicas.
	Sequence func(context.Context) (uint64, error)
	// Ready returns an error while the policy may be out of date.
	Ready func() error
	// Conditions is the version of the environment of conditions.
	Conditions string
	// MaxAge is how long a frame decides; 0 is [DefaultMaxAge].
	MaxAge time.Duration
	Now    func() time.Time
	Log    *slog.Logger
}

// Publisher compiles policy for those who follow it. It is safe for concurrent
// use.
type Publisher struct {
	cfg  Config
	wake chan struct{} // somebody waits for a first or a later frame

	mu        sync.Mutex // guards the rest
	sites     map[string]*site
	followers int
	left      map[string][]State // by site, in the order of leaving
	closed    bool
}

// site is a site that is followed.
type site struct {
	// Of the last round; full is nil before it.
	header        snapshot.Header
	full, renewal []byte
	policy        uint64 // the number of the state that was compiled
	generation    uint64
	creds         snapshot.Credentials

	changed   chan struct{} // closed by the next round
	followers map[*Subscription]bool
	// failed is why there is nothing to follow now.
	failed error
}

// New checks the configuration.
func New(cfg Config) (*Publisher, error) {
	if cfg.Policy == nil || cfg.Objects == nil || cfg.Keys == nil || cfg.Issuers == nil || cfg.Sequence == nil || cfg.Ready == nil || cfg.Conditions == "" || cfg.Now == nil || cfg.Log == nil {
		return nil, errors.New("policystream: incomplete configuration")
	}
	if cfg.MaxAge == 0 {
		cfg.MaxAge = DefaultMaxAge
	}
	return &Publisher{cfg: cfg, wake: make(chan struct{}, 1), sites: map[string]*site{}, left: map[string][]State{}}, nil
}

// Run compiles until ctx ends; then every subscription ends too.
func (p *Publisher) Run(ctx context.Context) error {
	defer p.close()
	tick := time.NewTicker(look)
	defer tick.Stop()
	var (
		beat       time.Time // when the last round for everybody was
		policy     uint64
		generation uint64
		key        string
		issuers    []snapshot.Issuer
	)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-tick.C:
		}
		began := p.cfg.Now()
		names, waiting := p.followed()
		number, gen, signer := p.cfg.Policy().Number(), p.cfg.Objects.Generation(), p.cfg.Keys().Signer(began).KeyID()
		trusted := p.cfg.Issuers()
		changed := number != policy || gen != generation || signer != key || !slices.Equal(trusted, issuers)
		if len(names) == 0 || !waiting && !changed && began.Sub(beat) < Beat {
			continue
		}
		err := p.round(ctx, names)
		switch {
		case err == nil:
			beat, policy, generation, key, issuers = began, number, gen, signer, trusted
		case ctx.Err() != nil:
			return nil
		default:
			p.cfg.Log.Warn("policy for sites not signed", "error", err)
			p.fail(err)
		}
		pause := time.NewTimer(min(maxPause, p.cfg.Now().Sub(began)))
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
	}
}

// followed returns the sites with followers, and whether one of them waits for
// a frame that there is not.
func (p *Publisher) followed() (names []string, waiting bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, s := range p.sites {
		names = append(names, name)
		if s.full == nil {
			waiting = true
		}
		for f := range s.followers {
			waiting = waiting || f.behind(s)
		}
	}
	return names, waiting
}

// round signs the policy of every site once.
func (p *Publisher) round(ctx context.Context, names []string) error {
	if err := p.cfg.Ready(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sequenceTimeout)
	defer cancel()
	// Taken before the policy is read: what a number stands for is not older
	// than the number.
	sequence, err := p.cfg.Sequence(ctx)
	if err != nil {
		return fmt.Errorf("number policy: %w", err)
	}
	// A change that was known by this time is in the policy.
	now := p.cfg.Now()
	policy, generation, issuers := p.cfg.Policy(), p.cfg.Objects.Generation(), p.cfg.Issuers()
	for _, name := range names {
		if err := p.sign(name, sequence, now, policy, generation, issuers); err != nil {
			// The policy of one site must not keep it from the others.
			p.cfg.Log.Error("policy of a site not signed", "site", name, "error", err)
			p.failSite(name, fault.Wrap(fault.Unavailable, "the policy of this site cannot be shipped", err))
		}
	}
	return nil
}

// sign makes the frames of one site: what is compiled already is only renewed.
func (p *Publisher) sign(name string, sequence uint64, now time.Time, policy *authz.Snapshot, generation uint64, issuers []snapshot.Issuer) error {
	p.mu.Lock()
	s, ok := p.sites[name]
	var last site
	if ok {
		last = *s
	}
	p.mu.Unlock()
	if !ok {
		return nil
	}
	key := signer{p.cfg.Keys().Signer(now)}
	next := last
	next.header = snapshot.Header{
		Site: name, Sequence: sequence, Issued: now.UTC(), Ends: now.Add(p.cfg.MaxAge).UTC(),
		Conditions: p.cfg.Conditions, Digest: last.header.Digest,
	}
	if last.full == nil || last.generation != generation {
		next.creds.Present = p.present(name, now)
	}
	next.creds.Issuers = issuers
	var err error
	if last.full == nil || last.policy != policy.Number() || last.generation != generation || !slices.Equal(last.creds.Issuers, issuers) {
		content := policy.Restrict(authz.Restriction{Site: name})
		if next.full, next.header, err = snapshot.Seal(&content, next.creds, next.header, key); err != nil {
			return err
		}
	}
	if next.renewal, err = snapshot.Renew(next.header, key); err != nil {
		return err
	}
	if last.full != nil && next.header.Digest == last.header.Digest {
		// The head of the renewal makes a full frame of the same policy.
		_, _, body, err := snapshot.Parts(last.full)
		if err != nil {
			return err
		}
		next.full = append(append(make([]byte, 0, len(next.renewal)+len(body)), next.renewal...), body...)
	}
	next.policy, next.generation = policy.Number(), generation
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sites[name] != s { // nobody follows any more
		return nil
	}
	s.header, s.full, s.renewal, s.policy, s.generation, s.creds = next.header, next.full, next.renewal, next.policy, next.generation, next.creds
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// present is what credentials of the control plane may be bound to.
func (p *Publisher) present(name string, now time.Time) []snapshot.Fingerprint {
	var out []snapshot.Fingerprint
	p.cfg.Objects.Each(func(key authn.ObjectKey, state authn.ObjectState) bool {
		if state.Deleted.IsZero() || now.Before(state.Deleted) {
			out = append(out, federation.Fingerprint(name, key, state.UID))
		}
		return true
	})
	return out
}

// fail ends every subscription: elsewhere there may be a replica that can sign.
func (p *Publisher) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.sites {
		p.end(name, err)
	}
}

func (p *Publisher) failSite(name string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(name, err)
}

// end forgets a site; its followers learn why. p.mu is held.
func (p *Publisher) end(name string, err error) {
	s, ok := p.sites[name]
	if !ok {
		return
	}
	s.failed = err
	close(s.changed)
	p.followers -= len(s.followers)
	delete(p.sites, name)
	for f := range s.followers {
		p.leave(f)
	}
}

var errStopping = fault.New(fault.Unavailable, "the control plane is stopping")

func (p *Publisher) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.fail(errStopping)
}

// signer signs frames with a key of the ring.
type signer struct {
	*keys.Signer[keys.PolicySnapshots]
}

func (s signer) Sign(message []byte) ([]byte, error) {
	return s.Signer.Sign(nil, message, noHash)
}
