package retention_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/follow"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/query"
	"github.com/gatehouse-dev/gatehouse/internal/audit/retention"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
	"github.com/gatehouse-dev/gatehouse/internal/audit/tiles"
	"github.com/gatehouse-dev/gatehouse/internal/audit/verify"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
)

var testKey = ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))

const day = 24 * time.Hour

// clock is set by the test and read by the log's goroutines.
type clock chan time.Time

func newClock() clock {
	c := make(clock, 1)
	c <- time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return c
}

func (c clock) now() time.Time          { t := <-c; c <- t; return t }
func (c clock) advance(d time.Duration) { c <- (<-c).Add(d) }

func open(t *testing.T, fsys *crashfs.FS, c clock) *ledger.Log {
	t.Helper()
	l, err := ledger.Open("log", ledger.Config{ID: "r1", Origin: "gatehouse.test/audit/r1", Key: testKey, FS: fsys, SegmentRecords: 2048, Clock: c.now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// write appends count events: every third a change, every tenth denied.
func write(t *testing.T, l *ledger.Log, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		e := &audit.Event{Level: audit.LevelMetadata, AuditID: fmt.Sprint(i), Stage: audit.StageResponseComplete, Verb: "get", User: audit.UserInfo{Username: "jane"}}
		if i%3 == 0 {
			e.Verb = "update"
		}
		if i%10 == 0 {
			e.Annotate(audit.AnnotationDecision, "forbid")
		}
		if err := l.Append(t.Context(), e, audit.Buffered); err != nil {
			t.Fatal(err)
		}
	}
}

func kept(t *testing.T, fsys *crashfs.FS) map[uint64]bool {
	t.Helper()
	out := map[uint64]bool{}
	if err := query.Run(t.Context(), fsys, "log", query.Filter{User: "jane"}, func(m query.Match) error { out[m.Index] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestByClass drops reads after 90 days and everything but denials after 180:
// the tree, every checkpoint and every other proof stay as they were.
func TestByClass(t *testing.T) {
	t.Parallel()
	fsys, c := crashfs.New(1), newClock()
	l := open(t, fsys, c)
	write(t, l, 0, 2500) // 0…2047 are sealed, the rest is in the active segment
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	anchors := [][]byte{l.Stats().Checkpoint}
	before := len(fsys.Content("log/" + segment.SealedName(0)))
	c.advance(100 * day)
	l = open(t, fsys, c)
	k, err := retention.New(l, fsys, retention.Policy{retention.ClassRead: 90 * day, retention.ClassChange: 180 * day}, c.now)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := k.Apply(t.Context(), 2000); err != nil || n != 0 {
		t.Fatalf("a sink still needs record 2000, but %d were dropped, %v", n, err)
	}
	isRead := func(i int) bool { return i%3 != 0 && i%10 != 0 }
	isChange := func(i int) bool { return i%3 == 0 && i%10 != 0 }
	check := func(step string, gone func(i int) bool) {
		t.Helper()
		got, want := kept(t, fsys), 0
		for i := range 2500 {
			dropped := i < 2048 && gone(i)
			if dropped {
				want++
			}
			if got[uint64(i)] == dropped {
				t.Fatalf("%s: record %d kept: %v", step, i, got[uint64(i)])
			}
		}
		r, err := verify.Log(t.Context(), "log", verify.Options{FS: fsys, Keys: []string{l.VerifierKey()}, Anchors: anchors})
		if err != nil || !r.OK() || r.Dropped != uint64(want) || r.Anchors != len(anchors) {
			t.Fatalf("%s: %+v %v, want %d dropped", step, r, err, want)
		}
		records, err := follow.New(fsys, "log", 0).Read(nil, 10_000, 2500)
		if err != nil || len(records) != 2500-want {
			t.Fatalf("%s: %d records followed, %v", step, len(records), err)
		}
	}
	if n, err := k.Apply(t.Context(), 2500); err != nil || n == 0 {
		t.Fatalf("%d dropped, %v", n, err)
	}
	check("after 100 days", isRead)
	if n, err := k.Apply(t.Context(), 2500); err != nil || n != 0 {
		t.Fatalf("again: %d dropped, %v", n, err)
	}
	c.advance(100 * day)
	if _, err := k.Apply(t.Context(), 2500); err != nil {
		t.Fatal(err)
	}
	check("after 200 days", func(i int) bool { return isRead(i) || isChange(i) })
	// A hash is left of each: never more than that.
	if after := len(fsys.Content("log/" + segment.SealedName(0))); after > before+2048*34 {
		t.Errorf("%d bytes before, %d after", before, after)
	}

	// What is kept can still be proven, what is not says so.
	s, err := tiles.Open(fsys, "log")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Proof(10); err != nil {
		t.Error(err)
	}
	if _, _, err := s.Proof(11); !errors.Is(err, tiles.ErrDropped) {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestEverything drops a whole segment and keeps the hashes of its bundles.
func TestEverything(t *testing.T) {
	t.Parallel()
	fsys, c := crashfs.New(1), newClock()
	l := open(t, fsys, c)
	write(t, l, 0, 2100)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c.advance(10 * day)
	l = open(t, fsys, c)
	all := retention.Policy{retention.ClassRead: day, retention.ClassChange: day, retention.ClassDenial: day, retention.ClassReview: day}
	k, err := retention.New(l, fsys, all, c.now)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := k.Apply(t.Context(), 2100); err != nil || n != 2048 {
		t.Fatalf("%d dropped, %v", n, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if size := len(fsys.Content("log/" + segment.SealedName(0))); size > 2000 {
		t.Errorf("%d bytes are left of an empty segment", size)
	}
	l = open(t, fsys, c) // goes on over it
	write(t, l, 3000, 3010)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := verify.Log(t.Context(), "log", verify.Options{FS: fsys})
	if err != nil || !r.OK() || r.Dropped != 2048 || len(r.Retention) != 1 || r.Retention[0].Dropped != 2048 || r.Retention[0].Kept["read"] != "24h0m0s" {
		t.Fatalf("%+v %v", r, err)
	}
}

// TestDropWithoutRecord: whoever cuts records out by the same means, but
// without the record of it, is found.
func TestDropWithoutRecord(t *testing.T) {
	t.Parallel()
	fsys, c := crashfs.New(1), newClock()
	l := open(t, fsys, c)
	write(t, l, 0, 2100)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := segment.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	index := 0
	if n, err := s.Prune(fsys, "log", 0, func(segment.Entry) bool { index++; return index != 700 }); err != nil || n != 1 {
		t.Fatalf("%d %v", n, err)
	}
	r, err := verify.Log(t.Context(), "log", verify.Options{FS: fsys})
	if err != nil || len(r.Faults) != 1 || r.Faults[0].Kind != verify.Missing || !strings.Contains(r.Faults[0].Detail, "1 records were dropped, the log says so of 0") {
		t.Fatalf("%+v %v", r, err)
	}
}

// TestCrash cuts retention off at every operation: what is left verifies, and
// a second run completes it.
func TestCrash(t *testing.T) {
	t.Parallel()
	base, c := crashfs.New(1), newClock()
	l := open(t, base, c)
	write(t, l, 0, 2100)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c.advance(10 * day)
	policy := retention.Policy{retention.ClassRead: day}
	for point := 1; ; point++ {
		fsys := base.Clone()
		l := open(t, fsys, c)
		k, err := retention.New(l, fsys, policy, c.now)
		if err != nil {
			t.Fatal(err)
		}
		fsys.CrashAt(point)
		_, err = k.Apply(t.Context(), 2100)
		finished := err == nil
		_ = l.Close()
		fsys.CrashAt(0)
		if point%2 == 0 {
			fsys = fsys.PowerLoss()
		} else {
			fsys = fsys.Kill()
		}
		l = open(t, fsys, c)
		if k, err = retention.New(l, fsys, policy, c.now); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Apply(t.Context(), 2100); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := verify.Log(t.Context(), "log", verify.Options{FS: fsys})
		if err != nil || !r.OK() || r.Dropped == 0 {
			t.Fatalf("point %d: %+v %v", point, r, err)
		}
		if finished && point > 3 {
			return
		}
	}
}

func TestPolicyIsChecked(t *testing.T) {
	t.Parallel()
	for _, p := range []retention.Policy{{retention.ClassLog: 100 * day}, {"all": 100 * day}, {retention.ClassRead: time.Hour}} {
		if _, err := retention.New(nil, nil, p, nil); err == nil {
			t.Errorf("%v was accepted", p)
		}
	}
}

// receiver takes events once it is told to.
type receiver struct{ up atomic.Bool }

func (r *receiver) Deliver(context.Context, []sink.Event) error {
	if !r.up.Load() {
		return errors.New("away")
	}
	return nil
}

// TestSinksComeFirst: what a sink has still to deliver is kept, however old;
// what it has delivered goes.
func TestSinksComeFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys, c := crashfs.New(1), newClock()
		l := open(t, fsys, c)
		defer l.Close()
		to := &receiver{}
		set, err := sink.NewSet(sink.SetConfig{
			Dir: "log", Synced: func() uint64 { return l.Stats().Synced }, Cursors: "cursors",
			FS: fsys, Clock: c.now, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		set.Put(sink.Spec{Name: "siem", ID: "siem", Build: func(context.Context) (sink.Target, error) { return to, nil }})
		write(t, l, 0, 2100)
		c.advance(10 * day)
		k, err := retention.New(l, fsys, retention.Policy{retention.ClassRead: day}, c.now)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = set.Run(ctx) })
		running.Go(func() { _ = k.Run(ctx, set.Next, slog.New(slog.DiscardHandler)) })
		time.Sleep(3*retention.Interval + time.Second)
		if got := kept(t, fsys); len(got) != 2100 || k.Dropped()[retention.ClassRead] != 0 {
			t.Errorf("%d of 2100 records are left while the sink is away", len(got))
		}
		to.up.Store(true)
		time.Sleep(2 * retention.Interval)
		if n := k.Dropped()[retention.ClassRead]; n == 0 || len(kept(t, fsys)) != 2100-int(n) {
			t.Errorf("%d records dropped once the sink has them, %d left", n, len(kept(t, fsys)))
		}
		cancel()
		running.Wait()
	})
}

func TestClassify(t *testing.T) {
	t.Parallel()
	pods := &audit.ObjectReference{Resource: "pods", Namespace: "shop", Name: "web"}
	forbid := map[string]string{audit.AnnotationDecision: "forbid"}
	for _, c := range []struct {
		site  string
		event audit.Event
		want  retention.Class
	}{
		{"", audit.Event{Verb: "get", ObjectRef: pods}, retention.ClassRead},
		{"", audit.Event{Verb: "create", ObjectRef: pods, RequestURI: "/api/v1/namespaces/shop/pods"}, retention.ClassChange},
		{"", audit.Event{Verb: "delete", ObjectRef: pods, Annotations: forbid}, retention.ClassDenial},
		{"", audit.Event{Verb: "create", ObjectRef: &audit.ObjectReference{APIGroup: "authorization.k8s.io", Resource: "subjectaccessreviews"}}, retention.ClassReview},
		// What a site asked about an object is no change of it.
		{"", audit.Event{Verb: "create", ObjectRef: pods, RequestURI: "/sites/blue/authorize"}, retention.ClassReview},
		{"", audit.Event{Verb: "create", ObjectRef: pods, RequestURI: "/sites/blue/authorize/deny?timeout=1s", Annotations: forbid}, retention.ClassDenial},
		{"", audit.Event{Verb: "create", RequestURI: "/sites/blue/authenticate"}, retention.ClassReview},
		{"", audit.Event{Verb: "post", RequestURI: "/access/v1/evaluation"}, retention.ClassReview},
		// What is done at a door is one, and a site's own account of itself
		// cannot choose its class by a path of ours.
		{"", audit.Event{Verb: "create", RequestURI: "/sites/blue/sign"}, retention.ClassChange},
		{"blue", audit.Event{Verb: "create", ObjectRef: pods, RequestURI: "/sites/blue/authorize"}, retention.ClassChange},
	} {
		if got := retention.Classify(c.site, &c.event); got != c.want {
			t.Errorf("%q %+v: %s, want %s", c.site, c.event, got, c.want)
		}
	}
}
