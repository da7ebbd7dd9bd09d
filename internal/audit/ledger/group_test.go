package ledger

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
)

// TestMayGrow: when a group may gather more, and when it must be written.
func TestMayGrow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size                      int
		buffered, syncing, closed bool
		waiting                   int32
		want                      bool
	}{
		"nothing under way":                     {size: 1000},
		"during a sync":                         {size: 1000, syncing: true, want: true},
		"some were answered and did not run":    {size: 1000, waiting: 1, want: true},
		"enough without those":                  {size: enough, waiting: 1},
		"enough without those, during a sync":   {size: enough, waiting: 1, syncing: true, want: true},
		"somebody waits for the write":          {size: 1000, buffered: true, syncing: true, waiting: 1},
		"the log ends":                          {size: 1000, closed: true, syncing: true, waiting: 1},
		"all who were answered have run before": {size: 1000, waiting: 0},
	} {
		l := &Log{pending: newGroup(make([]byte, c.size)), closed: c.closed}
		l.pending.buffered = c.buffered
		l.syncing.Store(c.syncing)
		answered := newGroup(nil)
		answered.waiting.Store(c.waiting)
		l.answered.Store(answered)
		if got := l.mayGrow(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// slowFS lets each sync of a segment take a second.
type slowFS struct{ vfs.FS }

func (f slowFS) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	if err == nil && strings.HasSuffix(name, ".log") {
		file = slowFile{file}
	}
	return file, err
}

type slowFile struct{ vfs.File }

func (f slowFile) Sync() error {
	time.Sleep(time.Second)
	return f.File.Sync()
}

func openSlow(t *testing.T) *Log {
	t.Helper()
	l, err := Open("log", Config{
		ID: "r1", Origin: "gatehouse.test/audit/r1", Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)),
		Logger: slog.New(slog.DiscardHandler), FS: slowFS{crashfs.New(1)}, CheckpointInterval: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func record(ctx context.Context, l *Log, id string) error {
	e := &audit.Event{Level: audit.LevelMetadata, Stage: audit.StageResponseComplete, AuditID: id, Verb: "get"}
	return l.Append(ctx, e, audit.Durable)
}

// TestWaits: an appender that is alone waits for its own sync and nobody, also
// when others gave up waiting.
func TestWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := openSlow(t)
		defer l.Close()
		start := time.Now()
		for i := range 10 {
			if err := record(t.Context(), l, fmt.Sprint("a", i)); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("10 events took %v", took)
		}
		for i := range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
			if err := record(ctx, l, fmt.Sprint("b", i)); err == nil {
				t.Error("answered before the sync")
			}
			cancel()
		}
		// A sync of those who gave up is under way, or has just ended.
		start = time.Now()
		if err := record(t.Context(), l, "c"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("behind those who gave up: %v", took)
		}
	})
}

// TestLastWakesWriter: whoever joined a group that grew while others came back
// is written, though those do not come back with an event of their own.
func TestLastWakesWriter(t *testing.T) {
	t.Parallel()
	l := &Log{wake: make(chan struct{}, 1), pending: newGroup([]byte("a frame"))}
	g := newGroup(nil)
	g.waiting.Store(2)
	l.returned(g)
	if len(l.wake) != 0 {
		t.Error("woken before the last")
	}
	l.returned(g)
	if len(l.wake) != 1 {
		t.Error("not woken by the last")
	}
}
