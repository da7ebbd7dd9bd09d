package etcd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// verify opens the database file as etcd would, but where a damage becomes an
// error: etcd and bbolt answer unreadable pages with a panic, and some of them
// in goroutines that nobody can recover.
//
// It reads both meta pages, the free list and the root of every bucket; a
// damaged leaf shows when etcd loads its index and ends the process through
// the damage hook.
func verify(dir string) (err error) {
	path := filepath.Join(dir, "data", "member", "snap", "db")
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		if entries, rerr := os.ReadDir(filepath.Join(dir, "data", "member", "wal")); rerr == nil && len(entries) > 0 {
			return fmt.Errorf("etcd data in %s is damaged: %s is missing; restore a backup", dir, path)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("open etcd database: %w", err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	f.Close()
	if err != nil {
		return fmt.Errorf("read etcd database: %w", err)
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("etcd data in %s is damaged: %v; restore a backup", dir, r)
		}
	}()
	if size < int64(2*os.Getpagesize()) {
		return fmt.Errorf("etcd data in %s is damaged: the database holds %d bytes; restore a backup", dir, size)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second, PreLoadFreelist: true})
	if err != nil {
		if errors.Is(err, bolterrors.ErrTimeout) {
			return fmt.Errorf("etcd data in %s is in use by another process", dir)
		}
		return fmt.Errorf("etcd data in %s is damaged: %w; restore a backup", dir, err)
	}
	defer db.Close()
	return db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			b.Cursor().First()
			return nil
		})
	})
}
