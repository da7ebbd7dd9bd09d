package registry_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/merkle"
	"github.com/gatehouse-dev/gatehouse/internal/audit/registry"
	"github.com/gatehouse-dev/gatehouse/internal/audit/tiles"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys/keystest"
)

var testKey = ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))

const origin = "gatehouse.test/audit/r1"

func openLog(t *testing.T, fs *crashfs.FS, key ed25519.PrivateKey) *ledger.Log {
	t.Helper()
	l, err := ledger.Open("log", ledger.Config{ID: "r1", Origin: origin, Key: key, FS: fs, SegmentRecords: 512, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func write(t *testing.T, l *ledger.Log, prefix string, n int) {
	t.Helper()
	for i := range n {
		e := &audit.Event{Level: audit.LevelMetadata, AuditID: fmt.Sprint(prefix, i), Stage: audit.StageResponseComplete, Verb: "get"}
		if err := l.Append(t.Context(), e, audit.Buffered); err != nil {
			t.Fatal(err)
		}
	}
}

// source is a log as the keeper sees it.
type source struct {
	*ledger.Log
	fs *crashfs.FS
}

func (s source) Checkpoint() []byte { return s.Stats().Checkpoint }
func (s source) RootAt(size uint64) (merkle.Hash, bool, error) {
	src, err := tiles.Open(s.fs, "log")
	if err != nil {
		return merkle.Hash{}, false, err
	}
	return src.RootAt(size)
}

func keeper(t *testing.T, store *keystest.Memory, s registry.Source) *registry.Keeper {
	t.Helper()
	k, err := registry.New(registry.Config{Store: store, ID: "r1", Origin: origin, Source: s, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// session writes n records in one life of a replica and registers the end.
func session(t *testing.T, store *keystest.Memory, fs *crashfs.FS, key ed25519.PrivateKey, prefix string, n int) error {
	t.Helper()
	l := openLog(t, fs, key)
	k := keeper(t, store, source{l, fs})
	if err := k.Begin(t.Context()); err != nil {
		l.Close()
		return err
	}
	write(t, l, prefix, n)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return k.End(t.Context())
}

func registered(t *testing.T, store *keystest.Memory) registry.Log {
	t.Helper()
	logs, err := registry.List(t.Context(), store)
	if err != nil || len(logs) != 1 {
		t.Fatalf("%+v %v", logs, err)
	}
	return logs[0]
}

func TestRegistrationFollowsTheLog(t *testing.T) {
	t.Parallel()
	store, fs := keystest.NewMemory(), crashfs.New(1)
	for i := range 3 {
		if err := session(t, store, fs, testKey, fmt.Sprint(i), 400); err != nil {
			t.Fatal(err)
		}
		l := registered(t, store)
		if size, err := l.Size(); err != nil || size != uint64(400*(i+1)) {
			t.Fatalf("session %d: %d records registered, %v", i, size, err)
		}
	}
	// A new key is registered beside the old one.
	other := ed25519.NewKeyFromSeed([]byte("fedcba9876543210fedcba9876543210"))
	if err := session(t, store, fs, other, "k", 5); err != nil {
		t.Fatal(err)
	}
	l := registered(t, store)
	if size, err := l.Size(); err != nil || size != 1205 || len(l.Keys) != 2 {
		t.Fatalf("%d records, keys %v, %v", size, l.Keys, err)
	}
}

func TestAttacksOnTheLogAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		attack func(t *testing.T, fs *crashfs.FS) *crashfs.FS
		want   string
	}{
		"restored from an older copy": {func(t *testing.T, _ *crashfs.FS) *crashfs.FS {
			older := crashfs.New(1)
			l := openLog(t, older, testKey)
			write(t, l, "a", 300)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return older
		}, "cut off"},
		"rewritten with the key": {func(t *testing.T, _ *crashfs.FS) *crashfs.FS {
			forged := crashfs.New(1)
			l := openLog(t, forged, testKey)
			write(t, l, "forged", 900)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return forged
		}, "altered"},
		"removed": {func(*testing.T, *crashfs.FS) *crashfs.FS { return crashfs.New(1) }, "cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, fs := keystest.NewMemory(), crashfs.New(1)
			if err := session(t, store, fs, testKey, "a", 700); err != nil {
				t.Fatal(err)
			}
			before := registered(t, store)
			forged := c.attack(t, fs)
			l := openLog(t, forged, testKey)
			write(t, l, "x", 1)
			if err := l.Close(); err != nil { // so that there is a checkpoint
				t.Fatal(err)
			}
			if err := session(t, store, forged, testKey, "b", 1); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if after := registered(t, store); after.Checkpoint != before.Checkpoint {
				t.Error("the registration was overwritten")
			}
		})
	}
}

func TestRetire(t *testing.T) {
	t.Parallel()
	store, fs := keystest.NewMemory(), crashfs.New(1)
	if err := session(t, store, fs, testKey, "a", 300); err != nil {
		t.Fatal(err)
	}
	old := registered(t, store).Checkpoint
	l := openLog(t, fs, testKey)
	write(t, l, "b", 10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	final := l.Stats().Checkpoint
	now := time.Now()
	if _, err := registry.Retire(t.Context(), store, "r1", []byte("no checkpoint"), now); fault.KindOf(err) != fault.Invalid {
		t.Errorf("garbage as final checkpoint: %v", err)
	}
	if _, err := registry.Retire(t.Context(), store, "r2", nil, now); fault.KindOf(err) != fault.NotFound {
		t.Errorf("unknown log: %v", err)
	}
	if got, err := registry.Retire(t.Context(), store, "r1", final, now); err != nil || got.Retired == nil || got.Checkpoint != string(final) {
		t.Fatalf("%+v %v", got, err)
	}
	if _, err := registry.Retire(t.Context(), store, "r1", []byte(old), now); fault.KindOf(err) != fault.Conflict {
		t.Errorf("an older final checkpoint: %v", err)
	}
	if got, err := registry.Retire(t.Context(), store, "r1", nil, now.Add(time.Hour)); err != nil || !got.Retired.Equal(now) {
		t.Errorf("retired twice: %+v %v", got, err)
	}
	if err := session(t, store, fs, testKey, "c", 1); err == nil || !strings.Contains(err.Error(), "retired") {
		t.Errorf("a retired log was opened: %v", err)
	}
}

// fixed is a source that stands still until it is told.
type fixed struct {
	key    string
	signed atomic.Value // []byte
}

func (f *fixed) VerifierKey() string                             { return f.key }
func (f *fixed) Checkpoint() []byte                              { b, _ := f.signed.Load().([]byte); return b }
func (f *fixed) RootAt(uint64) (h merkle.Hash, ok bool, e error) { return h, false, nil }

func TestRunRegistersAndEndsWhenRetired(t *testing.T) {
	t.Parallel()
	fs := crashfs.New(1)
	l := openLog(t, fs, testKey)
	write(t, l, "a", 20)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		store := keystest.NewMemory()
		s := &fixed{key: l.VerifierKey()}
		k := keeper(t, store, s)
		if err := k.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- k.Run(ctx) }()
		synctest.Wait()
		s.signed.Store(l.Stats().Checkpoint)
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		logged := registered(t, store)
		if size, err := logged.Size(); err != nil || size != 20 {
			t.Fatalf("%d records after an interval, %v", size, err)
		}
		if _, err := registry.Retire(t.Context(), store, "r1", nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		select {
		case err := <-done:
			if err == nil {
				t.Error("a retired replica goes on")
			}
		default:
			t.Error("a retired replica goes on")
		}
	})
}
