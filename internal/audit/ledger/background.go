package ledger

import (
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// Self is who records what the log has to say about itself.
const Self = "system:gatehouse:audit"

// VerbGap and VerbRetain are the verbs of gap and retention records.
const (
	VerbGap    = "gap"
	VerbRetain = "retain"
)

// AnnotationRetention holds the [RetentionNotice] of a retention record.
const AnnotationRetention = "audit.gatehouse.dev/retention"

// RetentionNotice says what retention is about to drop of the records First to
// Last, and by which limits.
type RetentionNotice struct {
	First   uint64            `json:"first"`
	Last    uint64            `json:"last"`
	Dropped uint64            `json:"dropped"`
	Classes map[string]uint64 `json:"classes"`
	Kept    map[string]string `json:"kept"` // for how long each class is kept
	At      time.Time         `json:"at"`
}

// SelfEvent returns an event of the log about itself.
func (l *Log) SelfEvent(verb string) *audit.Event {
	now := audit.MicroTime{Time: l.cfg.Clock()}
	e := &audit.Event{
		Level: audit.LevelMetadata, AuditID: uuid.NewString(), Stage: audit.StageResponseComplete,
		RequestURI: "/audit/logs/" + l.cfg.ID, Verb: verb, User: audit.UserInfo{Username: Self},
		ObjectRef:                &audit.ObjectReference{APIGroup: "audit.gatehouse.dev", Resource: "logs", Name: l.cfg.ID},
		RequestReceivedTimestamp: now, StageTimestamp: now,
	}
	return e
}

// gapEvent is the record of a gap in this log.
func (l *Log) gapEvent(why string) *audit.Event {
	e := l.SelfEvent(VerbGap)
	e.Annotate(audit.AnnotationGap, why)
	return e
}

// recordUnclean records that the log was not closed.
func (l *Log) recordUnclean(r *recovery) {
	e := l.gapEvent(r.gap)
	if !r.lastAt.IsZero() {
		e.Annotate("audit.gatehouse.dev/last-record", r.lastAt.UTC().Format(time.RFC3339Nano))
	}
	l.put(e)
}

// recordGap records what could not be written.
func (l *Log) recordGap(m missed) {
	e := l.gapEvent(fmt.Sprintf("the log could not be written since %s", m.since.UTC().Format(time.RFC3339Nano)))
	e.Annotate(audit.AnnotationGapCount, strconv.FormatUint(m.unrecorded, 10))
	e.Annotate("audit.gatehouse.dev/refused-count", strconv.FormatUint(m.refused, 10))
	l.put(e)
}

// put appends an event of the log itself without waiting for it.
func (l *Log) put(e *audit.Event) {
	g, err := l.appendOne(e, audit.Durable)
	if err != nil {
		l.cfg.Logger.Error("audit gap cannot be recorded", "error", err)
		return
	}
	l.returned(g)
}

// runSealer compresses finished segments, those found at the start first. A
// segment that cannot be sealed stays readable as it is and is tried again at
// the next start.
func (l *Log) runSealer(found []sealTask) {
	var sealer *segment.Sealer
	seal := func(t sealTask) {
		var err error
		if sealer == nil { // its buffers are large, and a quiet log seals rarely
			sealer, err = segment.NewSealer()
		}
		if err == nil {
			err = sealer.Seal(l.cfg.FS, l.dir, t.first, t.bundles)
		}
		if err != nil {
			l.cfg.Logger.Error("audit segment cannot be sealed", "first", t.first, "error", err)
		}
	}
	for _, t := range found {
		seal(t)
	}
	for t := range l.toSeal {
		seal(t)
	}
}

// writeClose writes the final checkpoint and the close marker. The goroutines
// have ended.
func (l *Log) writeClose() error {
	var b []byte
	if size := l.t.tree.Size(); size > 0 {
		signed, err := l.signer.Checkpoint(checkpoint.Checkpoint{Origin: l.cfg.Origin, Size: size, Root: l.t.tree.Root()})
		if err != nil {
			return err
		}
		if err := vfs.WriteFile(l.cfg.FS, l.dir+"/"+checkpointFile, signed); err != nil {
			return err
		}
		l.signed.Store(&signedHead{note: signed, size: size, at: l.cfg.Clock()})
		b = segment.AppendFrame(b, segment.KindCheckpoint, signed, l.w.next)
	}
	b = segment.AppendFrame(b, segment.KindClose, nil, l.w.next)
	w := &l.w
	if err := l.clean(); err != nil {
		return err
	}
	if _, err := w.file.WriteAt(b, w.offset); err != nil {
		return err
	}
	w.offset += int64(len(b))
	return w.file.Sync()
}
