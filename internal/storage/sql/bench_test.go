package sql_test

import (
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql/pgtest"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql/sqltest"
)

var benchRows = flag.Int("rows", 20000, "rows that the list benchmarks have in the table")

// benchEngines are durable, as in production.
func benchEngines() []sqltest.Engine {
	return []sqltest.Engine{
		{Name: "SQLite", New: func(tb testing.TB) sql.Config {
			return sql.Config{SQLite: filepath.Join(tb.TempDir(), "data", "rows.db")}
		}},
		{Name: "PostgreSQL", New: func(tb testing.TB) sql.Config {
			return sql.Config{Postgres: secret.NewString(pgtest.Start(tb, "fsync=on", "full_page_writes=on").Database(tb))}
		}},
	}
}

func benchTable(b *testing.B, e sqltest.Engine) *sql.Table {
	config := e.New(b)
	config.Kinds = []sql.Kind{sqltest.Findings()}
	db, err := sql.Open(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	table, err := db.Table("findings")
	if err != nil {
		b.Fatal(err)
	}
	return table
}

// benchRow is a finding of about 1 KB with four labels, two fields and an
// owner. The labels select all, half, a 1000th and a 10000th of the rows.
func benchRow(i int) sql.Row {
	return sql.Row{
		Key: sql.Key{Namespace: fmt.Sprintf("team-%03d", i%100), Name: fmt.Sprintf("finding-%08x", uint32(i)*2654435761)},
		UID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i),
		Labels: map[string]string{
			"scanner": "trivy", "half": fmt.Sprint(i / 7 % 2), "other": fmt.Sprint(i / 7 % 2), "host": fmt.Sprintf("h-%d", i/3%1000),
			"rare": fmt.Sprintf("r-%d", i/11%10000),
		},
		Owners:  []string{fmt.Sprintf("scan-%d", i/1000)},
		Payload: fmt.Appendf(nil, `{"severity":%q,"asset":"asset-%d","text":"%0900d"}`, []string{"High", "Low"}[i/5%2], i%5000, i),
	}
}

func BenchmarkUpsert(b *testing.B) {
	for _, e := range benchEngines() {
		for _, size := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("%s/batch=%d", e.Name, size), func(b *testing.B) {
				table, next := benchTable(b, e), 0
				for b.Loop() {
					rows := make([]sql.Row, size)
					for i := range rows {
						rows[i], next = benchRow(next), next+1
					}
					if _, err := table.Upsert(b.Context(), rows); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(next)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}

func BenchmarkParallelCreate(b *testing.B) {
	for _, e := range benchEngines() {
		b.Run(e.Name, func(b *testing.B) {
			table := benchTable(b, e)
			var next atomic.Int64
			b.SetParallelism(8)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := table.Create(b.Context(), benchRow(int(next.Add(1)))); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkList reads single pages of 500 from a table of -rows rows.
func BenchmarkList(b *testing.B) {
	one := func(name string, op sql.Op, values ...string) sql.Requirement {
		return sql.Requirement{Name: name, Op: op, Values: values}
	}
	lists := []struct {
		name string
		opts sql.ListOptions
	}{
		{"all", sql.ListOptions{}},
		{"namespace", sql.ListOptions{Namespace: "team-042"}},
		{"label=all", sql.ListOptions{Labels: []sql.Requirement{one("scanner", sql.In, "trivy")}}},
		{"label=half", sql.ListOptions{Labels: []sql.Requirement{one("half", sql.In, "1")}}},
		{"label=rare", sql.ListOptions{Labels: []sql.Requirement{one("rare", sql.In, "r-77")}}},
		{"label-in-3", sql.ListOptions{Labels: []sql.Requirement{one("host", sql.In, "h-1", "h-2", "h-3")}}},
		{"label-exists", sql.ListOptions{Labels: []sql.Requirement{one("host", sql.Exists)}}},
		{"label-notin", sql.ListOptions{Labels: []sql.Requirement{one("half", sql.NotIn, "1")}}},
		{"labels-half-and-host", sql.ListOptions{Labels: []sql.Requirement{one("half", sql.In, "1"), one("host", sql.In, "h-5")}}},
		{"labels-half-in-namespace", sql.ListOptions{Namespace: "team-042", Labels: []sql.Requirement{one("half", sql.In, "1")}}},
		{"field-and-label", sql.ListOptions{Labels: []sql.Requirement{one("half", sql.In, "1")}, Fields: []sql.Requirement{one("spec.severity", sql.In, "High")}}},
		{"worst-disjoint-halves", sql.ListOptions{Labels: []sql.Requirement{one("half", sql.In, "1"), one("other", sql.In, "0")}}},
		{"worst-notin-all", sql.ListOptions{Labels: []sql.Requirement{one("scanner", sql.NotIn, "trivy")}}},
		{"owner", sql.ListOptions{Owner: "scan-3"}},
	}
	for _, e := range benchEngines() {
		b.Run(e.Name, func(b *testing.B) {
			table := benchTable(b, e)
			start := time.Now()
			for at := 0; at < *benchRows; at += 5000 {
				rows := make([]sql.Row, min(5000, *benchRows-at))
				for i := range rows {
					rows[i] = benchRow(at + i)
				}
				if _, err := table.Upsert(b.Context(), rows); err != nil {
					b.Fatal(err)
				}
			}
			b.Logf("%d rows in %v", *benchRows, time.Since(start))
			for _, list := range lists {
				b.Run(list.name, func(b *testing.B) {
					opts := list.opts
					opts.Limit = 500
					var took []time.Duration
					rows := 0
					for b.Loop() {
						start := time.Now()
						page, err := table.List(b.Context(), opts)
						if err != nil {
							b.Fatal(err)
						}
						took, rows = append(took, time.Since(start)), len(page.Rows)
						if opts.Continue = page.Continue; rows < 500 {
							opts.Continue = "" // from the start again
						}
					}
					slices.Sort(took)
					b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
					b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
					b.ReportMetric(float64(rows), "rows")
				})
			}
			b.Run("get", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					if _, err := table.Get(b.Context(), benchRow(i*37%*benchRows).Key); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
