// Package durable writes small files so that a crash at any moment leaves
// either the old content or the new, never a mixture and never an empty file.
//
// It owns: the order write, fsync file, rename, fsync directory, and the mode
// 0600 of everything it writes. The directory must be synced too, because a
// rename is only an entry in it; and a failed fsync is final, because the
// kernel may have dropped the dirty pages and the next fsync would report
// success (Rebello et al., "Can Applications Recover from fsync Failures?",
// USENIX ATC 2020; Pillai et al., "All File Systems Are Not Created Equal",
// OSDI 2014). It refuses: other modes, appending, and large files.
//
// Start at [WriteFile] and [CreateFile].
package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// fileMode is the mode of every file written here.
const fileMode = 0o600

// tempMark is part of every temporary name, so that [RemoveLeftovers] can tell
// them from files of others.
const tempMark = ".gatehouse-tmp-"

// steps are the system calls in use. Tests replace them to fail each in turn.
type steps struct {
	write   func(f *os.File, data []byte) error
	sync    func(f *os.File) error
	rename  func(from, to string) error
	link    func(from, to string) error
	syncDir func(dir string) error
}

var system = steps{
	write:   func(f *os.File, data []byte) error { _, err := f.Write(data); return err },
	sync:    func(f *os.File) error { return f.Sync() },
	rename:  os.Rename,
	link:    linkOnce,
	syncDir: syncDir,
}

// WriteFile replaces the file at path with data, mode 0600. When it returns
// nil the content is on disk under its name. When it returns an error the old
// content is still whole, unless the error came from syncing the directory:
// then path holds one of the two. A symbolic link at path is replaced, not
// followed. Concurrent calls are safe; the last one wins.
func WriteFile(path string, data []byte) error { return system.put(path, data, system.rename) }

// CreateFile is [WriteFile] for a path that must not exist yet. If anything is
// there, also a dangling symbolic link, it changes nothing and returns an
// error that is [fs.ErrExist]. Of several concurrent calls exactly one wins.
func CreateFile(path string, data []byte) error { return system.put(path, data, system.link) }

// Mkdir creates one directory with mode 0700 and syncs its parent. A directory
// that exists already is left as it is; anything else at path is an error.
func Mkdir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
			return nil
		}
		return err
	}
	return system.syncDir(filepath.Dir(path))
}

// Remove deletes the file at path and syncs its directory. A missing file is
// an error that is [fs.ErrNotExist].
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return system.syncDir(filepath.Dir(path))
}

// RemoveLeftovers deletes the temporary files that a crash left in dir. The
// caller must be the only writer of dir at that moment.
func RemoveLeftovers(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), tempMark) && entry.Type().IsRegular() {
			errs = append(errs, os.Remove(filepath.Join(dir, entry.Name())))
		}
	}
	return errors.Join(errs...)
}

// put writes data to a new temporary file beside path and lets place give it
// its name. The temporary name never survives a return.
func (s steps) put(path string, data []byte, place func(from, to string) error) (err error) {
	dir := filepath.Dir(path)
	temp := filepath.Join(dir, tempMark+rand.Text())
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		// Once placed, the temporary name is gone already.
		if rmErr := os.Remove(temp); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) && err == nil {
			err = fmt.Errorf("write %s: %w", path, rmErr)
		}
	}()
	if err := s.fill(f, data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := place(temp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := s.syncDir(dir); err != nil {
		return fmt.Errorf("write %s: sync directory: %w", path, err)
	}
	return nil
}

// fill writes, syncs and closes f.
func (s steps) fill(f *os.File, data []byte) error {
	err := s.write(f, data)
	if err == nil {
		err = s.sync(f)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// linkOnce renames from to to, unless to exists.
func linkOnce(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err
}
