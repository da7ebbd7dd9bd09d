package ledger

import (
	"fmt"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/audit/merkle"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// maxUnsynced bounds the bytes that are kept for writing again after a failed
// sync; beyond it buffered records are synced early.
const maxUnsynced = 32 << 20

// runSyncer makes jobs durable in the order of writing.
func (l *Log) runSyncer() {
	var (
		held    []job // written and not synced
		bytes   int
		urgent  bool // somebody waits for the sync
		timer   = time.NewTimer(time.Hour)
		armed   bool
		sign    = time.NewTimer(time.Hour)
		signing bool
	)
	timer.Stop()
	sign.Stop()
	take := func(j job) {
		l.received++
		held = append(held, j)
		bytes += len(j.buf)
		urgent = urgent || j.group.durable
		if !armed {
			armed = true
			timer.Reset(l.cfg.SyncInterval)
		}
	}
	// A checkpoint that is not due yet, or could not be written, follows also
	// when no record does.
	signLater := func() {
		if !signing && l.unsigned() {
			signing = true
			sign.Reset(l.signDue())
		}
	}
	flush := func() {
		held = l.syncHeld(held)
		for i := range held {
			if held[i].last {
				l.recycle(held[i].group.buf)
				held[i].group.buf = nil
			}
		}
		held, bytes, urgent, armed = held[:0], 0, false, false
		timer.Stop()
		if l.signDue() <= 0 {
			l.signTree()
		}
		signLater()
	}
	for {
		select {
		case j, ok := <-l.jobs:
			if !ok {
				if len(held) > 0 {
					flush()
				}
				if l.unsigned() {
					l.signTree()
				}
				return
			}
			take(j)
		case <-timer.C:
			flush()
			continue
		case <-sign.C:
			signing = false
			if l.unsigned() {
				l.signTree()
			}
			signLater()
			continue
		}
		// Whatever else was written meanwhile shares the sync.
		for more := true; more; {
			select {
			case j, ok := <-l.jobs:
				if !ok {
					more = false
					break
				}
				take(j)
			default:
				more = false
			}
		}
		if urgent || bytes > maxUnsynced {
			flush()
		}
	}
}

// syncHeld syncs the files of jobs, answers who waited and adds the records to
// the tree. When a sync fails, durable waiters get the error, and the jobs are
// written again until a sync succeeds or the log is closed. It returns jobs,
// with those added that it had to take along.
func (l *Log) syncHeld(jobs []job) []job {
	if len(jobs) == 0 {
		return jobs
	}
	if l.dead != nil {
		l.answer(jobs, l.dead)
		return jobs
	}
	// The hashes of the leaves cost about as much as the disk takes; they are
	// made while it is busy.
	var hashing sync.WaitGroup
	hashing.Go(func() { l.t.leaves = appendLeaves(l.t.leaves[:0], jobs) })
	l.syncing.Store(true)
	err := syncFiles(jobs)
	if err != nil {
		err = fmt.Errorf("sync: %w", err)
		public := fault.Wrap(fault.Unavailable, unwritable, err)
		l.mu.Lock()
		l.broken = err
		l.mu.Unlock()
		l.cfg.Logger.Error("audit log cannot be synced", "error", err)
		hashing.Wait()
		// The failed sync may have dropped pages of later writes too.
		jobs = l.drain(jobs)
		l.t.leaves = appendLeaves(l.t.leaves[:0], jobs)
		l.answer(jobs, public)
		l.idle()
		if !l.repair(jobs) {
			l.dead = public
			return jobs
		}
		l.integrate(jobs)
		return jobs
	}
	l.answer(jobs, nil)
	l.idle()
	hashing.Wait()
	l.integrate(jobs)
	return jobs
}

// idle ends a sync, and lets the writer have what gathered meanwhile.
func (l *Log) idle() {
	l.syncing.Store(false)
	l.wakeWriter()
}

// drain adds every job that was written before the writer saw that the log is
// broken.
func (l *Log) drain(jobs []job) []job {
	l.fileMu.Lock()
	handed := l.handed
	l.fileMu.Unlock()
	for l.received < handed {
		jobs = append(jobs, <-l.jobs)
		l.received++
	}
	return jobs
}

// syncFiles syncs each file once, in order.
func syncFiles(jobs []job) error {
	var last vfs.File
	for _, j := range jobs {
		if j.file == last {
			continue
		}
		last = j.file
		if err := j.file.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// answer wakes the waiters of the groups that end in jobs.
func (l *Log) answer(jobs []job, err error) {
	for _, j := range jobs {
		if !j.last {
			continue
		}
		if len(j.group.keys) > 0 {
			// Also after a failed sync the records will be written again, so
			// what the sender repeats must then count as a duplicate; until
			// then it is refused, because the log takes nothing.
			l.mu.Lock()
			l.dedup.settle(j.group.keys, j.group, false)
			l.mu.Unlock()
		}
		j.group.syncErr = err
		l.answered.Store(j.group)
		close(j.group.synced)
	}
}

// repair writes jobs again at their places and syncs, until that works. It
// returns false when the log is closed first.
func (l *Log) repair(jobs []job) bool {
	timer := time.NewTimer(l.cfg.RetryInterval)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-l.stop:
			return false
		}
		err := l.rewrite(jobs)
		if err == nil {
			l.mu.Lock()
			l.broken = nil
			l.mu.Unlock()
			l.cfg.Logger.Info("audit log is synced again")
			l.noteWrite(nil)
			return true
		}
		l.cfg.Logger.Error("audit log cannot be synced", "error", err)
		timer.Reset(l.cfg.RetryInterval)
	}
}

// rewrite makes the pages of jobs dirty again and syncs them.
func (l *Log) rewrite(jobs []job) error {
	l.fileMu.Lock()
	defer l.fileMu.Unlock()
	for _, j := range jobs {
		if len(j.buf) == 0 {
			continue
		}
		if _, err := j.file.WriteAt(j.buf, j.offset); err != nil {
			return err
		}
	}
	return syncFiles(jobs)
}

// appendLeaves appends the leaf hash of each record of jobs.
func appendLeaves(leaves []merkle.Hash, jobs []job) []merkle.Hash {
	for _, j := range jobs {
		for b := j.buf; len(b) > 0; {
			frame, rest := segment.NextFrame(b)
			b = rest
			if segment.Kind(frame[segment.PrefixOffset]) == segment.KindRecord {
				leaves = append(leaves, merkle.Leaf(frame[segment.PrefixOffset:]))
			}
		}
	}
	return leaves
}

// integrate adds the records of jobs, whose hashes l.t.leaves has, to the tree.
func (l *Log) integrate(jobs []job) {
	t := &l.t
	leaves := t.leaves
	for _, j := range jobs {
		if j.begins != nil {
			l.segmentEnded(j)
		}
		for range j.records {
			if h, complete := t.tree.Append(leaves[0]); complete {
				t.bundles = append(t.bundles, h)
			}
			leaves = leaves[1:]
		}
	}
	l.synced.Store(t.tree.Size())
}

// segmentEnded hands the segment before j's to the sealer. All of it is synced
// and in the tree.
func (l *Log) segmentEnded(j job) {
	t := &l.t
	if err := t.file.Close(); err != nil {
		l.cfg.Logger.Warn("audit segment did not close", "first", t.first, "error", err)
	}
	task := sealTask{first: t.first, bundles: t.bundles}
	t.file, t.first, t.bundles = j.file, *j.begins, nil
	l.toSeal <- task
}

// unsigned says whether the tree has grown since the last checkpoint.
func (l *Log) unsigned() bool {
	head := l.signed.Load()
	return l.t.tree.Size() > 0 && (head == nil || head.size < l.t.tree.Size())
}

// signDue returns how long the next checkpoint may wait, 0 when it is due.
func (l *Log) signDue() time.Duration {
	if !l.unsigned() {
		return l.cfg.CheckpointInterval
	}
	// A clock that was set back must not put it off for longer.
	return min(l.cfg.CheckpointInterval, l.cfg.CheckpointInterval-l.cfg.Clock().Sub(l.t.lastSign))
}

// signTree signs the tree as it stands, publishes the checkpoint and puts it
// among the records. A failure is logged; it is tried again an interval later.
func (l *Log) signTree() {
	l.t.lastSign = l.cfg.Clock()
	signed, err := l.signer.Checkpoint(checkpoint.Checkpoint{Origin: l.cfg.Origin, Size: l.t.tree.Size(), Root: l.t.tree.Root()})
	if err == nil {
		err = vfs.WriteFile(l.cfg.FS, l.dir+"/"+checkpointFile, signed)
	}
	if err != nil {
		l.cfg.Logger.Error("audit checkpoint cannot be written", "error", err)
		return
	}
	l.signed.Store(&signedHead{note: signed, size: l.t.tree.Size(), at: l.t.lastSign})
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.add(l.pending, segment.AppendFrame(nil, segment.KindCheckpoint, signed, 0), 0, false)
	}
}
