package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// refusesToStart runs serve where it must give up: with a non-zero code, one
// line that says what is wrong, no trace of a crash, and never ready.
func refusesToStart(t *testing.T, says []string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	address, err := harness.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	got, err := harness.RunGatehouse(ctx, append([]string{"serve", "--listen", address}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	if got.Code == 0 || got.Code < 0 {
		t.Errorf("want an exit code that says failure: %v", got)
	}
	if strings.Contains(got.Stdout, "ready") {
		t.Errorf("it said ready: %v", got)
	}
	for _, trace := range []string{"panic:", "goroutine ", "runtime error", ".go:"} {
		if strings.Contains(got.Stderr, trace) {
			t.Errorf("shows %q: %v", trace, got)
		}
	}
	lines := strings.Split(strings.TrimSpace(got.Stderr), "\n")
	last := lines[len(lines)-1]
	for _, text := range says {
		if !strings.Contains(last, text) {
			t.Errorf("the last line does not name %q: %v", text, got)
		}
	}
}

// ended returns the data directory of a control plane that ran and drained.
func ended(t *testing.T) string {
	t.Helper()
	g := start(t)
	k := as(t, g)
	k.run("create", "configmap", "c", "-n", "default", "--from-literal=k=v")
	if err := drain(g); err != nil {
		t.Fatal(err)
	}
	return g.DataDir
}

// copyDir copies a data directory, so that each fault starts from a good one.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	// CopyFS widens no rights, but a copy of ours keeps the narrow ones.
	err := filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// find returns the files below dir whose path ends so.
func find(t *testing.T, dir, suffix string) []string {
	t.Helper()
	var found []string
	files(t, dir, func(path string, _ fs.FileInfo, _ []byte) {
		if strings.HasSuffix(path, suffix) {
			found = append(found, path)
		}
	})
	if len(found) == 0 {
		t.Fatalf("no file %s below %s", suffix, dir)
	}
	return found
}

// scramble overwrites a stretch of a file.
func scramble(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	noise := bytes.Repeat([]byte("damaged!"), 1024)
	copy(content, noise[:min(len(noise), len(content))])
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A damaged store, a foreign root key or a store that does not answer gives one
// clear line and an exit code, never a server that half works.
func TestDamage(t *testing.T) {
	t.Parallel()
	good := ended(t)
	other := ended(t)

	t.Run("database", func(t *testing.T) {
		t.Parallel()
		dir := copyDir(t, good)
		for _, path := range find(t, dir, "/snap/db") {
			scramble(t, path)
		}
		refusesToStart(t, []string{"etcd"}, "--data-dir", dir)
	})
	t.Run("log of the database", func(t *testing.T) {
		t.Parallel()
		dir := copyDir(t, good)
		for _, path := range find(t, dir, ".wal") {
			scramble(t, path)
		}
		refusesToStart(t, []string{"etcd"}, "--data-dir", dir)
	})
	t.Run("root key of another", func(t *testing.T) {
		t.Parallel()
		dir := copyDir(t, good)
		key, err := os.ReadFile(filepath.Join(other, "root.key"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "root.key"), key, 0o600); err != nil {
			t.Fatal(err)
		}
		refusesToStart(t, []string{"root key"}, "--data-dir", dir)
	})
	t.Run("no root key", func(t *testing.T) {
		t.Parallel()
		dir := copyDir(t, good)
		if err := os.Remove(filepath.Join(dir, "root.key")); err != nil {
			t.Fatal(err)
		}
		refusesToStart(t, []string{"root key"}, "--data-dir", dir)
	})
	t.Run("damaged root key", func(t *testing.T) {
		t.Parallel()
		dir := copyDir(t, good)
		scramble(t, filepath.Join(dir, "root.key"))
		refusesToStart(t, []string{"root key"}, "--data-dir", dir)
	})
	t.Run("root key that others can read", func(t *testing.T) {
		t.Parallel()
		dir := copyDir(t, good)
		if err := os.Chmod(filepath.Join(dir, "root.key"), 0o644); err != nil {
			t.Fatal(err)
		}
		refusesToStart(t, []string{"root key", "0600"}, "--data-dir", dir)
	})
	t.Run("data directory is a file", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "data")
		if err := os.WriteFile(path, []byte("not a directory"), 0o600); err != nil {
			t.Fatal(err)
		}
		refusesToStart(t, []string{path}, "--data-dir", path)
	})
	t.Run("etcd that does not answer", func(t *testing.T) {
		t.Parallel()
		etcd := startEtcd(t)
		config := configure(t, etcd)
		etcd.Kill()
		began := time.Now()
		refusesToStart(t, []string{"etcd", strings.TrimPrefix(etcd.URL, "https://")}, "--config", config, "--data-dir", filepath.Join(t.TempDir(), "data"))
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it took %v to notice", took)
		}
	})
	t.Run("directory in use", func(t *testing.T) {
		t.Parallel()
		g := start(t)
		refusesToStart(t, []string{g.DataDir}, "--data-dir", g.DataDir)
		as(t, g).run("get", "namespaces")
	})
	t.Run("bad configuration", func(t *testing.T) {
		t.Parallel()
		config := filepath.Join(t.TempDir(), "gatehouse.yaml")
		text := configHead + "listen: nowhere\nstorage:\n  etcd:\n    endpoints: [\"http://127.0.0.1:1\"]\n"
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		refusesToStart(t, []string{"storage.etcd"}, "--config", config, "--data-dir", filepath.Join(t.TempDir(), "data"))
		ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
		defer cancel()
		got, err := harness.RunGatehouse(ctx, "check", "--config", config)
		if err != nil {
			t.Fatal(err)
		}
		if got.Code != 2 || !strings.Contains(got.Stderr, "storage.etcd.endpoints[0]") || !strings.Contains(got.Stderr, "listen: ") {
			t.Errorf("check must list every fault and exit 2: %v", got)
		}
	})
	t.Run("good", func(t *testing.T) {
		t.Parallel()
		// The copy itself starts: what the others refuse is the fault.
		g, err := harness.StartGatehouse(t.Context(), copyDir(t, good))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.Kill)
		as(t, g).shows([]string{"v"}, "get", "configmap", "c", "-n", "default", "-o", "jsonpath={.data.k}")
	})
}

const configHead = "apiVersion: config.gatehouse.dev/v1alpha1\nkind: Configuration\n"

// configure writes a configuration that keeps what is watched in an etcd of its
// own.
func configure(t *testing.T, etcd *harness.Etcd) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gatehouse.yaml")
	text := configHead + fmt.Sprintf("storage:\n  etcd:\n    endpoints: [%q]\n    caFile: %q\n    certFile: %q\n    keyFile: %q\n",
		etcd.URL, etcd.CAFile, etcd.CertFile, etcd.KeyFile)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func startEtcd(t *testing.T) *harness.Etcd {
	t.Helper()
	etcd, err := harness.StartEtcd(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Kill)
	return etcd
}
