// Package tiles shows a log to others in the C2SP formats: tlog-tiles,
// tlog-checkpoint and tlog-proof.
//
// The log keeps the hash of each bundle of 256 records and not those of every
// record (32 incompressible bytes an event); this package computes the rest
// from the records when somebody asks.
//
// It owns: the hashes of a log as a tlog.HashReader ([Source]), inclusion
// proofs, and the export of a whole log as static tiles ([Export]). It
// refuses: judging the log; that is package verify.
package tiles

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/merkle"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// Source reads the records and hashes of a log as it stood when opened. It is
// safe for concurrent use.
type Source struct {
	fsys    vfs.FS
	dir     string
	signed  []byte
	head    checkpoint.Checkpoint
	meta    ledger.Meta
	infos   []segment.Info
	bundles []merkle.Hash // of all complete bundles below head
	// leaves are those of raw segments, from record raw on: they were computed
	// for the bundles, and a raw segment has to be read from its beginning.
	leaves []merkle.Hash
	raw    uint64

	mu     sync.Mutex // guards cached
	cached struct {
		ok      bool
		bundle  uint64
		records [][]byte // after their kind byte
	}
}

// Open opens the log in dir at its newest checkpoint.
func Open(fsys vfs.FS, dir string) (*Source, error) {
	meta, err := ledger.ReadMeta(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("open audit log %s: %w", dir, err)
	}
	verifiers, err := checkpoint.Verifiers(meta.Verifiers...)
	if err != nil {
		return nil, fmt.Errorf("open audit log %s: %w", dir, err)
	}
	signed, err := ledger.ReadCheckpoint(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("open audit log %s: %w", dir, err)
	}
	if signed == nil {
		return nil, fmt.Errorf("open audit log %s: no checkpoint yet", dir)
	}
	s := &Source{fsys: fsys, dir: dir, signed: signed, meta: meta, raw: math.MaxUint64}
	if s.head, err = checkpoint.Open(signed, verifiers); err != nil {
		return nil, fmt.Errorf("open audit log %s: %w", dir, err)
	}
	if s.infos, err = segment.List(fsys, dir); err != nil {
		return nil, fmt.Errorf("open audit log %s: %w", dir, err)
	}
	for _, info := range s.infos {
		if err := s.load(info); err != nil {
			return nil, fmt.Errorf("open audit log %s: %w", dir, err)
		}
	}
	return s, nil
}

// load adds the bundle hashes of a segment.
func (s *Source) load(info segment.Info) error {
	if info.First != uint64(len(s.bundles))*merkle.BundleWidth {
		return fmt.Errorf("%s does not follow the segment before", info.Name)
	}
	if info.Sealed {
		// Only the newest segments are raw, except that one may wait for its
		// sealing; then what stands before this one is read like a sealed one.
		s.leaves, s.raw = nil, math.MaxUint64
		footer, err := segment.ReadFooter(s.fsys, s.dir, info)
		if err != nil {
			return err
		}
		for i := range int(footer.Records / merkle.BundleWidth) {
			s.bundles = append(s.bundles, footer.Bundle(i))
		}
		return nil
	}
	s.raw = min(s.raw, info.First)
	return s.scan(info, func(index uint64, prefixed []byte) bool {
		if index >= s.head.Size {
			return false
		}
		s.leaves = append(s.leaves, merkle.Leaf(prefixed))
		if n := len(s.leaves); (index+1)%merkle.BundleWidth == 0 {
			s.bundles = append(s.bundles, merkle.Root(s.leaves[n-merkle.BundleWidth:]))
		}
		return true
	})
}

// scan calls fn for each record of a segment until it returns false.
func (s *Source) scan(info segment.Info, fn func(index uint64, prefixed []byte) bool) error {
	r, err := segment.OpenReader(s.fsys, s.dir, info)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		item, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			// Behind the checkpoint a live log may be in the middle of a write.
			var d *segment.DamageError
			if errors.As(err, &d) && d.Torn && item.Index >= s.head.Size {
				return nil
			}
			return err
		}
		if item.Kind == segment.KindRecord && !fn(item.Index, item.Prefixed) {
			return nil
		}
	}
}

// ErrDropped says that retention removed a record. Its place in the tree can
// still be proven, but not its content.
var ErrDropped = errors.New("dropped by retention")

// leaf returns the leaf hash of a record, dropped or not.
func leaf(prefixed []byte) (h merkle.Hash) {
	if segment.Kind(prefixed[0]) == segment.KindDropped {
		copy(h[:], prefixed[1:])
		return h
	}
	return merkle.Leaf(prefixed)
}

// Meta returns what the directory says of the log.
func (s *Source) Meta() ledger.Meta { return s.meta }

// Head returns the checkpoint that everything here is under.
func (s *Source) Head() checkpoint.Checkpoint { return s.head }

// Checkpoint returns the signed checkpoint that everything here is under.
func (s *Source) Checkpoint() []byte { return s.signed }

// Size returns the number of records under the checkpoint.
func (s *Source) Size() uint64 { return s.head.Size }

// records returns the records of a bundle, fewer in the last one. s.mu is held.
func (s *Source) records(bundle uint64) ([][]byte, error) {
	if s.cached.ok && s.cached.bundle == bundle {
		return s.cached.records, nil
	}
	first := bundle * merkle.BundleWidth
	if first >= s.head.Size {
		return nil, fmt.Errorf("bundle %d is beyond the checkpoint", bundle)
	}
	n := sort.Search(len(s.infos), func(i int) bool { return s.infos[i].First > first }) - 1
	if n < 0 {
		return nil, fmt.Errorf("record %d is not in the log any more", first)
	}
	end := min(first+merkle.BundleWidth, s.head.Size)
	var records [][]byte
	take := func(index uint64, prefixed []byte) bool {
		if index >= first && index < end {
			records = append(records, bytes.Clone(prefixed))
		}
		return index+1 < end
	}
	info := s.infos[n]
	var err error
	if info.Sealed {
		err = s.scanBlocks(info, first, take)
	} else {
		err = s.scan(info, take)
	}
	if err != nil {
		return nil, err
	}
	if uint64(len(records)) != end-first {
		return nil, fmt.Errorf("%s does not hold record %d", info.Name, end-1)
	}
	s.cached.ok, s.cached.bundle, s.cached.records = true, bundle, records
	return records, nil
}

// scanBlocks is scan for sealed segments; it skips blocks before record first.
func (s *Source) scanBlocks(info segment.Info, first uint64, fn func(uint64, []byte) bool) error {
	r, err := segment.OpenSealed(s.fsys, s.dir, info)
	if err != nil {
		return err
	}
	defer r.Close()
	index := info.First
	for i, block := range r.Footer().Blocks {
		if index+uint64(block.Records) <= first {
			index += uint64(block.Records)
			continue
		}
		if block.Dropped {
			return fmt.Errorf("record %d: %w", max(index, first), ErrDropped)
		}
		records, err := r.Block(i)
		if err != nil {
			return err
		}
		for n := range records.Len() {
			if !fn(index, records.Prefixed(n)) {
				return nil
			}
			index++
		}
	}
	return nil
}

// Record returns the payload of one record.
func (s *Source) Record(index uint64) ([]byte, error) {
	if index >= s.head.Size {
		return nil, fmt.Errorf("record %d is beyond the checkpoint", index)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	records, err := s.records(index / merkle.BundleWidth)
	if err != nil {
		return nil, err
	}
	r := records[index%merkle.BundleWidth]
	if segment.Kind(r[0]) == segment.KindDropped {
		return nil, fmt.Errorf("record %d: %w", index, ErrDropped)
	}
	return r[1:], nil
}

// ReadHashes implements tlog.HashReader.
func (s *Source) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		level, n := tlog.SplitStoredHashIndex(x)
		h, err := s.node(level, uint64(n))
		if err != nil {
			return nil, err
		}
		out[i] = tlog.Hash(h)
	}
	return out, nil
}

// node returns the hash of a complete subtree. s.mu is held.
func (s *Source) node(level int, n uint64) (merkle.Hash, error) {
	if (n+1)<<level > s.head.Size {
		return merkle.Hash{}, fmt.Errorf("node %d of level %d is beyond the checkpoint", n, level)
	}
	var hashes []merkle.Hash
	if level >= merkle.BundleLevel {
		width := uint64(1) << (level - merkle.BundleLevel)
		hashes = s.bundles[n*width : (n+1)*width]
	} else {
		first := n << level
		if first >= s.raw {
			return merkle.Root(s.leaves[first-s.raw : first-s.raw+1<<level]), nil
		}
		records, err := s.records(first / merkle.BundleWidth)
		if err != nil {
			return merkle.Hash{}, err
		}
		at := first % merkle.BundleWidth
		for _, r := range records[at : at+1<<level] {
			hashes = append(hashes, leaf(r))
		}
	}
	return merkle.Root(hashes), nil
}

// Proof returns the record's payload and the proof that the checkpoint covers
// it, as a C2SP tlog-proof: anybody with the log's public key can check the
// two without the log.
func (s *Source) Proof(index uint64) (payload, proof []byte, err error) {
	if payload, err = s.Record(index); err != nil {
		return nil, nil, err
	}
	hashes, err := tlog.ProveRecord(int64(s.head.Size), int64(index), s)
	if err != nil {
		return nil, nil, fmt.Errorf("prove record %d: %w", index, err)
	}
	b := fmt.Appendf(nil, "c2sp.org/tlog-proof@v1\nindex %d\n", index)
	for _, h := range hashes {
		b = base64.StdEncoding.AppendEncode(b, h[:])
		b = append(b, '\n')
	}
	return bytes.Clone(payload), append(append(b, '\n'), s.signed...), nil
}

// RootAt returns the root over the first size records; false when the log had
// fewer at its newest checkpoint.
func (s *Source) RootAt(size uint64) (merkle.Hash, bool, error) {
	if size > s.head.Size {
		return merkle.Hash{}, false, nil
	}
	root, err := tlog.TreeHash(int64(size), s)
	if err != nil {
		return merkle.Hash{}, false, fmt.Errorf("root over %d records: %w", size, err)
	}
	return merkle.Hash(root), true, nil
}
