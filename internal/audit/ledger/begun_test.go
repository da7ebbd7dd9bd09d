package ledger_test

import (
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
)

// TestSegmentJustBegun: a power failure can leave the next segment with its
// size but without content, or without either; the log opens and goes on.
func TestSegmentJustBegun(t *testing.T) {
	t.Parallel()
	for name, content := range map[string][]byte{"zeros": make([]byte, 700), "short": []byte("gate"), "empty": {}} {
		fsys := crashfs.New(1)
		cfg := testConfig()
		cfg.FS, cfg.SegmentRecords = fsys, 256
		l := mustOpen(t, "log", cfg)
		for i := range 200 {
			if err := l.Append(t.Context(), sample(i), audit.Buffered); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		fsys.SetContent("log/00000000000000000200.log", content)
		l = mustOpen(t, "log", cfg)
		if err := l.Append(t.Context(), sample(200), audit.Durable); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if r := mustVerify(t, fsys, "log"); r.Records < 201 {
			t.Errorf("%s: %d records", name, r.Records)
		}
	}
}

// TestPowerLossOverManySegments: one group can begin several segments; none of
// it was acknowledged, and any part of it may be missing.
func TestPowerLossOverManySegments(t *testing.T) {
	t.Parallel()
	for seed := range uint64(150) {
		fsys := crashfs.New(seed)
		cfg := testConfig()
		cfg.FS, cfg.SegmentRecords = fsys, 256
		l := mustOpen(t, "log", cfg)
		if err := l.Append(t.Context(), sample(0), audit.Durable); err != nil {
			t.Fatal(err)
		}
		list := make([]audit.Event, 1200)
		for i := range list {
			list[i] = *tiny()
			list[i].AuditID = sample(i).AuditID
		}
		// The writes of the batch are 10 operations or more (5 parts, 4 new
		// segments with their syncs); stop at a different one each time.
		fsys.CrashAt(1 + int(seed)%25)
		_, batchErr := l.AppendBatch(t.Context(), "alpha", list)
		_ = l.Close()
		fsys = fsys.PowerLoss()
		cfg.FS = fsys
		l, err := ledger.Open("log", cfg)
		if err != nil {
			t.Fatalf("seed %d: %v\n%v", seed, err, fsys.Names())
		}
		if err := l.Append(t.Context(), sample(5000), audit.Durable); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		ids := readIDs(t, fsys, "log")
		if ids[sample(5000).AuditID] != 1 || (batchErr == nil && ids[sample(1199).AuditID] != 1) {
			t.Fatalf("seed %d: acknowledged records are missing", seed)
		}
		mustVerify(t, fsys, "log")
	}
}
