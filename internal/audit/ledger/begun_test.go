package ledger_test

import (
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
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
