package cache

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestCache(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	c, err := Open(t.Context(), dir, "key")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := c.Load(); e != nil || err != nil {
		t.Errorf("an empty cache: %v %v", e, err)
	}
	if err := c.Save(&Entry{Token: "t", Expires: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if e, err := c.Load(); err != nil || e == nil || e.Token != "t" {
		t.Errorf("%v %v", e, err)
	}
	for _, path := range []string{c.path, c.path + ".lock"} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", path, info, err)
		}
	}
	// Another one waits, and not for ever.
	short, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond)
	defer cancel()
	if _, err := Open(short, dir, "key"); err == nil {
		t.Error("a lock that is held is given twice")
	}
	other, err := Open(t.Context(), dir, "another key")
	if err != nil {
		t.Fatal(err)
	}
	other.Close()

	// What others can read, or have put there, is not used.
	if err := os.Chmod(c.path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Load(); err == nil {
		t.Error("a file that others can read is used")
	}
	moved := c.path + ".moved"
	if err := os.Rename(c.path, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(moved, c.path); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Load(); err == nil {
		t.Error("a link is followed")
	}
	if err := c.Forget(); err != nil {
		t.Error(err)
	}
	if err := c.Forget(); err != nil {
		t.Errorf("nothing to forget: %v", err)
	}
	c.Close()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, "key"); err == nil {
		t.Error("a directory that others can read is used")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"token":"t","expires":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"token":"t","certificate":"c","expires":"2026-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if e := parse(data); e != nil && (e.Expires.IsZero() || e.Token == "" && e.Certificate == "") {
			t.Errorf("%q is taken for a credential", data)
		}
	})
}
