package gaps

import (
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
)

const (
	// Settle is how long the last event of a request can be under way: the
	// time a request may take and that of the sender's retries, which end
	// after about two minutes.
	Settle = 5 * time.Minute
	// Memory is how far back is judged.
	Memory = 30 * time.Minute

	// A hole is minHole buckets without an event, after minSteady buckets of
	// which hardly one was empty.
	bucket    = 10 * time.Second
	minHole   = 3
	minSteady = 18

	// margin keeps what arrived while the pairs of a kind began to be seen, and
	// what may arrive after the last, from being judged.
	margin = time.Minute

	// Bounds of what is remembered of one site, and of sites.
	maxHalves = 65_536
	maxShapes = 16_384
	maxSites  = 1024
	maxUnsure = 64
)

// Gap is what is missing of a site.
type Gap struct {
	Site string
	// From and To bound the requests whose events are missing.
	From, To time.Time
	// Missing counts events; 0 where it cannot be known.
	Missing int64
	// Late counts events that came after they had been recorded as missing.
	Late int64
	Why  string
	// Sender is the process that threw them away, where it says so itself.
	Sender string
	// Key tells the gap from others that are alike in all of the above.
	Key string
}

// Tracker watches the events of sites. It is safe for concurrent use.
type Tracker struct {
	seed maphash.Seed

	mu    sync.Mutex // guards the rest
	sites map[string]*site
}

// New returns a tracker that has seen nothing.
func New() *Tracker { return &Tracker{seed: maphash.MakeSeed(), sites: map[string]*site{}} }

type site struct {
	buckets map[int64]bool
	// judged is the first bucket that was not judged.
	judged int64
	shapes map[uint64]*shape
	halves map[string]half
	// told and toldHoles are what is on record as missing: the halves that are
	// there, and the times without an event. late is what came of it since.
	told      map[string]time.Time
	toldHoles []span
	late      late
	// unsure are times of requests about which nothing can be said.
	unsure []span
}

type span struct{ from, to time.Time }

// late counts what came after it was recorded as missing.
type late struct {
	span
	n int64
}

func (l *late) add(at time.Time) {
	if l.n == 0 || at.Before(l.from) {
		l.from = at
	}
	if l.n == 0 || at.After(l.to) {
		l.to = at
	}
	l.n++
}

// shape is what is known of the requests of one user and kind.
type shape struct{ firstPair, lastPair time.Time }

// half is a request of which one stage has been seen.
type half struct {
	shape    uint64
	received time.Time // the request
	arrived  time.Time
}

// Observe takes events of a site that are on record, and when they arrived.
// known are the places of those that were on record before.
func (t *Tracker) Observe(name string, events []audit.Event, known []int, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.site(name)
	if s == nil {
		return
	}
	for i := range events {
		e := &events[i]
		s.mark(e.StageTimestamp.Time, now)
		again := len(known) > 0 && known[0] == i
		if again {
			known = known[1:]
		}
		if !again && slices.ContainsFunc(s.toldHoles, func(h span) bool {
			return !e.StageTimestamp.Before(h.from) && e.StageTimestamp.Time.Before(h.to)
		}) {
			s.late.add(e.StageTimestamp.Time)
		}
		s.pair(e, t.shapeOf(e), again, now)
	}
}

// Unsure takes events that may or may not be on record, after an error: about
// the requests of that time nothing will be said.
func (t *Tracker) Unsure(name string, events []audit.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.site(name)
	if s == nil || len(events) == 0 {
		return
	}
	all := span{from: events[0].RequestReceivedTimestamp.Time, to: events[0].RequestReceivedTimestamp.Time}
	for i := range events {
		at := events[i].RequestReceivedTimestamp.Time
		if at.Before(all.from) {
			all.from = at
		}
		if at.After(all.to) {
			all.to = at
		}
	}
	s.doubt(all)
}

// Seed notes that a site had an event at a time before the tracker began.
func (t *Tracker) Seed(name string, at, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.site(name); s != nil {
		s.mark(at, now)
	}
}

// site returns what is known of a site, nil when there are too many. t.mu is
// held.
func (t *Tracker) site(name string) *site {
	s := t.sites[name]
	if s == nil && len(t.sites) < maxSites {
		s = &site{buckets: map[int64]bool{}, shapes: map[uint64]*shape{}, halves: map[string]half{}, told: map[string]time.Time{}}
		t.sites[name] = s
	}
	return s
}

func (s *site) mark(at, now time.Time) {
	if !at.IsZero() && at.Before(now.Add(bucket)) && now.Sub(at) < Memory {
		s.buckets[at.Unix()/int64(bucket/time.Second)] = true
	}
}

// doubt adds a span; of too many, the last grows.
func (s *site) doubt(d span) {
	if n := len(s.unsure); n > 0 && (n == maxUnsure || !d.from.After(s.unsure[n-1].to)) {
		last := &s.unsure[n-1]
		if d.from.Before(last.from) {
			last.from = d.from
		}
		if d.to.After(last.to) {
			last.to = d.to
		}
		return
	}
	s.unsure = append(s.unsure, d)
}

func (t *Tracker) shapeOf(e *audit.Event) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	parts := []string{e.User.Username, e.Verb}
	if o := e.ObjectRef; o != nil {
		parts = append(parts, o.APIGroup, o.Resource, o.Subresource, o.Namespace)
	}
	for _, p := range parts {
		h.WriteString(p)
		h.WriteByte(0)
	}
	return h.Sum64()
}

// pair matches the stages of a request. The two may arrive in any order.
func (s *site) pair(e *audit.Event, of uint64, again bool, now time.Time) {
	received := e.RequestReceivedTimestamp.Time
	if received.IsZero() || now.Sub(received) > Memory {
		return
	}
	first := e.Stage == audit.StageRequestReceived
	key := "l" + e.AuditID // the later stage waits for the first
	if first {
		key = "f" + e.AuditID
	}
	other := "f" + e.AuditID
	if first {
		other = "l" + e.AuditID
	}
	if e.Stage == audit.StageResponseStarted {
		// It goes on for as long as it likes; its end says nothing.
		delete(s.halves, other)
		return
	}
	if _, ok := s.told[other]; ok && !again {
		delete(s.told, other)
		s.late.add(received)
		return
	}
	sh := s.shapes[of]
	if _, ok := s.halves[other]; ok {
		delete(s.halves, other)
		if sh == nil {
			if len(s.shapes) >= maxShapes {
				return
			}
			sh = &shape{firstPair: received, lastPair: received}
			s.shapes[of] = sh
		}
		if received.Before(sh.firstPair) {
			sh.firstPair = received
		}
		if received.After(sh.lastPair) {
			sh.lastPair = received
		}
		return
	}
	// A later stage alone tells nothing where no pair was ever seen: the
	// sender's policy leaves the first one out.
	// An event that was on record before had its say then.
	if !first && sh == nil || again {
		return
	}
	if _, known := s.halves[key]; known {
		return
	}
	if len(s.halves) >= maxHalves {
		s.doubt(span{received, received})
		return
	}
	s.halves[key] = half{of, received, now}
}

// Take judges what has settled and returns what is missing, each gap once.
func (t *Tracker) Take(now time.Time) (out []Gap) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, s := range t.sites {
		s.forget(now)
		for _, g := range slices.Concat(s.holes(now), s.alone(now), s.came(now)) {
			g.Site = name
			out = append(out, g)
		}
	}
	return out
}

// forget makes room for shapes where there is none left: who makes requests of
// many kinds must not end the watch over those that come later.
func (s *site) forget(now time.Time) {
	if len(s.shapes) < maxShapes {
		return
	}
	maps.DeleteFunc(s.shapes, func(_ uint64, sh *shape) bool { return now.Sub(sh.lastPair) > Memory })
}

// alone returns the requests of which a stage is missing, as one gap.
func (s *site) alone(now time.Time) []Gap {
	g := Gap{Why: "requests of which one stage is on record and the other is not; requests of which both are missing are not counted"}
	for key, h := range s.halves {
		if now.Sub(h.arrived) < Settle {
			continue
		}
		sh := s.shapes[h.shape]
		between := sh != nil && sh.firstPair.Add(margin).Before(h.received) && sh.lastPair.After(h.received.Add(margin))
		if !between || s.doubtful(h.received) {
			if now.Sub(h.arrived) > Memory {
				delete(s.halves, key) // it will never be known
			}
			continue
		}
		delete(s.halves, key)
		if len(s.told) < maxHalves {
			s.told[key] = now
		}
		g.Missing++
		if g.From.IsZero() || h.received.Before(g.From) {
			g.From = h.received
		}
		if h.received.After(g.To) {
			g.To = h.received
		}
	}
	s.unsure = slices.DeleteFunc(s.unsure, func(d span) bool { return now.Sub(d.to) > 2*Memory })
	if g.Missing == 0 {
		return nil
	}
	return []Gap{g}
}

// came returns what came of earlier gaps. They stay on record: that what came is
// what was missing, and happened when it says, is the word of the site.
func (s *site) came(now time.Time) []Gap {
	maps.DeleteFunc(s.told, func(_ string, at time.Time) bool { return now.Sub(at) > Memory })
	s.toldHoles = slices.DeleteFunc(s.toldHoles, func(h span) bool { return now.Sub(h.to) > 2*Memory })
	if s.late.n == 0 {
		return nil
	}
	g := Gap{
		From: s.late.from, To: s.late.to, Late: s.late.n, Key: "late " + now.Format(time.RFC3339Nano),
		Why: "events that were recorded as missing came later; that they are those, and are as they were, is the claim of the site",
	}
	s.late = late{}
	return []Gap{g}
}

func (s *site) doubtful(at time.Time) bool {
	for _, d := range s.unsure {
		if !at.Before(d.from) && !at.After(d.to) {
			return true
		}
	}
	return false
}

// holes returns the times in which there was no event and should have been.
func (s *site) holes(now time.Time) (out []Gap) {
	width := int64(bucket / time.Second)
	settled := now.Add(-Settle).Unix() / width
	oldest := now.Add(-Memory).Unix() / width
	for b := range s.buckets {
		if b < oldest {
			delete(s.buckets, b)
		}
	}
	if s.judged < oldest {
		s.judged = oldest
	}
	for b := s.judged; b <= settled; b++ {
		if s.buckets[b] {
			s.judged = b + 1
			continue
		}
		// A run of empty buckets is judged when it has ended.
		end := b
		for end <= settled && !s.buckets[end] {
			end++
		}
		if end > settled {
			return out
		}
		if end-b >= minHole && s.steady(b) {
			if len(s.toldHoles) == maxUnsure {
				s.toldHoles = s.toldHoles[1:]
			}
			s.toldHoles = append(s.toldHoles, span{time.Unix(b*width, 0), time.Unix(end*width, 0)})
			out = append(out, Gap{
				From: time.Unix(b*width, 0).UTC(), To: time.Unix(end*width, 0).UTC(),
				Why: "no event of a cluster that has some all the time: they were discarded before they were delivered, or its kube-apiserver was down; how many is not known",
			})
		}
		b = end
		s.judged = end + 1
	}
	return out
}

// steady reports whether there were events all the time before a bucket.
func (s *site) steady(before int64) bool {
	empty := 0
	for b := before - minSteady; b < before; b++ {
		if !s.buckets[b] {
			empty++
		}
	}
	return empty <= minSteady/9
}

// Event is the record of a gap. The same gap has the same auditID.
func (g Gap) Event(ids *collect.IDs, now time.Time) audit.Event {
	e := audit.Event{
		Level: audit.LevelMetadata, Stage: audit.StageResponseComplete, Verb: "gap",
		AuditID:    ids.ID("gap", g.Site, g.From.Format(time.RFC3339Nano), g.To.Format(time.RFC3339Nano), strconv.FormatInt(g.Missing, 10), g.Sender, g.Key),
		RequestURI: "/sites/" + g.Site + "/audit", User: audit.UserInfo{Username: collect.User},
		ObjectRef:                &audit.ObjectReference{APIGroup: "federation.gatehouse.dev", APIVersion: "v1alpha1", Resource: "sites", Name: g.Site},
		RequestReceivedTimestamp: audit.MicroTime{Time: now}, StageTimestamp: audit.MicroTime{Time: now},
	}
	e.Annotate(audit.AnnotationGap, g.Why)
	if g.Missing > 0 {
		e.Annotate(audit.AnnotationGapCount, strconv.FormatInt(g.Missing, 10))
	}
	if g.Late > 0 {
		e.Annotate("audit.gatehouse.dev/gap-late", strconv.FormatInt(g.Late, 10))
	}
	if g.Sender != "" {
		e.Annotate("audit.gatehouse.dev/gap-sender", g.Sender)
	}
	e.Annotate("audit.gatehouse.dev/gap-from", g.From.UTC().Format(time.RFC3339Nano))
	e.Annotate("audit.gatehouse.dev/gap-to", g.To.UTC().Format(time.RFC3339Nano))
	return e
}
