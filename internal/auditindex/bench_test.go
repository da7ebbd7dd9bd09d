package auditindex_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/auditindex"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql"
)

// BenchmarkQueryBySubject asks for the newest 100 events of one of 1,009
// subjects among ten million. To reach is a median of 50 ms.
func BenchmarkQueryBySubject(b *testing.B) {
	const events = 10_000_000
	db, err := sql.Open(b.Context(), sql.Config{SQLite: filepath.Join(b.TempDir(), "rows", "rows.db"), Kinds: []sql.Kind{auditindex.Kind()}})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	store, err := auditindex.New(db)
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	c := fill(b, store, events)
	b.Logf("%d events written and indexed in %v", events, time.Since(began))
	times := make([]time.Duration, 0, 1000)
	for b.Loop() {
		times = append(times, ask(b, c, fmt.Sprint("user-", rand.N(1009))))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
}
