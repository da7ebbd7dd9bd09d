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
	// Site, Namespace and Object must be those of every frame.
	Site, Namespace, Object string
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
	held  atomic.Pointer[InForce]
	floor atomic.Uint64 // no sequence up to it is accepted
}

// NewFollower returns a follower that holds nothing.
func NewFollower(rules Rules) *Follower { return &Follower{rules: rules} }

// Accept takes a frame, full or a renewal, and returns its header. A frame that
// is refused changes nothing.
func (f *Follower) Accept(frame []byte, now time.Time) (Header, error) {
	h, body, err := f.verified(frame)
	if err != nil {
		return Header{}, err
	}
	err = f.admit(&h)
	switch {
	case err != nil:
	case h.Issued.After(now.Add(f.rules.Skew)):
		err = errors.New("it was issued in the future")
	case !now.Before(f.end(&h)):
		err = ErrEnded
	}
	if err == nil {
		err = f.hold(&h, body)
	}
	if err != nil {
		return Header{}, fmt.Errorf("policy snapshot %d: %w", h.Sequence, err)
	}
	return h, nil
}

// Restore takes the full frame that this follower, or the one before it, held
// when it stopped. Its policy may have ended: then it does not decide, and
// still nothing older is accepted. A frame for another version of conditions
// leaves no more than that.
func (f *Follower) Restore(frame []byte) (Header, error) {
	h, body, err := f.verified(frame)
	if err != nil {
		return Header{}, err
	}
	if !f.isFor(&h) {
		return Header{}, fmt.Errorf("policy snapshot %d: %w", h.Sequence, notFor(&h))
	}
	err = f.admit(&h)
	if err == nil {
		err = f.hold(&h, body)
	}
	f.floor.Store(max(f.floor.Load(), h.Sequence))
	if err != nil {
		return Header{}, fmt.Errorf("policy snapshot %d: %w", h.Sequence, err)
	}
	return h, nil
}

func (f *Follower) verified(frame []byte) (Header, []byte, error) {
	h, message, signature, body, err := split(frame)
	if err != nil {
		return Header{}, nil, err
	}
	if err := f.rules.Verifier.Verify(h.Key, message, signature); err != nil {
		return Header{}, nil, fmt.Errorf("verify policy snapshot: %w", err)
	}
	return h, body, nil
}

// hold makes the policy of an admitted frame current.
func (f *Follower) hold(header *Header, body []byte) error {
	h := *header
	old := f.held.Load()
	next := &InForce{Header: h}
	switch {
	case old != nil && old.Header.Digest == h.Digest && (len(body) == 0 || digest(body) == h.Digest):
		next.Snapshot, next.Issuers, next.present = old.Snapshot, old.Issuers, old.present
	case len(body) == 0:
		return ErrUnknownPolicy
	case digest(body) != h.Digest:
		return errors.New("the body is not the one that was signed")
	default:
		content, creds, err := decodeBody(body, f.rules.Compile)
		if err != nil {
			return err
		}
		next.Issuers, next.present = creds.Issuers, creds.Present
		next.Snapshot = authz.New().Update(func(t *authz.Tx) { t.PutContent(&content) })
	}
	f.held.Store(next)
	return nil
}

// admit checks what a verified header says against the rules, time apart.
func (f *Follower) admit(h *Header) error {
	old := f.held.Load()
	switch {
	case !f.isFor(h):
		return notFor(h)
	case h.Conditions != f.rules.Conditions:
		return fmt.Errorf("its conditions are of version %q", h.Conditions)
	case old != nil && h.Sequence <= old.Header.Sequence:
		return fmt.Errorf("%d is held already", old.Header.Sequence)
	case h.Sequence <= f.floor.Load():
		return fmt.Errorf("%d was held already", f.floor.Load())
	}
	return nil
}

func (f *Follower) isFor(h *Header) bool {
	return h.Site == f.rules.Site && h.Namespace == f.rules.Namespace && h.Object == f.rules.Object
}

func notFor(h *Header) error {
	return fmt.Errorf("it is for site %q, namespace %q, object %q", h.Site, h.Namespace, h.Object)
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
func (f *Follower) Current(now time.Time) (*InForce, error) {
	x := f.held.Load()
	if x == nil || !now.Before(f.end(&x.Header)) {
		return nil, ErrEnded
	}
	return x, nil
}

// Held returns the header of the newest policy, in force or ended, and when it
// ends; ok is false when none was accepted yet.
func (f *Follower) Held() (h Header, ends time.Time, ok bool) {
	x := f.held.Load()
	if x == nil {
		return Header{}, time.Time{}, false
	}
	return x.Header, f.end(&x.Header), true
}
