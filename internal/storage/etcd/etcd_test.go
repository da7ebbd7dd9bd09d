package etcd_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/keys/keystest"
	"github.com/gatehouse-dev/gatehouse/internal/storage/etcd"
)

func start(t *testing.T, dir string) *clientv3.Client {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	e, err := etcd.Embed(t.Context(), dir, log, func(reason string) { t.Errorf("damaged: %s", reason) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	c, err := etcd.Connect(t.Context(), etcd.Endpoints{URLs: []string{e.Endpoint()}}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestBlobsIsAKeyStore(t *testing.T) {
	t.Parallel()
	client := start(t, t.TempDir())
	var area atomic.Int32
	keystest.RunStore(t, func(*testing.T) keys.Store {
		return etcd.NewBlobs(client, fmt.Sprintf("test-%d", area.Add(1)))
	})
}

// A directory too long for a socket path must work all the same.
func TestEmbedInADeepDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	c := start(t, dir)
	if _, err := c.Put(t.Context(), "/k", "v"); err != nil {
		t.Fatal(err)
	}
}

func TestEmbedRefusesDamage(t *testing.T) {
	t.Parallel()
	build := func(t *testing.T) (dir, db string) {
		dir = t.TempDir()
		log := slog.New(slog.DiscardHandler)
		e, err := etcd.Embed(t.Context(), dir, log, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		e.Close()
		return dir, filepath.Join(dir, "data", "member", "snap", "db")
	}
	for name, damage := range map[string]func(t *testing.T, db string){
		"truncated": func(t *testing.T, db string) {
			if err := os.Truncate(db, 100); err != nil {
				t.Fatal(err)
			}
		},
		"overwritten": func(t *testing.T, db string) {
			if err := os.WriteFile(db, []byte(strings.Repeat("not a database ", 4096)), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"removed": func(t *testing.T, db string) {
			if err := os.Remove(db); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, db := build(t)
			damage(t, db)
			e, err := etcd.Embed(t.Context(), dir, slog.New(slog.DiscardHandler), func(string) {})
			if err == nil {
				e.Close()
				t.Fatal("damaged data was accepted")
			}
			if !strings.Contains(err.Error(), "damaged") || strings.Contains(err.Error(), "\n") {
				t.Fatalf("want one line that says damaged, got %q", err)
			}
		})
	}
}

func TestMonitorAges(t *testing.T) {
	t.Parallel()
	client := start(t, t.TempDir())
	var now atomic.Int64
	now.Store(1)
	m := etcd.NewMonitor(client, func() time.Time { return time.Unix(now.Load(), 0) })
	now.Store(100)
	if got := m.Age(); got != 99*time.Second {
		t.Fatalf("age %v before any confirmation", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	deadline := time.After(time.Minute)
	for m.Age() != 0 {
		select {
		case <-deadline:
			t.Fatal("etcd confirmed no progress")
		case <-time.After(10 * time.Millisecond):
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Values reach everybody who follows, removals and all that was there before
// included.
func TestValuesAreFollowed(t *testing.T) {
	t.Parallel()
	client := start(t, t.TempDir())
	v := etcd.NewValues(client, "test")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, value := range map[string]string{"a/n/x": "1", "ab/n/y": "2"} {
		if err := v.Put(ctx, name, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	seen := make(chan string, 16)
	done := make(chan error)
	go func() {
		done <- v.Follow(ctx, func(all map[string][]byte) { seen <- fmt.Sprint(len(all), string(all["a/n/x"])) },
			func(name string, value []byte) { seen <- fmt.Sprintf("%s=%s %t", name, value, value == nil) })
	}()
	expect := func(want string) {
		t.Helper()
		if got := <-seen; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	expect("21")
	for _, change := range []struct {
		do   func() error
		want string
	}{
		{func() error { return v.Put(ctx, "a/n/x", []byte("3")) }, "a/n/x=3 false"},
		{func() error { return v.Put(ctx, "a/state", []byte("{}")) }, "a/state={} false"},
		{func() error { return v.Remove(ctx, "a/state") }, "a/state= true"},
		{func() error { return v.Remove(ctx, "a/") }, "a/n/x= true"},
		{func() error { return v.Put(ctx, "z", nil) }, "z= true"},
	} {
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		expect(change.want)
	}
	if err := v.Remove(ctx, "never/was"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "/", "../x", "A", "a//b"} {
		if v.Put(ctx, bad, nil) == nil || v.Remove(ctx, bad) == nil {
			t.Errorf("%q is taken for a name", bad)
		}
	}
	if v.Put(ctx, "x", make([]byte, keys.MaxValue+1)) == nil {
		t.Error("a value of any size is taken")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
