// Package index finds records without reading the whole log. For each chunk of
// the log and each word in it that one can ask for (a user, a credential, a
// namespace), one row lists the records of the chunk that have the word.
//
// The rows are derived and hold no event: a question is answered from the log,
// and a lost index is built again from it. What is not indexed yet, the end of
// the log, is read; so an answer is always complete, and building the index,
// which follows the log, holds up nobody.
//
// It owns: the words, the rows, [Builder] and [Run]. It refuses: storage, which
// is a [Store], and who may ask.
//
// Start at [Run].
package index

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/follow"
	"github.com/gatehouse-dev/gatehouse/internal/audit/query"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// ChunkRecords is how many records a chunk has: few rows for each event, and
// little to read at the end of the log.
const ChunkRecords = 16384

// format is part of every word, so that rows of another form are not found and
// the index is built again.
const format = "1"

// Row lists records: those of chunk Chunk in which the word Term stands.
type Row struct {
	Term  string
	Chunk uint64
	Data  []byte
}

// Store keeps rows. Implementations are safe for concurrent use.
type Store interface {
	// Put stores rows over those of the same term and chunk.
	Put(ctx context.Context, rows []Row) error
	// Page returns rows of a term, the highest chunk first, beginning below
	// chunk before; an empty page ends them.
	Page(ctx context.Context, term string, before uint64, limit int) ([]Row, error)
}

// maxPut bounds the rows of one Put.
const maxPut = 2000

// The words. A value is what a filter asks for.
const (
	byUser       = "user"
	byCredential = "credential"
	byVerb       = "verb"
	byResource   = "resource"
	byNamespace  = "namespace"
	byName       = "name"
	byDecision   = "decision"
	bySite       = "site"
	byCursor     = "cursor"
)

// term is the key of a word in one log: fixed in size, whatever the value.
func term(log, by, value string) string {
	sum := sha256.Sum256([]byte(format + "\x00" + log + "\x00" + by + "\x00" + value))
	return hex.EncodeToString(sum[:16])
}

// words calls add for each word of an event; some may be empty.
func words(site string, o *audit.Outline, add func(by string, value []byte)) {
	if site == "" {
		site = query.OwnSite
	}
	add(bySite, []byte(site))
	add(byUser, o.Username)
	if !bytes.Equal(o.Impersonated, o.Username) {
		add(byUser, o.Impersonated)
	}
	add(byCredential, o.Credential)
	add(byVerb, o.Verb)
	add(byDecision, o.Decision)
	add(byResource, o.Resource)
	add(byNamespace, o.Namespace)
	add(byName, o.Name)
}

// outline returns the outline of a recorded event.
func outline(event []byte) (audit.Outline, error) {
	if o, ok := audit.ReadOutline(event); ok {
		return o, nil
	}
	e, err := audit.Decode(event)
	if err != nil {
		return audit.Outline{}, err
	}
	return e.Outline(), nil
}

// asked returns the words that every match of a filter has, most telling first.
func asked(log string, f *query.Filter) []string {
	var out []string
	for _, w := range [][2]string{
		{byCredential, f.Credential}, {byName, f.Name}, {byUser, f.User}, {byNamespace, f.Namespace},
		{byResource, f.Resource}, {bySite, f.Site}, {byVerb, f.Verb}, {byDecision, f.Decision},
	} {
		if w[1] != "" {
			out = append(out, term(log, w[0], w[1]))
		}
	}
	return out
}

// span is the time of the records of a chunk and the offsets in it.
type span struct {
	since, until int64
	offsets      []uint16 // ascending
}

func (s *span) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16+2*len(s.offsets)), uint64(s.since))
	b = binary.BigEndian.AppendUint64(b, uint64(s.until))
	last := uint64(0)
	for i, o := range s.offsets {
		delta := uint64(o) - last
		if i == 0 {
			delta = uint64(o)
		}
		b = binary.AppendUvarint(b, delta)
		last = uint64(o)
	}
	return b
}

func decode(b []byte) (span, error) {
	if len(b) < 16 {
		return span{}, errors.New("audit index: a row is too short")
	}
	s := span{since: int64(binary.BigEndian.Uint64(b)), until: int64(binary.BigEndian.Uint64(b[8:]))}
	b = b[16:]
	at := uint64(0)
	for len(b) > 0 {
		delta, n := binary.Uvarint(b)
		if n <= 0 || delta >= ChunkRecords || (len(s.offsets) > 0 && delta == 0) {
			return span{}, errors.New("audit index: a row is damaged")
		}
		if at += delta; at >= ChunkRecords {
			return span{}, errors.New("audit index: a row is damaged")
		}
		s.offsets = append(s.offsets, uint16(at))
		b = b[n:]
	}
	return s, nil
}

// Config describes one log and where its index is.
type Config struct {
	Store Store
	// Log is the id of the log, Dir its directory, Synced its records on disk.
	Log    string
	Dir    string
	Synced func() uint64
	// Poll is how often a builder looks for a further chunk (1 s), Retry how
	// long it waits after an error (10 s).
	Poll, Retry time.Duration
	FS          vfs.FS
	Logger      *slog.Logger
}

func (c *Config) complete() error {
	if c.Store == nil || c.Log == "" || c.Dir == "" || c.Synced == nil {
		return errors.New("audit index: incomplete configuration")
	}
	if c.FS == nil {
		c.FS = vfs.OS{}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Poll <= 0 {
		c.Poll = time.Second
	}
	if c.Retry <= 0 {
		c.Retry = 10 * time.Second
	}
	return nil
}

// chunks returns how many chunks of the log are indexed.
func (c *Config) chunks(ctx context.Context) (uint64, error) {
	rows, err := c.Store.Page(ctx, term(c.Log, byCursor, ""), ^uint64(0), 1)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	return rows[0].Chunk, nil
}

// Builder builds the index of one log.
type Builder struct{ cfg Config }

// NewBuilder checks the configuration.
func NewBuilder(c Config) (*Builder, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	return &Builder{c}, nil
}

// Run follows the log until ctx ends, which is its only way to return. A store
// that is away is tried again.
func (b *Builder) Run(ctx context.Context) error {
	failing := false
	for ctx.Err() == nil {
		more, err := b.Step(ctx)
		wait := b.cfg.Poll
		switch {
		case err != nil && ctx.Err() == nil:
			if !failing {
				b.cfg.Logger.Warn("audit index does not follow", "error", err)
			}
			failing, wait = true, b.cfg.Retry
		case more:
			failing = false
			continue
		default:
			failing = false
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// Step indexes one chunk, if the log has a whole one that is not indexed.
func (b *Builder) Step(ctx context.Context) (bool, error) {
	chunk, err := b.cfg.chunks(ctx)
	if err != nil {
		return false, err
	}
	first := chunk * ChunkRecords
	end := first + ChunkRecords
	if b.cfg.Synced() < end {
		return false, nil
	}
	rows, err := b.chunk(ctx, chunk, first, end)
	if err != nil {
		return false, err
	}
	for part := range slices.Chunk(rows, maxPut) {
		if err := b.cfg.Store.Put(ctx, part); err != nil {
			return false, err
		}
	}
	// The cursor comes last: a chunk counts when all of it is there.
	return true, b.cfg.Store.Put(ctx, []Row{{Term: term(b.cfg.Log, byCursor, ""), Chunk: chunk + 1, Data: []byte{}}})
}

// chunk returns the rows of one chunk.
func (b *Builder) chunk(ctx context.Context, chunk, first, end uint64) ([]Row, error) {
	type word struct{ by, value string }
	found := map[word]*span{}
	r := follow.New(b.cfg.FS, b.cfg.Dir, first)
	defer r.Close()
	var records []follow.Record
	for r.Next() < end {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var err error
		records, err = r.Read(records[:0], 1024, end)
		if errors.Is(err, follow.ErrGone) {
			return nil, nil // retention took the chunk as a whole
		}
		if err != nil {
			return nil, err
		}
		for _, rec := range records {
			o, err := outline(rec.Event)
			if err != nil {
				return nil, fmt.Errorf("record %d: %w", rec.Index, err)
			}
			at := rec.At.UnixNano()
			words(rec.Site, &o, func(by string, value []byte) {
				if len(value) == 0 {
					return
				}
				s := found[word{by, string(value)}]
				if s == nil {
					s = &span{since: at}
					found[word{by, string(value)}] = s
				}
				s.until = max(s.until, at)
				s.offsets = append(s.offsets, uint16(rec.Index-first))
			})
		}
		if len(records) == 0 {
			break
		}
	}
	rows := make([]Row, 0, len(found))
	for w, s := range found {
		rows = append(rows, Row{Term: term(b.cfg.Log, w.by, w.value), Chunk: chunk, Data: s.encode()})
	}
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Term, b.Term) })
	return rows, nil
}
