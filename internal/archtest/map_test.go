package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mapHeader is the first row of the tables in ARCHITECTURE.md that are checked:
// question, file, symbol in that file, test in that file.
var mapHeader = []string{"question", "file", "symbol", "test"}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// row splits a line of a Markdown table into its cells; nil when it is none.
func row(line string) []string {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "|") || !strings.HasSuffix(line, "|") || len(line) < 2 {
		return nil
	}
	cells := strings.Split(line[1:len(line)-1], "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

func unquote(cell string) string { return strings.Trim(cell, "`") }

// checkMap verifies every row of the map and every path mentioned around it.
// It returns the number of rows checked and one line for each fault.
func checkMap(root, text string) (rows int, faults []string) {
	inMap := false
	for _, line := range strings.Split(text, "\n") {
		cells := row(line)
		if cells == nil {
			inMap = false
		}
		if len(cells) == len(mapHeader) && strings.EqualFold(strings.Join(cells, "|"), strings.Join(mapHeader, "|")) {
			inMap = true
			continue
		}
		if inMap && !strings.HasPrefix(cells[0], "--") {
			rows++
			faults = append(faults, checkRow(root, cells)...)
			continue
		}
		for _, span := range codeSpan.FindAllStringSubmatch(line, -1) {
			if path := span[1]; strings.Contains(path, "/") && !strings.ContainsAny(path, " <>*:$") && !strings.HasPrefix(path, "/") && !standardOrRemote(path) {
				if _, err := os.Stat(filepath.Join(root, path)); err != nil {
					faults = append(faults, fmt.Sprintf("%s does not exist", path))
				}
			}
		}
	}
	return rows, faults
}

// standardOrRemote keeps import paths such as k8s.io/apiserver and API groups
// apart from paths of this repository.
func standardOrRemote(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".") && first != ".ci"
}

func checkRow(root string, cells []string) []string {
	if len(cells) != len(mapHeader) {
		return []string{fmt.Sprintf("row %q: want %d cells", cells, len(mapHeader))}
	}
	var faults []string
	file, symbol := unquote(cells[1]), unquote(cells[2])
	if err := declares(filepath.Join(root, file), symbol); err != nil {
		faults = append(faults, fmt.Sprintf("%q: %v", cells[0], err))
	}
	testFile, test, ok := strings.Cut(unquote(cells[3]), ":")
	if !ok || !strings.HasSuffix(testFile, "_test.go") {
		return append(faults, fmt.Sprintf("%q: the test is written path_test.go:TestName, not %q", cells[0], cells[3]))
	}
	if err := declares(filepath.Join(root, testFile), test); err != nil {
		faults = append(faults, fmt.Sprintf("%q: %v", cells[0], err))
	}
	return faults
}

// declares reports whether a Go file declares the symbol: Name, or Type.Method.
func declares(path, symbol string) error {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				name = receiver(d.Recv.List[0].Type) + "." + name
			}
			if name == symbol {
				return nil
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					if s.Name.Name == symbol {
						return nil
					}
				case *ast.ValueSpec:
					for _, name := range s.Names {
						if name.Name == symbol {
							return nil
						}
					}
				}
			}
		}
	}
	return fmt.Errorf("%s does not declare %s", path, symbol)
}

func receiver(expr ast.Expr) string {
	switch e := expr.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func TestMap(t *testing.T) {
	t.Parallel()
	root := repoRoot(t)
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows, faults := checkMap(root, string(text))
	if rows == 0 {
		t.Errorf("no table headed %q", mapHeader)
	}
	for _, fault := range faults {
		t.Errorf("ARCHITECTURE.md: %s", fault)
	}
}

// The check must see what is missing.
func TestMapFaults(t *testing.T) {
	t.Parallel()
	const head = "| question | file | symbol | test |\n|---|---|---|---|\n"
	for name, c := range map[string]struct {
		text string
		want int
	}{
		"good":          {head + "| Q | `internal/archtest/map_test.go` | `checkMap` | `internal/archtest/map_test.go:TestMap` |", 0},
		"method":        {head + "| Q | `internal/archtest/rules_test.go` | `rule.check` | `internal/archtest/map_test.go:TestMap` |", 0},
		"no file":       {head + "| Q | `internal/gone.go` | `X` | `internal/archtest/map_test.go:TestMap` |", 1},
		"no symbol":     {head + "| Q | `internal/archtest/map_test.go` | `gone` | `internal/archtest/map_test.go:TestMap` |", 1},
		"no test":       {head + "| Q | `internal/archtest/map_test.go` | `checkMap` | `internal/archtest/map_test.go:TestGone` |", 1},
		"test unnamed":  {head + "| Q | `internal/archtest/map_test.go` | `checkMap` | yes |", 1},
		"missing cell":  {head + "| Q | `internal/archtest/map_test.go` | `checkMap` |", 1},
		"path in prose": {"see `docs/gone.md` and `internal/archtest`", 1},
		"other names":   {"`k8s.io/apiserver`, `/livez`, `a b/c` and `D/x:y`", 0},
	} {
		if _, faults := checkMap(repoRoot(t), c.text); len(faults) != c.want {
			t.Errorf("%s: %d faults, want %d: %q", name, len(faults), c.want, faults)
		}
	}
}
