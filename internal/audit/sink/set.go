package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// Spec is one sink of a [Set].
type Spec struct {
	Name string
	// ID tells a sink from an earlier one of the same name; it names the
	// cursor. Generation tells one form of it from another.
	ID         string
	Generation int64
	// Since is when the sink was made: it gets what was recorded from then on.
	Since  time.Time
	Policy *policy.Policy
	Allow  func(site string, e *audit.Event) bool
	// Build makes the target. It is called before the first delivery and again
	// after one that failed, so that a new certificate or password is used.
	Build func(ctx context.Context) (Target, error)
}

// SetConfig is what a set needs to know. Dir, Synced and Cursors are required.
type SetConfig struct {
	// Dir is the log's directory, Synced its number of records on disk.
	Dir    string
	Synced func() uint64
	// Cursors is the directory of the cursors. It is made when it is missing.
	Cursors string

	Poll, Timeout, BackoffMin, BackoffMax time.Duration // as in [Config]

	FS     vfs.FS
	Clock  func() time.Time
	Logger *slog.Logger
}

// Set runs sinks that come, change and go. Each has a goroutine of its own and
// nothing in common with the others but the log that it reads. Its methods are
// safe for concurrent use and wait for no target.
type Set struct {
	cfg SetConfig

	mu      sync.Mutex // guards what follows
	ctx     context.Context
	running map[string]*running
	closed  bool
	wg      sync.WaitGroup
}

type running struct {
	spec   Spec
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex // guards runner and err
	runner *Runner
	err    string // why it does not run
}

// NewSet returns a set without sinks.
func NewSet(cfg SetConfig) (*Set, error) {
	if cfg.Dir == "" || cfg.Synced == nil || cfg.Cursors == "" {
		return nil, errors.New("audit sinks: dir, synced and cursors are required")
	}
	if cfg.FS == nil {
		cfg.FS = vfs.OS{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if err := cfg.FS.MkdirAll(cfg.Cursors); err != nil {
		return nil, fmt.Errorf("audit sinks: %w", err)
	}
	return &Set{cfg: cfg, running: map[string]*running{}}, nil
}

// Run lets sinks run until ctx ends, and waits for them.
func (s *Set) Run(ctx context.Context) error {
	s.mu.Lock()
	s.ctx = ctx
	for _, r := range s.running {
		s.launch(r, nil)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

// Put adds a sink, or lets one go on in another form from where it stands. The
// same form again changes nothing.
func (s *Set) Put(spec Spec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.running[spec.Name]
	if old != nil && old.spec.ID == spec.ID && old.spec.Generation == spec.Generation {
		return
	}
	next := &running{spec: spec, done: make(chan struct{})}
	s.running[spec.Name] = next
	var before <-chan struct{}
	if old != nil {
		before = old.stop()
	}
	if s.ctx != nil && !s.closed {
		s.launch(next, before)
	}
	if old != nil && old.spec.ID != spec.ID {
		s.forget(old)
	}
}

// Remove ends a sink and forgets how far it came.
func (s *Set) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.running[name]; old != nil {
		delete(s.running, name)
		old.stop()
		s.forget(old)
	}
}

// Keep removes all sinks but these.
func (s *Set) Keep(names map[string]bool) {
	s.mu.Lock()
	var gone []string
	for name := range s.running {
		if !names[name] {
			gone = append(gone, name)
		}
	}
	s.mu.Unlock()
	for _, name := range gone {
		s.Remove(name)
	}
}

// stop cancels a sink and returns what is closed when it has ended, nil if it
// never ran.
func (r *running) stop() <-chan struct{} {
	if r.cancel == nil {
		return nil
	}
	r.cancel()
	return r.done
}

// launch starts a sink after the one before has ended. s.mu is held.
func (s *Set) launch(r *running, before <-chan struct{}) {
	ctx, cancel := context.WithCancel(s.ctx)
	r.cancel = cancel
	s.wg.Go(func() {
		defer close(r.done)
		if before != nil {
			<-before
		}
		s.run(ctx, r)
	})
}

// forget removes the cursor of a sink that ends for good, after it has ended.
func (s *Set) forget(r *running) {
	if s.ctx == nil || s.closed {
		return
	}
	s.wg.Go(func() {
		if r.cancel != nil {
			<-r.done
		}
		if err := s.cfg.FS.Remove(s.cursor(r.spec.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.cfg.Logger.Warn("cursor of a removed audit sink is left", "sink", r.spec.Name, "error", err)
		}
	})
}

func (s *Set) cursor(id string) string { return s.cfg.Cursors + "/" + id + ".json" }

// restartAfter is how long a sink waits when the log cannot be read.
const restartAfter = 30 * time.Second

func (s *Set) run(ctx context.Context, r *running) {
	target := &lazy{build: r.spec.Build}
	defer target.Close()
	for ctx.Err() == nil {
		err := s.once(ctx, r, target)
		if err == nil {
			return
		}
		r.mu.Lock()
		r.err = err.Error()
		r.mu.Unlock()
		s.cfg.Logger.Error("audit sink does not run", "sink", r.spec.Name, "error", err)
		if !sleep(ctx, restartAfter) {
			return
		}
	}
}

// once runs the sink until ctx ends or the log cannot be read.
func (s *Set) once(ctx context.Context, r *running, target Target) error {
	if strings.ContainsAny(r.spec.ID, "/\x00") || r.spec.ID == "" || r.spec.ID[0] == '.' {
		return fmt.Errorf("audit sink %s: id %q cannot name its cursor", r.spec.Name, r.spec.ID)
	}
	start, err := FirstSince(s.cfg.FS, s.cfg.Dir, r.spec.Since)
	if err != nil {
		return fmt.Errorf("audit sink %s: %w", r.spec.Name, err)
	}
	runner, err := New(Config{
		Name: r.spec.Name, Dir: s.cfg.Dir, Synced: s.cfg.Synced, Cursor: s.cursor(r.spec.ID), Start: start, Since: r.spec.Since,
		Policy: r.spec.Policy, Allow: r.spec.Allow,
		Poll: s.cfg.Poll, Timeout: s.cfg.Timeout, BackoffMin: s.cfg.BackoffMin, BackoffMax: s.cfg.BackoffMax,
		FS: s.cfg.FS, Clock: s.cfg.Clock, Logger: s.cfg.Logger,
	}, target)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.runner, r.err = runner, ""
	r.mu.Unlock()
	return runner.Run(ctx)
}

// FirstSince returns a record from which on a reader finds everything that the
// log took at since or later: the first of the segment in which that begins.
func FirstSince(fsys vfs.FS, dir string, since time.Time) (uint64, error) {
	infos, err := segment.List(fsys, dir)
	if err != nil {
		return 0, err
	}
	for _, info := range infos {
		if !info.Sealed {
			return info.First, nil
		}
		footer, err := segment.ReadFooter(fsys, dir, info)
		if err != nil {
			return 0, err
		}
		for _, b := range footer.Blocks {
			if !time.Unix(0, b.Until).Before(since) {
				return info.First, nil
			}
		}
	}
	if len(infos) == 0 {
		return 0, nil
	}
	// Sealed to the end: the next segment begins after the last record.
	last := infos[len(infos)-1]
	footer, err := segment.ReadFooter(fsys, dir, last)
	if err != nil {
		return 0, err
	}
	return last.First + uint64(footer.Records), nil
}

// State is the state of one sink of a set.
type State struct {
	Generation int64
	Stats
}

// States returns the state of every sink by name.
func (s *Set) States() map[string]State {
	s.mu.Lock()
	all := maps.Clone(s.running)
	s.mu.Unlock()
	out := make(map[string]State, len(all))
	for name, r := range all {
		r.mu.Lock()
		st := State{Generation: r.spec.Generation}
		if r.runner != nil {
			st.Stats = r.runner.Stats()
		}
		if r.err != "" {
			st.Error = r.err
		}
		r.mu.Unlock()
		out[name] = st
	}
	return out
}

// Next returns the first record that any sink still needs; retention must keep
// it and what follows.
func (s *Set) Next() uint64 {
	next := s.cfg.Synced()
	for _, st := range s.States() {
		next = min(next, st.Stats.Next)
	}
	return next
}

// lazy makes its target when it is needed, and anew after a failure.
type lazy struct {
	build  func(context.Context) (Target, error)
	target Target
}

// Deliver implements Target.
func (l *lazy) Deliver(ctx context.Context, batch []Event) error {
	if l.target == nil {
		t, err := l.build(ctx)
		if err != nil {
			return err
		}
		l.target = t
	}
	if err := l.target.Deliver(ctx, batch); err != nil {
		l.Close()
		return err
	}
	return nil
}

// Close releases the target.
func (l *lazy) Close() {
	if c, ok := l.target.(io.Closer); ok {
		_ = c.Close() // nothing is promised by a target that is given up
	}
	l.target = nil
}
