package keys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/gatehouse-dev/gatehouse/internal/durable"
)

// OpenRoot reads the root key file at path. It refuses a symbolic link, a file
// that belongs to another user, and a file that others may read or write. Each
// error is one line that says what to do; a missing file is [fs.ErrNotExist].
func OpenRoot(path string) (*Keyring, error) {
	return openRoot(path, os.Geteuid())
}

// CreateRoot makes a new root key and writes it to path, mode 0600. It never
// replaces a file: whatever exists there is an error that is [fs.ErrExist].
func CreateRoot(path string) (*Keyring, error) {
	root, err := GenerateRoot()
	if err != nil {
		return nil, fmt.Errorf("create root key: %w", err)
	}
	ring, err := NewKeyring(root)
	if err != nil {
		return nil, fmt.Errorf("create root key: %w", err)
	}
	if err := durable.CreateFile(path, formatRoots([]Root{root})); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("create root key %s: %w: move it away first if it is not in use any more", path, fs.ErrExist)
		}
		return nil, fmt.Errorf("create root key: %w", err)
	}
	return ring, nil
}

func openRoot(path string, uid int) (*Keyring, error) {
	// Nonblocking, so that a pipe in place of the file is an error and not a stall.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("root key %s: %w: restore it from its backup, nothing sealed under it can be read without it", path, fs.ErrNotExist)
	case errors.Is(err, syscall.ELOOP):
		return nil, fmt.Errorf("root key %s: is a symbolic link: put the file itself there", path)
	case err != nil:
		return nil, fmt.Errorf("root key: %w", err)
	}
	defer f.Close() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	if err := checkRootFile(path, info, uid); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxRootFile+1))
	if err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	roots, err := parseRoots(data)
	if err != nil {
		return nil, fmt.Errorf("root key %s: %w: restore the file from its backup", path, err)
	}
	return NewKeyring(roots...)
}

// checkRootFile looks at the opened file, not at the path, so that the answer
// holds for what is read.
func checkRootFile(path string, info fs.FileInfo, uid int) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("root key %s: is not a regular file: put the key file there", path)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("root key %s: owner cannot be determined", path)
	}
	if int(stat.Uid) != uid {
		return fmt.Errorf("root key %s: belongs to user %d, but this process runs as user %d: run chown %d %s", path, stat.Uid, uid, uid, path)
	}
	if mode := info.Mode().Perm(); mode&0o177 != 0 {
		return fmt.Errorf("root key %s: has mode %04o, want 0600: run chmod 600 %s, and rotate the key if others could have read it", path, mode, path)
	}
	return nil
}
