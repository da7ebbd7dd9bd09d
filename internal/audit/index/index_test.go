package index_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/index"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/query"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// memory is a store that can be away.
type memory struct {
	mu   sync.Mutex
	rows map[string]map[uint64][]byte
	away error
	puts int
}

func (m *memory) Put(_ context.Context, rows []index.Row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.puts++; m.away != nil {
		return m.away
	}
	for _, r := range rows {
		if m.rows[r.Term] == nil {
			m.rows[r.Term] = map[uint64][]byte{}
		}
		m.rows[r.Term][r.Chunk] = slices.Clone(r.Data)
	}
	return nil
}

func (m *memory) Page(_ context.Context, term string, before uint64, limit int) ([]index.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away != nil {
		return nil, m.away
	}
	var out []index.Row
	for _, c := range slices.Backward(slices.Sorted(maps.Keys(m.rows[term]))) {
		if c < before && len(out) < limit {
			out = append(out, index.Row{Term: term, Chunk: c, Data: m.rows[term][c]})
		}
	}
	return out, nil
}

func (m *memory) set(away error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
}

func event(i int) *audit.Event {
	e := &audit.Event{
		Level: audit.LevelMetadata, AuditID: fmt.Sprint("id-", i), Stage: audit.StageResponseComplete, Verb: []string{"get", "create", "delete"}[i%3],
		User:        audit.UserInfo{Username: fmt.Sprint("user-", i*7919%997)},
		Annotations: map[string]string{audit.AnnotationDecision: "allow", audit.AnnotationCredential: fmt.Sprint("JTI=", i*31%5003)},
	}
	if i%2 == 0 {
		e.ObjectRef = &audit.ObjectReference{Resource: fmt.Sprint("r", i%11), Namespace: fmt.Sprint("ns-", i%101), Name: fmt.Sprint("n-", i)}
	}
	if i%50 == 0 {
		e.ImpersonatedUser = &audit.UserInfo{Username: "rare"}
	}
	if i%17 == 0 {
		e.Annotations[audit.AnnotationDecision] = "forbid"
	}
	return e
}

// fill writes a log of count events and closes it, so that segments are sealed.
func fill(t testing.TB, dir string, count int) {
	t.Helper()
	l, err := ledger.Open(dir, ledger.Config{ID: "r1", Origin: "gatehouse.test/audit/r1", Key: ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef")), SegmentRecords: 10240, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var own sync.WaitGroup
	const batch = 1000
	for i := 0; i < count; i += batch {
		events := make([]audit.Event, 0, batch)
		for j := i; j < min(i+batch, count); j++ {
			events = append(events, *event(j))
		}
		site := ""
		if i/batch%2 == 1 {
			site = "blue"
		}
		if site != "" {
			if _, err := l.AppendBatch(t.Context(), site, events); err != nil {
				t.Fatal(err)
			}
			continue
		}
		for j := range events {
			own.Go(func() {
				if err := l.Append(t.Context(), &events[j], audit.Buffered); err != nil {
					t.Error(err)
				}
			})
		}
		own.Wait()
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func config(store index.Store, dir string, count uint64) index.Config {
	return index.Config{Store: store, Log: "r1", Dir: dir, Synced: func() uint64 { return count }, Logger: slog.New(slog.DiscardHandler)}
}

func build(t testing.TB, c index.Config) (chunks int) {
	t.Helper()
	b, err := index.NewBuilder(c)
	if err != nil {
		t.Fatal(err)
	}
	for {
		more, err := b.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return chunks
		}
		chunks++
	}
}

// filters are drawn at random, beside some that hurt.
func filters(r *rand.Rand, count int) []query.Filter {
	out := []query.Filter{
		{User: "nobody"}, {User: "rare"}, {Verb: "get", Limit: 3}, {Site: query.OwnSite, Limit: 10}, {Site: "blue", Decision: "forbid"},
		{User: "rare", Credential: "JTI=5"}, {Name: "n-4"}, {AuditID: "id-9"}, {},
		{Verb: "get", Until: time.Now().Add(-time.Hour)}, {Verb: "get", Since: time.Now().Add(time.Hour)},
		{User: "user-5", From: 20000, To: 30000}, {Verb: "delete", To: 16385, From: 16384},
	}
	pick := func(format string, n int) string {
		if r.IntN(3) > 0 {
			return ""
		}
		return fmt.Sprintf(format, r.IntN(n))
	}
	for range 60 {
		f := query.Filter{
			User: pick("user-%d", 1100), Namespace: pick("ns-%d", 110), Resource: pick("r%d", 12), Credential: pick("JTI=%d", 5100),
			Name: pick("n-%d", count), Limit: r.IntN(30),
		}
		if r.IntN(3) == 0 {
			f.Decision = "forbid"
		}
		out = append(out, f)
	}
	return out
}

// TestSameAnswersAsTheLog compares with reading the whole log, at every state
// of the index, and with the store away.
func TestSameAnswersAsTheLog(t *testing.T) {
	t.Parallel()
	const count = 60_000
	dir := t.TempDir()
	fill(t, dir, count)
	infosChecked := 0
	compare := func(what string, c index.Config, list []query.Filter) {
		t.Helper()
		for _, f := range list {
			var want, got []uint64
			scan := f
			scan.Newest = true
			if err := query.Run(t.Context(), vfs.OS{}, dir, scan, func(m query.Match) error { want = append(want, m.Index); return nil }); err != nil {
				t.Fatal(err)
			}
			if err := index.Run(t.Context(), c, f, func(m query.Match) error { got = append(got, m.Index); return nil }); err != nil {
				t.Fatalf("%s: %+v: %v", what, f, err)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s: %+v:\ngot  %d: %v\nwant %d: %v", what, f, len(got), got[:min(len(got), 20)], len(want), want[:min(len(want), 20)])
			}
			infosChecked += len(want)
		}
	}
	store := &memory{rows: map[string]map[uint64][]byte{}}
	r := rand.New(rand.NewPCG(1, 2))
	compare("no index", config(store, dir, count), filters(r, count)[:12])
	if n := build(t, config(store, dir, 20_000)); n != 1 {
		t.Fatalf("%d chunks of 20,000 records", n)
	}
	compare("a third", config(store, dir, count), filters(r, count)[:30])
	if n := build(t, config(store, dir, count)); n != 2 {
		t.Fatalf("%d further chunks of 60,000 records", n)
	}
	compare("all", config(store, dir, count), filters(r, count))
	store.set(errors.New("away"))
	compare("away", config(store, dir, count), filters(r, count)[:8])
	store.set(nil)
	// Lost, it is built again.
	clear(store.rows)
	if n := build(t, config(store, dir, count)); n != 3 {
		t.Fatalf("%d chunks after the index was lost", n)
	}
	compare("rebuilt", config(store, dir, count), filters(r, count)[:20])
	if infosChecked < 10_000 {
		t.Fatalf("only %d matches compared", infosChecked)
	}
	// Another log in the same store does not mix.
	other := config(store, dir, count)
	other.Log = "r2"
	compare("another log's rows", other, filters(r, count)[:12])
}

func TestErrorsEndTheSearch(t *testing.T) {
	t.Parallel()
	const count = 17_000
	dir := t.TempDir()
	fill(t, dir, count)
	store := &memory{rows: map[string]map[uint64][]byte{}}
	c := config(store, dir, count)
	build(t, c)
	enough := errors.New("enough of that")
	n := 0
	if err := index.Run(t.Context(), c, query.Filter{User: "rare"}, func(query.Match) error {
		if n++; n > 30 {
			return enough
		}
		return nil
	}); !errors.Is(err, enough) || n != 31 {
		t.Errorf("%v after %d", err, n)
	}
	hidden := query.Filter{User: "rare", Allow: func(string, *audit.Event) bool { return false }}
	if err := index.Run(t.Context(), c, hidden, func(query.Match) error { return enough }); err != nil {
		t.Errorf("a hidden event was shown: %v", err)
	}
	for term, chunks := range store.rows {
		for chunk, data := range chunks {
			if len(data) > 0 {
				store.rows[term][chunk] = append(slices.Clone(data), 0xff, 0xff, 0xff)
			}
		}
	}
	if err := index.Run(t.Context(), c, query.Filter{User: "rare"}, func(query.Match) error { return nil }); err == nil {
		t.Error("a damaged row went unnoticed")
	}
	if _, err := index.NewBuilder(index.Config{}); err == nil {
		t.Error("an empty configuration")
	}
}

// The index outlives what retention drops, whole blocks included: those are
// passed over, and what is left is found.
func TestDropped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const count = index.ChunkRecords + 11_000 // a whole chunk is indexed and sealed
	fill(t, dir, count)
	store := &memory{rows: map[string]map[uint64][]byte{}}
	c := config(store, dir, count)
	build(t, c)
	infos, err := segment.List(vfs.OS{}, dir)
	if err != nil || !infos[0].Sealed {
		t.Fatalf("%v %+v", err, infos)
	}
	sealer, err := segment.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	n, err := sealer.Prune(vfs.OS{}, dir, infos[0].First, func(e segment.Entry) bool {
		ev, err := audit.Decode(e.Event)
		if err != nil {
			return true
		}
		var i int
		if _, err := fmt.Sscanf(ev.AuditID, "id-%d", &i); err != nil {
			return true // what the log says of itself
		}
		return i >= 9000 && i%7 == 0 // many whole blocks go, and single records
	})
	if err != nil || n < 9000 {
		t.Fatalf("%d dropped: %v", n, err)
	}
	var found uint64
	if err := index.Run(t.Context(), c, query.Filter{Newest: true}, func(query.Match) error { found++; return nil }); err != nil {
		t.Fatal(err)
	}
	cuts, err := query.Cuts(vfs.OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if missing := (&query.Filter{}).Missing(cuts); missing != n || found < count-n-10 || found > count-n {
		t.Errorf("%d found, %d missing, %d dropped of %d", found, missing, n, count)
	}
	for i := range 300 {
		f := query.Filter{Credential: event(29 * i).Annotations[audit.AnnotationCredential], Newest: true}
		if err := index.Run(t.Context(), c, f, func(query.Match) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
}
