package keys

import (
	"context"
	"time"
)

const (
	// followAgain is how soon a follower that failed is tried again.
	followAgain = 10 * time.Second
	// followLongest bounds a wait, so that a clock that was set is noticed.
	followLongest = time.Minute
)

// Follow calls apply with the state of the ring, now and whenever another key
// signs or the keys that verify change, until ctx ends. A failure of apply is
// logged, and tried again. It needs [Ring.Run] or [Ring.Refresh] beside it to
// see what other replicas do. apply runs in the calling goroutine, one call at
// a time.
func (r *Ring[P]) Follow(ctx context.Context, apply func(set *Set[P], now time.Time) error) error {
	var applied state
	for {
		set, now := r.Set(), r.vault.clock()
		wait := followLongest
		if next := set.next(now); !next.IsZero() {
			wait = min(wait, next.Sub(now))
		}
		if current := set.state(now); current != applied {
			if err := apply(set, now); err != nil {
				r.vault.log.Error("apply keys", "purpose", specOf[P]().name, "site", r.site, "error", err)
				applied, wait = state{}, min(wait, followAgain)
			} else {
				applied = current
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-set.Replaced():
			timer.Stop()
		case <-timer.C:
		}
	}
}

// state is what makes a difference to a follower. The zero state is that of no
// ring: revisions are positive.
type state struct {
	revision  int64
	signer    string
	verifiers int
}

func (s *Set[P]) state(now time.Time) state {
	// Keys stop verifying in the order of their ends, so their number is enough.
	return state{s.revision, s.Signer(now).id, len(s.Verifiers(now))}
}
