package tiles

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gatehouse-dev/gatehouse/internal/audit/merkle"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
)

// Export writes the log, up to its checkpoint, into the empty directory out as
// the static files of a C2SP tlog-tiles log: checkpoint, tile/<L>/<N>,
// tile/entries/<N>. Any tool that reads such logs can then read and verify it.
func (s *Source) Export(ctx context.Context, out string) error {
	if err := os.MkdirAll(out, 0o700); err != nil {
		return fmt.Errorf("export audit log: %w", err)
	}
	if names, err := os.ReadDir(out); err != nil || len(names) > 0 {
		return fmt.Errorf("export audit log: %s is not an empty directory (%w)", out, err)
	}
	var levels [8][]merkle.Hash // the unfinished tile of each level
	counts := [8]uint64{}
	var push func(level int, h merkle.Hash) error
	push = func(level int, h merkle.Hash) error {
		if levels[level] = append(levels[level], h); len(levels[level]) < merkle.BundleWidth {
			return nil
		}
		if err := writeTile(out, fmt.Sprint(level), counts[level], levels[level]); err != nil {
			return err
		}
		parent := merkle.Root(levels[level])
		counts[level]++
		levels[level] = levels[level][:0]
		return push(level+1, parent)
	}
	for bundle := uint64(0); bundle*merkle.BundleWidth < s.head.Size; bundle++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.mu.Lock()
		records, err := s.records(bundle)
		s.mu.Unlock()
		if err != nil {
			return fmt.Errorf("export audit log: %w", err)
		}
		for i, r := range records {
			if segment.Kind(r[0]) == segment.KindDropped {
				return fmt.Errorf("export audit log: record %d: %w", bundle*merkle.BundleWidth+uint64(i), ErrDropped)
			}
		}
		if err := write(out, path("entries", bundle, len(records)), entries(records)); err != nil {
			return err
		}
		for _, r := range records {
			if err := push(0, merkle.Leaf(r)); err != nil {
				return err
			}
		}
	}
	for level, hashes := range levels {
		if len(hashes) > 0 {
			if err := writeTile(out, fmt.Sprint(level), counts[level], hashes); err != nil {
				return err
			}
		}
	}
	return write(out, "checkpoint", s.signed)
}

// entries encodes an entry bundle: each record after its length in 16 bits.
func entries(records [][]byte) []byte {
	var b []byte
	for _, r := range records {
		b = binary.BigEndian.AppendUint16(b, uint16(len(r)-1))
		b = append(b, r[1:]...)
	}
	return b
}

func writeTile(out, level string, n uint64, hashes []merkle.Hash) error {
	var b []byte
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return write(out, path(level, n, len(hashes)), b)
}

// path returns the path of a tile (C2SP tlog-tiles): the number in groups of
// three digits, all but the last after an x, and the width of partial tiles.
func path(level string, n uint64, width int) string {
	p := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		p = fmt.Sprintf("x%03d/%s", n%1000, p)
	}
	p = "tile/" + level + "/" + p
	if width < merkle.BundleWidth {
		p += fmt.Sprintf(".p/%d", width)
	}
	return p
}

func write(out, name string, data []byte) error {
	name = filepath.Join(out, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("export audit log: %w", err)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		return fmt.Errorf("export audit log: %w", err)
	}
	return nil
}
