package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/audit/merkle"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// Log is an open log. All methods are safe for concurrent use. The owner calls
// [Log.Close], which waits for the log's goroutines.
type Log struct {
	dir      string
	cfg      Config
	redactor *audit.Redactor
	signer   *checkpoint.Signer
	lock     io.Closer

	mu         sync.Mutex // guards what follows up to the next blank line
	pending    *group
	spare      [][]byte
	spareBytes int
	closed     bool
	broken     error // a failed sync that has not been made good
	dedup      window
	missed     missed
	failing    bool // the last write failed
	lost       bool // one failed after closed was set

	wake     chan struct{} // tells the writer that something is pending
	jobs     chan job      // from writer to syncer, in order
	stop     chan struct{} // closed by Close after closed was set
	toSeal   chan sealTask
	writerWG sync.WaitGroup
	syncWG   sync.WaitGroup
	sealWG   sync.WaitGroup

	// fileMu keeps the syncer's repair and the writer apart.
	fileMu sync.Mutex
	w      writer // of the writer goroutine, under fileMu
	handed uint64 // jobs written, under fileMu

	// Of the syncer goroutine alone.
	t        treeState
	received uint64 // jobs taken from the writer
	dead     error  // why nothing can be synced any more before the next Open

	size      atomic.Uint64         // records written
	synced    atomic.Uint64         // records on disk
	syncing   atomic.Bool           // the syncer is busy, and will wake the writer
	answered  atomic.Pointer[group] // the one whose waiters were told last
	signed    atomic.Pointer[signedHead]
	closeOnce sync.Once
	closeErr  error
}

// treeState is the tree over all synced records.
type treeState struct {
	tree     merkle.Tree
	bundles  []merkle.Hash // of the segment that is being filled
	leaves   []merkle.Hash // of the records that are being synced
	first    uint64        // where that segment begins
	file     vfs.File      // its file
	lastSign time.Time
}

type signedHead struct {
	note []byte
	size uint64
	at   time.Time
}

// missed counts records that could not be written, for the gap record that
// follows when writing works again.
type missed struct {
	// unrecorded buffered events may be about requests that were served
	// nevertheless; refused durable ones are not.
	unrecorded, refused uint64
	since               time.Time
	why                 error
}

func (m *missed) any() bool { return m.unrecorded+m.refused > 0 }

// sealTask is a finished segment.
type sealTask struct {
	first   uint64
	bundles []merkle.Hash
}

// Stats is the state of a log.
type Stats struct {
	// Size is the number of records handed to the operating system, Synced of
	// those on disk, Signed of those under the newest checkpoint.
	Size, Synced, Signed uint64
	// Checkpoint is the newest signed checkpoint, nil before the first.
	Checkpoint   []byte
	CheckpointAt time.Time
	// Unrecorded and Refused count the buffered and the durable events that
	// could not be written since storage stopped working, which the next gap
	// record will tell; Err is why it does not work, or nil.
	Unrecorded, Refused uint64
	Err                 error
}

// Stats returns the state of the log.
func (l *Log) Stats() Stats {
	s := Stats{Size: l.size.Load(), Synced: l.synced.Load()}
	if head := l.signed.Load(); head != nil {
		s.Signed, s.Checkpoint, s.CheckpointAt = head.size, head.note, head.at
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Unrecorded, s.Refused, s.Err = l.missed.unrecorded, l.missed.refused, l.broken
	if s.Err == nil && l.failing {
		s.Err = l.missed.why
	}
	return s
}

// WaitSigned returns once a checkpoint covers the first size records, which
// takes the checkpoint interval or a little more, or with the error of ctx: a
// log that cannot be written signs nothing.
func (l *Log) WaitSigned(ctx context.Context, size uint64) error {
	look := time.NewTicker(signedLook)
	defer look.Stop()
	for {
		if head := l.signed.Load(); size == 0 || head != nil && head.size >= size {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
	}
}

// signedLook is how often [Log.WaitSigned] looks. Checkpoints come once a
// second, and nobody waits for one often.
const signedLook = 20 * time.Millisecond

// VerifierKey returns the log's public key in the signed-note format.
func (l *Log) VerifierKey() string { return l.signer.VerifierKey() }

// Dir returns the directory of the log.
func (l *Log) Dir() string { return l.dir }

// miss counts a record that storage refused.
func (l *Log) miss(durability audit.Durability, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if !l.missed.any() {
		l.missed.since, l.missed.why = l.cfg.Clock(), err
	}
	if durability == audit.Buffered {
		l.missed.unrecorded++
	} else {
		l.missed.refused++
	}
}

// takeMissed returns what the next gap record has to tell, once storage works.
// l.mu is held.
func (l *Log) takeMissed() missed {
	if l.broken != nil {
		return missed{}
	}
	m := l.missed
	l.missed = missed{}
	return m
}

// Close takes no more events, writes and syncs what was taken, signs the final
// checkpoint and releases the directory. It may be called more than once.
func (l *Log) Close() error {
	l.closeOnce.Do(func() {
		l.mu.Lock()
		gap := l.takeMissed()
		l.mu.Unlock()
		if gap.any() {
			l.recordGap(gap)
		}
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		close(l.stop)
		l.writerWG.Wait()
		close(l.jobs)
		l.syncWG.Wait()
		close(l.toSeal)
		l.sealWG.Wait()
		l.closeErr = l.finish()
		if err := l.lock.Close(); l.closeErr == nil {
			l.closeErr = err
		}
	})
	return l.closeErr
}

// finish ends the files after every goroutine has ended.
func (l *Log) finish() error {
	l.mu.Lock()
	err := l.broken
	if err == nil && (l.failing || l.lost || l.missed.any()) {
		// What could not be written is not told either, so that the next start
		// must find that this end was not clean.
		err = errors.New(unwritable)
	}
	l.mu.Unlock()
	if err != nil {
		l.w.file.Close()
		return fmt.Errorf("close audit log: %w", err)
	}
	if err := l.writeClose(); err != nil {
		l.w.file.Close()
		return fmt.Errorf("close audit log: %w", err)
	}
	return l.w.file.Close()
}
