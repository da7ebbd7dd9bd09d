package directory_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
	"github.com/gatehouse-dev/gatehouse/internal/audit/sink/directory"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
)

func TestDeliver(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New(1)
	target, err := directory.New(fsys, "out", "r1")
	if err != nil {
		t.Fatal(err)
	}
	batch := []sink.Event{
		{Index: 7, Event: &audit.Event{Level: "Metadata", AuditID: "a", Stage: "Panic"}},
		{Index: 9, Site: "alpha", Event: &audit.Event{Level: "Metadata", AuditID: "b", Stage: "Panic"}},
	}
	for range 2 { // a repetition after a crash changes nothing
		if err := target.Deliver(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	const name = "out/r1-00000000000000000007-00000000000000000009.jsonl"
	if names := fsys.Names(); len(names) != 1 || names[0] != name {
		t.Fatal(names)
	}
	// What was acknowledged survives a power failure.
	lines := bytes.Split(bytes.TrimSuffix(fsys.PowerLoss().Content(name), []byte("\n")), []byte("\n"))
	if len(lines) != 2 {
		t.Fatalf("%d lines", len(lines))
	}
	e, err := audit.Decode(lines[1])
	if err != nil || e.AuditID != "b" || e.Annotations["audit.gatehouse.dev/site"] != "alpha" || e.Annotations["audit.gatehouse.dev/index"] != "9" {
		t.Fatalf("%+v %v", e, err)
	}
}

func TestNothingHalf(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"write", "sync", "rename", "syncdir"} {
		fsys := crashfs.New(1)
		target, err := directory.New(fsys, "out", "r1")
		if err != nil {
			t.Fatal(err)
		}
		full := errors.New("no space")
		fsys.Fail(func(o, _ string) error {
			if o == op {
				return full
			}
			return nil
		})
		batch := []sink.Event{{Index: 1, Event: &audit.Event{AuditID: "a"}}}
		if err := target.Deliver(t.Context(), batch); !errors.Is(err, full) {
			t.Errorf("%s: %v", op, err)
		}
		fsys.Fail(nil)
		if err := target.Deliver(t.Context(), batch); err != nil {
			t.Errorf("%s, again: %v", op, err)
		}
		if names := fsys.Names(); len(names) != 1 {
			t.Errorf("%s: %v", op, names)
		}
	}
	for _, bad := range []string{"", "../x", "a/b", ".hidden"} {
		if _, err := directory.New(crashfs.New(1), "out", bad); err == nil {
			t.Errorf("log id %q", bad)
		}
	}
}
