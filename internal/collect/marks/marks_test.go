package marks

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit/index"
)

// memory is a store that all replicas share, and that can be away.
type memory struct {
	mu    sync.Mutex
	rows  map[key][]byte
	away  bool
	reads int
	puts  int
}

func (m *memory) Put(_ context.Context, rows []index.Row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return errors.New("away")
	}
	for _, r := range rows {
		m.rows[key{r.Term, r.Chunk}] = slices.Clone(r.Data)
		m.puts++
	}
	return nil
}

func (m *memory) Page(_ context.Context, term string, before uint64, _ int) ([]index.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if m.away {
		return nil, errors.New("away")
	}
	var best *index.Row
	for k, data := range m.rows {
		if k.series == term && k.block < before && (best == nil || k.block > best.Chunk) {
			best = &index.Row{Term: term, Chunk: k.block, Data: data}
		}
	}
	if best == nil {
		return nil, nil
	}
	return []index.Row{*best}, nil
}

func (m *memory) set(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
}

func newMarks(t *testing.T, store Store) *Marks {
	t.Helper()
	m, err := New(Config{Store: store, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func entry(series string, n uint64) Mark { return Mark{series, n, uint32(n*2654435761) | 1} }

// send uploads entries and returns how many were known.
func send(t *testing.T, trail *Trail, series string, from, to uint64) (known int) {
	t.Helper()
	var fresh []Mark
	for n := from; n < to; n++ {
		if m := entry(series, n); trail.Known(t.Context(), m) {
			known++
		} else {
			fresh = append(fresh, m)
		}
		if len(fresh) == 100 {
			trail.Add(fresh)
			fresh = nil
		}
	}
	trail.Add(fresh)
	return known
}

func TestResent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &memory{rows: map[key][]byte{}}
		first, second := newMarks(t, store), newMarks(t, store)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = first.Run(ctx) }) // nil
		const all = 3000
		trail := first.Begin()
		if n := send(t, trail, "a", 1, all); n != 0 {
			t.Fatalf("%d entries known beforehand", n)
		}
		if n := send(t, first.Begin(), "a", 1, all); n != all-1 {
			t.Errorf("sent again: %d known", n)
		}
		// Elsewhere it is known once it was written: at once where the upload
		// was not acknowledged.
		if n := send(t, second.Begin(), "b", 1, all); n != 0 {
			t.Errorf("of another series: %d known", n)
		}
		trail.Broken(t.Context())
		if n := send(t, second.Begin(), "a", all-600, all); n != 600 {
			t.Errorf("what was written at once, at another replica: %d of 600 known", n)
		}
		time.Sleep(writeEvery + time.Second)
		third := newMarks(t, store)
		if n := send(t, third.Begin(), "a", 1, all); n != all-1 {
			t.Errorf("at another replica: %d known", n)
		}
		// What differs in its content is another entry, and so is one between.
		trail = third.Begin()
		for n := uint64(1); n < all; n++ {
			m := entry("a", n)
			m.Print += 2
			if trail.Known(t.Context(), m) {
				t.Fatalf("number %d with another content is known", n)
			}
		}
		if trail.Known(t.Context(), entry("a", all)) {
			t.Error("a number that never came is known")
		}
		// A replica that has a block learns what another one added to it.
		send(t, third.Begin(), "a", all, all+50)
		third.write(t.Context(), nil)
		if n := send(t, first.Begin(), "a", all, all+50); n != 50 {
			t.Errorf("what another replica added: %d known", n)
		}
		// The end writes what is left.
		send(t, first.Begin(), "c", 1, 11)
		stop()
		wg.Wait()
		if n := send(t, newMarks(t, store).Begin(), "c", 1, 11); n != 10 {
			t.Errorf("after the end: %d known", n)
		}
	})
}

// Without the store nothing stops, nothing grows without end, and nothing is
// forgotten that was there.
func TestStoreIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &memory{rows: map[key][]byte{}, away: true}
		m := newMarks(t, store)
		trail := m.Begin()
		for n := range uint64(2 * maxBlocks) {
			trail.Known(t.Context(), entry("a", n*blockMarks))
			trail.Add([]Mark{entry("a", n*blockMarks)})
		}
		if len(m.blocks) > maxBlocks || len(trail.recent) > maxRecent {
			t.Errorf("%d blocks, %d looked at", len(m.blocks), len(trail.recent))
		}
		if store.reads > 2 {
			t.Errorf("a store that is away was asked %d times at once", store.reads)
		}
		store.set(false)
		time.Sleep(restFor + time.Second)
		m.write(t.Context(), nil)
		if store.puts != maxBlocks {
			t.Errorf("%d blocks written", store.puts)
		}
		if n := send(t, newMarks(t, store).Begin(), "a", 0, 1); n != 1 {
			t.Error("the first entry is forgotten")
		}
		// Written, they make room.
		trail.Add([]Mark{entry("z", 1)})
		if len(m.blocks) != 1 {
			t.Errorf("%d blocks after the store was back", len(m.blocks))
		}
		m.write(t.Context(), nil)
		if store.puts != maxBlocks+1 {
			t.Errorf("%d blocks written", store.puts)
		}
	})
}

// An ordinary upload asks the store once for each block.
func TestFewQuestions(t *testing.T) {
	t.Parallel()
	store := &memory{rows: map[key][]byte{}}
	m := newMarks(t, store)
	send(t, m.Begin(), "a", 0, 100*blockMarks)
	if store.reads != 100 {
		t.Errorf("%d questions about 100 blocks", store.reads)
	}
}

// What the store holds is not trusted to be whole.
func TestDamagedBlock(t *testing.T) {
	t.Parallel()
	store := &memory{rows: map[key][]byte{{"a", 0}: []byte("short")}}
	m := newMarks(t, store)
	if n := send(t, m.Begin(), "a", 0, 10); n != 0 {
		t.Errorf("%d known of a damaged block", n)
	}
}

func BenchmarkKnown(b *testing.B) {
	m, err := New(Config{Store: &memory{rows: map[key][]byte{}}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	trail := m.Begin()
	list := make([]Mark, 1024)
	n := uint64(0)
	for b.Loop() {
		for i := range list {
			list[i] = Mark{"a-series-of-some-host-with-a-name", n, 7}
			trail.Known(b.Context(), list[i])
			n++
		}
		trail.Add(list)
	}
	b.ReportMetric(float64(b.Elapsed())/float64(n), "ns/entry")
}
