package snapshot

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
)

// Errors of a [Follower].
var (
	// ErrEnded says that the policy held has ended, or that none is held.
	ErrEnded = errors.New("no policy in force")
	// ErrUnknownPolicy says that a renewal is for policy that is not held: the
	// follower needs a full frame.
	ErrUnknownPolicy = errors.New("renewal of policy that is not held")
)

// Rules is what a follower demands.
type Rules struct {
	// Site and Namespace must be those of every frame.
	Site, Namespace string
	// MaxAge bounds how long after it was issued a frame decides, however late
	// it says it ends; 0 leaves that to the frame.
	MaxAge time.Duration
	// Skew is how far ahead of this clock the clock of the signing side may be.
	Skew       time.Duration
	Conditions string // version of the environment of Compile
	Compile    Compile
	Verifier   Verifier
}

// Follower holds the newest policy that it was given. Current may be called by
// any number of goroutines while one calls Accept.
type Follower struct {
	rules Rules
	held  atomic.Pointer[held]
}

type held struct {
	header   Header
	snapshot *authz.Snapshot
}

// NewFollower returns a follower that holds nothing.
func NewFollower(rules Rules) *Follower { return &Follower{rules: rules} }

// Accept takes a frame, full or a renewal, and returns its header. A frame that
// is refused changes nothing.
func (f *Follower) Accept(frame []byte, now time.Time) (Header, error) {
	h, message, signature, body, err := split(frame)
	if err != nil {
		return Header{}, err
	}
	if err := f.rules.Verifier.Verify(h.Key, message, signature); err != nil {
		return Header{}, fmt.Errorf("verify policy snapshot: %w", err)
	}
	if err := f.admit(&h, now); err != nil {
		return Header{}, fmt.Errorf("policy snapshot %d: %w", h.Sequence, err)
	}
	old := f.held.Load()
	next := &held{header: h}
	switch {
	case old != nil && old.header.Digest == h.Digest && (len(body) == 0 || digest(body) == h.Digest):
		next.snapshot = old.snapshot
	case len(body) == 0:
		return Header{}, ErrUnknownPolicy
	case digest(body) != h.Digest:
		return Header{}, errors.New("policy snapshot: the body is not the one that was signed")
	default:
		content, err := decode(body, f.rules.Compile)
		if err != nil {
			return Header{}, fmt.Errorf("policy snapshot %d: %w", h.Sequence, err)
		}
		next.snapshot = authz.New().Update(func(t *authz.Tx) { t.PutContent(&content) })
	}
	f.held.Store(next)
	return h, nil
}

// admit checks what a verified header says against the rules.
func (f *Follower) admit(h *Header, now time.Time) error {
	old := f.held.Load()
	switch {
	case h.Site != f.rules.Site || h.Namespace != f.rules.Namespace:
		return fmt.Errorf("it is for site %q, namespace %q", h.Site, h.Namespace)
	case h.Conditions != f.rules.Conditions:
		return fmt.Errorf("its conditions are of version %q", h.Conditions)
	case old != nil && h.Sequence <= old.header.Sequence:
		return fmt.Errorf("%d is held already", old.header.Sequence)
	case h.Issued.After(now.Add(f.rules.Skew)):
		return errors.New("it was issued in the future")
	case !now.Before(f.end(h)):
		return ErrEnded
	}
	return nil
}

func (f *Follower) end(h *Header) time.Time {
	if f.rules.MaxAge > 0 {
		if last := h.Issued.Add(f.rules.MaxAge); last.Before(h.Ends) {
			return last
		}
	}
	return h.Ends
}

// Current returns the policy in force, or [ErrEnded].
func (f *Follower) Current(now time.Time) (*authz.Snapshot, Header, error) {
	x := f.held.Load()
	if x == nil || !now.Before(f.end(&x.header)) {
		return nil, Header{}, ErrEnded
	}
	return x.snapshot, x.header, nil
}
