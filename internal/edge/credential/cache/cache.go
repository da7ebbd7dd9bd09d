// Package cache keeps the credential of one person for one sign-in between the
// runs of an exec plugin.
//
// It owns: one file for each sign-in, mode 0600, in a directory of mode 0700,
// replaced atomically, and a lock on it, so that of many kubectls that start at
// once one renews and the others wait for it. A refresh token that providers
// let be used once needs that lock. It refuses: files that another user owns,
// can read or has put there as a link.
//
// Start at [Open].
package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gatehouse-dev/gatehouse/internal/durable"
)

// maxFile bounds what is read, in bytes.
const maxFile = 1 << 20

// lockPoll is how often a lock that is held is tried again.
const lockPoll = 50 * time.Millisecond

// Entry is what is kept. Its fields are secret; it has no String method that
// would show them, and goes nowhere but into the file.
type Entry struct {
	// Name says for people which sign-in the file is of.
	Name string `json:"name"`
	// Token is shown to the control plane.
	Token   string `json:"token,omitempty"`
	Refresh string `json:"refreshToken,omitempty"`
	Subject string `json:"subject,omitempty"`
	// Certificate and Key, in PEM, are shown instead of a token.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`

	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	// Given is to which process the credential was handed last, and until when
	// it was told to use it.
	Given *Given `json:"given,omitempty"`
}

// Given is the hand-over of a credential to a process.
type Given struct {
	// Process names a process for as long as the machine runs.
	Process string    `json:"process"`
	Until   time.Time `json:"until"`
}

// Cache is one locked file. It is not safe for concurrent use.
type Cache struct {
	path string
	lock *os.File
}

// Dir is where the files of this user are.
func Dir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache: %w", err)
	}
	return filepath.Join(base, "gatehouse", "credentials"), nil
}

// Open locks the file of the sign-in that key names, waiting for as long as ctx
// lasts. Close it.
func Open(ctx context.Context, dir, key string) (*Cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	if err := private(info); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("cache: %s must be a directory of this user alone, mode 0700", dir)
	}
	sum := sha256.Sum256([]byte(key))
	path := filepath.Join(dir, hex.EncodeToString(sum[:16])+".json")
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return &Cache{path: path, lock: lock}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = lock.Close()
			return nil, fmt.Errorf("cache: lock: %w", err)
		}
		pause := time.NewTimer(lockPoll)
		select {
		case <-ctx.Done():
			pause.Stop()
			_ = lock.Close()
			return nil, fmt.Errorf("cache: another process is signing in: %w", context.Cause(ctx))
		case <-pause.C:
		}
	}
}

// Close gives the lock back.
func (c *Cache) Close() error { return c.lock.Close() }

// Load returns what is kept, or nil. A file that does not parse counts as
// nothing, because the next sign-in replaces it.
func (c *Cache) Load() (*Entry, error) {
	f, err := os.OpenFile(c.path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	if err := private(info); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cache: %s can be read by others; delete it and sign in again", c.path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	return parse(data), nil
}

// parse reads a file's content; nil for what is none.
func parse(data []byte) *Entry {
	var e Entry
	if json.Unmarshal(data, &e) != nil || e.Expires.IsZero() || (e.Token == "") == (e.Certificate == "") {
		return nil
	}
	return &e
}

// Save replaces what is kept.
func (c *Cache) Save(e *Entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	if err := durable.WriteFile(c.path, append(data, '\n')); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	return nil
}

// Forget removes what is kept.
func (c *Cache) Forget() error {
	if err := durable.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cache: %w", err)
	}
	return nil
}

// private reports whether this user alone can read what info is of.
func private(info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return fs.ErrPermission
	}
	return nil
}
