package sql

import (
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// A list can begin behind a name of a namespace, also one that no row has.
func TestListAfter(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, config Config) {
		_, table := openNotes(t, config)
		for _, name := range []string{"a", "c", "e"} {
			if _, err := table.Create(t.Context(), note(name, "x")); err != nil {
				t.Fatal(err)
			}
		}
		for after, first := range map[string]string{"a": "c", "b": "c", "c": "e"} {
			page, err := table.List(t.Context(), ListOptions{Namespace: "n", After: after, Limit: 1})
			if err != nil || len(page.Rows) != 1 || page.Rows[0].Name != first {
				t.Errorf("after %s: %+v %v", after, page.Rows, err)
			}
		}
		if page, err := table.List(t.Context(), ListOptions{Namespace: "n", After: "e"}); err != nil || len(page.Rows) != 0 || page.Continue != "" {
			t.Errorf("after the last: %+v %v", page, err)
		}
		for _, o := range []ListOptions{{After: "a"}, {Namespace: "n", After: "a", Continue: "x"}, {Namespace: "n", After: "\x00"}} {
			if _, err := table.List(t.Context(), o); fault.KindOf(err) != fault.Invalid {
				t.Errorf("%+v: %v", o, err)
			}
		}
	})
}
