// Package follow reads a log from a given record onwards and goes on as it
// grows. The index, the sinks and "audit tail" stand on it: each is a cursor
// into the log, so that none of them can hold up a write.
//
// It owns: [Reader]. It refuses: keeping cursors; whoever follows stores how
// far it got, after it got there, and so sees each record at least once.
package follow

import (
	"errors"
	"fmt"
	"io"

	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// Record is one record of the log.
type Record struct {
	Index uint64
	segment.Entry
}

// Reader reads a log in order, across segments that are begun, sealed and
// removed meanwhile. It is not safe for concurrent use.
type Reader struct {
	fsys vfs.FS
	dir  string
	next uint64
	info segment.Info
	r    segment.Reader
}

// ErrGone says that the next record is not in the log any more.
var ErrGone = errors.New("record is no longer in the log")

// New returns a reader whose first record is next.
func New(fsys vfs.FS, dir string, next uint64) *Reader {
	return &Reader{fsys: fsys, dir: dir, next: next}
}

// Next returns the index of the record that will be read next.
func (f *Reader) Next() uint64 { return f.next }

// Read appends up to limit records with an index below end to records. It
// returns what is there, passing over what retention dropped; nothing new is
// no error. The events it returns stay
// valid. A live log gives its number of synced records as end, so that nobody
// hears of a record that a crash could still take back.
func (f *Reader) Read(records []Record, limit int, end uint64) ([]Record, error) {
	refreshed := false
	for n := 0; n < limit && f.next < end; {
		if f.r == nil {
			if opened, err := f.open(); err != nil || !opened {
				return records, err
			}
		}
		item, err := f.r.Next()
		if err != nil {
			var damage *segment.DamageError
			if !errors.Is(err, io.EOF) && (!errors.As(err, &damage) || !damage.Torn) {
				return records, fmt.Errorf("read audit log: %w", err)
			}
			// The end of what was there: look again, then for the next segment.
			if !refreshed {
				refreshed = true
				if err := f.r.Refresh(); err != nil {
					return records, fmt.Errorf("read audit log: %w", err)
				}
				continue
			}
			switched, nextErr := f.nextSegment()
			switch {
			case nextErr != nil:
				return records, nextErr
			case switched:
				refreshed = false
				continue
			case damage != nil && end != Unbounded:
				// The log says that the record is on disk.
				return records, fmt.Errorf("read audit log: %w", err)
			}
			return records, nil
		}
		refreshed = false
		if item.Kind == segment.KindDropped {
			f.next = item.Index + 1
			continue
		}
		if item.Kind != segment.KindRecord {
			continue
		}
		entry, err := segment.ParseEntry(append([]byte(nil), item.Payload...))
		if err != nil {
			return records, fmt.Errorf("read audit log: record %d: %w", item.Index, err)
		}
		records = append(records, Record{Index: item.Index, Entry: entry})
		f.next = item.Index + 1
		n++
	}
	return records, nil
}

// Unbounded is an end for logs that nobody writes.
const Unbounded = ^uint64(0)

// open opens the segment of the next record; false when it does not exist yet.
func (f *Reader) open() (bool, error) {
	infos, err := segment.List(f.fsys, f.dir)
	if err != nil {
		return false, fmt.Errorf("read audit log: %w", err)
	}
	at := -1
	for i, info := range infos {
		if info.First <= f.next {
			at = i
		}
	}
	if at < 0 {
		if len(infos) == 0 {
			return false, nil
		}
		return false, fmt.Errorf("read audit log: record %d: %w", f.next, ErrGone)
	}
	r, err := segment.OpenReader(f.fsys, f.dir, infos[at])
	if err != nil {
		var damage *segment.DamageError
		if errors.As(err, &damage) && damage.Torn && at == len(infos)-1 {
			return false, nil // just being begun
		}
		return false, fmt.Errorf("read audit log: %w", err)
	}
	if err := r.SkipTo(f.next); err != nil {
		r.Close()
		var damage *segment.DamageError
		if errors.Is(err, io.EOF) || (errors.As(err, &damage) && damage.Torn) {
			return false, nil
		}
		return false, fmt.Errorf("read audit log: %w", err)
	}
	f.r, f.info = r, infos[at]
	return true, nil
}

// nextSegment closes the open segment if another begins with the next record.
func (f *Reader) nextSegment() (bool, error) {
	infos, err := segment.List(f.fsys, f.dir)
	if err != nil {
		return false, fmt.Errorf("read audit log: %w", err)
	}
	for _, info := range infos {
		if info.First == f.next && info.First > f.info.First {
			return true, f.Close()
		}
	}
	return false, nil
}

// Close releases the open segment.
func (f *Reader) Close() error {
	if f.r == nil {
		return nil
	}
	err := f.r.Close()
	f.r = nil
	return err
}
