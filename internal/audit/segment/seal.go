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
	if _, err := out.WriteAt([]byte(sealedMagic), 0); err != nil {
		return err
	}
	footer := Footer{Header: r.Header()}
	offset := int64(len(sealedMagic))
	given := bundles != nil
	var block Block
	flush := func() error {
		if block.Records == 0 {
			return nil
		}
		s.plain = append(s.plain, s.bodies...)
		s.comp = append(s.comp[:0], 0, 0, 0, 0, 0, 0, 0, 0)
		s.comp = s.enc.EncodeAll(s.plain, s.comp)
		binary.LittleEndian.PutUint32(s.comp, uint32(len(s.comp)-blockHead))
		binary.LittleEndian.PutUint32(s.comp[4:], Checksum(s.comp[blockHead:]))
		if _, err := out.WriteAt(s.comp, offset); err != nil {
			return err
		}
		block.Offset, block.Length = offset, len(s.comp)
		footer.Blocks = append(footer.Blocks, block)
		offset += int64(len(s.comp))
		block = Block{}
		s.plain, s.bodies = s.plain[:0], s.bodies[:0]
		return nil
	}
	s.plain, s.bodies, s.leaves = s.plain[:0], s.bodies[:0], s.leaves[:0]
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
			footer.Checkpoint = string(item.Payload)
		case KindRecord:
			entry, err := ParseEntry(item.Payload)
			if err != nil {
				return fmt.Errorf("record %d: %w", item.Index, err)
			}
			at := entry.At.UnixNano()
			if block.Records == 0 {
				block.Since, block.Until = at, at
			}
			block.Since, block.Until = min(block.Since, at), max(block.Until, at)
			s.plain = binary.AppendUvarint(s.plain, uint64(len(item.Payload)))
			s.bodies = append(s.bodies, item.Prefixed...)
			block.Records++
			footer.Records++
			if !given {
				s.leaves = append(s.leaves, merkle.Leaf(item.Prefixed))
				if len(s.leaves) == merkle.BundleWidth {
					bundles = append(bundles, merkle.Root(s.leaves))
					s.leaves = s.leaves[:0]
				}
			}
			// A block ends early when large records would make it slow to read.
			if block.Records == BlockRecords || (len(s.bodies) >= 4<<20 && footer.Records%merkle.BundleWidth == 0) {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if footer.Records == 0 || footer.Records%merkle.BundleWidth != 0 || uint64(len(bundles)) != footer.Records/merkle.BundleWidth {
		return fmt.Errorf("segment of %d records and %d bundles cannot be sealed", footer.Records, len(bundles))
	}
	for _, h := range bundles {
		footer.Bundles = append(footer.Bundles, h[:]...)
	}
	b, err := json.Marshal(footer)
	if err != nil {
		return err
	}
	trailer := binary.LittleEndian.AppendUint32(nil, uint32(len(b)))
	trailer = binary.LittleEndian.AppendUint32(trailer, Checksum(b))
	trailer = binary.LittleEndian.AppendUint64(trailer, uint64(offset))
	_, err = out.WriteAt(append(append(b, trailer...), trailerMagic...), offset)
	return err
}
