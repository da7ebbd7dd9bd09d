package ledger_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
)

// TestPageCacheIsNotTheDisk: after a failed sync and a kill, the next process
// reads records that are nowhere but in clean pages. What it then promises of
// them, to a site that repeats them or by a checkpoint, must be on disk.
func TestPageCacheIsNotTheDisk(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		fsys := crashfs.New(seed)
		cfg := testConfig()
		cfg.FS, cfg.SegmentRecords = fsys, 256
		l := mustOpen(t, "log", cfg)
		list := make([]audit.Event, 100+10*seed) // some runs go over the end of a segment
		for i := range list {
			list[i] = *tiny()
			list[i].AuditID = fmt.Sprint("event-", i)
		}
		fsys.Fail(func(op, name string) error {
			if op == "sync" && strings.HasSuffix(name, "0000.log") {
				return syscall.EIO
			}
			return nil
		})
		if _, err := l.AppendBatch(t.Context(), "alpha", list); err == nil {
			t.Fatal("a failed sync was acknowledged")
		}
		fsys = fsys.Kill()
		_ = l.Close()

		cfg.FS = fsys
		l = mustOpen(t, "log", cfg)
		result, err := l.AppendBatch(t.Context(), "alpha", list)
		if err != nil || result.Duplicates != len(list) {
			t.Fatalf("seed %d: %+v %v", seed, result, err)
		}
		if seed%2 == 0 { // signs a checkpoint over them
			if err := l.Append(t.Context(), sample(1), audit.Durable); err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		fsys = fsys.PowerLoss()
		_ = l.Close()

		cfg.FS, cfg.BootID = fsys, "boot-2"
		if l, err = ledger.Open("log", cfg); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		ids := readIDs(t, fsys, "log")
		for i := range list {
			if ids[list[i].AuditID] != 1 {
				t.Fatalf("seed %d: acknowledged %s is in the log %d times", seed, list[i].AuditID, ids[list[i].AuditID])
			}
		}
		mustVerify(t, fsys, "log")
	}
}
