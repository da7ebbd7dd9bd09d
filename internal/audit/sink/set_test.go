package sink_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
)

// set is a running set over a log.
func set(t *testing.T, fsys *crashfs.FS, l *ledger.Log) (*sink.Set, func()) {
	t.Helper()
	s, err := sink.NewSet(sink.SetConfig{
		Dir: "log", Synced: func() uint64 { return l.Stats().Synced }, Cursors: "cursors", FS: fsys, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	return s, func() { cancel(); <-done }
}

func spec(name, id string, generation int64, to sink.Target) sink.Spec {
	return sink.Spec{Name: name, ID: id, Generation: generation, Build: func(context.Context) (sink.Target, error) { return to, nil }}
}

// each expects the records of [from, to) once each, and nothing else.
func (r *receiver) each(t *testing.T, what string, from, to uint64) {
	t.Helper()
	got := r.indexes()
	for i := from; i < to; i++ {
		if got[i] != 1 {
			t.Fatalf("%s: record %d came %d times", what, i, got[i])
		}
	}
	if len(got) != int(to-from) {
		t.Fatalf("%s: %d records, want %d", what, len(got), to-from)
	}
}

// settle lets sinks catch up.
func settle() {
	time.Sleep(2 * time.Second)
	synctest.Wait()
}

func TestSinksComeChangeAndGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New(1)
		l := openLog(t, fsys)
		defer l.Close()
		write(t, l, 0, 300)
		base := l.Stats().Size
		s, stop := set(t, fsys, l)
		a, b := &receiver{}, &receiver{}
		s.Put(spec("a", "uid-a", 1, a))
		settle()
		a.each(t, "a from the beginning", 0, base)

		// One that is made now gets what comes now.
		time.Sleep(time.Second)
		late := spec("b", "uid-b", 1, b)
		late.Since = time.Now()
		s.Put(late)
		settle()
		write(t, l, 300, 600)
		settle()
		end := l.Stats().Size
		a.each(t, "a goes on", 0, end)
		b.each(t, "b from its birth on", base, end)

		// Changed, it goes on where it was, to another receiver.
		a2 := &receiver{}
		s.Put(spec("a", "uid-a", 2, a2))
		s.Put(spec("a", "uid-a", 2, &receiver{})) // the same form again
		write(t, l, 600, 700)
		settle()
		a.each(t, "a before the change", 0, end)
		a2.each(t, "a after the change", end, l.Stats().Size)
		if st := s.States()["a"]; st.Generation != 2 || st.Lag != 0 {
			t.Errorf("%+v", st)
		}

		// Removed, it gets nothing; made again under its name, it is another.
		s.Remove("b")
		settle()
		write(t, l, 700, 710)
		settle()
		b.each(t, "b until it was removed", base, l.Stats().Size-10)
		if _, err := vfs.ReadFile(fsys, "cursors/uid-b.json", 4096); err == nil {
			t.Error("the cursor of a removed sink is left")
		}
		again := &receiver{}
		s.Put(spec("b", "uid-b2", 1, again))
		settle()
		again.each(t, "b made anew", 0, l.Stats().Size)

		// Restarted, each goes on where it stood.
		stop()
		write(t, l, 710, 800)
		s, stop = set(t, fsys, l)
		defer stop()
		resumed := &receiver{}
		s.Put(spec("a", "uid-a", 2, resumed))
		settle()
		resumed.each(t, "a after a restart", l.Stats().Size-90, l.Stats().Size)
		s.Keep(map[string]bool{})
		settle()
		if len(s.States()) != 0 {
			t.Errorf("left: %v", s.States())
		}
	})
}

// A receiver that is away for hours loses nothing, one that is slow slows
// nobody, and one that cannot be made says why.
func TestSinksDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New(1)
		l := openLog(t, fsys)
		defer l.Close()
		s, stop := set(t, fsys, l)
		defer stop()
		away, slow, good := &receiver{}, &receiver{}, &receiver{}
		away.set(errors.New("connection refused"), 0)
		slow.set(nil, 20*time.Second)
		s.Put(spec("away", "1", 1, away))
		s.Put(spec("slow", "2", 1, slow))
		s.Put(spec("good", "3", 1, good))
		s.Put(sink.Spec{Name: "bad", ID: "4", Generation: 1, Build: func(context.Context) (sink.Target, error) { return nil, errors.New("no such secret") }})
		s.Put(sink.Spec{Name: "evil", ID: "../5", Generation: 1, Build: func(context.Context) (sink.Target, error) { return good, nil }})
		write(t, l, 0, 1000)
		settle()
		good.each(t, "good", 0, l.Stats().Size)
		states := s.States()
		if st := states["away"]; st.Lag != l.Stats().Size || !strings.Contains(st.Error, "refused") || st.Failures == 0 {
			t.Errorf("away: %+v", st)
		}
		if st := states["bad"]; !strings.Contains(st.Error, "no such secret") {
			t.Errorf("bad: %+v", st)
		}
		if st := states["evil"]; !strings.Contains(st.Error, "cannot name its cursor") {
			t.Errorf("evil: %+v", st)
		}
		if s.Next() != 0 {
			t.Errorf("next %d while one has had nothing", s.Next())
		}
		time.Sleep(3 * time.Hour)
		away.set(nil, 0)
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		away.each(t, "away, back after hours", 0, l.Stats().Size)
		slow.each(t, "slow", 0, l.Stats().Size)
	})
}

// What one tenant's sink gets and another's, and nobody's.
func TestScopedSinks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New(1)
		l := openLog(t, fsys)
		defer l.Close()
		s, stop := set(t, fsys, l)
		defer stop()
		tenants := []*receiver{{}, {}, {}, {}}
		for i, r := range tenants {
			sp := spec(string(rune('a'+i)), string(rune('a'+i)), 1, r)
			namespace := "ns-" + string(rune('0'+i))
			sp.Allow = func(_ string, e *audit.Event) bool { return e.ObjectRef != nil && e.ObjectRef.Namespace == namespace }
			s.Put(sp)
		}
		write(t, l, 0, 400)
		settle()
		total := 0
		for i, r := range tenants {
			for _, e := range r.got {
				if e.ObjectRef.Namespace != "ns-"+string(rune('0'+i)) {
					t.Errorf("tenant %d got an event of %s", i, e.ObjectRef.Namespace)
				}
			}
			total += len(r.got)
			if len(r.got) != 100 {
				t.Errorf("tenant %d got %d of 100", i, len(r.got))
			}
		}
		if total != 400 {
			t.Errorf("%d in total", total)
		}
	})
}
