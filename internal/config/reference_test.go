package config_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the reference anew")

const reference = "../../docs/reference/configuration.md"

// The reference is made of the comments of the structs that are decoded, so
// that it cannot say anything else than the code.
func TestReferenceIsCurrent(t *testing.T) {
	t.Parallel()
	want := render(t)
	if *update {
		if err := os.WriteFile(reference, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date: run go test ./internal/config -update", reference)
	}
}

func render(t *testing.T) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "file.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	structs := map[string]*ast.StructType{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			if s, ok := spec.Type.(*ast.StructType); ok {
				structs[spec.Name.Name] = s
			}
		}
		return true
	})
	var b strings.Builder
	b.WriteString(`# The configuration file

` + "`gatehouse serve --config FILE` reads one YAML file, strictly: an unknown or repeated key is a fault, and every fault is named with its field. `gatehouse check --config FILE` validates it exactly as `serve` does and exits with 2 if there is a fault. Flags override the file. Every field may be left out, except `apiVersion` and `kind`." + `

    apiVersion: config.gatehouse.dev/v1alpha1
    kind: Configuration

| field | type | meaning |
|---|---|---|
`)
	fields(&b, structs, "", "File")
	return b.String()
}

func fields(b *strings.Builder, structs map[string]*ast.StructType, prefix, name string) {
	for _, f := range structs[name].Fields.List {
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json")
		path := prefix + strings.Split(tag, ",")[0]
		if ident, ok := f.Type.(*ast.Ident); ok && structs[ident.Name] != nil {
			fields(b, structs, path+".", ident.Name)
			continue
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", path, typeName(f.Type), strings.ReplaceAll(strings.Join(strings.Fields(f.Doc.Text()), " "), "|", "\\|"))
	}
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.ArrayType:
		return "list of " + typeName(e.Elt)
	case *ast.Ident:
		return map[string]string{"string": "string", "int64": "integer", "bool": "boolean"}[e.Name]
	}
	return "object"
}
