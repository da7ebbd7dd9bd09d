package witness

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Witness signs checkpoints of the logs that it knows. It is safe for
// concurrent use.
type Witness struct {
	signer *Signer
	logs   map[string]note.Verifiers // by origin
	fsys   vfs.FS
	dir    string
	log    *slog.Logger

	mu sync.Mutex // one request at a time: look, compare, store, sign
}

// NewWitness returns a witness that keeps the newest checkpoint of each log in
// dir. logs are the logs' public keys in the signed-note format; a key's name
// is its log's origin, and a log may have several.
func NewWitness(signer *Signer, logs []string, fsys vfs.FS, dir string, log *slog.Logger) (*Witness, error) {
	if len(logs) == 0 {
		return nil, errors.New("a witness needs the key of at least one log")
	}
	byOrigin := map[string][]string{}
	for _, vkey := range logs {
		origin, _, _ := strings.Cut(vkey, "+")
		byOrigin[origin] = append(byOrigin[origin], vkey)
	}
	w := &Witness{signer: signer, logs: map[string]note.Verifiers{}, fsys: fsys, dir: dir, log: log}
	for origin, vkeys := range byOrigin {
		verifiers, err := checkpoint.Verifiers(vkeys...)
		if err != nil {
			return nil, err
		}
		w.logs[origin] = verifiers
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	return w, nil
}

// Why a witness refuses, beside fault.Invalid for what is malformed. C2SP
// tlog-witness gives each its HTTP status.
var (
	// ErrUnknownLog: the origin is not one of those watched (404).
	ErrUnknownLog = errors.New("the log is not known to this witness")
	// ErrNotSigned: no key of the log has signed (403).
	ErrNotSigned = errors.New("the checkpoint is not signed by the log")
	// ErrInconsistent: the proof does not show that the log only grew (422).
	ErrInconsistent = errors.New("the checkpoint does not continue the one that was signed before")
)

// ConflictError says that another size was signed last than the request
// assumes (409).
type ConflictError struct {
	Size uint64
	// Differs is set when the sizes agree and the trees do not: the log has
	// shown two faces.
	Differs bool
}

func (e *ConflictError) Error() string {
	if e.Differs {
		return fmt.Sprintf("another tree of %d records was signed before", e.Size)
	}
	return fmt.Sprintf("the newest checkpoint that was signed covers %d records", e.Size)
}

// Add signs the request's checkpoint if it continues the one before, and
// returns the signature lines. What is signed is on disk first.
func (w *Witness) Add(r Request) ([]byte, error) {
	origin, _, _ := strings.Cut(string(r.Checkpoint), "\n")
	verifiers, ok := w.logs[origin]
	if !ok {
		return nil, ErrUnknownLog
	}
	n, err := note.Open(r.Checkpoint, verifiers)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSigned, err)
	}
	next, err := checkpoint.Parse(n.Text)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err.Error(), err)
	}
	if next.Text() != n.Text {
		// What an extension line means nobody here can say.
		return nil, fault.New(fault.Invalid, "checkpoints with extension lines are not signed")
	}
	if r.Old > next.Size {
		return nil, fault.New(fault.Invalid, "the old size is above the checkpoint's")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	was, err := w.newest(origin)
	if err != nil {
		return nil, err
	}
	if err := compare(was, next, r); err != nil {
		var conflict *ConflictError
		if errors.Is(err, ErrInconsistent) || errors.As(err, &conflict) && conflict.Differs {
			w.log.Error("a log shows two faces, or sent a wrong proof", "origin", origin, "signed", was.Size, "asked", next.Size, "error", err)
		}
		return nil, err
	}
	lines, err := signatureLines(n, w.signer)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	// Of the lines that came only those that verify: anybody can add others,
	// one in our own name too, and the file could not be read again.
	kept := []byte(n.Text + "\n")
	for _, sig := range n.Sigs {
		kept = fmt.Appendf(kept, "\u2014 %s %s\n", sig.Name, sig.Base64)
	}
	if err := vfs.WriteFile(w.fsys, w.File(origin), append(kept, lines...)); err != nil {
		return nil, fmt.Errorf("store checkpoint: %w", err)
	}
	return lines, nil
}

func compare(was, next checkpoint.Checkpoint, r Request) error {
	switch {
	case r.Old != was.Size:
		return &ConflictError{Size: was.Size}
	case was.Size == next.Size && was.Size > 0 && was.Root != next.Root:
		return &ConflictError{Size: was.Size, Differs: true}
	case was.Size == 0 || was.Size == next.Size:
		if len(r.Proof) > 0 {
			return fmt.Errorf("%w: there is nothing to prove", ErrInconsistent)
		}
		return nil
	}
	if err := tlog.CheckTree(r.Proof, int64(next.Size), tlog.Hash(next.Root), int64(was.Size), tlog.Hash(was.Root)); err != nil {
		return fmt.Errorf("%w: %w", ErrInconsistent, err)
	}
	return nil
}

// File is where the newest checkpoint of a log is kept, with all signatures:
// an anchor for whoever verifies the log.
func (w *Witness) File(origin string) string {
	return fmt.Sprintf("%s/%x.checkpoint", w.dir, sha256.Sum256([]byte(origin)))
}

// newest returns the checkpoint signed last, the zero value for none.
func (w *Witness) newest(origin string) (checkpoint.Checkpoint, error) {
	signed, err := vfs.ReadFile(w.fsys, w.File(origin), checkpoint.MaxSize+4096)
	if errors.Is(err, fs.ErrNotExist) {
		return checkpoint.Checkpoint{}, nil
	}
	if err != nil {
		return checkpoint.Checkpoint{}, fmt.Errorf("read checkpoint: %w", err)
	}
	// It must be our own signature that speaks for the file.
	n, err := note.Open(signed, note.VerifierList(w.signer.Verifier))
	if err != nil {
		return checkpoint.Checkpoint{}, fmt.Errorf("the checkpoint kept of %s: %w", origin, err)
	}
	cp, err := checkpoint.Parse(n.Text)
	if err == nil && cp.Origin != origin {
		err = fmt.Errorf("it is of %s", cp.Origin)
	}
	if err != nil {
		return cp, fmt.Errorf("the checkpoint kept of %s: %w", origin, err)
	}
	return cp, nil
}
