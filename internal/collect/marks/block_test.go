package marks

import (
	"testing"
)

// TestFarApart: a sender who leaves numbers out fills the store with what was
// sent, and it is known at another replica.
func TestFarApart(t *testing.T) {
	t.Parallel()
	store := &memory{rows: map[key][]byte{}}
	first, second := newMarks(t, store), newMarks(t, store)
	trail := first.Begin()
	const entries = 1000
	for i := range uint64(entries) {
		trail.Add([]Mark{entry("a", i*blockMarks)})
	}
	first.write(t.Context(), nil)
	stored := 0
	for _, data := range store.rows {
		stored += len(data)
	}
	if len(store.rows) != entries || stored > 10*entries {
		t.Errorf("%d rows with %d bytes for %d entries", len(store.rows), stored, entries)
	}
	trail = second.Begin()
	for i := range uint64(entries) {
		if !trail.Known(t.Context(), entry("a", i*blockMarks)) || trail.Known(t.Context(), entry("a", i*blockMarks+1)) {
			t.Fatalf("entry %d", i)
		}
	}
}

func TestBlocks(t *testing.T) {
	t.Parallel()
	for n := range blockMarks + 1 {
		var b block
		for i := range n {
			b.marks[(7*i+500)%blockMarks] = uint32(i + 1)
		}
		data := b.encode()
		if len(data) != min(n*pairSize, fullSize) {
			t.Fatalf("%d marks: %d bytes", n, len(data))
		}
		if got, err := decode(data); err != nil || got != b.marks {
			t.Fatalf("%d marks: %v", n, err)
		}
	}
	// As blocks were stored before there were pairs.
	full := make([]byte, fullSize)
	full[4*9+3] = 5
	if got, err := decode(full); err != nil || got[9] != 5 {
		t.Errorf("a full block: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 255, 0, 0, 0, 1})
	f.Add([]byte{2, 0, 0, 0, 0, 1}) // a place that no block has
	f.Add(make([]byte, fullSize))
	f.Fuzz(func(t *testing.T, data []byte) {
		marks, err := decode(data)
		if err != nil {
			if marks != [blockMarks]uint32{} {
				t.Error("marks of a damaged block")
			}
			return
		}
		b := block{marks: marks}
		if again, err := decode(b.encode()); err != nil || again != marks {
			t.Errorf("%v: not the same again", err)
		}
	})
}
