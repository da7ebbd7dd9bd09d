package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestWriteFileReplaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("a longer old content"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "new")
	wantNames(t, dir, "f")
}

func TestWriteFileReplacesASymlinkInsteadOfItsTarget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target, path := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.WriteFile(target, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	wantFile(t, target, "untouched")
	wantFile(t, path, "new")
}

func TestCreateFileRefusesWhatExists(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, dangling, sub := filepath.Join(dir, "file"), filepath.Join(dir, "dangling"), filepath.Join(dir, "sub")
	if err := CreateFile(file, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, dangling, sub} {
		if err := CreateFile(path, []byte("second")); !errors.Is(err, fs.ErrExist) {
			t.Errorf("create %s: %v, want fs.ErrExist", filepath.Base(path), err)
		}
	}
	wantFile(t, file, "first")
	wantNames(t, dir, "dangling", "file", "sub")
}

func TestConcurrentCreateHasOneWinner(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	var wins atomic.Int32
	var winner atomic.Value
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			data := fmt.Sprintf("writer %d", i)
			switch err := CreateFile(path, []byte(data)); {
			case err == nil:
				wins.Add(1)
				winner.Store(data)
			case !errors.Is(err, fs.ErrExist):
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		t.Fatalf("%d writers won, want 1", wins.Load())
	}
	wantFile(t, path, winner.Load().(string))
}

// TestEveryFailureLeavesTheOldContent fails each step in turn.
func TestEveryFailureLeavesTheOldContent(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken disk")
	cases := []struct {
		name string
		fail func(*steps)
		want string
	}{
		{"write", func(s *steps) {
			s.write = func(f *os.File, data []byte) error {
				_, _ = f.Write(data[:1])
				return broken
			}
		}, "old"},
		{"sync", func(s *steps) { s.sync = func(*os.File) error { return broken } }, "old"},
		{"rename", func(s *steps) { s.rename = func(string, string) error { return broken } }, "old"},
		{"sync directory", func(s *steps) { s.syncDir = func(string) error { return broken } }, "new"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			if err := WriteFile(path, []byte("old")); err != nil {
				t.Fatal(err)
			}
			s := system
			tc.fail(&s)
			if err := s.put(path, []byte("new"), s.rename); !errors.Is(err, broken) {
				t.Fatalf("got %v, want the failure", err)
			}
			wantFile(t, path, tc.want)
			wantNames(t, dir, "f")
		})
	}
}

// TestOrder proves that the data is on disk before it gets its name, and the
// name before the call returns.
func TestOrder(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"rename", "link"} {
		var order []string
		s := steps{
			write:  func(f *os.File, data []byte) error { order = append(order, "write"); return system.write(f, data) },
			sync:   func(f *os.File) error { order = append(order, "sync"); return system.sync(f) },
			rename: func(a, b string) error { order = append(order, "rename"); return system.rename(a, b) },
			link:   func(a, b string) error { order = append(order, "link"); return system.link(a, b) },
			syncDir: func(dir string) error {
				order = append(order, "sync directory")
				return system.syncDir(dir)
			},
		}
		place := map[string]func(string, string) error{"rename": s.rename, "link": s.link}[name]
		if err := s.put(filepath.Join(t.TempDir(), "f"), []byte("x"), place); err != nil {
			t.Fatal(err)
		}
		if want := []string{"write", "sync", name, "sync directory"}; !slices.Equal(order, want) {
			t.Errorf("order %v, want %v", order, want)
		}
	}
}

func TestErrorsNameThePath(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "missing", "f")
	err := WriteFile(path, nil)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

func TestMkdirAndRemove(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "d")
	for range 2 {
		if err := Mkdir(dir); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	path := filepath.Join(dir, "f")
	if err := WriteFile(path, nil); err != nil {
		t.Fatal(err)
	}
	if err := Mkdir(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a file passed as a directory: %v", err)
	}
	if err := Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := Remove(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("second remove: %v", err)
	}
	wantNames(t, dir)
}

func TestRemoveLeftovers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{tempMark + "ABC", "keep", ".hidden"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, tempMark+"dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := RemoveLeftovers(dir); err != nil {
		t.Fatal(err)
	}
	wantNames(t, dir, tempMark+"dir", ".hidden", "keep")
	if err := RemoveLeftovers(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s holds %q, want %q", filepath.Base(path), got, want)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fileMode {
		t.Errorf("%s has mode %v, want %v", filepath.Base(path), info.Mode(), fs.FileMode(fileMode))
	}
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("directory holds %q, want %q", got, want)
	}
}
