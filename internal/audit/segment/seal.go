package segment

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/klauspost/compress/zstd"

	"github.com/gatehouse-dev/gatehouse/internal/audit/merkle"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// Sealer compresses finished raw segments. It keeps its buffers between
// segments and is not safe for concurrent use.
type Sealer struct {
	enc    *zstd.Encoder
	plain  []byte
	bodies []byte
	comp   []byte
	leaves []merkle.Hash
}

// NewSealer returns a sealer.
func NewSealer() (*Sealer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(sealLevel), zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, err
	}
	return &Sealer{enc: enc}, nil
}

// sealLevel is the level by which a million Kubernetes-shaped events stay
// below 100 bytes each at the least CPU (docs/design/0003-audit-log.md).
const sealLevel = zstd.SpeedFastest

// Seal writes the sealed form of a raw segment, syncs it and removes the raw
// one. bundles are the hashes of the segment's bundles as the log computed them
// while writing; with nil they are computed here. Called again after an
// interruption it starts afresh; a segment that is sealed already is left
// alone. The raw segment must be complete: a whole number of bundles.
func (s *Sealer) Seal(fsys vfs.FS, dir string, first uint64, bundles []merkle.Hash) error {
	rawName, sealedName := dir+"/"+RawName(first), dir+"/"+SealedName(first)
	r, err := OpenReader(fsys, dir, Info{First: first, Name: RawName(first)})
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed by an earlier call
		}
		return err
	}
	defer r.Close()
	tmp := sealedName + ".tmp"
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	err = s.write(out, r, bundles)
	if err == nil {
		err = out.Sync()
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return errors.Join(err, fsys.Remove(tmp))
	}
	if err := fsys.Rename(tmp, sealedName); err != nil {
		return err
	}
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	return fsys.Remove(rawName)
}

// write writes blocks, footer and trailer.
func (s *Sealer) write(out vfs.File, r Reader, bundles []merkle.Hash) error {
	w, err := s.begin(out, r.Header())
	if err != nil {
		return err
	}
	given := bundles != nil
	s.leaves = s.leaves[:0]
	for {
		item, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch item.Kind {
		case KindCheckpoint:
			w.footer.Checkpoint = string(item.Payload)
		case KindRecord:
			entry, err := ParseEntry(item.Payload)
			if err != nil {
				return fmt.Errorf("record %d: %w", item.Index, err)
			}
			if err := w.add(item.Prefixed, entry.At.UnixNano()); err != nil {
				return err
			}
			if entry.Site != "" {
				w.footer.Sites++
			}
			if !given {
				s.leaves = append(s.leaves, merkle.Leaf(item.Prefixed))
				if len(s.leaves) == merkle.BundleWidth {
					bundles = append(bundles, merkle.Root(s.leaves))
					s.leaves = s.leaves[:0]
				}
			}
		}
	}
	for _, h := range bundles {
		w.footer.Bundles = append(w.footer.Bundles, h[:]...)
	}
	return w.finish()
}

// blockWriter writes a sealed segment.
type blockWriter struct {
	s      *Sealer
	out    vfs.File
	footer Footer
	offset int64
	block  Block
	kept   int // records in block that are not dropped
}

func (s *Sealer) begin(out vfs.File, h Header) (*blockWriter, error) {
	if _, err := out.WriteAt([]byte(sealedMagic), 0); err != nil {
		return nil, err
	}
	s.plain, s.bodies = s.plain[:0], s.bodies[:0]
	return &blockWriter{s: s, out: out, footer: Footer{Header: h}, offset: int64(len(sealedMagic))}, nil
}

// add takes a record, or a dropped one, after its kind byte. at is its time.
func (w *blockWriter) add(prefixed []byte, at int64) error {
	s := w.s
	if w.block.Records == 0 {
		w.block.Since, w.block.Until = at, at
	}
	w.block.Since, w.block.Until = min(w.block.Since, at), max(w.block.Until, at)
	if Kind(prefixed[0]) == KindDropped {
		s.plain = append(s.plain, 0)
		w.footer.Dropped++
	} else {
		s.plain = binary.AppendUvarint(s.plain, uint64(len(prefixed)-1))
		w.kept++
	}
	s.bodies = append(s.bodies, prefixed...)
	w.block.Records++
	w.footer.Records++
	if w.block.Records == BlockRecords {
		return w.flush()
	}
	return nil
}

// flush writes the block; of one without any record left only the place.
func (w *blockWriter) flush() error {
	s := w.s
	if w.block.Records == 0 {
		return nil
	}
	w.block.Offset = w.offset
	if w.kept == 0 && w.block.Records%merkle.BundleWidth == 0 {
		w.block.Dropped = true
	} else {
		s.plain = append(s.plain, s.bodies...)
		s.comp = append(s.comp[:0], 0, 0, 0, 0, 0, 0, 0, 0)
		s.comp = s.enc.EncodeAll(s.plain, s.comp)
		binary.LittleEndian.PutUint32(s.comp, uint32(len(s.comp)-blockHead))
		binary.LittleEndian.PutUint32(s.comp[4:], Checksum(s.comp[blockHead:]))
		if _, err := w.out.WriteAt(s.comp, w.offset); err != nil {
			return err
		}
		w.block.Length = len(s.comp)
		w.offset += int64(len(s.comp))
	}
	w.footer.Blocks = append(w.footer.Blocks, w.block)
	w.block, w.kept = Block{}, 0
	s.plain, s.bodies = s.plain[:0], s.bodies[:0]
	return nil
}

// gone notes a block that was dropped before.
func (w *blockWriter) gone(b Block) error {
	if err := w.flush(); err != nil {
		return err
	}
	b.Offset = w.offset
	w.footer.Blocks = append(w.footer.Blocks, b)
	w.footer.Records += uint64(b.Records)
	w.footer.Dropped += uint64(b.Records)
	return nil
}

func (w *blockWriter) finish() error {
	if err := w.flush(); err != nil {
		return err
	}
	f := &w.footer
	if f.Records == 0 || f.Records%merkle.BundleWidth != 0 || uint64(len(f.Bundles)) != f.Records/merkle.BundleWidth*uint64(len(merkle.Hash{})) {
		return fmt.Errorf("segment of %d records and %d bytes of bundles cannot be sealed", f.Records, len(f.Bundles))
	}
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	trailer := binary.LittleEndian.AppendUint32(nil, uint32(len(b)))
	trailer = binary.LittleEndian.AppendUint32(trailer, Checksum(b))
	trailer = binary.LittleEndian.AppendUint64(trailer, uint64(w.offset))
	_, err = w.out.WriteAt(append(append(b, trailer...), trailerMagic...), w.offset)
	return err
}

// Prune replaces a sealed segment by one without the records that keep
// refuses. Of each such record the leaf hash stays, and where none of a block
// is left the hashes of its bundles, so that the tree over the log is as it
// was. It returns how many records it dropped; with none the file is untouched.
func (s *Sealer) Prune(fsys vfs.FS, dir string, first uint64, keep func(Entry) bool) (uint64, error) {
	name := dir + "/" + SealedName(first)
	r, err := OpenSealed(fsys, dir, Info{First: first, Sealed: true, Name: SealedName(first)})
	if err != nil {
		return 0, err
	}
	defer r.Close()
	tmp := name + ".tmp"
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	out, err := fsys.Create(tmp)
	if err != nil {
		return 0, err
	}
	dropped, err := s.prune(out, r, keep)
	if err == nil {
		err = out.Sync()
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err != nil || dropped == 0 {
		return 0, errors.Join(err, fsys.Remove(tmp))
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return 0, err
	}
	return dropped, fsys.SyncDir(dir)
}

func (s *Sealer) prune(out vfs.File, r *Sealed, keep func(Entry) bool) (uint64, error) {
	old := r.Footer()
	w, err := s.begin(out, old.Header)
	if err != nil {
		return 0, err
	}
	w.footer.Bundles, w.footer.Checkpoint, w.footer.Sites = old.Bundles, old.Checkpoint, old.Sites
	for i, b := range old.Blocks {
		if b.Dropped {
			if err := w.gone(b); err != nil {
				return 0, err
			}
			continue
		}
		records, err := r.Block(i)
		if err != nil {
			return 0, err
		}
		for n := range records.Len() {
			prefixed, at := records.Prefixed(n), b.Until
			if Kind(prefixed[0]) == KindRecord {
				entry, err := ParseEntry(prefixed[1:])
				if err != nil {
					return 0, err
				}
				if at = entry.At.UnixNano(); !keep(entry) {
					leaf := merkle.Leaf(prefixed)
					prefixed = append([]byte{byte(KindDropped)}, leaf[:]...)
				}
			}
			if err := w.add(prefixed, at); err != nil {
				return 0, err
			}
		}
		// Blocks stay where they were, so that a second pruning finds whole ones.
		if err := w.flush(); err != nil {
			return 0, err
		}
	}
	if err := w.finish(); err != nil {
		return 0, err
	}
	return w.footer.Dropped - old.Dropped, nil
}
