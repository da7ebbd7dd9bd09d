package policystream

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz/snapshot"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

// noHash says that Ed25519 signs the message itself.
const noHash = crypto.Hash(0)

// Held is what a follower has already.
type Held struct {
	Sequence uint64
	Digest   string
}

// Key verifies frames.
type Key struct {
	ID     string
	Public ed25519.PublicKey
}

// Update is what a follower is to be told next. Keys come first and whenever
// they change, without a frame.
type Update struct {
	Keys  []Key
	Frame []byte
}

// State is what is known of one follower.
type State struct {
	Name  string
	Since time.Time
	// Sequence is the newest that the follower said it holds, Acknowledged
	// when it said so, and Issued the time of the policy; zero before it did.
	Sequence     uint64
	Acknowledged time.Time
	Issued       time.Time
	// Told is the time of the newest policy that it was sent, and Left when it
	// left; zero while it follows.
	Told, Left time.Time
}

// Subscription is one follower. One goroutine uses it.
type Subscription struct {
	p    *Publisher
	site string
	of   *site
	held Held
	keys *keys.Set[keys.PolicySnapshots]
	told int // keys that were told

	// Guarded by p.mu.
	state  State
	issued time.Time // of what is held
}

// Follow subscribes a follower, which calls itself name. An error is of kind
// Exhausted or Unavailable.
func (p *Publisher) Follow(siteName, name string, held Held) (*Subscription, error) {
	if err := p.cfg.Ready(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errStopping
	}
	s, ok := p.sites[siteName]
	if p.followers >= maxFollowers || ok && len(s.followers) >= maxOfSite {
		return nil, fault.Newf(fault.Exhausted, "policy has too many followers: at most %d of one site and %d of all", maxOfSite, maxFollowers)
	}
	if !ok {
		s = &site{changed: make(chan struct{}), followers: map[*Subscription]bool{}}
		p.sites[siteName] = s
	}
	f := &Subscription{p: p, site: siteName, of: s, held: held, state: State{Name: name, Since: p.cfg.Now()}}
	s.followers[f] = true
	p.followers++
	p.returned(f)
	p.nudge()
	return f, nil
}

func (p *Publisher) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// behind reports whether a follower has another policy than s, under a number
// that s has not reached. p.mu is held.
func (f *Subscription) behind(s *site) bool {
	return s.full != nil && s.header.Sequence <= f.held.Sequence && s.header.Digest != f.held.Digest
}

// Next waits for what the follower does not have. Of several changes it sees
// the last. An error says that the subscription is over.
func (f *Subscription) Next(ctx context.Context) (Update, error) {
	for {
		now := f.p.cfg.Now()
		set := f.p.cfg.Keys()
		if verifiers := set.Verifiers(now); set != f.keys || len(verifiers) != f.told {
			var u Update
			for _, v := range verifiers {
				if public, ok := v.Public().(ed25519.PublicKey); ok {
					u.Keys = append(u.Keys, Key{v.KeyID(), public})
				}
			}
			f.keys, f.told = set, len(verifiers)
			return u, nil
		}
		f.p.mu.Lock()
		s := f.of
		if s.failed != nil {
			f.p.mu.Unlock()
			return Update{}, s.failed
		}
		header, full, renewal, changed := s.header, s.full, s.renewal, s.changed
		f.p.mu.Unlock()
		if full != nil && header.Sequence > f.held.Sequence {
			frame := full
			if header.Digest == f.held.Digest {
				frame = renewal
			}
			f.p.mu.Lock()
			f.held, f.issued, f.state.Told = Held{header.Sequence, header.Digest}, header.Issued, header.Issued
			f.p.mu.Unlock()
			return Update{Frame: frame}, nil
		}
		select {
		case <-ctx.Done():
			return Update{}, ctx.Err()
		case <-changed:
		case <-set.Replaced():
		}
	}
}

// Close ends the subscription.
func (f *Subscription) Close() {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	s := f.of
	if s.failed != nil || !s.followers[f] {
		return // counted already
	}
	delete(s.followers, f)
	f.p.leave(f)
	f.p.followers--
	if len(s.followers) == 0 {
		delete(f.p.sites, f.site)
	}
}

// Acknowledge notes which frame a follower says it decides by; ok is false when
// nobody of that name was told such a number here. policyOf is a time: every
// change known here by then is in force with every follower of the site. It is
// zero while one of them has acknowledged nothing.
func (p *Publisher) Acknowledge(siteName, name string, sequence uint64) (policyOf time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, found := p.sites[siteName]
	if !found {
		return time.Time{}, false
	}
	first := true
	for f := range s.followers {
		if f.state.Name == name && sequence <= f.held.Sequence {
			ok = true
			f.state.Sequence, f.state.Acknowledged = max(f.state.Sequence, sequence), p.cfg.Now()
			if sequence == f.held.Sequence {
				f.state.Issued = f.issued
			}
		}
		if first || f.state.Issued.Before(policyOf) {
			policyOf, first = f.state.Issued, false
		}
	}
	return policyOf, ok
}

// maxLeft bounds how many followers of a site are remembered that left.
const maxLeft = 64

// leave remembers a follower for as long as what it was told decides. One that
// came back before its old connection was seen to end takes that over. p.mu is
// held and f does not follow any more.
func (p *Publisher) leave(f *Subscription) {
	if s, ok := p.sites[f.site]; ok {
		for other := range s.followers {
			if to := &other.state; to.Name == f.state.Name {
				if to.Told.Before(f.state.Told) {
					to.Told = f.state.Told
				}
				if to.Acknowledged.Before(f.state.Acknowledged) {
					to.Sequence, to.Acknowledged, to.Issued = f.state.Sequence, f.state.Acknowledged, f.state.Issued
				}
				return
			}
		}
	}
	now := p.cfg.Now()
	left := slices.DeleteFunc(p.left[f.site], func(s State) bool { return s.Name == f.state.Name || now.Sub(s.Told) >= p.cfg.MaxAge })
	if f.state.Told.IsZero() {
		// It was told nothing here; what it came with, another replica knows.
		p.left[f.site] = left
		return
	}
	f.state.Left = now
	if left = append(left, f.state); len(left) > maxLeft {
		left = left[1:]
	}
	p.left[f.site] = left
}

// returned takes up what is remembered of a follower. p.mu is held.
func (p *Publisher) returned(f *Subscription) {
	left := p.left[f.site]
	if i := slices.IndexFunc(left, func(s State) bool { return s.Name == f.state.Name }); i >= 0 {
		since := f.state.Since
		f.state = left[i]
		f.state.Since, f.state.Left = since, time.Time{}
		p.left[f.site] = slices.Delete(left, i, i+1)
	}
	if len(p.left[f.site]) == 0 {
		delete(p.left, f.site)
	}
}

// Followers returns who follows which site, and who did and may still decide by
// what it was told, in the order of names.
func (p *Publisher) Followers() map[string][]State {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[string][]State, len(p.sites))
	for name, s := range p.sites {
		for f := range s.followers {
			out[name] = append(out[name], f.state)
		}
	}
	now := p.cfg.Now()
	for name, left := range p.left {
		left = slices.DeleteFunc(left, func(s State) bool { return now.Sub(s.Told) >= p.cfg.MaxAge })
		if p.left[name] = left; len(left) == 0 {
			delete(p.left, name)
			continue
		}
		out[name] = append(out[name], left...)
	}
	for name := range out {
		slices.SortFunc(out[name], func(a, b State) int { return strings.Compare(a.Name, b.Name) })
	}
	return out
}

var _ snapshot.Signer = signer{}
