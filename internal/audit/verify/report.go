package verify

import (
	"fmt"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
)

// Kind is a class of fault.
type Kind string

// The kinds of fault.
const (
	// Damaged: bytes of a file are not what was written.
	Damaged Kind = "damaged"
	// Altered: records are well formed, but not those that were signed.
	Altered Kind = "altered"
	// Missing: records or a whole segment are not there.
	Missing Kind = "missing"
	// Clock: the replica's clock ran backwards between two records.
	Clock Kind = "clock"
	// Signature: a checkpoint is not signed by the log's key.
	Signature Kind = "signature"
	// Truncated: the log ends before a checkpoint that covers more.
	Truncated Kind = "truncated"
	// Fork: two checkpoints of one log contradict each other.
	Fork Kind = "fork"
	// Foreign: something belongs to another log.
	Foreign Kind = "foreign"
)

// Fault is one finding and its place.
type Fault struct {
	Kind Kind `json:"kind"`
	// File is relative to the log's directory; Offset is the byte in it at
	// which the frame, block or part in question starts, -1 when the whole
	// file is meant.
	File   string `json:"file,omitempty"`
	Offset int64  `json:"offset"`
	// First and Last are the records concerned, Last inclusive. Records is
	// false when no record can be named.
	Records bool   `json:"records"`
	First   uint64 `json:"first,omitempty"`
	Last    uint64 `json:"last,omitempty"`
	Detail  string `json:"detail"`
}

// String renders the fault as one line.
func (f Fault) String() string {
	s := string(f.Kind) + ": "
	switch {
	case f.Records && f.First == f.Last:
		s += fmt.Sprintf("record %d: ", f.First)
	case f.Records:
		s += fmt.Sprintf("records %d to %d: ", f.First, f.Last)
	}
	s += f.Detail
	if f.File != "" && f.Offset >= 0 {
		s += fmt.Sprintf(" (%s, byte %d)", f.File, f.Offset)
	} else if f.File != "" {
		s += fmt.Sprintf(" (%s)", f.File)
	}
	return s
}

// Report is the outcome for one log.
type Report struct {
	Log    string `json:"log"`
	Origin string `json:"origin"`
	// First is the index of the first record present, Records how many were
	// read, Signed how many the newest valid checkpoint covers.
	First    uint64 `json:"first"`
	Records  uint64 `json:"records"`
	Signed   uint64 `json:"signed"`
	Segments int    `json:"segments"`
	// Dropped records were removed by retention; their hashes were checked.
	Dropped uint64 `json:"dropped,omitempty"`
	// Checkpoints were valid and agree with the records, Anchors of those came
	// from elsewhere.
	Checkpoints int       `json:"checkpoints"`
	Anchors     int       `json:"anchors"`
	Since       time.Time `json:"since"`
	Until       time.Time `json:"until"`
	// Witnesses are those asked for whose signature is there.
	Witnesses []Witnessed `json:"witnesses,omitempty"`
	// Gaps are the gap records found: what the log itself says is missing.
	Gaps []Gap `json:"gaps,omitempty"`
	// Retention are the records of what was dropped, by which limits.
	Retention []ledger.RetentionNotice `json:"retention,omitempty"`

	Faults []Fault `json:"faults,omitempty"`
	// Unsure says what this check could not exclude, one sentence each.
	Unsure []string `json:"unsure,omitempty"`
	// omitted counts faults beyond maxFaults.
	omitted int
}

// Gap is a gap that the log recorded about itself.
type Gap struct {
	Record uint64    `json:"record"`
	At     time.Time `json:"at"`
	Why    string    `json:"why"`
}

// OK says that the log holds as far as the check could see.
func (r *Report) OK() bool { return len(r.Faults) == 0 }

// maxFaults bounds a report; a destroyed file would have millions.
const maxFaults = 100

func (r *Report) fault(f Fault) {
	if len(r.Faults) >= maxFaults {
		r.omitted++
		return
	}
	r.Faults = append(r.Faults, f)
}
