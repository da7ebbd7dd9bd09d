package ledger_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// batch returns events whose records have about size bytes.
func batch(prefix string, n, size int) []audit.Event {
	list := make([]audit.Event, n)
	for i := range list {
		list[i] = *tiny()
		list[i].AuditID, list[i].UserAgent = fmt.Sprint(prefix, i), strings.Repeat("x", size)
	}
	return list
}

// TestSegmentCannotBeBegun: a segment whose beginning failed is no obstacle
// later, neither to the writer, though it could not even be removed, nor to
// the next process, though the log has grown past its name meanwhile.
func TestSegmentCannotBeBegun(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		fsys := crashfs.New(seed)
		cfg := testConfig()
		cfg.FS, cfg.SegmentBytes = fsys, 200<<10
		l := mustOpen(t, "log", cfg)
		if _, err := l.AppendBatch(t.Context(), "alpha", batch("a", 200, 500)); err != nil {
			t.Fatal(err)
		}
		headers := 0
		fsys.Fail(func(op, name string) error {
			if !strings.HasSuffix(name, "0256.log") {
				return nil
			}
			if op == "write" {
				headers++
			}
			// In some runs the header is written, in all what follows is not.
			if op == "write" && headers > int(seed%2) || op == "remove" && seed%3 == 0 || op == "syncdir" {
				return syscall.ENOSPC
			}
			return nil
		})
		if _, err := l.AppendBatch(t.Context(), "alpha", batch("b", 200, 2000)); fault.KindOf(err) != fault.Unavailable {
			t.Fatalf("seed %d: %v", seed, err)
		}
		fsys.Fail(nil)
		// Smaller records: the segment now ends somewhere else.
		size := 100
		if seed%5 == 0 {
			size = 2000
		}
		if _, err := l.AppendBatch(t.Context(), "alpha", batch("c", 150, size)); err != nil {
			t.Fatalf("seed %d: after space came back: %v", seed, err)
		}
		fsys = fsys.PowerLoss()
		_ = l.Close()
		cfg.FS, cfg.BootID = fsys, "boot-2"
		l = mustOpen(t, "log", cfg)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		ids := readIDs(t, fsys, "log")
		for _, e := range append(batch("a", 200, 0), batch("c", 150, 0)...) {
			if ids[e.AuditID] != 1 {
				t.Fatalf("seed %d: %s is in the log %d times", seed, e.AuditID, ids[e.AuditID])
			}
		}
		mustVerify(t, fsys, "log")
	}
}
