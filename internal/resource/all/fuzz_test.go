package all

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// FuzzKinds sends whatever decodes as an object through everything that its
// kind does with it. Nothing may panic, and defaults must settle at once.
func FuzzKinds(f *testing.F) {
	kinds := List(deps())
	for i, k := range kinds {
		for _, dir := range []string{"valid", "invalid"} {
			files, _ := filepath.Glob(filepath.Join(folder(k), dir, "*.yaml"))
			for _, file := range files {
				data, err := os.ReadFile(file)
				if err != nil {
					f.Fatal(err)
				}
				if data, err = yaml.YAMLToJSON(data); err != nil {
					f.Fatal(err)
				}
				f.Add(uint8(i), data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, i uint8, data []byte) {
		switch k := kinds[int(i)%len(kinds)].(type) {
		case *resource.Answered:
			obj := k.New()
			if json.Unmarshal(data, obj) == nil {
				_ = k.Answer(t.Context(), caller, obj)
			}
		case *resource.Stored:
			obj := k.New()
			if json.Unmarshal(data, obj) != nil {
				return
			}
			exercise(t, k, obj, obj.DeepCopyObject())
			for _, action := range k.Actions {
				in := action.New()
				if json.Unmarshal(data, in) == nil {
					_, _ = action.Do(t.Context(), caller, obj, in, false)
				}
			}
		}
	})
}

// exercise creates obj, and changes old to it through every route.
func exercise(t *testing.T, k *resource.Stored, obj, old runtime.Object) {
	t.Helper()
	raw := obj.DeepCopyObject()
	obj, _ = create(k, obj)
	for _, o := range []runtime.Object{obj, old} {
		if k.Default != nil {
			k.Default(o)
		}
		unchanged(t, "Default is not idempotent", o, func() {
			if k.Default != nil {
				k.Default(o)
			}
		})
		unchanged(t, "reading changes the object", o, func() {
			k.Row(o)
			k.FieldValues(o)
			k.KeepOnDelete(o)
		})
	}
	_ = k.Check(t.Context(), caller, obj, nil)
	_ = k.Check(t.Context(), caller, obj, old)
	for _, route := range append([]string{""}, routes(k)...) {
		unchanged(t, "a change through /"+route+" changes the old object", old, func() {
			next, _ := change(t, k, route, raw.DeepCopyObject(), old)
			for _, sub := range k.Subresources {
				if sub.Name == route {
					_ = sub.Check(t.Context(), caller, next, old)
				}
			}
		})
	}
	k.PrepareDelete(old)
}

func routes(k *resource.Stored) []string {
	var names []string
	for _, sub := range k.Subresources {
		names = append(names, sub.Name)
	}
	return names
}
