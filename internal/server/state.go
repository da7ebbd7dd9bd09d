package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gatehouse-dev/gatehouse/internal/config"
	"github.com/gatehouse-dev/gatehouse/internal/durable"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/storage/etcd"
)

// state is what survives the process: the data directory, the root key and
// etcd.
type state struct {
	dir       string
	lock      *os.File
	replica   string
	ring      *keys.Keyring
	embedded  *etcd.Embedded // nil with an external etcd
	endpoints etcd.Endpoints
	client    *clientv3.Client
	vault     *keys.Vault
	monitor   *etcd.Monitor
}

// keyArea is where sealed keys are kept in etcd.
const keyArea = "keys"

// openState opens everything or nothing.
func openState(ctx context.Context, cfg config.Config, now func() time.Time, log *slog.Logger, damaged func(string)) (s *state, err error) {
	s = &state{dir: cfg.DataDir()}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return s, fmt.Errorf("create data directory: %w", err)
	}
	if info, err := os.Stat(s.dir); err != nil {
		return s, fmt.Errorf("open data directory: %w", err)
	} else if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(s.dir, 0o700); err != nil {
			return s, fmt.Errorf("data directory %s can be read by others: %w", s.dir, err)
		}
	}
	if s.lock, err = lockDir(s.dir); err != nil {
		return s, err
	}
	if err := durable.RemoveLeftovers(s.dir); err != nil {
		return s, fmt.Errorf("clean data directory: %w", err)
	}
	if s.replica, err = replicaID(filepath.Join(s.dir, "replica-id")); err != nil {
		return s, err
	}
	if s.ring, err = openRoot(cfg); err != nil {
		return s, err
	}
	if e := cfg.Etcd(); len(e.Endpoints) > 0 {
		s.endpoints = etcd.Endpoints{URLs: e.Endpoints, CAFile: e.CAFile, CertFile: e.CertFile, KeyFile: e.KeyFile}
	} else {
		if s.embedded, err = etcd.Embed(ctx, filepath.Join(s.dir, "etcd"), log, damaged); err != nil {
			return s, err
		}
		s.endpoints = etcd.Endpoints{URLs: []string{s.embedded.Endpoint()}}
	}
	if s.client, err = etcd.Connect(ctx, s.endpoints, log); err != nil {
		return s, err
	}
	s.monitor = etcd.NewMonitor(s.client, now)
	s.vault, err = keys.OpenVault(ctx, keys.VaultConfig{Store: etcd.NewBlobs(s.client, keyArea), Keyring: s.ring, Clock: now, Logger: log})
	return s, err
}

func (s *state) close() {
	if s.client != nil {
		s.client.Close()
	}
	if s.embedded != nil {
		s.embedded.Close()
	}
	if s.lock != nil {
		s.lock.Close()
	}
}

// lockDir keeps a second process off the directory. The lock ends with the
// process, however it ends.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %s is in use by another gatehouse", dir)
		}
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	return f, nil
}

// openRoot opens the root key; the first start of a directory creates it
// there. A directory that has data and lost its key is not a first start.
func openRoot(cfg config.Config) (*keys.Keyring, error) {
	path := cfg.RootKeyFile()
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) && cfg.RootKeyIsOurs() {
		if _, err := os.Stat(filepath.Join(cfg.DataDir(), "etcd", "data")); err == nil {
			return nil, fmt.Errorf("root key %s is missing, and the data in %s cannot be read without it: restore it from its backup", path, cfg.DataDir())
		}
		return keys.CreateRoot(path)
	}
	return keys.OpenRoot(path)
}

// replicaID is this replica's name for good: that of its audit log.
func replicaID(path string) (string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		id := hex.EncodeToString(b[:])
		if err := durable.CreateFile(path, []byte(id+"\n")); err != nil {
			return "", fmt.Errorf("create replica id: %w", err)
		}
		return id, nil
	}
	if err != nil {
		return "", fmt.Errorf("read replica id: %w", err)
	}
	id := strings.TrimSpace(string(data))
	if b, err := hex.DecodeString(id); err != nil || len(b) != 8 {
		return "", fmt.Errorf("replica id in %s is damaged", path)
	}
	return id, nil
}
