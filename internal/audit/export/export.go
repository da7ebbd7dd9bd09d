// Package export makes a bundle of records for somebody who has nothing else:
// the records of one incident, and for each the proof that it stands in the log
// that a checkpoint signed.
//
// A bundle is JSON lines: a [Header], one [Record] a line, an [End]. With the
// hash functions of RFC 6962 and signed notes (C2SP signed-note,
// tlog-checkpoint) anybody can verify it; [Verify] does. It proves that every
// record in it was recorded, when, and not altered since. That none was left
// out it cannot prove.
//
// It owns: the format, [Write] and [Verify]. It refuses: who may have what; the
// search that it is given has decided that.
package export

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-dev/gatehouse/internal/audit/query"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/tiles"
)

// Kind and Version open every bundle.
const (
	Kind    = "AuditExport"
	Version = "audit.gatehouse.dev/export-v1"
)

// Header is the first line.
type Header struct {
	Kind       string    `json:"kind"`
	APIVersion string    `json:"apiVersion"`
	Log        string    `json:"log"`
	Origin     string    `json:"origin"`
	Made       time.Time `json:"made"`
	// Filter says what was asked for.
	Filter map[string]string `json:"filter,omitempty"`
	// Keys are the log's public keys, in the signed-note format. Whoever
	// verifies should know them from elsewhere.
	Keys []string `json:"keys"`
	// Checkpoint is the signed note that all proofs lead to.
	Checkpoint string `json:"checkpoint"`
	// Witnessed are checkpoints that witnesses signed.
	Witnessed []Witnessed `json:"witnessed,omitempty"`
}

// Witnessed is a checkpoint that a witness signed, and the proof that the one
// in the header continues it.
type Witnessed struct {
	Checkpoint  string      `json:"checkpoint"`
	Consistency []tlog.Hash `json:"consistency,omitempty"`
}

// Record is one record of the log.
type Record struct {
	Index uint64 `json:"index"`
	// Payload is the record, to the byte: JSON with the time at which the log
	// took it (at, nanoseconds since 1970), the site that sent it and the event
	// (audit.k8s.io/v1). Its leaf hash is SHA-256 of a zero byte and this.
	Payload string `json:"payload"`
	// Proof is the inclusion proof, from the leaf upwards.
	Proof []tlog.Hash `json:"proof"`
}

// End is the last line, by which a bundle that was cut off shows.
type End struct {
	End     bool   `json:"end"`
	Records uint64 `json:"records"`
}

// Search calls emit for each match of a filter.
type Search func(ctx context.Context, f query.Filter, emit func(query.Match) error) error

// Write writes the bundle of what search finds up to the checkpoint of src and
// returns how many records it has. signed are checkpoints that witnesses
// signed; those that src contradicts are left out. Nothing is written before
// the first record is found.
func Write(ctx context.Context, out io.Writer, src *tiles.Source, signed [][]byte, f query.Filter, asked map[string]string, now time.Time, search Search) (uint64, error) {
	w := bufio.NewWriter(out)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	head := src.Head()
	h := Header{
		Kind: Kind, APIVersion: Version, Log: src.Meta().ID, Origin: src.Meta().Origin, Made: now.UTC(), Filter: asked,
		Keys: src.Meta().Verifiers, Checkpoint: string(src.Checkpoint()),
	}
	for _, s := range signed {
		if x, ok := continued(src, s); ok {
			h.Witnessed = append(h.Witnessed, x)
		}
	}
	if f.To == 0 || f.To > head.Size {
		f.To = head.Size
	}
	var count uint64
	begin := func() error {
		if err := enc.Encode(h); err != nil {
			return fmt.Errorf("audit export: %w", err)
		}
		return nil
	}
	err := search(ctx, f, func(m query.Match) error {
		if count == 0 {
			if err := begin(); err != nil {
				return err
			}
		}
		r, err := prove(src, m)
		if err != nil {
			return err
		}
		count++
		return enc.Encode(r)
	})
	if err != nil {
		return count, fmt.Errorf("audit export: %w", err)
	}
	if count == 0 {
		if err := begin(); err != nil {
			return 0, err
		}
	}
	if err := enc.Encode(End{true, count}); err != nil {
		return count, fmt.Errorf("audit export: %w", err)
	}
	return count, w.Flush()
}

// prove returns a record with its proof, which is checked before it leaves.
func prove(src *tiles.Source, m query.Match) (Record, error) {
	r := Record{Index: m.Index, Payload: string(segment.AppendPayload(nil, segment.Entry{At: m.At, Site: m.Site, Event: m.Raw}))}
	if !utf8.ValidString(r.Payload) {
		return r, fmt.Errorf("record %d is not UTF-8", m.Index)
	}
	head := src.Head()
	proof, err := tlog.ProveRecord(int64(head.Size), int64(m.Index), src)
	if err != nil {
		return r, fmt.Errorf("prove record %d: %w", m.Index, err)
	}
	if err := tlog.CheckRecord(proof, int64(head.Size), tlog.Hash(head.Root), int64(m.Index), tlog.RecordHash([]byte(r.Payload))); err != nil {
		return r, fmt.Errorf("record %d is not the one that was signed: %w", m.Index, err)
	}
	r.Proof = proof
	return r, nil
}

// continued proves that src continues a checkpoint.
func continued(src *tiles.Source, signed []byte) (Witnessed, bool) {
	cp, ok := parse(signed)
	head := src.Head()
	if !ok || cp.Origin != head.Origin || cp.Size > head.Size || cp.Size == 0 {
		return Witnessed{}, false
	}
	x := Witnessed{Checkpoint: string(signed)}
	if cp.Size == head.Size {
		return x, cp.Root == head.Root
	}
	proof, err := tlog.ProveTree(int64(head.Size), int64(cp.Size), src)
	if err != nil || tlog.CheckTree(proof, int64(head.Size), tlog.Hash(head.Root), int64(cp.Size), tlog.Hash(cp.Root)) != nil {
		return Witnessed{}, false
	}
	x.Consistency = proof
	return x, true
}
