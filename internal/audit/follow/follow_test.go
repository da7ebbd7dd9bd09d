package follow_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/follow"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

var testKey = ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))

func open(t *testing.T, dir string) *ledger.Log {
	t.Helper()
	l, err := ledger.Open(dir, ledger.Config{ID: "r1", Origin: "gatehouse.test/audit/r1", Key: testKey, SegmentRecords: 256, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestFollowWhileWriting follows a log that is written, rotated and sealed at
// the same time: every record once, in order, none before it is on disk.
func TestFollowWhileWriting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	const count = 2000
	var done atomic.Bool
	go func() {
		for i := range count {
			e := &audit.Event{Level: audit.LevelMetadata, AuditID: fmt.Sprint(i), Stage: audit.StageResponseComplete, Verb: "get"}
			d := audit.Buffered
			if i%3 == 0 || i == count-1 {
				d = audit.Durable
			}
			if err := l.Append(t.Context(), e, d); err != nil {
				t.Error(err)
			}
		}
		done.Store(true)
	}()
	f := follow.New(vfs.OS{}, dir, 0)
	defer f.Close()
	var buf []follow.Record
	seen := 0
	for last := false; ; {
		ended := done.Load()
		synced := l.Stats().Synced
		var err error
		if buf, err = f.Read(buf[:0], 100, synced); err != nil {
			t.Fatal(err)
		}
		for _, r := range buf {
			id, _, _ := audit.Identify(r.Event)
			if r.Index != uint64(seen) || id != fmt.Sprint(seen) || r.Index >= synced {
				t.Fatalf("record %d is %q, expected %d below %d", r.Index, id, seen, synced)
			}
			seen++
		}
		if len(buf) == 0 && last {
			break
		}
		last = ended && synced >= count
	}
	if seen != count {
		t.Fatalf("saw %d records", seen)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	// The same from the middle of the closed log, and from beyond it.
	for _, from := range []uint64{0, 1, 255, 256, 1000, count - 1, count} {
		f := follow.New(vfs.OS{}, dir, from)
		got, err := f.Read(nil, count, follow.Unbounded)
		if err != nil || uint64(len(got)) != count-from || (len(got) > 0 && got[0].Index != from) {
			t.Fatalf("from %d: %d records, %v", from, len(got), err)
		}
		f.Close()
	}
}

func TestGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	for i := range 600 {
		if err := l.Append(t.Context(), &audit.Event{Level: audit.LevelMetadata, AuditID: fmt.Sprint(i), Stage: audit.StagePanic}, audit.Buffered); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := (vfs.OS{}).Remove(dir + "/00000000000000000000.seg"); err != nil {
		t.Fatal(err)
	}
	f := follow.New(vfs.OS{}, dir, 5)
	defer f.Close()
	if _, err := f.Read(nil, 1, follow.Unbounded); !errors.Is(err, follow.ErrGone) {
		t.Fatal(err)
	}
}
