// Package silence judges what was heard of audit sources: whether one that is
// expected has fallen silent, and whether it is back.
//
// It owns: the judgement ([Judge]), and the work of every replica to write what
// it heard into the sources' status and to have each silence, and each return,
// recorded once ([Watch]). It refuses: hearing, which is package collect.
//
// Replicas work together through the status alone. A change of state is claimed
// there, by the one replica whose write succeeds, together with a note that the
// event about it is pending; the claimant records the event and takes the note
// away. When it dies in between, another replica finds the note after a while
// and records the event, under the same auditID.
//
// Start at [Watch].
package silence

import (
	"context"
	"errors"
	"log/slog"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
)

const (
	// statusEvery is how often a source that goes on as it did has its status
	// written, unless its interval is shorter.
	statusEvery = 30 * time.Second
	// orphaned is when a pending event is taken over.
	orphaned = 30 * time.Second
	// interval of the watch; also the least that can be told apart.
	tick = time.Second
)

// Pending events.
const (
	Silent   = "Silent"
	Returned = "Returned"
)

// Judge returns the status of a source at a moment, given the one that is
// stored, what was heard here, and since when anything could be heard here. ok
// is false when there is nothing to write.
func Judge(o *auditapi.AuditSource, heard collect.Observation, listening, now time.Time) (next auditapi.AuditSourceStatus, ok bool) {
	s := o.Status.DeepCopy()
	last := stamp(s.LastHeard)
	fresh := heard.Heard.Truncate(time.Second).After(last)
	if fresh {
		last = heard.Heard.Truncate(time.Second)
	}
	interval := time.Duration(0)
	if n := o.Spec.ExpectedIntervalSeconds; n != nil {
		interval = time.Duration(*n) * time.Second
	}
	// Nobody is silent who could not be heard: not before it was declared, nor
	// while this replica was down.
	base := latest(last, o.CreationTimestamp.Time, listening)
	quiet := interval > 0 && now.Sub(base) >= 2*interval
	switch {
	case fresh && s.State == auditapi.AuditSourceSilent && !quiet:
		s.State, s.SilentSince = auditapi.AuditSourceActive, nil
		s.PendingEvent, s.PendingSince = Returned, at(now)
	case quiet && s.State != auditapi.AuditSourceSilent && s.PendingEvent == "":
		s.State = auditapi.AuditSourceSilent
		since := latest(last, o.CreationTimestamp.Time)
		s.SilentSince = at(since)
		s.PendingEvent, s.PendingSince = Silent, at(now)
	case s.PendingEvent != "" && now.Sub(stamp(s.PendingSince)) >= orphaned:
		s.PendingSince = at(now) // who held it is gone
	case fresh && s.State != auditapi.AuditSourceActive && s.State != auditapi.AuditSourceSilent:
		s.State = auditapi.AuditSourceActive
	case fresh && last.Sub(stamp(s.LastHeard)) >= writeEvery(interval):
	default:
		return *s, false
	}
	if fresh {
		s.LastHeard = at(last)
		if !heard.Entry.IsZero() {
			s.LastEntry = at(heard.Entry)
			s.LagSeconds = max(0, int64(heard.Heard.Sub(heard.Entry)/time.Second))
		}
	}
	return *s, true
}

// writeEvery keeps other replicas from taking a source for silent that is
// heard here.
func writeEvery(interval time.Duration) time.Duration {
	if interval == 0 {
		return statusEvery
	}
	return max(time.Second, min(interval/2, statusEvery))
}

func at(t time.Time) *metav1.Time {
	out := metav1.NewTime(t.Truncate(time.Second))
	return &out
}

func stamp(t *metav1.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.Time
}

func latest(times ...time.Time) (out time.Time) {
	for _, t := range times {
		if t.After(out) {
			out = t
		}
	}
	return out
}

// Config is what a watch needs; everything is required.
type Config struct {
	Sources interface{ All() []collect.Known }
	// Modify changes the status of a source. change is given the source as it
	// is stored, perhaps more than once; its error ends the attempt and is
	// returned.
	Modify   func(ctx context.Context, name string, change func(*auditapi.AuditSource) error) error
	Recorder audit.CollectedRecorder
	IDs      *collect.IDs
	Now      func() time.Time
	Log      *slog.Logger
}

// Watch judges the sources until ctx ends, which is its only way to return.
func Watch(ctx context.Context, c Config) error {
	if c.Sources == nil || c.Modify == nil || c.Recorder == nil || c.IDs == nil || c.Now == nil || c.Log == nil {
		return errors.New("collect silence: incomplete configuration")
	}
	w := &watch{Config: c, listening: c.Now(), failing: map[string]bool{}}
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			w.look(ctx)
		}
	}
}

type watch struct {
	Config
	listening time.Time
	failing   map[string]bool
}

// errNothing ends a change that turned out to be none.
var errNothing = errors.New("nothing to write")

func (w *watch) look(ctx context.Context) {
	for _, k := range w.Sources.All() {
		if ctx.Err() != nil {
			return
		}
		if _, ok := Judge(k.AuditSource, k.Observation, w.listening, w.Now()); !ok {
			continue
		}
		err := w.settle(ctx, k)
		switch {
		case err == nil, errors.Is(err, errNothing):
			delete(w.failing, k.Name)
		case ctx.Err() == nil && !w.failing[k.Name]:
			w.failing[k.Name] = true
			w.Log.Warn("audit source not settled", "source", k.Name, "error", err)
		}
	}
}

// settle writes the status, and records and clears the event that is pending
// with it.
func (w *watch) settle(ctx context.Context, k collect.Known) error {
	var (
		stored  *auditapi.AuditSource
		claimed bool
	)
	if err := w.Modify(ctx, k.Name, func(o *auditapi.AuditSource) error {
		next, ok := Judge(o, k.Observation, w.listening, w.Now())
		if !ok {
			return errNothing
		}
		claimed = next.PendingEvent != "" && !next.PendingSince.Equal(o.Status.PendingSince)
		o.Status = next
		stored = o.DeepCopy()
		return nil
	}); err != nil {
		return err
	}
	if !claimed {
		return nil
	}
	ev := Event(w.IDs, stored, w.Now())
	if _, err := w.Recorder.AppendCollected(ctx, stored.Spec.Site, []audit.Event{ev}); err != nil {
		return err // it is orphaned, and taken over when the record is back
	}
	return w.Modify(ctx, k.Name, func(o *auditapi.AuditSource) error {
		if o.Status.PendingEvent != stored.Status.PendingEvent {
			return errNothing
		}
		o.Status.PendingEvent, o.Status.PendingSince = "", nil
		return nil
	})
}
