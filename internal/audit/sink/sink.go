// Package sink passes the record on to others as it grows: each sink is a
// cursor into the log and a target.
//
// The log itself is the queue. A sink that is down for hours loses nothing and
// costs nothing, because what it has not had is still in the log; a slow sink
// slows nobody, because it reads behind the writers. Each event is delivered
// at least once: the cursor is stored after the target took a batch.
//
// It owns: [Runner], the contract of a [Target], the cursor, and [Set], the
// sinks that come and go while the log grows. It refuses: protocols; the targets that speak one are in internal/auditsink, and
// sink/directory writes files. Retention must keep
// the segments that [Runner.Next] still needs.
package sink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/follow"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// Event is one event on its way to a target.
type Event struct {
	Index uint64 // in the log
	At    time.Time
	Site  string // "" for the control plane's own
	*audit.Event
}

// Annotations by which an event tells where it stands in the record, in formats
// that have no other place for it.
const (
	AnnotationSite  = "audit.gatehouse.dev/site"
	AnnotationIndex = "audit.gatehouse.dev/index"
)

// Annotated returns a copy of the event with its site and index.
func (e Event) Annotated() *audit.Event {
	out := *e.Event
	out.Annotations = maps.Clone(e.Annotations)
	out.Annotate(AnnotationIndex, strconv.FormatUint(e.Index, 10))
	if e.Site != "" {
		out.Annotate(AnnotationSite, e.Site)
	}
	return &out
}

// Target takes batches. Deliver returns nil only when the whole batch is safe
// with the receiver; on any error the same events come again, perhaps in
// another grouping. It is called by one goroutine at a time, with a deadline.
type Target interface {
	Deliver(ctx context.Context, batch []Event) error
}

// Config describes one sink. Name, Dir, Synced and Cursor are required.
type Config struct {
	Name string
	// Dir is the log's directory, Synced its number of records on disk: no
	// event leaves before it is safe here.
	Dir    string
	Synced func() uint64
	// Cursor is the file that holds how far the sink got. A missing file
	// begins with record Start.
	Cursor string
	Start  uint64
	// Since leaves out what the log took before.
	Since time.Time
	// Policy says what the sink gets, by default everything as recorded.
	Policy *policy.Policy
	// Allow, if set, is asked after it; a tenant's sink sees only what it lets
	// through.
	Allow func(site string, e *audit.Event) bool

	BatchEvents int           // at most so many events a batch (400)
	Poll        time.Duration // how often to look for new records (200 ms)
	Timeout     time.Duration // for one delivery (30 s)
	BackoffMin  time.Duration // after the first failure (1 s), doubled up to
	BackoffMax  time.Duration // (1 min)

	FS     vfs.FS
	Clock  func() time.Time
	Logger *slog.Logger
}

// Runner runs one sink.
type Runner struct {
	cfg    Config
	target Target

	mu    sync.Mutex // guards stats
	stats Stats
}

// Stats is the state of a sink.
type Stats struct {
	// Next is the first record that was not passed on yet, Lag how many wait.
	Next, Lag uint64
	// Delivered counts events, Failures attempts, both since the start.
	Delivered, Failures uint64
	// Error is why the last attempt failed, "" when it did not.
	Error       string
	DeliveredAt time.Time
}

// New checks the configuration and reads the cursor.
func New(cfg Config, target Target) (*Runner, error) {
	if cfg.Name == "" || cfg.Dir == "" || cfg.Synced == nil || cfg.Cursor == "" {
		return nil, errors.New("audit sink: name, dir, synced and cursor are required")
	}
	if cfg.FS == nil {
		cfg.FS = vfs.OS{}
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.BatchEvents <= 0 {
		cfg.BatchEvents = 400
	}
	for d, def := range map[*time.Duration]time.Duration{&cfg.Poll: 200 * time.Millisecond, &cfg.Timeout: 30 * time.Second, &cfg.BackoffMin: time.Second, &cfg.BackoffMax: time.Minute} {
		if *d <= 0 {
			*d = def
		}
	}
	r := &Runner{cfg: cfg, target: target}
	next, err := r.readCursor()
	if err != nil {
		return nil, fmt.Errorf("audit sink %s: %w", cfg.Name, err)
	}
	r.stats.Next = next
	return r, nil
}

// cursor is the content of the cursor file.
type cursor struct {
	Next uint64 `json:"next"`
}

func (r *Runner) readCursor() (uint64, error) {
	b, err := vfs.ReadFile(r.cfg.FS, r.cfg.Cursor, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return r.cfg.Start, nil
	}
	if err != nil {
		return 0, err
	}
	var c cursor
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return 0, fmt.Errorf("cursor: %w", err)
	}
	return c.Next, nil
}

// Next returns the first record that the sink still needs.
func (r *Runner) Next() uint64 { return r.Stats().Next }

// Stats returns the state of the sink.
func (r *Runner) Stats() Stats {
	r.mu.Lock()
	s := r.stats
	r.mu.Unlock()
	if synced := r.cfg.Synced(); synced > s.Next {
		s.Lag = synced - s.Next
	}
	return s
}

// Run passes records on until ctx ends, which is its only way to return nil.
// It returns an error when the log cannot be read any more; a target that
// fails is tried again for ever.
func (r *Runner) Run(ctx context.Context) error {
	reader := follow.New(r.cfg.FS, r.cfg.Dir, r.Next())
	defer reader.Close()
	var records []follow.Record
	saved := r.Next()
	for ctx.Err() == nil {
		var err error
		if records, err = reader.Read(records[:0], r.cfg.BatchEvents, r.cfg.Synced()); err != nil {
			return fmt.Errorf("audit sink %s: %w", r.cfg.Name, err)
		}
		if len(records) == 0 {
			// What was skipped since the last delivery need not be read again.
			if saved != reader.Next() && r.save(reader.Next()) {
				saved = reader.Next()
			}
			if !sleep(ctx, r.cfg.Poll) {
				return nil
			}
			continue
		}
		batch, err := r.choose(records)
		if err != nil {
			return fmt.Errorf("audit sink %s: %w", r.cfg.Name, err)
		}
		if len(batch) > 0 && !r.deliver(ctx, batch) {
			return nil
		}
		r.passed(reader.Next(), len(batch))
		if len(batch) > 0 && r.save(reader.Next()) {
			saved = reader.Next()
		}
	}
	return nil
}

// choose applies policy and tenancy.
func (r *Runner) choose(records []follow.Record) ([]Event, error) {
	batch := make([]Event, 0, len(records))
	for _, rec := range records {
		if rec.At.Before(r.cfg.Since) {
			continue
		}
		e, err := audit.Decode(rec.Event)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", rec.Index, err)
		}
		if r.cfg.Policy != nil {
			q := policy.RequestOf(e)
			if e = r.cfg.Policy.Evaluate(&q).Reduce(e); e == nil {
				continue
			}
		}
		if r.cfg.Allow != nil && !r.cfg.Allow(rec.Site, e) {
			continue
		}
		batch = append(batch, Event{Index: rec.Index, At: rec.At, Site: rec.Site, Event: e})
	}
	return batch, nil
}

// deliver repeats until the target has the batch; false when ctx ended first.
func (r *Runner) deliver(ctx context.Context, batch []Event) bool {
	backoff := r.cfg.BackoffMin
	for {
		attempt, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
		err := r.target.Deliver(attempt, batch)
		cancel()
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		r.mu.Lock()
		first := r.stats.Error == ""
		r.stats.Failures++
		r.stats.Error = err.Error()
		r.mu.Unlock()
		if first {
			r.cfg.Logger.Warn("audit sink does not take events", "sink", r.cfg.Name, "error", err)
		}
		// Jitter keeps the sinks of many replicas from returning together.
		if !sleep(ctx, backoff/2+rand.N(backoff/2+1)) {
			return false
		}
		backoff = min(2*backoff, r.cfg.BackoffMax)
	}
}

// passed notes progress.
func (r *Runner) passed(next uint64, delivered int) {
	r.mu.Lock()
	recovered := r.stats.Error != "" && delivered > 0
	r.stats.Next = next
	if delivered > 0 {
		r.stats.Delivered += uint64(delivered)
		r.stats.DeliveredAt = r.cfg.Clock()
		r.stats.Error = ""
	}
	r.mu.Unlock()
	if recovered {
		r.cfg.Logger.Info("audit sink takes events again", "sink", r.cfg.Name)
	}
}

// save stores the cursor. When that fails, the worst is that events come
// twice, so it is logged and done again with the next batch.
func (r *Runner) save(next uint64) bool {
	b, err := json.Marshal(cursor{Next: next})
	if err == nil {
		err = vfs.WriteFile(r.cfg.FS, r.cfg.Cursor, b)
	}
	if err != nil {
		r.cfg.Logger.Error("audit sink cursor cannot be written", "sink", r.cfg.Name, "error", err)
	}
	return err == nil
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
