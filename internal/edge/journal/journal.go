// Package journal keeps what a local decision point decided until the control
// plane has it on record.
//
// Events are appended to files, handed to the operating system before the
// answer that they are about, on disk at once (denials) or within 100 ms, and
// read back in their order by [Journal.Deliver], which forgets them only when
// they were taken. What was appended survives kill -9; a crash can make an
// event arrive twice, which the record finds by its auditID and stage. The room
// is bounded: when it is used up, events are refused, and with them the
// decisions they are about, or dropped and counted, as [Config].Full says.
//
// A file is a line and then frames: length and CRC-32C of the event (4 bytes
// each, little endian), and the event in JSON. Every start begins a file.
//
// The package refuses to speak to anybody. Start at [Open].
package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/durable"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const (
	magic       = "gatehouse journal 1\n"
	frameHeader = 8
	// maxFrame bounds an event: one of another sender may be larger than ours.
	maxFrame = audit.MaxEventBytes + 4096
	// syncEvery is how long an event may wait for the disk.
	syncEvery = 100 * time.Millisecond
	// files is into how many the room is divided; a file is deleted as a whole.
	files           = 16
	defaultMaxBytes = 1 << 30
	minMaxBytes     = 1 << 20
	// markRoom is left, where events are dropped, to say so.
	markRoom = 4 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Full is what happens to events for which there is no room.
type Full uint8

const (
	// Refuse refuses them: what cannot be recorded is not decided.
	Refuse Full = iota
	// Drop loses them, and records how many once there is room.
	Drop
)

// Config is what a journal needs.
type Config struct {
	// Dir is created, mode 0700. Nobody else may write there.
	Dir string
	// MaxBytes bounds the files; 0 means 1 GiB.
	MaxBytes int64
	Full     Full
	Now      func() time.Time
	Log      *slog.Logger
}

// Journal is an [audit.Recorder] and an [audit.BatchRecorder]. It is safe for
// concurrent use.
type Journal struct {
	cfg      Config
	redactor *audit.Redactor
	lock     *os.File
	kick     chan struct{} // a durable event waits for the disk
	more     chan struct{} // there is something to deliver
	syncing  sync.Mutex    // held while a group goes to the disk

	mu      sync.Mutex // guards the rest
	file    *os.File   // the one that is written to
	number  uint64     // its name
	size    int64      // and its length
	sizes   map[uint64]int64
	total   int64 // of all files
	group   *group
	at      position // what was delivered
	dropped int64    // since the last gap was recorded
	lost    int64    // ever
	err     error    // final
}

var (
	_ audit.Recorder      = (*Journal)(nil)
	_ audit.BatchRecorder = (*Journal)(nil)
)

// group is the events that go to the disk together.
type group struct {
	done  chan struct{}
	err   error // readable when done is closed
	dirty bool
}

func newGroup() *group { return &group{done: make(chan struct{})} }

// Open opens a journal, which may hold undelivered events. [Journal.Run] must
// run for events to reach the disk.
func Open(cfg Config) (*Journal, error) {
	if cfg.Dir == "" || cfg.Now == nil || cfg.Log == nil {
		return nil, errors.New("journal: a directory, a clock and a log are required")
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	if cfg.MaxBytes < minMaxBytes {
		return nil, fmt.Errorf("journal: the room must be at least %d bytes", minMaxBytes)
	}
	if err := durable.Mkdir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	redactor, err := audit.NewRedactor()
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{cfg: cfg, redactor: redactor, kick: make(chan struct{}, 1), more: make(chan struct{}, 1), sizes: map[uint64]int64{}, group: newGroup()}
	if j.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err := j.open(); err != nil {
		j.lock.Close()
		return nil, fmt.Errorf("journal: %w", err)
	}
	return j, nil
}

func (j *Journal) open() error {
	if err := durable.RemoveLeftovers(j.cfg.Dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(j.cfg.Dir)
	if err != nil {
		return err
	}
	var last uint64
	for _, e := range entries {
		n, ok := numberOf(e.Name())
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		j.sizes[n] = info.Size()
		j.total += info.Size()
		last = max(last, n)
	}
	if j.at, err = readPosition(j.path(positionName)); err != nil {
		return err
	}
	j.number = max(last, j.at.File)
	if err := j.begin(); err != nil {
		return err
	}
	signal(j.more)
	return nil
}

func (j *Journal) path(name string) string { return filepath.Join(j.cfg.Dir, name) }

const suffix = ".log"

func nameOf(n uint64) string { return fmt.Sprintf("%020d%s", n, suffix) }

func numberOf(name string) (uint64, bool) {
	text, ok := strings.CutSuffix(name, suffix)
	if !ok || len(text) != 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

// begin makes the next file the one that is written to. j.mu is held, or
// nobody else knows j.
func (j *Journal) begin() error {
	n := j.number + 1
	path := j.path(nameOf(n))
	if err := durable.CreateFile(path, []byte(magic)); err != nil {
		return fmt.Errorf("begin file: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("begin file: %w", err)
	}
	if j.file != nil {
		// What is in it was synced before: see rotate.
		if err := j.file.Close(); err != nil {
			j.cfg.Log.Warn("journal file not closed", "error", err)
		}
	}
	j.file, j.number, j.size = f, n, int64(len(magic))
	j.sizes[n] = j.size
	j.total += j.size
	return nil
}

// Append implements [audit.Recorder].
func (j *Journal) Append(ctx context.Context, event *audit.Event, durability audit.Durability) error {
	g, err := j.write([]*audit.Event{event})
	if err != nil || g == nil || durability == audit.Buffered {
		return err
	}
	return wait(ctx, g)
}

// AppendBatch implements [audit.BatchRecorder]; it finds no duplicates, the
// record does.
func (j *Journal) AppendBatch(ctx context.Context, _ string, events []audit.Event) (audit.BatchResult, error) {
	list := make([]*audit.Event, len(events))
	for i := range events {
		if err := events[i].Validate(); err != nil {
			return audit.BatchResult{}, fault.Newf(fault.Invalid, "items[%d].%s", i, fault.Public(err))
		}
		list[i] = &events[i]
	}
	g, err := j.write(list)
	if err == nil && g != nil {
		err = wait(ctx, g)
	}
	if err != nil {
		return audit.BatchResult{}, err
	}
	return audit.BatchResult{Recorded: len(events)}, nil
}

func wait(ctx context.Context, g *group) error {
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errFull = fault.New(fault.Exhausted, "the journal of decisions is full")

// write hands events to the operating system and returns the group they go to
// the disk with, nil when they were dropped.
func (j *Journal) write(events []*audit.Event) (*group, error) {
	var b []byte
	for _, e := range events {
		var err error
		if b, err = j.appendFrame(b, e); err != nil {
			return nil, err
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return nil, j.err
	}
	room := j.cfg.MaxBytes
	if j.cfg.Full == Drop {
		room -= markRoom
	}
	if j.total+int64(len(b)) > room {
		if j.cfg.Full == Refuse {
			return nil, fault.Wrap(fault.Unavailable, "the journal of decisions is full", errFull)
		}
		if j.dropped == 0 {
			j.mark()
		}
		j.dropped += int64(len(events))
		j.lost += int64(len(events))
		return nil, nil
	}
	if j.dropped > 0 {
		gap, err := j.appendFrame(nil, gapEvent(j.cfg.Now(), "the journal was full", j.dropped))
		if err != nil {
			return nil, err
		}
		b = append(gap, b...)
	}
	if err := j.put(b); err != nil {
		return nil, err
	}
	j.dropped = 0
	return j.group, nil
}

// mark records that events are lost from here on: how many is known only when
// there is room again, and a process that ends before takes the count along.
// j.mu is held.
func (j *Journal) mark() {
	b, err := j.appendFrame(nil, gapEvent(j.cfg.Now(), "the journal is full: events are lost from here on", 0))
	if err == nil && j.total+int64(len(b)) <= j.cfg.MaxBytes {
		err = j.put(b)
	}
	if err != nil {
		j.cfg.Log.Error("loss of events not recorded", "error", err)
	}
}

// put writes frames to the current file. j.mu is held.
func (j *Journal) put(b []byte) error {
	if _, err := j.file.Write(b); err != nil {
		// Half a frame must not stand before a whole one.
		if terr := j.file.Truncate(j.size); terr != nil {
			j.fail(fmt.Errorf("write journal: %w, and take it back: %w", err, terr))
		}
		return fault.Wrap(fault.Unavailable, "the journal of decisions cannot be written", err)
	}
	j.size += int64(len(b))
	j.sizes[j.number] = j.size
	j.total += int64(len(b))
	j.group.dirty = true
	signal(j.kick)
	signal(j.more)
	return nil
}

// fail ends the journal: after a failed fsync the next one may claim success
// for what was lost. j.mu is held.
func (j *Journal) fail(err error) {
	if j.err == nil {
		j.err = fault.Wrap(fault.Unavailable, "the journal of decisions cannot be written", err)
		j.cfg.Log.Error("journal cannot be written", "error", err)
	}
}

func (j *Journal) appendFrame(b []byte, e *audit.Event) ([]byte, error) {
	if err := e.Validate(); err != nil {
		return b, err
	}
	j.redactor.Redact(e)
	at := len(b)
	b = append(b, make([]byte, frameHeader)...)
	b = e.AppendJSON(b)
	if len(b)-at-frameHeader > audit.MaxEventBytes {
		fitted, err := e.Fit(bytes.Clone(b[at+frameHeader:]))
		if err != nil {
			return b[:at], err
		}
		b = append(b[:at+frameHeader], fitted...)
	}
	payload := b[at+frameHeader:]
	binary.LittleEndian.PutUint32(b[at:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[at+4:], crc32.Checksum(payload, castagnoli))
	return b, nil
}

// gapEvent says that events are missing.
func gapEvent(now time.Time, why string, count int64) *audit.Event {
	e := &audit.Event{
		Level: audit.LevelMetadata, AuditID: audit.NewID(), Stage: audit.StageResponseComplete, Verb: "gap",
		RequestURI: "/journal", RequestReceivedTimestamp: audit.MicroTime{Time: now}, StageTimestamp: audit.MicroTime{Time: now},
	}
	e.Annotate(AnnotationGap, why)
	if count > 0 {
		e.Annotate(AnnotationGapCount, strconv.FormatInt(count, 10))
	}
	return e
}

// Annotations of an event that stands for events that are missing: why, and
// how many where that is known.
const (
	AnnotationGap      = "journal.gatehouse.dev/gap"
	AnnotationGapCount = "journal.gatehouse.dev/gap-count"
)

// Run brings events to the disk until ctx ends, and those before its end.
func (j *Journal) Run(ctx context.Context) error {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return j.Sync()
		case <-j.kick:
		case <-tick.C:
		}
		if err := j.Sync(); err != nil {
			return err
		}
	}
}

// Sync brings what was appended to the disk, and begins another file when the
// current one is long enough.
func (j *Journal) Sync() error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	g, f := j.group, j.file
	if j.err != nil || !g.dirty {
		err := j.err
		j.mu.Unlock()
		return err
	}
	j.group = newGroup()
	j.mu.Unlock()
	err := f.Sync()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		j.fail(fmt.Errorf("sync journal: %w", err))
		g.err = j.err
	}
	close(g.done)
	if err == nil && j.size > j.cfg.MaxBytes/files && !j.group.dirty {
		if err := j.begin(); err != nil {
			// The file goes on to be used; the next round tries again.
			j.cfg.Log.Warn("journal file not begun", "error", err)
		}
	}
	return j.err
}

// Stats is the state of a journal.
type Stats struct {
	// Bytes are on disk, of at most MaxBytes, and Pending of them wait to be
	// delivered; Lost counts events that were dropped.
	Bytes, MaxBytes, Pending, Lost int64
	// Err is why nothing can be appended any more.
	Err error
}

// Stats returns the state.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := Stats{Bytes: j.total, MaxBytes: j.cfg.MaxBytes, Lost: j.lost, Err: j.err}
	for n, size := range j.sizes {
		switch {
		case n == j.at.File:
			s.Pending += max(0, size-j.at.Offset)
		case n > j.at.File:
			s.Pending += size - int64(len(magic))
		}
	}
	return s
}

// Ready returns an error while events are refused.
func (j *Journal) Ready() error {
	s := j.Stats()
	if s.Err == nil && j.cfg.Full == Refuse && s.Bytes+maxFrame > s.MaxBytes {
		return errFull
	}
	return s.Err
}

// Close closes the files, after Run and Deliver have ended.
func (j *Journal) Close() error {
	err := j.Sync()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = fault.New(fault.Unavailable, "the journal of decisions is closed")
	}
	return errors.Join(err, j.file.Close(), j.lock.Close())
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// numbers returns the names of the files, oldest first.
func (j *Journal) numbers() []uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]uint64, 0, len(j.sizes))
	for n := range j.sizes {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

var errNotExist = fs.ErrNotExist
