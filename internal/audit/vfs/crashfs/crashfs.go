// Package crashfs is a file system in memory that can be cut off at any
// operation, as kill -9 or a power failure would, and that can fail operations
// as a full or broken disk would. Tests of the audit log run on it.
//
// The model is harsher than any real file system: after a power failure, of
// the writes since the last sync of a file any subset of 512-byte sectors may
// have arrived, and of the directory operations since the last sync of the
// directory any first part. After a failed sync the pages of the file count as
// clean although they never reached the disk.
//
// It owns: the model. It refuses: use outside tests.
package crashfs

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"sort"
	"sync"
)

// ErrCrashed is what every operation returns after the crash.
var ErrCrashed = errors.New("crashed")

const sector = 512

// FS implements vfs.FS. It is safe for concurrent use.
type FS struct {
	mu      sync.Mutex
	files   map[string]*node // as the running system sees them
	onDisk  map[string]*node // as the directory on disk names them
	dirOps  []func(map[string]*node)
	ops     int
	crashAt int
	crashed bool
	rng     *rand.Rand
	fail    func(op, name string) error
	locked  map[string]bool
}

type node struct {
	data  []byte // page cache
	disk  []byte
	dirty []extent
}

type extent struct{ from, to int64 }

// New returns an empty file system. seed decides what survives a crash.
func New(seed uint64) *FS {
	return &FS{files: map[string]*node{}, onDisk: map[string]*node{}, rng: rand.New(rand.NewPCG(seed, 1)), locked: map[string]bool{}}
}

// CrashAt makes the nth operation from now the last; a write may be applied in
// part. Zero means never.
func (f *FS) CrashAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashAt = 0
	if n > 0 {
		f.crashAt = f.ops + n
	}
}

// Ops returns the number of changing operations so far.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Fail installs a function that may fail operations: write, sync, create,
// truncate, rename, remove, syncdir. Nil removes it.
func (f *FS) Fail(fn func(op, name string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fn
}

// Kill returns what another process finds after kill -9: everything that was
// handed to the operating system. What is not on disk yet can still be lost
// there, and pages that a failed sync forgot are read, but never written.
func (f *FS) Kill() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
	out := New(f.rng.Uint64())
	out.files, out.onDisk, out.dirOps = f.files, f.onDisk, f.dirOps
	return out
}

// PowerLoss returns what is found after the machine lost power.
func (f *FS) PowerLoss() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
	for _, op := range f.dirOps[:f.rng.IntN(len(f.dirOps)+1)] {
		op(f.onDisk)
	}
	out := New(f.rng.Uint64())
	for name, n := range f.onDisk {
		data := append([]byte(nil), n.disk...)
		// Sizes may arrive before content, content in any order.
		if len(n.data) > len(data) && f.rng.IntN(2) == 0 {
			data = append(data, make([]byte, f.rng.IntN(len(n.data)-len(data)+1))...)
		} else if len(n.data) < len(data) && f.rng.IntN(2) == 0 {
			data = data[:len(n.data)]
		}
		for _, e := range n.dirty {
			for at := e.from; at < e.to; {
				end := min((at/sector+1)*sector, e.to)
				if f.rng.IntN(2) == 0 && end <= int64(len(n.data)) {
					if int64(len(data)) < end {
						data = append(data, make([]byte, end-int64(len(data)))...)
					}
					copy(data[at:end], n.data[at:end])
				}
				at = end
			}
		}
		c := &node{data: data, disk: append([]byte(nil), data...)}
		out.files[name], out.onDisk[name] = c, c
	}
	return out
}

// Names returns the names of all files, sorted.
func (f *FS) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for n := range f.files {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// Content returns a copy of a file, SetContent replaces one behind the back
// of whoever has it open.
func (f *FS) Content(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.files[name]; n != nil {
		return append([]byte(nil), n.data...)
	}
	return nil
}

// SetContent is described at Content. Nil removes the file.
func (f *FS) SetContent(name string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if data == nil {
		delete(f.files, name)
		delete(f.onDisk, name)
		return
	}
	c := &node{data: append([]byte(nil), data...), disk: append([]byte(nil), data...)}
	f.files[name], f.onDisk[name] = c, c
}

// Clone returns an independent copy of the running state.
func (f *FS) Clone() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := New(7)
	for name, n := range f.files {
		c := &node{data: append([]byte(nil), n.data...), disk: append([]byte(nil), n.data...)}
		out.files[name], out.onDisk[name] = c, c
	}
	return out
}

// step counts an operation. partial is true when it is the one at which the
// system dies: it may still have happened in part.
func (f *FS) step(op, name string) (partial bool, err error) {
	if f.crashed {
		return false, ErrCrashed
	}
	if f.fail != nil {
		if err := f.fail(op, name); err != nil {
			return false, &fs.PathError{Op: op, Path: name, Err: err}
		}
	}
	f.ops++
	if f.crashAt > 0 && f.ops >= f.crashAt {
		f.crashed = true
		return true, ErrCrashed
	}
	return false, nil
}

func notExist(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

// Open implements vfs.FS.
func (f *FS) Open(name string) (file, error) { return f.open("open", name) }

// OpenWrite implements vfs.FS.
func (f *FS) OpenWrite(name string) (file, error) { return f.open("open", name) }

func (f *FS) open(op, name string) (file, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, ErrCrashed
	}
	n := f.files[name]
	if n == nil {
		return nil, notExist(op, name)
	}
	return &handle{f, n, name}, nil
}

// Create implements vfs.FS.
func (f *FS) Create(name string) (file, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	partial, err := f.step("create", name)
	if err != nil && !partial {
		return nil, err
	}
	if f.files[name] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	n := &node{}
	f.dir(func(m map[string]*node) { m[name] = n })
	return &handle{f, n, name}, err
}

// dir applies a directory operation now and remembers it until SyncDir.
func (f *FS) dir(op func(map[string]*node)) {
	op(f.files)
	f.dirOps = append(f.dirOps, op)
}

// Rename implements vfs.FS.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	partial, err := f.step("rename", from)
	if err != nil && !partial {
		return err
	}
	n := f.files[from]
	if n == nil {
		return notExist("rename", from)
	}
	f.dir(func(m map[string]*node) {
		delete(m, from)
		m[to] = n
	})
	return err
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.files[name] == nil && !f.crashed {
		return notExist("remove", name)
	}
	partial, err := f.step("remove", name)
	if err != nil && !partial {
		return err
	}
	f.dir(func(m map[string]*node) { delete(m, name) })
	return err
}

// SyncDir implements vfs.FS.
func (f *FS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.step("syncdir", dir); err != nil {
		return err
	}
	for _, op := range f.dirOps {
		op(f.onDisk)
	}
	f.dirOps = nil
	return nil
}

// List implements vfs.FS.
func (f *FS) List(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, ErrCrashed
	}
	var names []string
	for n := range f.files {
		if path.Dir(n) == dir {
			names = append(names, path.Base(n))
		}
	}
	sort.Strings(names)
	return names, nil
}

// MkdirAll implements vfs.FS. Directories exist as soon as they are named.
func (f *FS) MkdirAll(string) error { return nil }

// Lock implements vfs.FS.
func (f *FS) Lock(name string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.locked[name] {
		return nil, errors.New("in use by another process")
	}
	f.locked[name] = true
	return unlock{f, name}, nil
}

type unlock struct {
	f    *FS
	name string
}

func (u unlock) Close() error {
	u.f.mu.Lock()
	defer u.f.mu.Unlock()
	delete(u.f.locked, u.name)
	return nil
}
