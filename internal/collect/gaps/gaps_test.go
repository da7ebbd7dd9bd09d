package gaps

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
)

// A sender makes the events of requests, one every second.
type sender struct {
	t   *Tracker
	now time.Time
	n   int
	all []Gap
}

func newSender() *sender { return &sender{t: New(), now: time.Unix(1_800_000_000, 0)} }

func (s *sender) event(stage audit.Stage, n int, verb string, at time.Time) audit.Event {
	return audit.Event{
		AuditID: fmt.Sprint(n), Stage: stage, Verb: verb, User: audit.UserInfo{Username: "system:apiserver"},
		ObjectRef:                &audit.ObjectReference{Resource: "leases"},
		RequestReceivedTimestamp: audit.MicroTime{Time: at}, StageTimestamp: audit.MicroTime{Time: at},
	}
}

// send makes a request whose stages arrive now, in that order.
func (s *sender) send(verb string, stages ...audit.Stage) {
	s.n++
	for _, stage := range stages {
		s.t.Observe("blue", []audit.Event{s.event(stage, s.n, verb, s.now)}, nil, s.now)
	}
}

// pass lets time go by, with requests or without.
func (s *sender) pass(d time.Duration, verb string, stages ...audit.Stage) {
	for end := s.now.Add(d); s.now.Before(end); s.now = s.now.Add(time.Second) {
		if len(stages) > 0 {
			s.send(verb, stages...)
		}
		if s.now.Unix()%10 == 0 {
			s.all = append(s.all, s.t.Take(s.now)...)
		}
	}
}

const (
	first = audit.StageRequestReceived
	last  = audit.StageResponseComplete
	open  = audit.StageResponseStarted
)

func TestMissingStagesAreCounted(t *testing.T) {
	t.Parallel()
	s := newSender()
	s.pass(3*time.Minute, "update", first, last)
	lost := s.now
	for range 7 {
		s.send("update", first)
	}
	for range 5 {
		s.send("update", last)
	}
	s.pass(time.Minute, "update", last, first) // in the other order, too
	s.pass(10*time.Minute, "update", first, last)
	if len(s.all) != 1 || s.all[0].Missing != 12 || !s.all[0].From.Equal(lost) || s.all[0].Site != "blue" {
		t.Fatalf("%+v", s.all)
	}
	e := s.all[0].Event(collect.NewIDs([32]byte{}), s.now)
	if err := e.Validate(); err != nil || e.Annotations[audit.AnnotationGapCount] != "12" || !strings.Contains(e.Annotations[audit.AnnotationGap], "one stage") {
		t.Errorf("%v %+v", err, e)
	}
}

// What is not missing: a stage that the policy leaves out, the end of a watch,
// a batch that comes late or twice, and what is still under way.
func TestNothingIsMissing(t *testing.T) {
	t.Parallel()
	for name, story := range map[string]func(s *sender){
		"one stage only":      func(s *sender) { s.pass(time.Hour, "update", last) },
		"first stage only":    func(s *sender) { s.pass(time.Hour, "update", first) },
		"watches without end": func(s *sender) { s.pass(time.Hour, "watch", first, open) },
		"another kind":        func(s *sender) { s.pass(30*time.Minute, "update", first, last); s.pass(30*time.Minute, "patch", last) },
		"the policy changed": func(s *sender) {
			s.pass(10*time.Minute, "update", first, last)
			s.pass(time.Hour, "update", last)
		},
		"late": func(s *sender) {
			s.pass(time.Minute, "update", first, last)
			s.n++
			n, at := s.n, s.now
			s.send("update", first, last)
			s.t.Observe("blue", []audit.Event{s.event(first, n, "update", at)}, nil, s.now)
			s.pass(4*time.Minute, "update", first, last)
			s.t.Observe("blue", []audit.Event{s.event(last, n, "update", at)}, nil, s.now)
			s.pass(20*time.Minute, "update", first, last)
		},
		"sent again": func(s *sender) {
			for range 20 * 60 {
				s.send("update", first, last)
				both := []audit.Event{s.event(first, s.n, "update", s.now), s.event(last, s.n, "update", s.now)}
				s.t.Observe("blue", both, []int{0, 1}, s.now)
				s.pass(time.Second, "")
			}
		},
		"an error of ours": func(s *sender) {
			s.pass(5*time.Minute, "update", first, last)
			s.n++
			n, at := s.n, s.now
			lost := []audit.Event{s.event(first, n, "update", at)}
			s.t.Unsure("blue", lost)
			s.t.Observe("blue", lost, []int{0}, s.now)
			s.t.Observe("blue", []audit.Event{s.event(last, n, "update", at)}, nil, s.now)
			s.pass(20*time.Minute, "update", first, last)
		},
	} {
		s := newSender()
		story(s)
		if len(s.all) > 0 {
			t.Errorf("%s: %+v", name, s.all)
		}
	}
}

func TestHoles(t *testing.T) {
	t.Parallel()
	s := newSender()
	for i := range 600 { // what is on record from before the start
		s.t.Seed("blue", s.now.Add(-time.Duration(i)*time.Second), s.now)
	}
	from := s.now
	s.pass(2*time.Minute, "")
	to := s.now
	s.pass(10*time.Minute, "update", last)
	if len(s.all) != 1 || s.all[0].Missing != 0 || s.all[0].From.Sub(from).Abs() > bucket || s.all[0].To.Sub(to).Abs() > bucket {
		t.Fatalf("%+v, away from %v to %v", s.all, from, to)
	}
	// Delivered late, after an outage of ours, it is no hole.
	s = newSender()
	s.pass(10*time.Minute, "update", last)
	var held []audit.Event
	for range 120 {
		s.n++
		held = append(held, s.event(last, s.n, "update", s.now))
		s.pass(time.Second, "")
	}
	s.t.Observe("blue", held, nil, s.now)
	s.pass(20*time.Minute, "update", last)
	// Nor is a pause of a cluster that was never steady, nor one that lasts.
	s.pass(time.Hour, "")
	s.send("update", last)
	s.pass(10*time.Minute, "")
	s.send("update", last)
	s.pass(time.Hour, "")
	if len(s.all) != 0 {
		t.Errorf("%+v", s.all)
	}
}

// What comes after it was recorded as missing takes no gap back: it is noted, as
// the claim of the site, and is no gap of its own.
func TestLateEventsAreNoted(t *testing.T) {
	t.Parallel()
	s := newSender()
	s.pass(3*time.Minute, "update", first, last)
	lost := s.now
	from := s.n
	for range 5 {
		s.send("update", first)
	}
	s.pass(10*time.Minute, "update", first, last)
	if len(s.all) != 1 || s.all[0].Missing != 5 {
		t.Fatalf("%+v", s.all)
	}
	gap := s.all[0].Event(collect.NewIDs([32]byte{}), s.now)
	s.all = nil
	for i := range 3 {
		e := s.event(last, from+1+i, "update", lost)
		s.t.Observe("blue", []audit.Event{e}, nil, s.now)
		s.t.Observe("blue", []audit.Event{e}, []int{0}, s.now) // and once more
	}
	s.pass(20*time.Minute, "update", first, last)
	if len(s.all) != 1 || s.all[0].Late != 3 || s.all[0].Missing != 0 || !s.all[0].From.Equal(lost) {
		t.Fatalf("%+v", s.all)
	}
	e := s.all[0].Event(collect.NewIDs([32]byte{}), s.now)
	if err := e.Validate(); err != nil || e.Annotations["audit.gatehouse.dev/gap-late"] != "3" || !strings.Contains(e.Annotations[audit.AnnotationGap], "claim of the site") || e.AuditID == gap.AuditID {
		t.Errorf("%v %+v", err, e)
	}

	// The same of a time without events.
	s = newSender()
	s.pass(10*time.Minute, "update", last)
	hole := s.now
	s.pass(2*time.Minute, "")
	s.pass(10*time.Minute, "update", last)
	if len(s.all) != 1 || s.all[0].To.IsZero() {
		t.Fatalf("%+v", s.all)
	}
	s.all = nil
	for i := range 40 {
		s.n++
		s.t.Observe("blue", []audit.Event{s.event(last, s.n, "update", hole.Add(time.Duration(20+i)*time.Second))}, nil, s.now)
	}
	s.pass(20*time.Minute, "update", last)
	if len(s.all) != 1 || s.all[0].Late != 40 {
		t.Errorf("%+v", s.all)
	}
}

// What a site sends cannot make the tracker grow without end.
func TestBounds(t *testing.T) {
	t.Parallel()
	s := newSender()
	s.pass(time.Minute, "update", first, last)
	batch := make([]audit.Event, 0, 200_000)
	for i := range 200_000 {
		e := s.event(first, i, fmt.Sprint("verb", i), s.now.Add(-time.Duration(i)*time.Second))
		batch = append(batch, e)
	}
	s.t.Observe("blue", batch, nil, s.now)
	for i := range 2 * maxSites {
		s.t.Observe(fmt.Sprint("site-", i), batch[:1], nil, s.now)
	}
	st := s.t.sites["blue"]
	if len(st.halves) > maxHalves || len(st.shapes) > maxShapes || len(st.buckets) > int(Memory/bucket)+2 || len(s.t.sites) > maxSites {
		t.Errorf("%d halves, %d shapes, %d buckets, %d sites", len(st.halves), len(st.shapes), len(st.buckets), len(s.t.sites))
	}
}

// Whoever makes requests of very many kinds does not end the watch over those
// that come later.
func TestManyKindsOfRequests(t *testing.T) {
	t.Parallel()
	s := newSender()
	for i := range maxShapes + 100 {
		s.send(fmt.Sprint("verb", i), first, last)
	}
	s.now = s.now.Add(Memory + time.Minute)
	s.all = append(s.all, s.t.Take(s.now)...)
	s.pass(3*time.Minute, "new", first, last)
	s.send("new", last)
	s.pass(3*time.Minute, "new", first, last)
	s.pass(Settle+time.Minute, "")
	missing := int64(0)
	for _, g := range s.all {
		missing += g.Missing
	}
	if missing != 1 {
		t.Errorf("%d missing: %+v", missing, s.all)
	}
}
