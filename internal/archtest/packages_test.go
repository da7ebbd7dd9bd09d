package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every package of every module opens with a comment in the usual form.
func TestPackageDocs(t *testing.T) {
	t.Parallel()
	for _, dir := range modules(t) {
		pkgs := product(t)
		if dir != repoRoot(t) {
			pkgs = goList(t, dir, "./...")
		}
		for _, p := range pkgs {
			want := "Package " + p.Name + " "
			if p.Name == "main" {
				want = "Command " + filepath.Base(p.Dir) + " "
			}
			if p.Name != "" && !strings.HasPrefix(p.Doc, want) {
				t.Errorf("%s: package comment starts %q, want %q", p.ImportPath, p.Doc, want)
			}
		}
	}
}

// A name that says nothing gathers everything.
func TestPackageNames(t *testing.T) {
	t.Parallel()
	for _, p := range product(t) {
		if slices.Contains([]string{"base", "common", "core", "helper", "helpers", "lib", "misc", "shared", "types", "util", "utils"}, p.Name) {
			t.Errorf("%s: name a package for what it owns", p.ImportPath)
		}
	}
}

// The decision engine takes the time as an argument, so that a decision can be
// repeated.
func TestEngineHasNoClock(t *testing.T) {
	t.Parallel()
	for _, p := range product(t) {
		if !under(p.rel(), []string{"authz"}) {
			continue
		}
		for _, name := range p.GoFiles {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range clockReads(file) {
				t.Errorf("%s reads the clock", fset.Position(at))
			}
		}
	}
}

// clockReads finds uses of the functions of package time that read the clock
// or wait for it.
func clockReads(file *ast.File) []token.Pos {
	var found []token.Pos
	ast.Inspect(file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
			switch sel.Sel.Name {
			case "Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker":
				found = append(found, sel.Pos())
			}
		}
		return true
	})
	return found
}

func TestClockReads(t *testing.T) {
	t.Parallel()
	const source = `package p
import "time"
func f(now time.Time) time.Duration { return time.Since(now) }
func g() func() time.Time { return time.Now }
`
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(clockReads(file)); got != 2 {
		t.Errorf("found %d reads of the clock, want 2", got)
	}
}
