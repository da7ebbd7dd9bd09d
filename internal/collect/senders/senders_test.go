package senders

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
	"github.com/gatehouse-dev/gatehouse/internal/collect/gaps"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation/totalwire"
	"github.com/gatehouse-dev/gatehouse/internal/keys/keystest"
)

// A plane is several replicas with one store, and a record that may be full.
type plane struct {
	t        *testing.T
	replicas []*Accounts

	mu     sync.Mutex // guards the rest
	now    time.Time
	heard  time.Time
	full   bool
	events []audit.Event
}

func newPlane(t *testing.T, replicas int) *plane {
	p := &plane{t: t, now: time.Unix(1_800_000_000, 0).UTC()}
	store := keystest.NewMemory()
	for range replicas {
		a, err := New(Config{
			Store: store, Recorder: p, IDs: collect.NewIDs([32]byte{}),
			LastHeard: func(string) time.Time { p.mu.Lock(); defer p.mu.Unlock(); return p.heard },
			Now:       func() time.Time { p.mu.Lock(); defer p.mu.Unlock(); return p.now },
		})
		if err != nil {
			t.Fatal(err)
		}
		p.replicas = append(p.replicas, a)
	}
	return p
}

func (p *plane) AppendCollected(_ context.Context, site string, events []audit.Event) (audit.BatchResult, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if site != "blue" {
		p.t.Errorf("recorded for %q", site)
	}
	if p.full {
		return audit.BatchResult{}, fault.New(fault.Unavailable, "full")
	}
	for _, e := range events { // as the log does
		if !slices.ContainsFunc(p.events, func(known audit.Event) bool { return known.AuditID == e.AuditID }) {
			p.events = append(p.events, e)
		}
	}
	return audit.BatchResult{Recorded: len(events)}, nil
}

func (p *plane) pass(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

// gaps returns the counts of what was recorded, "-" for none.
func (p *plane) gaps() string {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, e := range p.events {
		if err := e.Validate(); err != nil || e.Annotations[audit.AnnotationGap] == "" {
			p.t.Errorf("%v: %+v", err, e)
		}
		count := e.Annotations[audit.AnnotationGapCount]
		if count == "" {
			count = "-"
		}
		out = append(out, count)
	}
	return strings.Join(out, " ")
}

func said(server string, started int64, produced, buffered, webhook int64) totalwire.Process {
	return totalwire.Process{Server: server, Started: started * 1e6, Produced: produced, Discarded: totalwire.Discarded{Buffered: buffered, Webhook: webhook}}
}

func (p *plane) report(replica int, processes ...totalwire.Process) {
	p.t.Helper()
	if err := p.replicas[replica].Accept(p.t.Context(), "blue", &totalwire.Report{Processes: processes}); err != nil {
		p.t.Fatal(err)
	}
}

// Each rise is one gap, whichever replica is told, however often, and also when
// an older report comes after a newer one.
func TestRisesAreRecordedOnce(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 2)
	p.report(0, said("a", 100, 10, 0, 0))
	p.pass(15 * time.Second)
	p.report(1, said("a", 100, 500, 7, 0), said("b", 50, 900, 0, 400))
	p.report(0, said("a", 100, 500, 7, 0), said("b", 50, 900, 0, 400))
	p.report(0, said("a", 100, 10, 0, 0))
	p.pass(15 * time.Second)
	p.report(1, said("a", 100, 600, 9, 1))
	if got := p.gaps(); got != "7 400 3" {
		t.Fatalf("recorded %q", got)
	}
	e := p.events[2]
	if why := e.Annotations[audit.AnnotationGap]; !strings.Contains(why, "2 because its buffer was full") || !strings.Contains(why, "up to 1 in batches") {
		t.Errorf("why: %s", why)
	}
	if from, to := e.Annotations["audit.gatehouse.dev/gap-from"], e.Annotations["audit.gatehouse.dev/gap-to"]; from != p.now.Add(-15*time.Second).Format(time.RFC3339Nano) || to != p.now.Format(time.RFC3339Nano) {
		t.Errorf("from %s to %s", from, to)
	}
	if s := e.Annotations["audit.gatehouse.dev/gap-sender"]; s != "kube-apiserver a, started 1970-01-01T00:01:40Z" {
		t.Errorf("sender %q", s)
	}
	states, err := p.replicas[0].Tend(t.Context())
	if s := states["blue"]; err != nil || !s.Current || s.Processes != 2 || s.Discarded != 410 {
		t.Errorf("%v %+v", err, s)
	}
	p.pass(StaleAfter + time.Second)
	if states, err = p.replicas[1].Tend(t.Context()); err != nil || states["blue"].Current {
		t.Errorf("%v: still current", err)
	}
}

// A process that ended took along what it had not sent; the next one counts
// from nothing.
func TestProcessesEnd(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 1)
	p.report(0, said("a", 100, 10, 5, 0), said("b", 100, 10, 0, 0))
	p.pass(time.Minute)
	p.report(0, said("a", 1_800_000_030, 3, 2, 0), said("b", 100, 20, 0, 0))
	// What was seen of the former one comes late, and once more.
	p.report(0, said("a", 100, 10, 5, 0))
	p.report(0, said("a", 1_800_000_030, 3, 2, 0))
	if got := p.gaps(); got != "5 - 2" {
		t.Fatalf("recorded %q", got)
	}
	if e := p.events[1]; !strings.Contains(e.Annotations[audit.AnnotationGap], "started anew") || e.Annotations["audit.gatehouse.dev/gap-to"] != "2027-01-15T08:00:30Z" {
		t.Errorf("%+v", e.Annotations)
	}
	// One that is not reached has not ended; one that is not listed has.
	for range 60 {
		p.pass(15 * time.Second)
		if err := p.replicas[0].Accept(t.Context(), "blue", &totalwire.Report{Processes: []totalwire.Process{said("a", 1_800_000_030, 3, 2, 0)}, Unreached: []string{"b"}}); err != nil {
			t.Fatal(err)
		}
	}
	if states, err := p.replicas[0].Tend(t.Context()); err != nil || states["blue"].Unreached != 1 || p.gaps() != "5 - 2" {
		t.Errorf("%v %+v, recorded %q", err, states["blue"], p.gaps())
	}
	p.report(0, said("a", 1_800_000_030, 3, 2, 0))
	if got := p.gaps(); got != "5 - 2 -" {
		t.Errorf("recorded %q", got)
	}
}

// A record that is full, and a replica that dies, delay a gap and do not lose
// or double it.
func TestGapsOutliveFaults(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 2)
	p.full = true
	err := p.replicas[0].Accept(t.Context(), "blue", &totalwire.Report{Processes: []totalwire.Process{said("a", 100, 10, 5, 0)}})
	if fault.KindOf(err) != fault.Unavailable {
		t.Fatalf("with a full disk: %v", err)
	}
	p.full = false
	p.pass(time.Second)
	p.report(1, said("a", 100, 12, 6, 0)) // the other one is at it
	if got := p.gaps(); got != "1" {
		t.Fatalf("recorded %q", got)
	}
	p.pass(orphaned)
	if _, err := p.replicas[1].Tend(t.Context()); err != nil || p.gaps() != "1 5" {
		t.Fatalf("%v: recorded %q", err, p.gaps())
	}
	if _, err := p.replicas[0].Tend(t.Context()); err != nil || p.gaps() != "1 5" {
		t.Fatalf("%v: recorded %q", err, p.gaps())
	}
	// Not as fast as it can.
	before := p.gaps()
	r := totalwire.Report{Processes: []totalwire.Process{said("fast", 100, 1, 0, 0)}}
	p.report(0, r.Processes...)
	r.Processes[0].Discarded.Buffered = 9
	if err := p.replicas[1].Accept(t.Context(), "blue", &r); fault.KindOf(err) != fault.Exhausted || p.gaps() != before {
		t.Errorf("two reports at once: %v", err)
	}
	// Many at once, told to all replicas. They wait for each other, since time
	// that passes for one in the middle of its work makes that an orphan.
	for n := range int64(25) {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				p.pass(leastWait)
				r := totalwire.Report{Processes: []totalwire.Process{said(fmt.Sprint("c", i), 100, n, n, 0)}}
				if err := p.replicas[i%2].Accept(t.Context(), "blue", &r); err != nil && fault.KindOf(err) != fault.Unavailable && fault.KindOf(err) != fault.Exhausted {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	for i := range 8 {
		p.pass(leastWait)
		p.report(0, said(fmt.Sprint("c", i), 100, 24, 24, 0))
	}
	p.pass(orphaned)
	if _, err := p.replicas[0].Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, n := range strings.Fields(p.gaps()) {
		var v int
		if _, err := fmt.Sscan(n, &v); err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	if sum != 6+8*24 {
		t.Errorf("%d recorded as missing, want %d", sum, 6+8*24)
	}
}

// A kube-apiserver whose webhook was taken away counts no error.
func TestNothingIsDelivered(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 1)
	produced := int64(0)
	run := func(d time.Duration, heard bool, each int64) {
		for range d / (15 * time.Second) {
			p.pass(15 * time.Second)
			produced += each
			if heard {
				p.heard = p.now.Add(-30 * time.Second) // as the status has it
			}
			p.report(0, said("a", 100, produced, 0, 0))
		}
	}
	run(time.Hour, false, 10)
	if got := p.gaps(); got != "" {
		t.Fatalf("of a site that never delivered: %q", got)
	}
	run(time.Hour, true, 10)
	run(time.Hour, true, 0)
	if got := p.gaps(); got != "" {
		t.Fatalf("of a site that delivers: %q", got)
	}
	run(10*time.Minute, false, 0)
	if got := p.gaps(); got != "" {
		t.Fatalf("of a site that has nothing to deliver: %q", got)
	}
	run(10*time.Minute, true, 10)
	run(30*time.Minute, false, 10)
	if got := strings.Fields(p.gaps()); len(got) != 1 {
		t.Fatalf("of a site that stopped delivering: %q", got)
	}
	run(40*time.Minute, false, 10)
	var a, b int64
	if n, err := fmt.Sscan(p.gaps(), &a, &b); n != 2 || a < 40 || a+b > 2800 || a+b < 2300 {
		t.Errorf("%v: of 2800 events after 70 minutes: %q", err, p.gaps())
	}
}

func TestReportsAreBounded(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 1)
	many := make([]totalwire.Process, totalwire.MaxProcesses+1)
	for i := range many {
		many[i] = said(fmt.Sprint("s", i), 1, 1, 0, 0)
	}
	for name, r := range map[string]totalwire.Report{
		"too many":       {Processes: many},
		"negative":       {Processes: []totalwire.Process{said("a", 1, -1, 0, 0)}},
		"too large":      {Processes: []totalwire.Process{said("a", 1, 1, 1<<53+1, 0)}},
		"no start":       {Processes: []totalwire.Process{said("a", 0, 1, 0, 0)}},
		"twice":          {Processes: []totalwire.Process{said("a", 1, 1, 0, 0), said("a", 2, 1, 0, 0)}},
		"no server":      {Processes: []totalwire.Process{said("", 1, 1, 0, 0)}},
		"a new line":     {Processes: []totalwire.Process{said("a\nb", 1, 1, 0, 0)}},
		"both":           {Processes: []totalwire.Process{said("a", 1, 1, 0, 0)}, Unreached: []string{"a"}},
		"unreached odd":  {Unreached: []string{strings.Repeat("x", 254)}},
		"unreached many": {Unreached: make([]string, 40)},
	} {
		if err := p.replicas[0].Accept(t.Context(), "blue", &r); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A site that makes up processes and losses without end.
	for i := range 60 {
		p.full = i%3 != 0
		r := totalwire.Report{}
		for s := range totalwire.MaxProcesses {
			r.Processes = append(r.Processes, said(fmt.Sprint("s", s), int64(i+1), 1, 1, 0))
		}
		if err := p.replicas[0].Accept(t.Context(), "blue", &r); err != nil && fault.KindOf(err) != fault.Unavailable {
			t.Fatal(err)
		}
		p.pass(time.Second)
	}
	entry, err := p.replicas[0].cfg.Store.Get(t.Context(), "blue")
	if err != nil || len(entry.Value) > 256<<10 {
		t.Errorf("%v: an account of %d bytes", err, len(entry.Value))
	}
}

// TestSumsDoNotWrap: what a site makes up never turns into less.
func TestSumsDoNotWrap(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 1)
	for i := range 20 {
		r := totalwire.Report{}
		for s := range totalwire.MaxProcesses {
			r.Processes = append(r.Processes, said(fmt.Sprint("s", s), int64(i+1), totalwire.MaxCount, totalwire.MaxCount, totalwire.MaxCount))
		}
		if err := p.replicas[0].Accept(t.Context(), "blue", &r); err != nil {
			t.Fatal(err)
		}
		p.pass(time.Second)
		states, err := p.replicas[0].Tend(t.Context())
		if err != nil || states["blue"].Discarded < (2*totalwire.MaxProcesses*totalwire.MaxCount) {
			t.Fatalf("after %d reports: %v: %+v", i+1, err, states["blue"])
		}
	}
}

// TestClocksDiffer: a replica whose clock is behind takes reports all the same.
func TestClocksDiffer(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 2)
	p.report(0, said("a", 100, 10, 1, 0))
	p.pass(-time.Hour)
	p.report(1, said("a", 100, 20, 3, 0))
	if got := p.gaps(); got != "1 2" {
		t.Errorf("%q", got)
	}
}

// TestGapsOfOneKeyAreApart: that one of them is on record does not take away the
// other.
func TestGapsOfOneKeyAreApart(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 1)
	a, at := p.replicas[0], p.now
	gap := func(from time.Time) pending {
		return pending{Gap: gaps.Gap{From: from, To: at.Add(time.Hour), Missing: 5, Key: "undelivered 5", Why: "w"}}
	}
	if _, err := a.change(t.Context(), "blue", func(acc *account) bool {
		acc.Pending = []pending{gap(at), gap(at.Add(time.Minute))}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if err := a.settle(t.Context(), "blue", []pending{gap(at)}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Tend(t.Context()); err != nil || p.gaps() != "5 5" {
		t.Errorf("%v: %q", err, p.gaps())
	}
}
