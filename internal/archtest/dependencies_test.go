package archtest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// dependencies returns what go.mod names: all of it, and the part that needs
// reasons, which is what the module asks for itself and the programs it runs.
func dependencies(t *testing.T, dir string) (all, asked []string) {
	t.Helper()
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Tool []struct{ Path string }
	}
	if err := json.Unmarshal(goCommand(t, dir, "mod", "edit", "-json"), &mod); err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Require {
		all = append(all, r.Path)
		if !r.Indirect {
			asked = append(asked, r.Path)
		}
	}
	for _, tool := range mod.Tool {
		all, asked = append(all, tool.Path), append(asked, tool.Path)
	}
	return all, asked
}

// reasons reads docs/dependencies.md: under the heading that names a go.mod, a
// table whose rows are a module and why it is there.
func reasons(text string) map[string]map[string]string {
	all := map[string]map[string]string{}
	var section map[string]string
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "#") {
			section = nil
			if span := codeSpan.FindStringSubmatch(line); span != nil {
				section = map[string]string{}
				all[span[1]] = section
			}
			continue
		}
		if cells := row(line); section != nil && len(cells) == 2 && strings.HasPrefix(cells[0], "`") {
			section[unquote(cells[0])] = cells[1]
		}
	}
	return all
}

func TestDependenciesHaveReasons(t *testing.T) {
	t.Parallel()
	root := repoRoot(t)
	text, err := os.ReadFile(filepath.Join(root, "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	written := reasons(string(text))
	for _, dir := range modules(t) {
		file, err := filepath.Rel(root, filepath.Join(dir, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		section := written[file]
		delete(written, file)
		all, asked := dependencies(t, dir)
		for _, path := range asked {
			if len(strings.Fields(section[path])) < 3 {
				t.Errorf("docs/dependencies.md gives no reason for %s of %s", path, file)
			}
		}
		for path := range section {
			if !slices.Contains(all, path) {
				t.Errorf("docs/dependencies.md explains %s, which %s does not require", path, file)
			}
		}
	}
	for file := range written {
		t.Errorf("docs/dependencies.md has a section for %s, which does not exist", file)
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	got := reasons("# T\n| `x` | not in a section |\n## Product, `go.mod`\n| module | why |\n|---|---|\n| `a.b/c` | it is needed |\n## End\n| `d` | no |\n")
	if len(got) != 1 || len(got["go.mod"]) != 1 || got["go.mod"]["a.b/c"] != "it is needed" {
		t.Errorf("read %v", got)
	}
}
