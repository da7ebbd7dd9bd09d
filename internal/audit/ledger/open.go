package ledger

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/audit/merkle"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// Open opens the log in dir, creating it if there is none, and starts its
// goroutines. After an unclean stop it cuts off a torn tail and records the
// gap. A directory that is damaged before the newest checkpoint, that belongs
// to another log, or that is in use, is refused with a one-line error and left
// as it is.
func Open(dir string, cfg Config) (*Log, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	l, err := open(dir, cfg)
	if err != nil {
		return nil, fmt.Errorf("open audit log %s: %w", dir, err)
	}
	return l, nil
}

func open(dir string, cfg Config) (*Log, error) {
	redactor, err := audit.NewRedactor(cfg.Redact...)
	if err != nil {
		return nil, err
	}
	signer, err := checkpoint.NewSigner(cfg.Origin, cfg.Key)
	if err != nil {
		return nil, err
	}
	if err := cfg.FS.MkdirAll(dir); err != nil {
		return nil, err
	}
	lock, err := cfg.FS.Lock(dir + "/" + lockFile)
	if err != nil {
		return nil, err
	}
	l := &Log{
		dir: dir, cfg: cfg, redactor: redactor, signer: signer, lock: lock,
		pending: newGroup(nil), dedup: newWindow(cfg.DedupWindow),
		wake: make(chan struct{}, 1), jobs: make(chan job, 64), stop: make(chan struct{}), toSeal: make(chan sealTask, 64),
	}
	l.answered.Store(newGroup(nil))
	r, err := l.recover()
	if err != nil {
		lock.Close()
		return nil, err
	}
	l.writerWG.Go(l.runWriter)
	l.syncWG.Go(l.runSyncer)
	l.sealWG.Go(func() { l.runSealer(r.unsealed) })
	if r.gap != "" {
		l.recordUnclean(r)
	}
	return l, nil
}

// recovery is what was found in the directory.
type recovery struct {
	clean    bool   // the last frame is the close marker
	boot     string // of the last segment
	lastAt   time.Time
	gap      string // why records may be missing, or ""
	cut      int64  // bytes cut off
	unsealed []sealTask
}

// recover brings the directory and the log's state together.
func (l *Log) recover() (*recovery, error) {
	fsys := l.cfg.FS
	// What the process before renamed or created may not be on disk yet.
	if err := fsys.SyncDir(l.dir); err != nil {
		return nil, err
	}
	if err := l.removeTemporary(); err != nil {
		return nil, err
	}
	infos, err := segment.List(fsys, l.dir)
	if err != nil {
		return nil, err
	}
	meta, err := l.openMeta(len(infos) == 0)
	if err != nil {
		return nil, err
	}
	r := &recovery{}
	head, err := l.openCheckpoint(meta)
	if err != nil {
		return nil, err
	}
	if len(infos) == 0 {
		if head != nil {
			return nil, fmt.Errorf("checkpoint of %d records, but no segments", head.Size)
		}
		r.clean = true
		return r, l.start(0)
	}
	s := scan{l: l, r: r, head: head}
	// Sealed segments were synced as a whole, so an interrupted write can only
	// have hit what follows the last of them.
	lastSealed := -1
	for i, info := range infos {
		if info.Sealed {
			lastSealed = i
		}
	}
	for i, info := range infos {
		last := i == len(infos)-1
		// A segment is begun before the end of the one before is synced. If
		// that end was lost, nothing behind it was acknowledged either, unless
		// a checkpoint covers it.
		if i > lastSealed+1 && info.First > l.t.tree.Size() && (head == nil || head.Size <= l.t.tree.Size()) {
			for _, lost := range infos[i:] {
				if err := l.setAside(lost.Name); err != nil {
					return nil, err
				}
			}
			break
		}
		if info.First != l.t.tree.Size() {
			return nil, fmt.Errorf("%s: expected the segment that begins with record %d", info.Name, l.t.tree.Size())
		}
		if err := s.segment(info, i > lastSealed); err != nil {
			return nil, err
		}
		if !last && s.torn && s.end > 0 && infos[i+1].First == l.t.tree.Size() {
			// Every record is there; what was cut off was a checkpoint.
			if err := s.cut(info); err != nil {
				return nil, err
			}
		}
		if !last && !info.Sealed && !s.torn {
			r.unsealed = append(r.unsealed, sealTask{first: info.First, bundles: s.bundles})
		}
	}
	size := l.t.tree.Size()
	if head != nil && head.Size > size {
		return nil, fmt.Errorf("damaged: the log holds %d records, its checkpoint covers %d", size, head.Size)
	}
	if err := s.rememberSealed(infos); err != nil {
		return nil, err
	}
	for _, u := range s.unsure {
		if err := l.writeAgain(u); err != nil {
			return nil, err
		}
	}
	if err := l.resume(&s); err != nil {
		return nil, err
	}
	l.judge(r)
	return r, nil
}

// judge says whether records may be missing.
func (l *Log) judge(r *recovery) {
	switch {
	case r.clean:
	case r.cut > 0:
		r.gap = fmt.Sprintf("unclean stop: %d bytes of an interrupted write were cut off; buffered records of the last %v may be missing", r.cut, l.cfg.SyncInterval)
	case r.boot != "" && r.boot == l.cfg.BootID:
		r.gap = "unclean stop of the process: nothing that was acknowledged is missing"
	default:
		r.gap = fmt.Sprintf("unclean stop of the machine: buffered records of the last %v may be missing", l.cfg.SyncInterval)
	}
}

// removeTemporary removes what an interrupted replacement left.
func (l *Log) removeTemporary() error {
	names, err := l.cfg.FS.List(l.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".tmp") {
			if err := l.cfg.FS.Remove(l.dir + "/" + name); err != nil {
				return err
			}
		}
	}
	// A raw segment whose sealed form is complete was about to be removed.
	for _, name := range names {
		if info, ok := segment.Parse(name); ok && info.Sealed {
			raw := segment.RawName(info.First)
			for _, other := range names {
				if other == raw {
					if err := l.cfg.FS.Remove(l.dir + "/" + raw); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// openCheckpoint verifies the checkpoint file, if there is one.
func (l *Log) openCheckpoint(meta Meta) (*checkpoint.Checkpoint, error) {
	signed, err := ReadCheckpoint(l.cfg.FS, l.dir)
	if err != nil || signed == nil {
		return nil, err
	}
	verifiers, err := checkpoint.Verifiers(meta.Verifiers...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", metaFile, err)
	}
	head, err := checkpoint.Open(signed, verifiers)
	if err != nil {
		return nil, fmt.Errorf("damaged: checkpoint: %w", err)
	}
	if head.Origin != l.cfg.Origin {
		return nil, fmt.Errorf("damaged: checkpoint of another log, %s", head.Origin)
	}
	l.signed.Store(&signedHead{note: signed, size: head.Size, at: l.cfg.Clock()})
	return &head, nil
}

// scan reads the segments in order.
type scan struct {
	l       *Log
	r       *recovery
	head    *checkpoint.Checkpoint
	bundles []merkle.Hash // of the segment read last
	info    segment.Info
	end     int64
	torn    bool
	records uint64
	keys    []dedupKey // of recent site events in raw segments
	unsure  []extent
}

// extent is a part of a raw segment.
type extent struct {
	name     string
	from, to int64
}

func (s *scan) segment(info segment.Info, mayTear bool) error {
	s.info, s.bundles, s.torn, s.records, s.r.clean = info, nil, false, 0, false
	if info.Sealed {
		return s.sealed(info)
	}
	l := s.l
	reader, err := segment.OpenReader(l.cfg.FS, l.dir, info)
	if err != nil {
		var damage *segment.DamageError
		if errors.As(err, &damage) && damage.Torn && mayTear {
			// Not even the header is whole: the segment was just being begun.
			s.torn, s.end = true, 0
			return nil
		}
		return err
	}
	defer reader.Close()
	header := reader.Header()
	if header.Log != l.cfg.ID {
		return fmt.Errorf("%s: belongs to log %s", info.Name, header.Log)
	}
	s.r.boot = header.Boot
	var signed int64 // up to where a checkpoint covers the records
	for {
		item, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			var damage *segment.DamageError
			if !errors.As(err, &damage) || !damage.Torn || !mayTear {
				return err
			}
			if s.head != nil && s.head.Size > l.t.tree.Size() {
				return fmt.Errorf("damaged: record %d, which checkpoint %d covers: %w", l.t.tree.Size(), s.head.Size, err)
			}
			s.torn = true
			break
		}
		s.r.clean = item.Kind == segment.KindClose
		if item.Kind == segment.KindRecord {
			if err := s.record(item); err != nil {
				return err
			}
			if s.head != nil && l.t.tree.Size() <= s.head.Size {
				signed = reader.Offset()
			}
		}
	}
	s.end = reader.Offset()
	s.unsure = append(s.unsure, extent{info.Name, signed, s.end})
	return nil
}

// record adds one record of a raw segment to the tree.
func (s *scan) record(item segment.Item) error {
	l := s.l
	entry, err := segment.ParseEntry(item.Payload)
	if err != nil {
		return fmt.Errorf("damaged: record %d: %w", item.Index, err)
	}
	s.r.lastAt = entry.At
	s.records++
	s.keys = s.remember(s.keys, entry)
	if h, complete := l.t.tree.Append(merkle.Leaf(item.Prefixed)); complete {
		s.bundles = append(s.bundles, h)
	}
	if s.head != nil && s.head.Size == l.t.tree.Size() && l.t.tree.Root() != s.head.Root {
		return fmt.Errorf("damaged: the first %d records are not those that the checkpoint signed", s.head.Size)
	}
	return nil
}

// sealed takes a sealed segment from its footer.
func (s *scan) sealed(info segment.Info) error {
	l := s.l
	footer, err := segment.ReadFooter(l.cfg.FS, l.dir, info)
	if err != nil {
		return err
	}
	if footer.Header.Log != l.cfg.ID {
		return fmt.Errorf("%s: belongs to log %s", info.Name, footer.Header.Log)
	}
	s.r.boot = footer.Header.Boot
	for i := range int(footer.Records / merkle.BundleWidth) {
		if err := l.t.tree.AppendBundle(footer.Bundle(i)); err != nil {
			return fmt.Errorf("%s: %w", info.Name, err)
		}
		if s.head != nil && s.head.Size == l.t.tree.Size() && l.t.tree.Root() != s.head.Root {
			return fmt.Errorf("damaged: the first %d records are not those that the checkpoint signed", s.head.Size)
		}
	}
	s.r.lastAt = time.Unix(0, footer.Blocks[len(footer.Blocks)-1].Until)
	return nil
}

// writeAgain makes a part of a segment durable. The process before may have
// ended before it synced it, or after a sync that failed: then the records are
// in the page cache only, where they count as clean, and no sync would write
// them. Only what a checkpoint covers is known to be on disk.
func (l *Log) writeAgain(e extent) error {
	f, err := l.cfg.FS.OpenWrite(l.dir + "/" + e.name)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, min(e.to-e.from, 1<<20))
	for at := e.from; at < e.to; at += int64(len(b)) {
		b = b[:min(int64(len(b)), e.to-at)]
		if _, err := f.ReadAt(b, at); err != nil {
			return fmt.Errorf("read %s: %w", e.name, err)
		}
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
	}
	return f.Sync()
}

// resume opens the last segment for writing, or begins the next.
func (l *Log) resume(s *scan) error {
	size := l.t.tree.Size()
	if s.info.Sealed || s.r.lastSegmentFull(s, l) {
		if !s.info.Sealed {
			s.r.unsealed = append(s.r.unsealed, sealTask{first: s.info.First, bundles: s.bundles})
		}
		return l.start(size)
	}
	name := l.dir + "/" + s.info.Name
	if s.end == 0 {
		// The header never reached the disk.
		if err := l.setAside(s.info.Name); err != nil {
			return err
		}
		return l.start(size)
	}
	f, err := l.cfg.FS.OpenWrite(name)
	if err != nil {
		return err
	}
	if s.torn {
		if err := l.cutTail(f, s); err != nil {
			f.Close()
			return err
		}
	}
	l.w = writer{file: f, first: s.info.First, next: size, offset: s.end}
	l.t.file, l.t.first, l.t.bundles = f, s.info.First, s.bundles
	l.size.Store(size)
	l.synced.Store(size)
	return nil
}

// lastSegmentFull says whether the last raw segment had ended when the log
// stopped between its end and the beginning of the next.
func (*recovery) lastSegmentFull(s *scan, l *Log) bool {
	return !s.torn && s.records > 0 && s.records%merkle.BundleWidth == 0 &&
		(s.records >= l.cfg.SegmentRecords || s.end >= l.cfg.SegmentBytes)
}

// cutTail keeps the bytes behind the last whole frame aside and cuts them off.
func (l *Log) cutTail(f vfs.File, s *scan) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	s.r.cut += size - s.end
	tail := make([]byte, min(size-s.end, 16<<20))
	if _, err := f.ReadAt(tail, s.end); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := l.cfg.FS.MkdirAll(l.dir + "/" + damagedDir); err != nil {
		return err
	}
	name := fmt.Sprintf("%s/%s/%s-%d-%d", l.dir, damagedDir, s.info.Name, s.end, l.cfg.Clock().UnixNano())
	if err := vfs.WriteFile(l.cfg.FS, name, tail); err != nil {
		return err
	}
	if err := f.Truncate(s.end); err != nil {
		return err
	}
	return f.Sync()
}

// cut cuts the torn tail of a segment that is not continued.
func (s *scan) cut(info segment.Info) error {
	f, err := s.l.cfg.FS.OpenWrite(s.l.dir + "/" + info.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	s.torn = false
	return s.l.cutTail(f, s)
}

// setAside moves a segment that holds nothing acknowledged out of the log.
func (l *Log) setAside(name string) error {
	if err := l.cfg.FS.MkdirAll(l.dir + "/" + damagedDir); err != nil {
		return err
	}
	to := fmt.Sprintf("%s/%s/%s-0-%d", l.dir, damagedDir, name, l.cfg.Clock().UnixNano())
	if err := l.cfg.FS.Rename(l.dir+"/"+name, to); err != nil {
		return err
	}
	if err := l.cfg.FS.SyncDir(l.dir + "/" + damagedDir); err != nil {
		return err
	}
	return l.cfg.FS.SyncDir(l.dir)
}

// start begins the segment of record first.
func (l *Log) start(first uint64) error {
	f, offset, err := l.begin(first)
	if err != nil {
		return err
	}
	l.w = writer{file: f, first: first, next: first, offset: offset}
	l.t.file, l.t.first, l.t.bundles = f, first, nil
	l.size.Store(first)
	l.synced.Store(first)
	return nil
}
