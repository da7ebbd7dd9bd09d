package index

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit/query"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
)

// errEnough ends a search early.
var errEnough = errors.New("enough")

// pageRows is how many rows of a word are read at once: first few, since the
// newest matches are asked for.
const (
	firstPage = 32
	maxPage   = 1024
)

// Run calls emit for each match of a filter, newest first, as query.Run does
// with Newest. Without an index, without a word in the filter that is indexed,
// or when the store is away, it reads the log.
func Run(ctx context.Context, c Config, f query.Filter, emit func(query.Match) error) error {
	if err := c.complete(); err != nil {
		return err
	}
	f.Newest = true
	terms := asked(c.Log, &f)
	var indexed uint64
	if len(terms) > 0 {
		var err error
		if indexed, err = c.chunks(ctx); err != nil {
			if ctx.Err() != nil {
				return err
			}
			c.Logger.Warn("audit index is not there; the log is read", "error", err)
		}
	}
	if indexed == 0 {
		return query.Run(ctx, c.FS, c.Dir, f, emit)
	}
	found := 0
	counted := func(m query.Match) error {
		if err := emit(m); err != nil {
			return err
		}
		if found++; f.Limit > 0 && found >= f.Limit {
			return errEnough
		}
		return nil
	}
	infos, err := segment.List(c.FS, c.Dir)
	if err != nil {
		return fmt.Errorf("query audit log: %w", err)
	}
	// What is not sealed has no blocks to read singly: it is read once, with
	// what is not indexed.
	border := indexed * ChunkRecords
	for _, info := range infos {
		if !info.Sealed {
			border = min(border, info.First)
		}
	}
	newer, older := f, f
	newer.From = max(f.From, border)
	if older.To == 0 || older.To > border {
		older.To = border
	}
	if f.To == 0 || f.To > border {
		err = query.Run(ctx, c.FS, c.Dir, newer, counted)
	}
	if err == nil && older.To > 0 {
		err = search(ctx, &c, &older, infos, terms, counted)
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// search answers from the indexed chunks.
func search(ctx context.Context, c *Config, f *query.Filter, infos []segment.Info, terms []string, emit func(query.Match) error) error {
	r := &reader{c: c, f: f, infos: infos, emit: emit}
	defer r.close()
	lists := make([]*list, len(terms))
	for i, t := range terms {
		lists[i] = &list{store: c.Store, term: t, before: math.MaxUint64, size: firstPage}
	}
	for {
		chunk, spans, ok, err := common(ctx, lists)
		if err != nil || !ok {
			return err
		}
		offsets := intersect(spans)
		if len(offsets) == 0 || outside(f, spans) {
			continue
		}
		if err := r.records(ctx, chunk*ChunkRecords, offsets); err != nil {
			return err
		}
	}
}

// outside says that no record of a chunk can be in the filter's time.
func outside(f *query.Filter, spans []span) bool {
	for _, s := range spans {
		if (!f.Since.IsZero() && time.Unix(0, s.until).Before(f.Since)) || (!f.Until.IsZero() && !time.Unix(0, s.since).Before(f.Until)) {
			return true
		}
	}
	return false
}

// list walks the rows of a word, the newest chunk first.
type list struct {
	store  Store
	term   string
	before uint64 // rows below this chunk come next
	size   int
	rows   []Row
	done   bool
}

// seek goes to the first row at chunk most or below; false when there is none.
func (l *list) seek(ctx context.Context, most uint64) (Row, bool, error) {
	for {
		for len(l.rows) > 0 {
			if l.rows[0].Chunk <= most {
				return l.rows[0], true, nil
			}
			l.rows = l.rows[1:]
		}
		if l.done {
			return Row{}, false, nil
		}
		if most < math.MaxUint64 {
			l.before = min(l.before, most+1)
		}
		rows, err := l.store.Page(ctx, l.term, l.before, l.size)
		if err != nil {
			return Row{}, false, fmt.Errorf("audit index: %w", err)
		}
		if l.rows, l.done = rows, len(rows) == 0; !l.done {
			l.before = rows[len(rows)-1].Chunk
		}
		l.size = min(2*l.size, maxPage)
	}
}

// common returns the next chunk in which every word stands.
func common(ctx context.Context, lists []*list) (chunk uint64, spans []span, ok bool, err error) {
	most := uint64(math.MaxUint64)
	for agreed := 0; agreed < len(lists); {
		agreed = 0
		for _, l := range lists {
			row, found, err := l.seek(ctx, most)
			if err != nil || !found {
				return 0, nil, false, err
			}
			if row.Chunk < most {
				most, agreed = row.Chunk, 0
			}
			agreed++
		}
	}
	for _, l := range lists {
		s, err := decode(l.rows[0].Data)
		if err != nil {
			return 0, nil, false, err
		}
		spans = append(spans, s)
		l.rows = l.rows[1:]
	}
	return most, spans, true, nil
}

// intersect returns the offsets that all spans have.
func intersect(spans []span) []uint16 {
	out := spans[0].offsets
	for _, s := range spans[1:] {
		var both []uint16
		for i, j := 0, 0; i < len(out) && j < len(s.offsets); {
			switch {
			case out[i] < s.offsets[j]:
				i++
			case out[i] > s.offsets[j]:
				j++
			default:
				both = append(both, out[i])
				i, j = i+1, j+1
			}
		}
		out = both
	}
	return out
}

// reader reads single records, from the newest to the oldest.
type reader struct {
	c     *Config
	f     *query.Filter
	infos []segment.Info
	emit  func(query.Match) error

	open   *segment.Sealed
	info   segment.Info
	starts []uint64 // of the blocks of open
	block  int      // that records holds, -1 for none
	held   *segment.Records
}

func (r *reader) close() {
	if r.open != nil {
		r.open.Close()
		r.open = nil
	}
}

// records emits what matches of some records of a chunk, newest first.
func (r *reader) records(ctx context.Context, first uint64, offsets []uint16) error {
	for i := len(offsets) - 1; i >= 0; i-- {
		if err := ctx.Err(); err != nil {
			return err
		}
		index := first + uint64(offsets[i])
		if index < r.f.From || index >= r.f.To {
			continue
		}
		if err := r.find(index); err != nil {
			return err
		}
		if err := r.record(index); err != nil {
			return err
		}
	}
	return nil
}

// find opens the segment of a record; none when retention took it.
func (r *reader) find(index uint64) error {
	if r.open == nil || index < r.info.First || index >= r.end() {
		at := -1
		for i, info := range r.infos {
			if info.First <= index {
				at = i
			}
		}
		r.close()
		if at < 0 || !r.infos[at].Sealed {
			return nil
		}
		open, err := segment.OpenSealed(r.c.FS, r.c.Dir, r.infos[at])
		if err != nil {
			return fmt.Errorf("query audit log: %w", err)
		}
		r.open, r.info, r.block, r.starts = open, r.infos[at], -1, r.starts[:0]
		start := r.info.First
		for _, b := range open.Footer().Blocks {
			r.starts = append(r.starts, start)
			start += uint64(b.Records)
		}
		r.starts = append(r.starts, start)
	}
	return nil
}

func (r *reader) end() uint64 { return r.starts[len(r.starts)-1] }

// record emits one record if it matches.
func (r *reader) record(index uint64) error {
	if r.open == nil || index < r.info.First || index >= r.end() {
		return nil // dropped by retention
	}
	block := len(r.starts) - 2
	for block > 0 && r.starts[block] > index {
		block--
	}
	if block != r.block {
		held, err := r.open.Block(block)
		if err != nil {
			return fmt.Errorf("query audit log: %w", err)
		}
		r.block, r.held = block, held
	}
	n := int(index - r.starts[block])
	if n >= r.held.Len() || segment.Kind(r.held.Prefixed(n)[0]) != segment.KindRecord {
		return nil // dropped by retention, alone or with its whole block
	}
	entry, err := segment.ParseEntry(r.held.Prefixed(n)[1:])
	if err != nil {
		return fmt.Errorf("query audit log: record %d: %w", index, err)
	}
	m, ok, err := r.f.Entry(index, entry)
	if err != nil || !ok {
		return err
	}
	return r.emit(m)
}
