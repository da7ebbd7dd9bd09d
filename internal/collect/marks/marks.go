// Package marks remembers which entries of numbered series are on record: those
// of journals, where each entry has a sequence number. A sender whose upload
// broke off, or who lost its state, sends again what is there already, perhaps
// to another replica, and perhaps more than the log itself remembers.
//
// A mark is four bytes of the entry's auditID, at the place of its number. The
// highest number alone would not do: what is uploaded of several files has no
// single order, and a machine that was put back to an earlier state gives its
// numbers anew. So what has another content is never taken for known.
//
// It owns: marks in memory and when they are written ([Marks]), and what one
// upload has looked at ([Trail]). It refuses: storage, which is a [Store], and to
// be needed: without it the same entries are recorded once more, with the same
// auditIDs, and nothing else happens.
//
// Start at [Marks.Begin].
package marks

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit/index"
)

// Store keeps blocks for all replicas, in rows like those of the audit index.
type Store interface {
	Put(ctx context.Context, rows []index.Row) error
	Page(ctx context.Context, term string, before uint64, limit int) ([]index.Row, error)
}

const (
	// maxBlocks bounds the blocks in memory.
	maxBlocks = 4096
	// maxRecent is how many blocks an upload looks at without asking the store
	// again.
	maxRecent = 8
	// writeEvery is how long a mark may be in memory alone.
	writeEvery = 10 * time.Second
	// storeTimeout bounds one question to the store, and restFor is how long it
	// is left alone after an error.
	storeTimeout = 2 * time.Second
	restFor      = 10 * time.Second
	maxPut       = 500
)

// Config is what [Marks] needs; everything is required.
type Config struct {
	Store Store
	Now   func() time.Time
	Log   *slog.Logger
}

// Mark stands for one entry.
type Mark struct {
	// Series names a series of one writer, for all replicas alike.
	Series string
	Number uint64
	// Print is of the entry's content, never zero.
	Print uint32
}

type key struct {
	series string
	block  uint64
}

func (m Mark) at() (key, int) {
	return key{m.Series, m.Number / blockMarks}, int(m.Number % blockMarks)
}

// Marks is safe for concurrent use.
type Marks struct {
	cfg Config

	mu     sync.Mutex // guards the rest
	blocks map[key]*block
	dirty  int       // of blocks
	rest   time.Time // the store is left alone until then
}

// New checks the configuration.
func New(c Config) (*Marks, error) {
	if c.Store == nil || c.Now == nil || c.Log == nil {
		return nil, errors.New("collect marks: incomplete configuration")
	}
	return &Marks{cfg: c, blocks: map[key]*block{}}, nil
}

// Run writes marks until ctx ends, and then the last ones.
func (m *Marks) Run(ctx context.Context) error {
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			m.write(context.WithoutCancel(ctx), nil)
			return nil
		case <-tick.C:
			m.write(ctx, nil)
		}
	}
}

// A Trail is one upload. It is for one goroutine.
type Trail struct {
	m      *Marks
	recent map[key]bool // looked at in the store
}

// Begin begins an upload.
func (m *Marks) Begin() *Trail { return &Trail{m: m, recent: map[key]bool{}} }

// Known reports whether an entry is on record.
func (t *Trail) Known(ctx context.Context, mark Mark) bool {
	k, i := mark.at()
	print, held := t.m.print(k, i)
	if !t.recent[k] || !held {
		if len(t.recent) >= maxRecent {
			clear(t.recent)
		}
		// Another replica may have added to a block that is here already.
		t.m.load(ctx, k)
		t.recent[k] = true
		print, _ = t.m.print(k, i)
	}
	return print == mark.Print
}

func (m *Marks) print(k key, i int) (print uint32, held bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.blocks[k]; b != nil {
		return b.marks[i], true
	}
	return 0, false
}

// Add notes entries that are on record.
func (t *Trail) Add(marks []Mark) {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	for _, mark := range marks {
		k, i := mark.at()
		b := t.m.room(k)
		if b != nil && b.marks[i] != mark.Print {
			b.marks[i] = mark.Print
			t.m.spoil(b)
		}
	}
}

// Broken writes the marks of an upload that is not acknowledged at once: it will
// come again, and where is not known.
func (t *Trail) Broken(ctx context.Context) { t.m.write(ctx, t.recent) }

// room returns a block, made if there is room for it. m.mu is held.
func (m *Marks) room(k key) *block {
	if b := m.blocks[k]; b != nil {
		return b
	}
	if len(m.blocks) >= maxBlocks {
		if m.dirty == len(m.blocks) {
			return nil // the store is away: what comes is not remembered
		}
		for other, b := range m.blocks {
			if !b.dirty {
				delete(m.blocks, other)
			}
		}
	}
	b := &block{}
	m.blocks[k] = b
	return b
}

// load adds what the store has of a block.
func (m *Marks) load(ctx context.Context, k key) {
	if m.resting() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	rows, err := m.cfg.Store.Page(ctx, k.series, k.block+1, 1)
	var stored [blockMarks]uint32
	if err == nil && len(rows) > 0 && rows[0].Chunk == k.block {
		stored, err = decode(rows[0].Data)
	}
	if err != nil {
		m.failed("read", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// A block that is new to the store is held too, so that it is not asked for
	// again.
	if b := m.room(k); b != nil {
		for i, mark := range stored {
			if b.marks[i] == 0 {
				b.marks[i] = mark
			}
		}
	}
}

// write writes what is not written: all of it, or of some blocks.
func (m *Marks) write(ctx context.Context, only map[key]bool) {
	if m.resting() {
		return
	}
	var rows []index.Row
	m.mu.Lock()
	for k, b := range m.blocks {
		if !b.dirty || only != nil && !only[k] {
			continue
		}
		rows = append(rows, index.Row{Term: k.series, Chunk: k.block, Data: b.encode()})
		b.dirty = false
		m.dirty--
	}
	m.mu.Unlock()
	for len(rows) > 0 {
		n := min(len(rows), maxPut)
		put, cancel := context.WithTimeout(ctx, storeTimeout)
		err := m.cfg.Store.Put(put, rows[:n])
		cancel()
		if err != nil {
			m.failed("written", err)
			break
		}
		rows = rows[n:]
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range rows {
		if b := m.blocks[key{r.Term, r.Chunk}]; b != nil {
			m.spoil(b)
		}
	}
}

// spoil notes that a block has to be written. m.mu is held.
func (m *Marks) spoil(b *block) {
	if !b.dirty {
		b.dirty = true
		m.dirty++
	}
}

func (m *Marks) resting() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cfg.Now().Before(m.rest)
}

func (m *Marks) failed(what string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rest = m.cfg.Now().Add(restFor)
	m.cfg.Log.Warn("marks of journals not "+what+"; what is sent again may be recorded twice", "error", err)
}
