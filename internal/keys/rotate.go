package keys

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// clockSlack is how far clocks of replicas and verifiers may differ.
const clockSlack = 5 * time.Minute

// Schedule says how keys of a ring follow each other.
type Schedule struct {
	// Every is the age of the signer at which [Ring.Maintain] makes its
	// successor. Zero: only by command.
	Every time.Duration
	// Lead is how long a new key verifies before it signs. It must be longer
	// than any replica goes without [Ring.Refresh], and than verifiers
	// elsewhere cache the public keys.
	Lead time.Duration
	// Keep is the longest validity of anything that a key of the ring signs,
	// or ever signed: a limit that was lowered counts until what was signed
	// before is over. A key verifies that long after its last signature.
	Keep time.Duration
}

func (s Schedule) check() error {
	if s.Every < 0 || s.Lead < 0 || s.Keep < 0 {
		return fault.New(fault.Invalid, "key rotation: durations must not be negative")
	}
	if s.Every > 0 && s.Every <= s.Lead {
		return fault.New(fault.Invalid, "key rotation: the interval must be longer than the lead")
	}
	return nil
}

// Rotate adds a key that verifies at once and signs after s.Lead. The signer
// so far goes on verifying until nothing it signed can be valid. An error of
// kind Conflict says that the last rotation has not come into effect yet.
func (r *Ring[P]) Rotate(ctx context.Context, s Schedule) error {
	if err := s.check(); err != nil {
		return err
	}
	now := r.vault.clock()
	fresh, err := r.generate(now)
	if err == nil {
		err = r.update(ctx, func(state *ring) (bool, error) { return true, state.rotate(now, s, fresh) })
	}
	if err != nil {
		return fmt.Errorf("rotate %s keys: %w", specOf[P]().name, err)
	}
	r.vault.log.Info("key rotated", "purpose", specOf[P]().name, "site", r.site, "key", fresh.id)
	return nil
}

// Revoke removes a key at once: from then on nothing it signed verifies, on
// every replica as soon as it refreshes. If it was the signer, its successor
// signs at once, a new one if there is none.
func (r *Ring[P]) Revoke(ctx context.Context, keyID string) error {
	now := r.vault.clock()
	fresh, err := r.generate(now)
	if err == nil {
		err = r.update(ctx, func(state *ring) (bool, error) { return true, state.revoke(now, keyID, fresh) })
	}
	if err != nil {
		return fmt.Errorf("revoke %s key: %w", specOf[P]().name, err)
	}
	r.vault.log.Info("key revoked", "purpose", specOf[P]().name, "site", r.site, "key", keyID)
	return nil
}

// Retire removes the keys that nothing valid can need any more, and returns
// their ids.
func (r *Ring[P]) Retire(ctx context.Context) ([]string, error) {
	now := r.vault.clock()
	var gone []string
	err := r.update(ctx, func(state *ring) (bool, error) {
		gone = state.retire(now)
		return len(gone) > 0, nil
	})
	if err != nil {
		return nil, fmt.Errorf("retire %s keys: %w", specOf[P]().name, err)
	}
	for _, id := range gone {
		r.vault.log.Info("key retired", "purpose", specOf[P]().name, "site", r.site, "key", id)
	}
	return gone, nil
}

// Maintain refreshes the ring, rotates it if the schedule says so, and retires
// what is over. Every replica may call it: of several one rotates and the
// others see that it is done.
func (r *Ring[P]) Maintain(ctx context.Context, s Schedule) error {
	if err := s.check(); err != nil {
		return err
	}
	if err := r.Refresh(ctx); err != nil {
		return err
	}
	if now := r.vault.clock(); r.Set().due(now, s) {
		if err := r.rotateIfDue(ctx, s, now); err != nil {
			return err
		}
	}
	if r.Set().over(r.vault.clock()) {
		_, err := r.Retire(ctx)
		return err
	}
	return nil
}

func (r *Ring[P]) rotateIfDue(ctx context.Context, s Schedule, now time.Time) error {
	fresh, err := r.generate(now)
	rotated := false
	if err == nil {
		err = r.update(ctx, func(state *ring) (bool, error) {
			if rotated = state.due(now, s); !rotated {
				return false, nil
			}
			return true, state.rotate(now, s, fresh)
		})
	}
	if err != nil {
		return fmt.Errorf("rotate %s keys: %w", specOf[P]().name, err)
	}
	if rotated {
		r.vault.log.Info("key rotated", "purpose", specOf[P]().name, "site", r.site, "key", fresh.id)
	}
	return nil
}

// Run calls [Ring.Maintain] at the given interval until ctx ends, and logs
// what fails; the last set stays in use meanwhile. Each call may take as long
// as the interval.
func (r *Ring[P]) Run(ctx context.Context, s Schedule, interval time.Duration) error {
	if err := s.check(); err != nil {
		return err
	}
	if interval <= 0 {
		return fault.New(fault.Invalid, "key rotation: the interval of maintenance must be positive")
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		attempt, cancel := context.WithTimeout(ctx, interval)
		err := r.Maintain(attempt, s)
		cancel()
		if err != nil && ctx.Err() == nil {
			r.vault.log.Error("key maintenance", "purpose", specOf[P]().name, "site", r.site, "error", err)
		}
	}
}

// due and over repeat the rules of ring on the set, to spare a write attempt.
func (s *Set[P]) due(now time.Time, schedule Schedule) bool {
	return schedule.due(now, s.signers[len(s.signers)-1].signFrom)
}

func (s *Set[P]) over(now time.Time) bool {
	return slices.ContainsFunc(s.signers, func(k *Signer[P]) bool { return !k.verifies(now) })
}

func (s Schedule) due(now, newest time.Time) bool {
	return s.Every > 0 && now.Sub(newest) >= s.Every
}

func (r *ring) due(now time.Time, s Schedule) bool { return s.due(now, r.keys[len(r.keys)-1].signFrom) }

func (r *ring) rotate(now time.Time, s Schedule, fresh key) error {
	last := &r.keys[len(r.keys)-1]
	if len(r.keys) > 1 && last.signFrom.After(now) {
		return fault.Newf(fault.Conflict, "a rotation is under way: key %s signs from %s", last.id, last.signFrom.Format(time.RFC3339))
	}
	if len(r.keys) == maxKeys {
		return fault.Newf(fault.Exhausted, "the ring holds %d keys, and things they signed may be valid until %s", maxKeys, r.keys[0].retireAfter.Format(time.RFC3339))
	}
	fresh.signFrom = after(now.Add(s.Lead), last.signFrom)
	last.retireAfter = stored(fresh.signFrom.Add(s.Keep + clockSlack))
	r.keys = append(r.keys, fresh)
	return nil
}

func (r *ring) revoke(now time.Time, id string, fresh key) error {
	i := slices.IndexFunc(r.keys, func(k key) bool { return k.id == id })
	if i < 0 {
		return fault.Newf(fault.NotFound, "no key %q in this ring", id)
	}
	newest := i == len(r.keys)-1
	wasSigner := !newest && r.keys[i+1].signFrom.After(now) || newest
	previous := time.Time{}
	if i > 0 {
		previous = r.keys[i-1].signFrom
	}
	r.keys = slices.Delete(r.keys, i, i+1)
	switch {
	case newest:
		// Whoever signed before it keeps its end, and gets no signature more.
		fresh.signFrom = after(now, previous)
		r.keys = append(r.keys, fresh)
	case wasSigner:
		r.keys[i].signFrom = after(now, previous)
	}
	return nil
}

// retire drops the keys whose time is over; the newest never is.
func (r *ring) retire(now time.Time) (gone []string) {
	r.keys = slices.DeleteFunc(r.keys, func(k key) bool {
		over := !k.retireAfter.IsZero() && !now.Before(k.retireAfter)
		if over {
			gone = append(gone, k.id)
		}
		return over
	})
	return gone
}

// after is t, or the first moment after previous if t is not later.
func after(t, previous time.Time) time.Time {
	t = stored(t)
	if !t.After(previous) {
		return previous.Add(time.Second)
	}
	return t
}
