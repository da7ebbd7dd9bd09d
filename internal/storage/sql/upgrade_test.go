package sql

import (
	"context"
	stdsql "database/sql"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// update writes the fixture of the present schema. Fixtures of earlier
// schemas, which only earlier programs could write, are never touched.
var update = flag.Bool("update", false, "write the upgrade fixture of the present schema")

// fixture names the data that a program with these migrations left behind.
func fixture(engine string, base, kind int) string {
	return filepath.Join("testdata", "upgrade", fmt.Sprintf("%s-base%04d-kind%04d.sql", engine, base, kind))
}

// upgradeRows are in every fixture.
func upgradeRows() []Row {
	rows := []Row{note("a", "open"), note("b", "closed"), note("c", "open")}
	rows[0].Labels["quote'"] = `"\`
	rows[1].Owners = nil
	for i := range rows {
		rows[i].Created = time.Date(2026, 1, 2, 3, 4, 5, i*1000, time.UTC)
	}
	return rows
}

// TestUpgrade starts from the data of every earlier schema and of the present
// one, and from each brings all rows and their indexes to today.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		all, err := embedded(engine)
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			writeFixture(t, newConfig(t, engine), fixture(engine, len(all.base), len(all.kind)))
		}
		files, err := filepath.Glob(filepath.Join("testdata", "upgrade", engine+"-*.sql"))
		if err != nil {
			t.Fatal(err)
		}
		bases, kinds := map[int]bool{}, map[int]bool{}
		for _, file := range files {
			var base, kind int
			if _, err := fmt.Sscanf(filepath.Base(file), engine+"-base%04d-kind%04d.sql", &base, &kind); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			bases[base], kinds[kind] = true, true
			t.Run(filepath.Base(file), func(t *testing.T) {
				t.Parallel()
				upgradeFrom(t, newConfig(t, engine), file, schemas{base: all.base[:base], kind: all.kind[:kind]})
			})
		}
		for n := 1; n <= max(len(all.base), len(all.kind)); n++ {
			if n <= len(all.base) && !bases[n] || n <= len(all.kind) && !kinds[n] {
				t.Errorf("%s: no fixture was written with migration %d: run the test with -update before releasing it", engine, n)
			}
		}
	}
}

func upgradeFrom(t *testing.T, config Config, file string, then schemas) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The old program made the schema, and a program of today that knows no
	// later migration makes the same.
	old := config
	old.migrations = func(string) (schemas, error) { return then, nil }
	db, _ := openNotes(t, old)
	if _, err := db.writer.ExecContext(t.Context(), string(data)); err != nil {
		t.Fatal(err)
	}
	db.Close()

	db, table := openNotes(t, config)
	got := everything(t, table, ListOptions{})
	want := upgradeRows()
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].Key != want[i].Key || got[i].UID != want[i].UID || !got[i].Created.Equal(want[i].Created) || got[i].Revision != 1 ||
			string(got[i].Payload) != string(want[i].Payload) || fmt.Sprint(got[i].Labels, got[i].Owners) != fmt.Sprint(want[i].Labels, want[i].Owners) {
			t.Errorf("row %d: got %+v, want %+v", i, got[i], want[i])
		}
	}
	wantConsistent(t, db, table)
	for _, opts := range []ListOptions{
		{Labels: []Requirement{{Name: "state", Op: In, Values: []string{"open"}}}},
		{Fields: []Requirement{{Name: "state", Op: In, Values: []string{"open"}}}},
		{Owner: "owner"},
	} {
		if rows := everything(t, table, opts); len(rows) != 2 {
			t.Errorf("%+v finds %d rows, want 2", opts, len(rows))
		}
	}
	// And it can be written.
	created, err := table.Create(t.Context(), note("new", "open"))
	if err != nil || created.Revision <= 1 {
		t.Errorf("create: %+v, %v", created, err)
	}
	if _, err := table.Update(t.Context(), note("a", "closed"), Precondition{Revision: 1}); err != nil {
		t.Error(err)
	}
	wantConsistent(t, db, table)
}

// writeFixture stores upgradeRows and writes the tables as statements.
func writeFixture(t *testing.T, config Config, file string) {
	db, table := openNotes(t, config)
	if _, err := table.Upsert(t.Context(), upgradeRows()); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if config.SQLite != "" {
		out.WriteString("UPDATE gatehouse_revision SET value = 1;\n")
	} else {
		out.WriteString("SELECT setval('gatehouse_revision', 1);\n")
	}
	for _, name := range []string{table.name, table.name + "_terms"} {
		dump(t, db.reader, name, config.SQLite != "", &out)
	}
	if config.SQLite == "" {
		out.WriteString("SELECT setval(pg_get_serial_sequence('k_notes', 'id'), (SELECT max(id) FROM k_notes));\n")
	}
	db.Close()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func dump(t *testing.T, db *stdsql.DB, table string, sqlite bool, out *strings.Builder) {
	rows, err := db.QueryContext(context.Background(), "SELECT * FROM "+table+" ORDER BY 1, 2, 3")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values, into := make([]any, len(names)), make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, v := range values {
			switch v := v.(type) {
			case string:
				list = append(list, "'"+strings.ReplaceAll(v, "'", "''")+"'")
			case []byte:
				if sqlite {
					list = append(list, "X'"+hex.EncodeToString(v)+"'")
				} else {
					list = append(list, `'\x`+hex.EncodeToString(v)+"'")
				}
			default:
				list = append(list, fmt.Sprint(v))
			}
		}
		override := ""
		if !sqlite && names[0] == "id" {
			override = " OVERRIDING SYSTEM VALUE"
		}
		fmt.Fprintf(out, "INSERT INTO %s (%s)%s VALUES (%s);\n", table, strings.Join(names, ", "), override, strings.Join(list, ", "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}
