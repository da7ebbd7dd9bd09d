// Package senders keeps account of what the kube-apiservers of sites say
// themselves of the audit events that they made and threw away. A stock sender
// discards when its buffer is full or it has tried a batch often enough; it
// counts that and tells nobody. gatehouse-edge watch reads the counters inside
// the site and posts them to the site's door, and here each rise becomes a gap
// with its count, once, whichever replica is told and however often.
//
// It owns: the account of each site ([Accounts]), the rules by which it becomes
// gaps (merge), and the state that a site's status shows ([State]). It refuses:
// to believe more than it is told. Counters come from the site, by the
// certificate of the site: who holds that can hide what it throws away, as it
// can leave out the events themselves, but it cannot take back a gap that is on
// record.
//
// The account is one value of a [Store] that all replicas share. A gap is
// written there first, as pending, by the one replica whose write succeeds; that
// one records the event and takes the note away. When it dies in between,
// another one records the event after a while, under the same auditID.
//
// Start at [Accounts.Accept].
package senders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation/totalwire"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

const (
	// writeEvery is how often an account is written in which nothing but the
	// number of events has changed.
	writeEvery = time.Minute
	// StaleAfter is when the last report is too old to say anything.
	StaleAfter = 3 * time.Minute
	// orphaned is when a pending gap is taken over.
	orphaned = 30 * time.Second
	// leastWait is the least time between two reports of a site that say
	// anything new.
	leastWait = time.Second
	// attempts bounds how often a write is tried that others come before.
	attempts = 8
)

// Config is what [Accounts] needs; everything is required.
type Config struct {
	// Store keeps one value for each site, for all replicas.
	Store keys.Store
	// Recorder records gaps.
	Recorder audit.CollectedRecorder
	IDs      *collect.IDs
	// LastHeard is when a site last delivered events, by whichever replica;
	// zero for never.
	LastHeard func(site string) time.Time
	Now       func() time.Time
}

// Accounts takes reports of sites. It is safe for concurrent use, and keeps no
// state of its own.
type Accounts struct{ cfg Config }

// New checks the configuration.
func New(c Config) (*Accounts, error) {
	if c.Store == nil || c.Recorder == nil || c.IDs == nil || c.LastHeard == nil || c.Now == nil {
		return nil, errors.New("collect senders: incomplete configuration")
	}
	return &Accounts{c}, nil
}

// Accept takes a report of a site. When it returns nil, every gap that the
// report shows is on record. An error is of package fault.
func (a *Accounts) Accept(ctx context.Context, site string, r *totalwire.Report) error {
	if err := r.Check(); err != nil {
		return err
	}
	now, full, soon := a.cfg.Now(), false, false
	claimed, err := a.change(ctx, site, func(acc *account) bool {
		soon = false
		if full = len(acc.Pending) >= maxPending; full {
			return acc.claim(now)
		}
		before := acc.Reported
		changed := acc.merge(r, a.cfg.LastHeard(site), now)
		// A site must not write into the store as fast as it can.
		// The time may be that of another replica, whose clock is ahead.
		if since := now.Sub(before); changed && since < leastWait && since > -leastWait {
			soon = true
			return false
		}
		return acc.claim(now) || changed
	})
	if err != nil {
		return err
	}
	if err := a.settle(ctx, site, claimed); err != nil {
		return err
	}
	if soon {
		return fault.New(fault.Exhausted, "reports of this site come too fast; report again")
	}
	if full {
		return fault.New(fault.Unavailable, "gaps of this site wait for the record; report again")
	}
	return nil
}

// change applies a change to the account of a site, which may be called more
// than once, and writes it if it returns true. It returns the pending gaps that
// this call has claimed.
func (a *Accounts) change(ctx context.Context, site string, change func(*account) bool) (claimed []pending, err error) {
	for range attempts {
		var acc account
		entry, err := a.cfg.Store.Get(ctx, site)
		fresh := fault.KindOf(err) == fault.NotFound
		if err != nil && !fresh {
			return nil, fmt.Errorf("account of a site's senders: %w", err)
		}
		if !fresh {
			if err := json.Unmarshal(entry.Value, &acc); err != nil {
				return nil, fmt.Errorf("account of a site's senders: %w", err)
			}
		}
		if !change(&acc) {
			return nil, nil
		}
		value, err := json.Marshal(&acc)
		if err != nil {
			return nil, fmt.Errorf("account of a site's senders: %w", err)
		}
		if fresh {
			_, err = a.cfg.Store.Create(ctx, site, value)
		} else {
			_, err = a.cfg.Store.CompareAndSwap(ctx, site, value, entry.Revision)
		}
		if fault.KindOf(err) == fault.Conflict {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("account of a site's senders: %w", err)
		}
		return acc.claimed, nil
	}
	return nil, fault.New(fault.Unavailable, "the account of this site is written by others all the time; try again")
}

// settle records claimed gaps and takes their notes away.
func (a *Accounts) settle(ctx context.Context, site string, claimed []pending) error {
	if len(claimed) == 0 {
		return nil
	}
	now := a.cfg.Now()
	events := make([]audit.Event, len(claimed))
	for i, p := range claimed {
		g := p.Gap
		g.Site = site
		events[i] = g.Event(a.cfg.IDs, now)
	}
	if _, err := a.cfg.Recorder.AppendCollected(ctx, site, events); err != nil {
		return err // they are orphaned, and taken over when the record is back
	}
	_, err := a.change(ctx, site, func(acc *account) bool {
		before := len(acc.Pending)
		acc.Pending = slices.DeleteFunc(acc.Pending, func(p pending) bool {
			return slices.ContainsFunc(claimed, func(c pending) bool { return c.same(&p) })
		})
		return len(acc.Pending) != before
	})
	return err
}

// State is what the status of a site shows of its senders.
type State struct {
	// Reported is when the last report came, Since the first.
	Reported, Since time.Time
	// Current is whether the last report is young enough to count.
	Current bool
	// Processes report now; Unreached did not answer.
	Processes, Unreached int
	// Discarded is how many events they have thrown away since.
	Discarded int64
}

// Tend records what other replicas left pending and returns the state of every
// site that ever reported.
func (a *Accounts) Tend(ctx context.Context) (map[string]State, error) {
	entries, err := a.cfg.Store.List(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("accounts of senders: %w", err)
	}
	out := make(map[string]State, len(entries))
	var problems []error
	for _, e := range entries {
		var acc account
		if err := json.Unmarshal(e.Value, &acc); err != nil {
			problems = append(problems, fmt.Errorf("account of the senders of %s: %w", e.Name, err))
			continue
		}
		now := a.cfg.Now()
		if acc.claim(now) {
			claimed, err := a.change(ctx, e.Name, func(acc *account) bool { return acc.claim(now) })
			if err == nil {
				err = a.settle(ctx, e.Name, claimed)
			}
			if err != nil {
				problems = append(problems, err)
			}
		}
		s := State{
			Reported: acc.Reported, Since: acc.Since, Current: now.Sub(acc.Reported) <= StaleAfter,
			Unreached: acc.Unreached, Discarded: acc.Discarded,
		}
		for _, p := range acc.Processes {
			if !p.Ended {
				s.Processes++
			}
		}
		out[e.Name] = s
	}
	return out, errors.Join(problems...)
}

// Forget removes the account of a site that is not connected any more.
func (a *Accounts) Forget(ctx context.Context, site string) error {
	entry, err := a.cfg.Store.Get(ctx, site)
	if err == nil {
		err = a.cfg.Store.Delete(ctx, site, entry.Revision)
	}
	if err != nil && fault.KindOf(err) != fault.NotFound {
		return fmt.Errorf("forget account of a site's senders: %w", err)
	}
	return nil
}

// why says which events are missing, in words.
func why(d totalwire.Discarded) string {
	parts := map[string]int64{
		"%d because its buffer was full":                                         d.Buffered,
		"up to %d in batches that it gave up on, of which some may be on record": d.Webhook,
		"%d because they were too large":                                         d.Truncate,
	}
	var said []string
	for _, format := range slices.Sorted(maps.Keys(parts)) {
		if n := parts[format]; n > 0 {
			said = append(said, fmt.Sprintf(format, n))
		}
	}
	return "a kube-apiserver of the site discarded events, as its metrics count them: " + strings.Join(said, "; ")
}
