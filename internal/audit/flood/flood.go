// Package flood keeps strangers from filling the disk. Whoever shows no valid
// credential leaves a record with each attempt; beyond a rate their attempts
// are counted, and the count becomes a record.
//
// It owns: who is a stranger, the rates, and the gap records that carry the
// counts. It refuses: leaving out anything of a caller who is known. Changes,
// denials and reads of those pass through, however many.
//
// Start at [New].
package flood

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
)

// The rates: what is recorded of strangers, of each source and of all. Together
// they bound what strangers can write to some 2 GB a day before compression,
// 150 MB after.
const (
	perSource   = 1.0 // a second
	burstSource = 60.0
	perAll      = 20.0
	burstAll    = 600.0
	// maxSources bounds the memory; sources beyond share the rate of all.
	maxSources = 65536
	// Interval is how often counts are recorded, and how much of them a kill
	// can take along.
	Interval = 10 * time.Second
	// maxNamed is how many sources get a gap record of their own each time; the
	// rest share one, so that many addresses cannot flood that way either.
	maxNamed = 4
)

// Log is where records go; *ledger.Log is one.
type Log interface {
	audit.Recorder
	SelfEvent(verb string) *audit.Event
}

var _ Log = (*ledger.Log)(nil)

// Guard is a Recorder before another. It is safe for concurrent use.
type Guard struct {
	log    Log
	now    func() time.Time
	logger *slog.Logger

	mu      sync.Mutex // guards what follows
	all     bucket
	sources map[netip.Prefix]*source
	others  suppressed // of sources without a bucket of their own
	total   uint64
}

var _ audit.Recorder = (*Guard)(nil)

// source is one address that strangers come from.
type source struct {
	bucket
	suppressed
}

// suppressed counts what was not recorded since the last gap record.
type suppressed struct {
	count uint64
	since time.Time
}

// New returns a guard before log.
func New(log Log, now func() time.Time, logger *slog.Logger) *Guard {
	return &Guard{log: log, now: now, logger: logger, sources: map[netip.Prefix]*source{}}
}

// Append implements audit.Recorder. A stranger's event beyond the rates is
// counted, and nil is returned as if it were on record.
func (g *Guard) Append(ctx context.Context, event *audit.Event, durability audit.Durability) error {
	if stranger(event) && !g.admit(event) {
		return nil
	}
	return g.log.Append(ctx, event, durability)
}

// stranger says whether an event is about somebody who showed no credential, or
// none that is valid.
func stranger(e *audit.Event) bool {
	return e.ImpersonatedUser == nil && (e.User.Username == "" || e.User.Username == "system:anonymous")
}

// admit takes one record from the rates.
func (g *Guard) admit(e *audit.Event) bool {
	from := sourceOf(e)
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	s := g.sources[from]
	if s == nil && len(g.sources) < maxSources {
		s = &source{}
		g.sources[from] = s
	}
	lost := &g.others
	if s != nil {
		lost = &s.suppressed
	}
	// The source's own rate first: a loud one must not use up that of all.
	if (s == nil || s.take(now, perSource, burstSource)) && g.all.take(now, perAll, burstAll) {
		return true
	}
	if lost.count == 0 {
		lost.since = now
	}
	lost.count++
	g.total++
	return false
}

// sourceOf is the address of the connection: the last of the list, because what
// stands before it are headers of the caller's choice. Of IPv6 it is the
// network, since a host has many addresses.
func sourceOf(e *audit.Event) netip.Prefix {
	if len(e.SourceIPs) == 0 {
		return netip.Prefix{}
	}
	at, err := netip.ParseAddr(e.SourceIPs[len(e.SourceIPs)-1])
	if err != nil {
		return netip.Prefix{}
	}
	at = at.Unmap().WithZone("")
	bits := 64
	if at.Is4() {
		bits = 32
	}
	p, err := at.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// Suppressed returns how many events were counted and not recorded since the
// start.
func (g *Guard) Suppressed() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total
}

// Run records the counts until ctx ends, and then what is left.
func (g *Guard) Run(ctx context.Context) error {
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), Interval)
			defer cancel()
			g.flush(end)
			return nil
		case <-tick.C:
			g.flush(ctx)
		}
	}
}

// gap is what one gap record says.
type gap struct {
	suppressed
	from    netip.Prefix // the zero value stands for several
	sources int
}

// flush records what was suppressed.
func (g *Guard) flush(ctx context.Context) {
	for _, x := range g.collect() {
		e := g.log.SelfEvent(ledger.VerbGap)
		who := fmt.Sprintf("%d sources", x.sources)
		if x.sources == 1 && x.from.IsValid() {
			who = x.from.String()
			if x.from.IsSingleIP() {
				who = x.from.Addr().String()
			}
			e.SourceIPs = []string{x.from.Addr().String()}
		}
		e.Annotate(audit.AnnotationGap, fmt.Sprintf("requests without a valid credential from %s since %s were counted and not recorded", who, x.since.UTC().Format(time.RFC3339)))
		e.Annotate(audit.AnnotationGapCount, strconv.FormatUint(x.count, 10))
		if err := g.log.Append(ctx, e, audit.Durable); err != nil {
			g.giveBack(x)
			if !errors.Is(err, context.Canceled) {
				g.logger.Error("audit gap cannot be recorded", "error", err)
			}
		}
	}
}

// collect takes the counts, the loudest sources by themselves, and forgets
// sources that are as good as new.
func (g *Guard) collect() []gap {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	var out []gap
	rest := gap{suppressed: g.others}
	if g.others.count > 0 {
		rest.sources = 1
	}
	g.others = suppressed{}
	for from, s := range g.sources {
		if s.count > 0 {
			out = append(out, gap{s.suppressed, from, 1})
			s.suppressed = suppressed{}
		} else if s.full(now, perSource) {
			delete(g.sources, from)
		}
	}
	slices.SortFunc(out, func(a, b gap) int { return cmp.Compare(b.count, a.count) })
	if len(out) > maxNamed {
		for _, x := range out[maxNamed:] {
			rest.add(x.suppressed)
			rest.sources++
		}
		out = out[:maxNamed]
	}
	if rest.count > 0 {
		out = append(out, rest)
	}
	return out
}

// giveBack keeps a count that could not be recorded for the next time.
func (g *Guard) giveBack(x gap) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.sources[x.from]; s != nil && x.from.IsValid() {
		s.add(x.suppressed)
		return
	}
	g.others.add(x.suppressed)
}

func (s *suppressed) add(o suppressed) {
	if s.count == 0 || o.since.Before(s.since) {
		s.since = o.since
	}
	s.count += o.count
}

// bucket is a token bucket. The zero value is full.
type bucket struct {
	used float64
	at   time.Time
}

// take uses one token, if there is one.
func (b *bucket) take(now time.Time, rate, burst float64) bool {
	b.refill(now, rate)
	if b.used > burst-1 {
		return false
	}
	b.used++
	return true
}

func (b *bucket) refill(now time.Time, rate float64) {
	if d := now.Sub(b.at).Seconds(); d > 0 {
		b.used = max(0, b.used-d*rate)
	}
	b.at = now
}

func (b *bucket) full(now time.Time, rate float64) bool {
	b.refill(now, rate)
	return b.used == 0
}
