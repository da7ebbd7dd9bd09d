package sink_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
)

var testKey = ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))

// receiver is a target that can be down, slow, or stop in the middle.
type receiver struct {
	mu   sync.Mutex
	down error
	wait time.Duration
	got  []sink.Event
}

func (r *receiver) Deliver(ctx context.Context, batch []sink.Event) error {
	r.mu.Lock()
	down, wait := r.down, r.wait
	r.mu.Unlock()
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if down != nil {
		return down
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, batch...)
	return nil
}

func (r *receiver) set(down error, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down, r.wait = down, wait
}

func (r *receiver) indexes() map[uint64]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[uint64]int{}
	for _, e := range r.got {
		out[e.Index]++
	}
	return out
}

func openLog(t *testing.T, fsys *crashfs.FS) *ledger.Log {
	t.Helper()
	l, err := ledger.Open("log", ledger.Config{ID: "r1", Origin: "gatehouse.test/audit/r1", Key: testKey, FS: fsys, SegmentRecords: 256, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func write(t *testing.T, l *ledger.Log, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		e := &audit.Event{Level: audit.LevelRequestResponse, AuditID: fmt.Sprint(i), Stage: audit.StageResponseComplete, Verb: "get",
			ObjectRef:     &audit.ObjectReference{Resource: "things", Namespace: fmt.Sprint("ns-", i%4)},
			RequestObject: []byte(`{"a":1}`), ResponseObject: []byte(`{"b":2}`)}
		var err error
		if i%5 == 0 {
			_, err = l.AppendBatch(t.Context(), "alpha", []audit.Event{*e})
		} else {
			err = l.Append(t.Context(), e, audit.Buffered)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func config(l *ledger.Log, fsys *crashfs.FS) sink.Config {
	return sink.Config{Name: "s", Dir: "log", Synced: func() uint64 { return l.Stats().Synced }, Cursor: "sinks/s", FS: fsys, BatchEvents: 50, Logger: slog.New(slog.DiscardHandler)}
}

func start(t *testing.T, cfg sink.Config, target sink.Target) (r *sink.Runner, stop func()) {
	t.Helper()
	r, err := sink.New(cfg, target)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return r, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestOutageOfHours: a receiver that is away for hours, and a restart in the
// middle, lose nothing; the writers notice nothing; the lag is visible.
func TestOutageOfHours(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New(1)
		l := openLog(t, fsys)
		target := &receiver{}
		r, stop := start(t, config(l, fsys), target)
		write(t, l, 0, 300)
		time.Sleep(2 * time.Second)
		if got := len(target.indexes()); got != 300 {
			t.Fatalf("%d events before the outage", got)
		}
		target.set(errors.New("connection refused"), 0)
		began := time.Now()
		write(t, l, 300, 1500) // over several segments that are sealed meanwhile
		if waited := time.Since(began); waited > time.Second {
			t.Fatalf("writers waited %v for a sink", waited)
		}
		time.Sleep(3 * time.Hour)
		s := r.Stats()
		if s.Lag != 1200 || s.Next != 300 || s.Error != "connection refused" || s.Failures < 100 || s.Failures > 1000 {
			t.Fatalf("during the outage: %+v", s)
		}
		stop()
		r, stop = start(t, config(l, fsys), target)
		time.Sleep(time.Hour)
		target.set(nil, 0)
		time.Sleep(2 * time.Minute)
		got := target.indexes()
		for i := range uint64(1500) {
			if got[i] != 1 {
				t.Fatalf("record %d came %d times", i, got[i])
			}
		}
		if s := r.Stats(); s.Lag != 0 || s.Error != "" || s.Delivered != 1200 {
			t.Fatalf("after the outage: %+v", s)
		}
		stop()
		// A slow one delays only itself.
		target.set(nil, 20*time.Second)
		_, stop = start(t, config(l, fsys), target)
		began = time.Now()
		write(t, l, 1500, 1600)
		if waited := time.Since(began); waited > time.Second {
			t.Fatalf("writers waited %v for a slow sink", waited)
		}
		time.Sleep(2 * time.Minute)
		if got := len(target.indexes()); got != 1600 {
			t.Fatalf("%d events from the slow sink", got)
		}
		stop()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCrashDeliversAtLeastOnce: a crash between delivery and cursor repeats
// events and skips none.
func TestCrashDeliversAtLeastOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New(1)
		l := openLog(t, fsys)
		target := &receiver{}
		fsys.Fail(func(op, name string) error {
			if op == "create" && name == "sinks/s.tmp" {
				return errors.New("no cursor today")
			}
			return nil
		})
		_, stop := start(t, config(l, fsys), target)
		write(t, l, 0, 100)
		time.Sleep(5 * time.Second)
		stop()
		fsys.Fail(nil)
		_, stop = start(t, config(l, fsys), target)
		write(t, l, 100, 150)
		time.Sleep(5 * time.Second)
		stop()
		got := target.indexes()
		for i := range uint64(150) {
			if want := map[bool]int{true: 2, false: 1}[i < 100]; got[i] != want {
				t.Fatalf("record %d came %d times", i, got[i])
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPolicyAndTenancy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New(1)
		l := openLog(t, fsys)
		write(t, l, 0, 200)
		p, err := policy.Parse([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- {level: None, namespaces: [ns-3]}\n- {level: Request, namespaces: [ns-2]}\n- {level: Metadata}\n"))
		if err != nil {
			t.Fatal(err)
		}
		cfg := config(l, fsys)
		cfg.Policy = p
		cfg.Allow = func(site string, e *audit.Event) bool { return site == "" && e.ObjectRef.Namespace != "ns-0" }
		target := &receiver{}
		r, stop := start(t, cfg, target)
		time.Sleep(5 * time.Second)
		stop()
		count := 0
		for _, e := range target.got {
			i := int(e.Index)
			body := len(e.RequestObject) > 0
			if i%5 == 0 || i%4 == 0 || i%4 == 3 || e.Site != "" || len(e.ResponseObject) > 0 || body != (i%4 == 2) {
				t.Fatalf("record %d was passed on: %+v", i, e.Event)
			}
			count++
		}
		if count != 80 || r.Next() != 200 {
			t.Fatalf("%d events, next is %d", count, r.Next())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New(1)
	good := sink.Config{Name: "s", Dir: "log", Synced: func() uint64 { return 0 }, Cursor: "c", FS: fsys, Start: 7}
	if r, err := sink.New(good, &receiver{}); err != nil || r.Next() != 7 {
		t.Fatal(err)
	}
	fsys.SetContent("c", []byte("{"))
	if _, err := sink.New(good, &receiver{}); err == nil {
		t.Error("a damaged cursor was taken for the beginning")
	}
	if _, err := sink.New(sink.Config{}, &receiver{}); err == nil {
		t.Error("an empty configuration was taken")
	}
}
