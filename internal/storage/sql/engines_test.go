package sql

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql/pgtest"
)

// newConfig describes a new database of an engine.
func newConfig(t testing.TB, engine string) Config {
	t.Helper()
	if engine == "sqlite" {
		return Config{SQLite: filepath.Join(t.TempDir(), "data", "rows.db")}
	}
	return Config{Postgres: secret.NewString(pgtest.DSN(t)), MaxConns: 4}
}

// onEngines runs a test on a new database of each engine.
func onEngines(t *testing.T, run func(*testing.T, Config)) {
	t.Helper()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			run(t, newConfig(t, engine))
		})
	}
}

// notes is a kind whose payload is {"state": …}.
func notes() Kind {
	return Kind{
		Name: "notes", Namespaced: true, Version: 1, Fields: []string{"state"},
		Derive: func(r *Row) (map[string]string, error) {
			var v struct{ State string }
			err := json.Unmarshal(r.Payload, &v)
			return map[string]string{"state": v.State}, err
		},
	}
}

func note(name, state string) Row {
	return Row{
		Key: Key{"n", name}, UID: "u-" + name, Owners: []string{"owner"},
		Labels:  map[string]string{"state": state},
		Payload: fmt.Appendf(nil, `{"state":%q}`, state),
	}
}

func openNotes(t testing.TB, config Config) (*DB, *Table) {
	t.Helper()
	if config.Kinds == nil {
		config.Kinds = []Kind{notes()}
	}
	db, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	table, err := db.Table("notes")
	if err != nil {
		t.Fatal(err)
	}
	return db, table
}

// everything lists all rows that opts select.
func everything(t testing.TB, table *Table, opts ListOptions) []Row {
	t.Helper()
	var rows []Row
	for {
		page, err := table.List(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, page.Rows...)
		if opts.Continue = page.Continue; opts.Continue == "" {
			return rows
		}
	}
}

// wantConsistent checks that the posting lists hold exactly what the rows say.
func wantConsistent(t testing.TB, db *DB, table *Table) {
	t.Helper()
	var want int
	for _, row := range everything(t, table, ListOptions{}) {
		s := stored{Row: row}
		want += len(s.postings())
	}
	var got, matched int
	if err := db.reader.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table.name+"_terms").Scan(&got); err != nil {
		t.Fatal(err)
	}
	if err := db.reader.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table.name+"_terms AS p JOIN "+table.name+
		" AS r ON r.id = p.id AND r.namespace = p.namespace AND r.name = p.name").Scan(&matched); err != nil {
		t.Fatal(err)
	}
	if got != want || matched != want {
		t.Errorf("%d postings, %d of them of stored rows; the rows have %d", got, matched, want)
	}
}
