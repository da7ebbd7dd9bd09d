package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// Names in the directory of a log, beside the segments.
const (
	metaFile       = "log.json"
	checkpointFile = "checkpoint"
	lockFile       = "lock"
	damagedDir     = "damaged"
)

// formatVersion is the version of the directory's format.
const formatVersion = 1

// Meta is log.json: what a reader needs to know of a log.
type Meta struct {
	Format int    `json:"format"`
	ID     string `json:"id"`
	Origin string `json:"origin"`
	// Verifiers are the public keys that signed or sign checkpoints, newest
	// last, in the signed-note format.
	Verifiers []string `json:"verifiers"`
}

// ReadMeta reads the log.json of a log directory.
func ReadMeta(fsys vfs.FS, dir string) (Meta, error) {
	var m Meta
	b, err := vfs.ReadFile(fsys, dir+"/"+metaFile, 1<<20)
	if err != nil {
		return m, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return m, fmt.Errorf("%s: %w", metaFile, err)
	}
	if m.Format != formatVersion {
		return m, fmt.Errorf("%s: format %d is not known", metaFile, m.Format)
	}
	if m.ID == "" || m.Origin == "" || len(m.Verifiers) == 0 {
		return m, fmt.Errorf("%s: id, origin and verifiers are required", metaFile)
	}
	return m, nil
}

// ReadCheckpoint reads the newest checkpoint of a log directory, nil when the
// log has none yet.
func ReadCheckpoint(fsys vfs.FS, dir string) ([]byte, error) {
	b, err := vfs.ReadFile(fsys, dir+"/"+checkpointFile, 1<<16)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// openMeta reads log.json, or writes it for a new log.
func (l *Log) openMeta(isNew bool) (Meta, error) {
	vkey := l.signer.VerifierKey()
	m, err := ReadMeta(l.cfg.FS, l.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && isNew:
		m = Meta{Format: formatVersion, ID: l.cfg.ID, Origin: l.cfg.Origin}
	case errors.Is(err, fs.ErrNotExist):
		return m, fmt.Errorf("%s is missing beside existing segments", metaFile)
	case err != nil:
		return m, err
	case m.ID != l.cfg.ID || m.Origin != l.cfg.Origin:
		return m, fmt.Errorf("directory holds log %s (%s), not %s (%s)", m.ID, m.Origin, l.cfg.ID, l.cfg.Origin)
	}
	if slices.Contains(m.Verifiers, vkey) {
		return m, nil
	}
	m.Verifiers = append(m.Verifiers, vkey)
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}
	return m, vfs.WriteFile(l.cfg.FS, l.dir+"/"+metaFile, append(b, '\n'))
}
