package export

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/verify"
	"github.com/gatehouse-dev/gatehouse/internal/audit/witness"
)

// maxLine bounds a line of a bundle: a record whose every byte is escaped, and
// its proof.
const maxLine = 1 << 20

// Options say what is known from elsewhere.
type Options struct {
	// Keys are the log's public keys; without them those in the bundle are
	// believed, and the report says so.
	Keys []string
	// Witnesses are keys of witnesses that must have signed.
	Witnesses []string
	// Anchors are signed checkpoints that were kept elsewhere.
	Anchors [][]byte
}

// Report is the outcome for one bundle.
type Report struct {
	Log    string    `json:"log"`
	Origin string    `json:"origin"`
	Made   time.Time `json:"made"`
	// Records are in the bundle, each proven; Size is how many the checkpoint
	// covers.
	Records   uint64             `json:"records"`
	Size      uint64             `json:"size"`
	Since     time.Time          `json:"since"`
	Until     time.Time          `json:"until"`
	Anchors   int                `json:"anchors"`
	Witnesses []verify.Witnessed `json:"witnesses,omitempty"`
	Faults    []verify.Fault     `json:"faults,omitempty"`
	Unsure    []string           `json:"unsure,omitempty"`
}

// OK says that everything in the bundle is proven.
func (r *Report) OK() bool { return len(r.Faults) == 0 }

// maxFaults bounds a report.
const maxFaults = 100

func (r *Report) fault(kind verify.Kind, record *uint64, format string, args ...any) {
	if len(r.Faults) >= maxFaults {
		return
	}
	f := verify.Fault{Kind: kind, Offset: -1, Detail: fmt.Sprintf(format, args...)}
	if record != nil {
		f.Records, f.First, f.Last = true, *record, *record
	}
	r.Faults = append(r.Faults, f)
}

// Verify checks a bundle. The error is about the input: it is no bundle, or it
// cannot be read. What does not hold is in the report.
func Verify(ctx context.Context, in io.Reader, o Options) (*Report, error) {
	lines := bufio.NewReaderSize(in, 64<<10)
	var h Header
	if err := line(lines, &h); err != nil {
		return nil, fmt.Errorf("verify audit export: header: %w", err)
	}
	if h.Kind != Kind || h.APIVersion != Version {
		return nil, fmt.Errorf("verify audit export: not a bundle of %s", Version)
	}
	r := &Report{Log: h.Log, Origin: h.Origin, Made: h.Made}
	keys := o.Keys
	if len(keys) == 0 {
		keys = h.Keys
		r.Unsure = append(r.Unsure, "the public key was read from the bundle itself: give the log's key to exclude that all of it was made up with another")
	}
	log, err := checkpoint.Verifiers(keys...)
	if err != nil {
		return nil, fmt.Errorf("verify audit export: %w", err)
	}
	head, err := checkpoint.Open([]byte(h.Checkpoint), log)
	if err != nil {
		r.fault(verify.Signature, nil, "checkpoint: %v", err)
		return r, nil
	}
	if head.Origin != h.Origin {
		r.fault(verify.Foreign, nil, "the checkpoint is of log %q, not %q", head.Origin, h.Origin)
		return r, nil
	}
	r.Size = head.Size
	if err := r.outside(&h, head, log, o); err != nil {
		return nil, fmt.Errorf("verify audit export: %w", err)
	}
	return r, r.records(ctx, lines, head)
}

// outside holds the checkpoint against what others signed or kept.
func (r *Report) outside(h *Header, head checkpoint.Checkpoint, log note.Verifiers, o Options) error {
	for _, vkey := range o.Witnesses {
		by, err := witness.ParseVerifier(vkey)
		if err != nil {
			return err
		}
		var newest *verify.Witnessed
		for _, x := range h.Witnessed {
			c, err := witness.Open([]byte(x.Checkpoint), log, by)
			if err != nil || c.Origin != head.Origin {
				continue
			}
			if !follows(head, c.Checkpoint, x.Consistency) {
				r.fault(verify.Fork, nil, "the log contradicts what witness %s signed, of %d records", by.Name(), c.Size)
				continue
			}
			if newest == nil || c.Size > newest.Size {
				newest = &verify.Witnessed{Name: by.Name(), Size: c.Size, At: c.At}
			}
		}
		if newest == nil {
			r.fault(verify.Signature, nil, "no checkpoint that witness %s signed is in the bundle", by.Name())
			continue
		}
		r.Witnesses = append(r.Witnesses, *newest)
	}
	for i, signed := range o.Anchors {
		a, err := checkpoint.Open(signed, log)
		switch {
		case err != nil:
			r.fault(verify.Signature, nil, "anchor %d: %v", i+1, err)
		case a.Origin != head.Origin:
			r.fault(verify.Foreign, nil, "anchor %d is of log %q, not %q", i+1, a.Origin, head.Origin)
		case a.Size == head.Size && a.Root != head.Root:
			r.fault(verify.Fork, nil, "the log contradicts anchor %d, a checkpoint of %d records kept elsewhere", i+1, a.Size)
		case a.Size == head.Size:
			r.Anchors++
		default:
			r.Unsure = append(r.Unsure, fmt.Sprintf("anchor %d, of %d records, could not be compared: the bundle has no proof between it and its checkpoint of %d", i+1, a.Size, head.Size))
		}
	}
	if r.Anchors == 0 && len(r.Witnesses) == 0 {
		r.Unsure = append(r.Unsure, "no witness and no checkpoint from elsewhere was held against it: that another log was shown to others cannot be excluded")
	}
	r.Unsure = append(r.Unsure, "that records were left out of the bundle cannot be excluded: it proves what is in it")
	return nil
}

// follows says whether head continues another checkpoint.
func follows(head, was checkpoint.Checkpoint, proof []tlog.Hash) bool {
	if was.Size == head.Size {
		return was.Root == head.Root
	}
	return was.Size > 0 && was.Size < head.Size &&
		tlog.CheckTree(proof, int64(head.Size), tlog.Hash(head.Root), int64(was.Size), tlog.Hash(was.Root)) == nil
}

// records checks every record, and that the bundle ends where it should.
func (r *Report) records(ctx context.Context, lines *bufio.Reader, head checkpoint.Checkpoint) error {
	seen := map[uint64]bool{}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var next struct {
			Record
			End
		}
		err := line(lines, &next)
		switch {
		case errors.Is(err, io.EOF):
			r.fault(verify.Truncated, nil, "the bundle is cut off after %d records", r.Records)
			return nil
		case err != nil:
			r.fault(verify.Damaged, nil, "line %d: %v", r.Records+2, err)
			return nil
		case next.End.End:
			if next.Records != r.Records {
				r.fault(verify.Missing, nil, "the bundle was made with %d records and has %d", next.Records, r.Records)
			}
			if _, err := lines.Peek(1); !errors.Is(err, io.EOF) {
				r.fault(verify.Damaged, nil, "something follows the end")
			}
			return nil
		}
		r.Records++
		r.record(&next.Record, head)
		if seen[next.Index] {
			r.fault(verify.Altered, &next.Index, "stands in the bundle twice")
		}
		seen[next.Index] = true
	}
}

func (r *Report) record(x *Record, head checkpoint.Checkpoint) {
	if x.Index >= head.Size {
		r.fault(verify.Altered, &x.Index, "is beyond the checkpoint of %d records", head.Size)
		return
	}
	if err := tlog.CheckRecord(x.Proof, int64(head.Size), tlog.Hash(head.Root), int64(x.Index), tlog.RecordHash([]byte(x.Payload))); err != nil {
		r.fault(verify.Altered, &x.Index, "is not what the checkpoint of %d records signed", head.Size)
		return
	}
	e, err := segment.ParseEntry([]byte(x.Payload))
	if err == nil {
		_, err = audit.Decode(e.Event)
	}
	if err != nil {
		r.fault(verify.Altered, &x.Index, "%v", err)
		return
	}
	if r.Since.IsZero() || e.At.Before(r.Since) {
		r.Since = e.At
	}
	if e.At.After(r.Until) {
		r.Until = e.At
	}
}

// line reads one line of strict JSON.
func line(in *bufio.Reader, into any) error {
	var b []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(b)+len(part) > maxLine {
			return errors.New("the line is too long")
		}
		b = append(b, part...)
		if err == nil {
			break
		}
		if errors.Is(err, io.EOF) && len(b) > 0 {
			return errors.New("the line is cut off")
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if dec.More() {
		return errors.New("more than one value on a line")
	}
	return nil
}

// parse reads a checkpoint without verifying a signature.
func parse(signed []byte) (checkpoint.Checkpoint, bool) {
	text, _, ok := strings.Cut(string(signed), "\n\n")
	if !ok {
		return checkpoint.Checkpoint{}, false
	}
	cp, err := checkpoint.Parse(text + "\n")
	return cp, err == nil
}
