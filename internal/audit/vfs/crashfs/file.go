package crashfs

import (
	"io"
	"slices"

	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

type file = vfs.File

var _ vfs.FS = (*FS)(nil)

type handle struct {
	f    *FS
	n    *node
	name string
}

func (h *handle) ReadAt(b []byte, off int64) (int, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if h.f.crashed {
		return 0, ErrCrashed
	}
	if off >= int64(len(h.n.data)) {
		return 0, io.EOF
	}
	n := copy(b, h.n.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) WriteAt(b []byte, off int64) (int, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	partial, err := h.f.step("write", h.name)
	switch {
	case partial:
		b = b[:h.f.rng.IntN(len(b)+1)]
	case err != nil && h.f.crashed:
		return 0, err
	case err != nil:
		// A full disk takes what still fits.
		b = b[:h.f.rng.IntN(len(b)+1)]
	}
	n := h.n
	if end := off + int64(len(b)); end > int64(len(n.data)) {
		n.data = grow(n.data, end)
	}
	copy(n.data[off:], b)
	n.dirty = append(n.dirty, extent{off, off + int64(len(b))})
	return len(b), err
}

func (h *handle) Truncate(size int64) error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if _, err := h.f.step("truncate", h.name); err != nil {
		return err
	}
	n := h.n
	if size <= int64(len(n.data)) {
		n.data = n.data[:size]
	} else {
		n.data = grow(n.data, size)
	}
	return nil
}

func (h *handle) Sync() error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if _, err := h.f.step("sync", h.name); err != nil {
		if !h.f.crashed {
			h.n.dirty = nil // reported once, then forgotten
		}
		return err
	}
	// Only dirty pages are written: what a failed sync forgot is not.
	n := h.n
	if len(n.disk) > len(n.data) {
		n.disk = n.disk[:len(n.data)]
	}
	for _, e := range n.dirty {
		to := min(e.to, int64(len(n.data)))
		if e.from >= to {
			continue
		}
		if int64(len(n.disk)) < to {
			n.disk = grow(n.disk, to)
		}
		copy(n.disk[e.from:to], n.data[e.from:to])
	}
	n.dirty = nil
	return nil
}

func (h *handle) Size() (int64, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	return int64(len(h.n.data)), nil
}

func (h *handle) Close() error { return nil }

// grow lengthens b to size with zeros.
func grow(b []byte, size int64) []byte {
	old := len(b)
	b = slices.Grow(b, int(size)-old)[:size]
	clear(b[old:])
	return b
}
