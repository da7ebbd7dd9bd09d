// Package directory delivers events as files of JSON lines into a directory,
// from which other programs, or a mounted object store, take them.
//
// Each batch becomes one file, complete under its name or absent, named by the
// log and the first and last index in it; files that are repeated after a crash
// overlap and never contradict each other. Each line is the event with its
// index and site.
//
// It owns: the files it makes. It refuses: removing any.
package directory

import (
	"context"
	"fmt"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// Target is a sink.Target.
type Target struct {
	fsys vfs.FS
	dir  string
	log  string
}

// New returns a target that writes into dir, creating it. log is the id of the
// log, which keeps the files of several replicas apart.
func New(fsys vfs.FS, dir, log string) (*Target, error) {
	if log == "" || strings.ContainsAny(log, "/\x00") || strings.HasPrefix(log, ".") {
		return nil, fmt.Errorf("audit directory: log id %q cannot be part of a file name", log)
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("audit directory: %w", err)
	}
	return &Target{fsys, dir, log}, nil
}

// Deliver implements sink.Target: when it returns nil, the file is on disk.
func (t *Target) Deliver(ctx context.Context, batch []sink.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(batch) == 0 {
		return nil
	}
	var b []byte
	for _, e := range batch {
		b = e.Annotated().AppendJSON(b)
		b = append(b, '\n')
	}
	name := fmt.Sprintf("%s/%s-%020d-%020d.jsonl", t.dir, t.log, batch[0].Index, batch[len(batch)-1].Index)
	if err := vfs.WriteFile(t.fsys, name, b); err != nil {
		return fmt.Errorf("audit directory: %w", err)
	}
	return nil
}
