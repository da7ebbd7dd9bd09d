package audit

import "testing"

func TestNote(t *testing.T) {
	t.Parallel()
	Note(t.Context(), "k", "lost") // nobody's event
	var e Event
	Note(WithNotes(t.Context(), &e), "k", "v")
	if e.Annotations["k"] != "v" || len(e.Annotations) != 1 {
		t.Errorf("%v", e.Annotations)
	}
}
