package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"github.com/gatehouse-dev/gatehouse/internal/audit/merkle"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// writer is the active segment.
type writer struct {
	file   vfs.File
	first  uint64 // index of its first record
	next   uint64 // index of the next record
	offset int64  // where the next frame goes
	// dirty is set when bytes beyond offset may have been written by a write
	// that failed; they are cut off before the next.
	dirty bool
	// begun are segments of a write that failed. They are removed before the
	// next, which may go past their names.
	begun []string
}

// job is a part of a group that stands in one file.
type job struct {
	group  *group
	buf    []byte
	file   vfs.File
	offset int64
	// records is how many of the frames in buf are records.
	records uint64
	last    bool // the group's last part
	// begins is set on the first part in a new segment: its first record.
	begins *uint64
}

// runWriter takes pending groups until the log is closed and empty.
func (l *Log) runWriter() {
	stop := l.stop
	for {
		select {
		case <-l.wake:
			// Appenders that are ready to run join this group instead of making
			// the next.
			runtime.Gosched()
		case <-stop:
			stop = nil
			// closed is set, so nothing new is admitted: one more turn is enough.
			if g := l.take(); g != nil {
				l.writeGroup(g)
			}
			return
		}
		if g := l.take(); g != nil {
			l.writeGroup(g)
		}
	}
}

// enough bytes make a group that waits for nobody but the syncer: the sync of a
// larger one costs little less for each event, and can run while others encode.
const enough = 64 << 10

// mayGrow says that nobody gains if the pending group is written now, because
// all in it wait for a sync and
//
//   - the syncer is busy with the one before, or
//   - appenders whom it has just answered did not run yet. Those who come back
//     with the next event make one group then, not two that take turns at the
//     disk.
//
// Whoever ends that state wakes the writer. l.mu is held.
func (l *Log) mayGrow() bool {
	if l.closed || l.pending.buffered {
		return false
	}
	return l.syncing.Load() || len(l.pending.buf) < enough && l.answered.Load().waiting.Load() > 0
}

// take replaces the pending group by an empty one. It returns nil if there is
// nothing to write or it may wait.
func (l *Log) take() *group {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending.buf) == 0 || l.mayGrow() {
		return nil
	}
	g := l.pending
	var buf []byte
	if n := len(l.spare); n > 0 {
		buf, l.spare = l.spare[n-1], l.spare[:n-1]
		l.spareBytes -= cap(buf)
	}
	l.pending = newGroup(buf)
	return g
}

// recycle keeps a group's buffer for a later one. One sync of buffered records
// gives back hundreds at once.
func (l *Log) recycle(buf []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spareBytes+cap(buf) <= maxPooled {
		l.spare = append(l.spare, buf[:0])
		l.spareBytes += cap(buf)
	}
}

// writeGroup stamps and writes a group and hands it to the syncer.
func (l *Log) writeGroup(g *group) {
	// Every record of a group has the time of its writing.
	segment.Stamp(g.buf, l.cfg.Clock(), l.w.next)
	l.fileMu.Lock()
	parts, err := l.write(g)
	l.handed += uint64(len(parts))
	l.fileMu.Unlock()
	l.noteWrite(err)
	if err != nil {
		err = fault.Wrap(fault.Unavailable, unwritable, err)
		l.fail(g, err)
		close(g.written)
		return
	}
	l.size.Store(l.w.next)
	close(g.written)
	for _, p := range parts {
		l.jobs <- p
	}
}

// fail ends a group that did not get into the log. Its written channel is left
// to the caller.
func (l *Log) fail(g *group, err error) {
	g.writeErr, g.syncErr = err, err
	l.mu.Lock()
	l.dedup.settle(g.keys, g, true)
	l.mu.Unlock()
	close(g.synced)
}

// write puts a group into the active segment, or into it and new ones. On an
// error nothing of the group is in the log.
func (l *Log) write(g *group) ([]job, error) {
	w := &l.w
	l.mu.Lock()
	broken := l.broken
	l.mu.Unlock()
	if broken != nil {
		return nil, broken
	}
	if err := l.clean(); err != nil {
		return nil, fmt.Errorf("undo a failed write: %w", err)
	}
	before := *w
	var parts []job
	var begun []string
	undo := func(err error) ([]job, error) {
		for _, p := range parts {
			if p.begins != nil {
				p.file.Close()
			}
		}
		*w = before
		w.dirty, w.begun = true, begun
		// If that fails, the next write does it first.
		_ = l.clean()
		return nil, err
	}
	rest := g.buf
	var begins *uint64
	for len(rest) > 0 {
		n, records, full := l.room(rest)
		if n > 0 {
			parts = append(parts, job{group: g, buf: rest[:n], records: records, file: w.file, offset: w.offset, begins: begins})
			begins = nil
			if _, err := w.file.WriteAt(rest[:n], w.offset); err != nil {
				return undo(err)
			}
			w.offset += int64(n)
			w.next += records
			rest = rest[n:]
		}
		if full {
			first := w.next
			begun = append(begun, l.dir+"/"+segment.RawName(first))
			f, offset, err := l.begin(first)
			if err != nil {
				return undo(err)
			}
			begins = &first
			*w = writer{file: f, first: first, next: first, offset: offset}
			// An empty part carries the new segment to the syncer even when
			// nothing of this group is left for it.
			if len(rest) == 0 {
				parts = append(parts, job{group: g, file: f, offset: offset, begins: begins})
			}
		}
	}
	parts[len(parts)-1].last = true
	return parts, nil
}

// clean undoes what is left of a write that failed. The removal has to be on
// disk before the log grows: a power failure must not bring back a segment that
// begins in the middle of another.
func (l *Log) clean() error {
	w := &l.w
	if w.dirty {
		if err := w.file.Truncate(w.offset); err != nil {
			return err
		}
		w.dirty = false
	}
	if len(w.begun) == 0 {
		return nil
	}
	for _, name := range w.begun {
		if err := l.cfg.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := l.cfg.FS.SyncDir(l.dir); err != nil {
		return err
	}
	w.begun = nil
	return nil
}

// room says how much of buf goes into the active segment, and whether the
// segment is full after that.
func (l *Log) room(buf []byte) (n int, records uint64, full bool) {
	w := &l.w
	for n < len(buf) {
		length := segment.FrameOverhead + int(binary.LittleEndian.Uint32(buf[n:]))
		kind := segment.Kind(buf[n+segment.PrefixOffset])
		n += length
		if kind != segment.KindRecord {
			continue
		}
		records++
		total := w.next + records - w.first
		if (w.next+records)%merkle.BundleWidth == 0 &&
			(total >= l.cfg.SegmentRecords || w.offset+int64(n) >= l.cfg.SegmentBytes) {
			return n, records, true
		}
	}
	return n, records, false
}

// begin creates the segment whose first record is first. When that fails the
// file may be there; [Log.clean] removes it, or Open finds it empty.
func (l *Log) begin(first uint64) (vfs.File, int64, error) {
	name := l.dir + "/" + segment.RawName(first)
	f, err := l.cfg.FS.Create(name)
	if err != nil {
		return nil, 0, err
	}
	start, err := segment.AppendRawStart(nil, segment.Header{
		Log: l.cfg.ID, Origin: l.cfg.Origin, First: first, At: l.cfg.Clock().UTC(), Boot: l.cfg.BootID,
	})
	if err == nil {
		_, err = f.WriteAt(start, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = l.cfg.FS.SyncDir(l.dir)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, int64(len(start)), nil
}

// wakeWriter tells the writer to look at the pending group.
func (l *Log) wakeWriter() {
	select {
	case l.wake <- struct{}{}:
	default: // it has been told already
	}
}

// noteWrite logs the change between working and failing storage, and asks for
// a gap record when it works again.
func (l *Log) noteWrite(err error) {
	l.mu.Lock()
	changed := l.failing != (err != nil)
	l.failing = err != nil
	var gap missed
	switch {
	case l.closed: // no gap record is taken any more
		l.lost = l.lost || err != nil
	case err == nil:
		gap = l.takeMissed()
	}
	l.mu.Unlock()
	if changed && err != nil {
		l.cfg.Logger.Error("audit log cannot be written", "error", err)
	}
	if changed && err == nil {
		l.cfg.Logger.Info("audit log is written again")
	}
	if gap.any() {
		l.recordGap(gap)
	}
}
