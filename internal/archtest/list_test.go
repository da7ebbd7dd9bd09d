package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const modulePath = "github.com/gatehouse-dev/gatehouse"

// pkg is what the rules need to know of a package, as go list reports it.
type pkg struct {
	ImportPath string
	Name       string
	Dir        string
	Doc        string
	GoFiles    []string
	Imports    []string
}

// rel is the import path within the module: "." for its root.
func (p pkg) rel() string {
	if p.ImportPath == modulePath {
		return "."
	}
	return strings.TrimPrefix(p.ImportPath, modulePath+"/")
}

// repoRoot is the folder of the product's go.mod.
func repoRoot(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// modules lists the folders that hold a go.mod, the product's first.
func modules(t *testing.T) []string {
	t.Helper()
	root := repoRoot(t)
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return filepath.SkipDir
		}
		if d.Name() == "go.mod" {
			dirs = append(dirs, filepath.Dir(path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

func goCommand(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s in %s: %v\n%s", strings.Join(args, " "), dir, err, stderr.Bytes())
	}
	return out
}

// goList asks with -e: a package that does not compile is another test's matter.
func goList(t *testing.T, dir string, args ...string) []pkg {
	t.Helper()
	out := goCommand(t, dir, append([]string{"list", "-e", "-json=ImportPath,Name,Dir,Doc,GoFiles,Imports"}, args...)...)
	var pkgs []pkg
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

var productOnce struct {
	sync.Once
	pkgs []pkg
}

// product lists the packages of the product's module, once for all tests.
func product(t *testing.T) []pkg {
	t.Helper()
	productOnce.Do(func() { productOnce.pkgs = goList(t, repoRoot(t), "./...") })
	if len(productOnce.pkgs) == 0 {
		t.Fatal("go list found no package")
	}
	return productOnce.pkgs
}
