package auditindex_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/index"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/query"
	"github.com/gatehouse-dev/gatehouse/internal/auditindex"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql/pgtest"
)

var key = ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func onEachEngine(t *testing.T, run func(t *testing.T, store auditindex.Store)) {
	t.Helper()
	open := func(t *testing.T, c sql.Config) auditindex.Store {
		t.Helper()
		c.Kinds = []sql.Kind{auditindex.Kind()}
		db, err := sql.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		store, err := auditindex.New(db)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		run(t, open(t, sql.Config{SQLite: filepath.Join(t.TempDir(), "rows", "rows.db")}))
	})
	t.Run("postgresql", func(t *testing.T) {
		t.Parallel()
		run(t, open(t, sql.Config{Postgres: secret.NewString(pgtest.DSN(t))}))
	})
}

func TestPages(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, store auditindex.Store) {
		var rows []index.Row
		for chunk := range uint64(300) {
			rows = append(rows, index.Row{Term: "aa", Chunk: chunk, Data: fmt.Append(nil, chunk)}, index.Row{Term: "ab", Chunk: chunk})
		}
		if err := store.Put(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
		if err := store.Put(t.Context(), []index.Row{{Term: "aa", Chunk: 7, Data: []byte("seven")}}); err != nil {
			t.Fatal(err)
		}
		var got []uint64
		for before := ^uint64(0); ; {
			page, err := store.Page(t.Context(), "aa", before, 32)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, r := range page {
				want := fmt.Sprint(r.Chunk)
				if r.Chunk == 7 {
					want = "seven"
				}
				if string(r.Data) != want || r.Term != "aa" {
					t.Fatalf("%+v", r)
				}
				got = append(got, r.Chunk)
			}
			before = page[len(page)-1].Chunk
		}
		want := make([]uint64, 300)
		for i := range want {
			want[i] = uint64(299 - i)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%v", got)
		}
		if page, err := store.Page(t.Context(), "a", ^uint64(0), 10); err != nil || len(page) != 0 {
			t.Errorf("a part of a term: %v %v", page, err)
		}
	})
}

// fill makes a log of count events by 1,000 subjects and its index.
func fill(t testing.TB, store index.Store, count int) index.Config {
	t.Helper()
	dir := t.TempDir()
	l, err := ledger.Open(dir, ledger.Config{ID: "r1", Origin: "gatehouse.test/audit/r1", Key: key, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	events := make([]audit.Event, audit.MaxBatchEvents)
	for i := 0; i < count; {
		for j := range events {
			n := i + j
			events[j] = audit.Event{
				Level: audit.LevelMetadata, AuditID: fmt.Sprintf("%08x-0000-4000-8000-%012x", n, n), Stage: audit.StageResponseComplete,
				RequestURI: fmt.Sprintf("/api/v1/namespaces/ns-%d/configmaps/c-%d", n%499, n%9973), Verb: []string{"get", "update", "list"}[n%3],
				User:      audit.UserInfo{Username: fmt.Sprint("user-", n*7919%1009), Groups: []string{"system:authenticated"}},
				ObjectRef: &audit.ObjectReference{Resource: "configmaps", Namespace: fmt.Sprint("ns-", n%499), Name: fmt.Sprint("c-", n%9973), APIVersion: "v1"},
				SourceIPs: []string{"192.0.2.7"}, UserAgent: "kubectl/v1.36.3", ResponseStatus: &audit.Status{Code: 200},
				Annotations: map[string]string{audit.AnnotationDecision: "allow", audit.AnnotationCredential: fmt.Sprint("JTI=", n*31%1511)},
			}
		}
		if _, err := l.AppendBatch(t.Context(), "blue", events); err != nil {
			t.Fatal(err)
		}
		i += len(events)
	}
	size := l.Stats().Size
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := index.Config{Store: store, Log: "r1", Dir: dir, Synced: func() uint64 { return size }}
	b, err := index.NewBuilder(c)
	if err != nil {
		t.Fatal(err)
	}
	for more := true; more; {
		if more, err = b.Step(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// ask returns how long the newest 100 events of a subject took.
func ask(t testing.TB, c index.Config, user string) time.Duration {
	t.Helper()
	began, n := time.Now(), 0
	err := index.Run(context.Background(), c, query.Filter{User: user, Limit: 100}, func(m query.Match) error {
		if m.Event.User.Username != user {
			t.Fatalf("asked for %s, got %s", user, m.Event.User.Username)
		}
		n++
		return nil
	})
	if err != nil || n != 100 {
		t.Fatalf("%d events of %s: %v", n, user, err)
	}
	return time.Since(began)
}

// TestQueryBySubject answers from the engines what the log holds. The bound on
// time is generous; BenchmarkQueryBySubject measures.
func TestQueryBySubject(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, store auditindex.Store) {
		c := fill(t, store, 150_000)
		var times []time.Duration
		for i := range 9 {
			times = append(times, ask(t, c, fmt.Sprint("user-", i*100)))
		}
		slices.Sort(times)
		if times[4] > 2*time.Second {
			t.Errorf("the median question took %v", times[4])
		}
		t.Logf("newest 100 of a subject in 150,000 events: %v", times)
	})
}
