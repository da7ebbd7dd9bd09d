package silence

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
)

// A world is one stored source, and the replicas that watch it.
type world struct {
	mu       sync.Mutex
	stored   *auditapi.AuditSource
	revision int
	recorded []audit.Event
	heard    map[int]collect.Observation // by replica
	full     bool                        // the disk
	deaf     bool                        // status cannot be written after a record
	writes   int
}

type replica struct {
	w  *world
	id int
}

func (r replica) All() []collect.Known {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	return []collect.Known{{AuditSource: r.w.stored.DeepCopy(), Observation: r.w.heard[r.id]}}
}

// modify is a write that fails when another came between, and is tried again.
func (r replica) modify(_ context.Context, _ string, change func(*auditapi.AuditSource) error) error {
	for {
		r.w.mu.Lock()
		o, revision := r.w.stored.DeepCopy(), r.w.revision
		r.w.mu.Unlock()
		if err := change(o); err != nil {
			return err
		}
		r.w.mu.Lock()
		if r.w.deaf && o.Status.PendingEvent == "" {
			r.w.mu.Unlock()
			return errors.New("etcd is away")
		}
		if revision == r.w.revision {
			r.w.stored, r.w.revision = o, revision+1
			r.w.writes++
			r.w.mu.Unlock()
			return nil
		}
		r.w.mu.Unlock()
	}
}

func (r replica) AppendCollected(_ context.Context, site string, events []audit.Event) (audit.BatchResult, error) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if r.w.full {
		return audit.BatchResult{}, errors.New("disk full")
	}
	if site != "blue" {
		return audit.BatchResult{}, errors.New("wrong site")
	}
	r.w.recorded = append(r.w.recorded, events...)
	return audit.BatchResult{Recorded: len(events)}, nil
}

func (w *world) hear(id int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard[id] = collect.Observation{Heard: time.Now(), Entry: time.Now().Add(-3 * time.Second)}
}

func (w *world) set(change func(*world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

func (w *world) verbs() (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.recorded {
		out = append(out, w.recorded[i].Verb)
	}
	return out
}

func (w *world) status() auditapi.AuditSourceStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stored.Status
}

// inWorld runs replicas over one source with an interval of a minute.
func inWorld(t *testing.T, replicas int, story func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		minute := int64(60)
		w := &world{heard: map[int]collect.Observation{}, stored: &auditapi.AuditSource{
			ObjectMeta: metav1.ObjectMeta{Name: "web-1", UID: "u", CreationTimestamp: metav1.Now()},
			Spec:       auditapi.AuditSourceSpec{Site: "blue", Host: "web-1", Kind: auditapi.AuditSourceJournal, ExpectedIntervalSeconds: &minute},
			Status:     auditapi.AuditSourceStatus{State: auditapi.AuditSourceWaiting},
		}}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for id := range replicas {
			r := replica{w, id}
			wg.Go(func() {
				if err := Watch(ctx, Config{Sources: r, Modify: r.modify, Recorder: r, IDs: collect.NewIDs([32]byte{}), Now: time.Now, Log: slog.New(slog.DiscardHandler)}); err != nil {
					t.Error(err)
				}
			})
		}
		story(t, w)
		cancel()
		wg.Wait()
	})
}

func expect(t *testing.T, when string, w *world, state auditapi.AuditSourceState, verbs ...string) {
	t.Helper()
	synctest.Wait()
	got := w.verbs()
	if s := w.status(); s.State != state || len(got) != len(verbs) {
		t.Fatalf("%s: state %s, events %v, want %s and %v", when, s.State, got, state, verbs)
	}
	for i := range verbs {
		if got[i] != verbs[i] {
			t.Fatalf("%s: events %v, want %v", when, got, verbs)
		}
	}
}

func TestSilenceAndReturn(t *testing.T) {
	t.Parallel()
	for _, replicas := range []int{1, 3} {
		inWorld(t, replicas, func(t *testing.T, w *world) {
			time.Sleep(119 * time.Second)
			expect(t, "before two intervals", w, auditapi.AuditSourceWaiting)
			time.Sleep(2 * time.Second)
			expect(t, "never heard", w, auditapi.AuditSourceSilent, VerbSilent)
			time.Sleep(time.Hour)
			expect(t, "an hour later", w, auditapi.AuditSourceSilent, VerbSilent)
			// Only one replica hears it, and not always the same.
			for i := range 40 {
				w.hear(i % replicas)
				time.Sleep(40 * time.Second)
			}
			expect(t, "heard again", w, auditapi.AuditSourceActive, VerbSilent, VerbReturned)
			s := w.status()
			if s.LagSeconds != 3 || s.LastHeard == nil || s.SilentSince != nil || s.PendingEvent != "" {
				t.Errorf("%+v", s)
			}
			time.Sleep(3 * time.Minute)
			expect(t, "silent again", w, auditapi.AuditSourceSilent, VerbSilent, VerbReturned, VerbSilent)
			if s := w.status(); s.SilentSince == nil || !s.SilentSince.Equal(s.LastHeard) {
				t.Errorf("silent since %v, last heard %v", s.SilentSince, s.LastHeard)
			}
			if w.writes > 200 {
				t.Errorf("%d writes of a status", w.writes)
			}
		})
	}
}

// A full disk, and a status that cannot be written, delay the event and do not
// lose it; what is recorded twice for that has one auditID.
func TestNothingIsLostBetween(t *testing.T) {
	t.Parallel()
	inWorld(t, 2, func(t *testing.T, w *world) {
		w.set(func(w *world) { w.full = true })
		time.Sleep(5 * time.Minute)
		expect(t, "disk full", w, auditapi.AuditSourceSilent)
		w.set(func(w *world) { w.full, w.deaf = false, true })
		time.Sleep(65 * time.Second)
		w.set(func(w *world) { w.deaf = false })
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		ids := map[string]bool{}
		for _, e := range w.recorded {
			ids[e.AuditID] = true
			if err := e.Validate(); err != nil || e.Verb != VerbSilent {
				t.Errorf("%v %s", err, e.Verb)
			}
		}
		if len(ids) != 1 || w.status().PendingEvent != "" {
			t.Errorf("%d events with %d ids, pending %q", len(w.recorded), len(ids), w.status().PendingEvent)
		}
	})
}

// Without an expectation nothing is unusual, and a replica that was down judges
// by what it could hear.
func TestNobodyIsSilentWhoCouldNotBeHeard(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	minute := int64(60)
	o := &auditapi.AuditSource{Status: auditapi.AuditSourceStatus{State: auditapi.AuditSourceActive, LastHeard: at(now.Add(-time.Hour))}}
	if _, ok := Judge(o, collect.Observation{}, now.Add(-time.Hour), now); ok {
		t.Error("without an interval")
	}
	o.Spec.ExpectedIntervalSeconds = &minute
	if _, ok := Judge(o, collect.Observation{}, now.Add(-time.Minute), now); ok {
		t.Error("a minute after the start")
	}
	if next, ok := Judge(o, collect.Observation{}, now.Add(-2*time.Minute), now); !ok || next.State != auditapi.AuditSourceSilent {
		t.Error("two minutes after the start")
	}
	if next, ok := Judge(o, collect.Observation{Heard: now}, now.Add(-time.Hour), now); !ok || next.State != auditapi.AuditSourceActive || next.PendingEvent != "" {
		t.Errorf("heard just now: %+v", next)
	}
}
