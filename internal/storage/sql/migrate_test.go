package sql

import (
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// fakeMigrations serves files such as base/0001_a.sql on top of the embedded
// ones, so that the store itself works.
func fakeMigrations(files map[string]string) func(string) (schemas, error) {
	return func(engine string) (schemas, error) {
		all := fstest.MapFS{}
		sub, err := fs.Sub(migrationFiles, "migrations/"+engine)
		if err != nil {
			return schemas{}, err
		}
		err = fs.WalkDir(sub, ".", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			data, err := fs.ReadFile(sub, path)
			all[path] = &fstest.MapFile{Data: data}
			return err
		})
		for path, text := range files {
			all[path] = &fstest.MapFile{Data: []byte(text)}
		}
		if err != nil {
			return schemas{}, err
		}
		return readSchemas(all)
	}
}

func TestMigrationsAreAppliedOnce(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, config Config) {
		// Each would fail if it ran twice.
		later := map[string]string{
			"base/0002_extra.sql": "CREATE TABLE extra (a integer); INSERT INTO extra (a) VALUES (1);",
			"kind/0002_note.sql":  "ALTER TABLE {kind} ADD COLUMN note text; CREATE TABLE {kind}_more (a integer);",
		}
		db, table := openNotes(t, config)
		if _, err := table.Create(t.Context(), note("a", "x")); err != nil {
			t.Fatal(err)
		}
		db.Close()
		config.migrations = fakeMigrations(later)
		for range 2 {
			db, table = openNotes(t, config)
			var n int
			if err := db.reader.QueryRowContext(t.Context(), "SELECT count(*) FROM extra, k_notes WHERE note IS NULL").Scan(&n); err != nil || n != 1 {
				t.Errorf("after the migration: %d, %v", n, err)
			}
			if _, err := table.Get(t.Context(), Key{"n", "a"}); err != nil {
				t.Error(err)
			}
			db.Close()
		}
		// Another kind starts from nothing and gets all of them.
		archive := Kind{Name: "archive", Version: 1}
		config.Kinds = []Kind{notes(), archive}
		db, _ = openNotes(t, config)
		if _, err := db.writer.ExecContext(t.Context(), "INSERT INTO k_archive_more (a) VALUES (1)"); err != nil {
			t.Error(err)
		}
	})
}

func TestOpenRefusesForeignSchemas(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, config Config) {
		newer := config
		newer.migrations = fakeMigrations(map[string]string{
			"base/0002_a.sql": "CREATE TABLE extra (a integer)",
			"kind/0002_b.sql": "CREATE TABLE {kind}_b (a integer)",
		})
		db, _ := openNotes(t, newer)
		db.Close()
		for name, c := range map[string]struct {
			files map[string]string
			want  string
		}{
			"unknown in base": {nil, "the schema has migration 2"},
			"unknown in kind": {map[string]string{"base/0002_a.sql": "CREATE TABLE extra (a integer)"}, "kind notes has migration 2"},
			"changed in base": {map[string]string{"base/0002_a.sql": "CREATE TABLE other (a integer)"}, "another text of migration 0002_a.sql"},
			"changed in kind": {map[string]string{
				"base/0002_a.sql": "CREATE TABLE extra (a integer)",
				"kind/0002_b.sql": "CREATE TABLE {kind}_c (a integer)",
			}, "another text of migration 0002_b.sql"},
			"gap":      {map[string]string{"base/0003_a.sql": "SELECT 1"}, "number 2 is missing"},
			"bad name": {map[string]string{"base/2_a.sql": "SELECT 1"}, "must match"},
		} {
			refused := config
			refused.migrations, refused.Kinds = fakeMigrations(c.files), []Kind{notes()}
			db, err := Open(t.Context(), refused)
			if err == nil {
				db.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestFailedMigrationLeavesNothing has a good migration before the bad one.
func TestFailedMigrationLeavesNothing(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, config Config) {
		bad := config
		bad.Kinds = []Kind{notes()}
		bad.migrations = fakeMigrations(map[string]string{
			"kind/0002_a.sql": "CREATE TABLE {kind}_a (a integer)",
			"kind/0003_b.sql": "CREATE TABLE {kind}_b (a integer); INSERT INTO no_such_table VALUES (1)",
		})
		if _, err := Open(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "0003_b.sql") {
			t.Fatalf("open: %v", err)
		}
		good := config
		good.migrations = fakeMigrations(map[string]string{
			"kind/0002_a.sql": "CREATE TABLE {kind}_a (x integer)",
		})
		db, _ := openNotes(t, good)
		if _, err := db.writer.ExecContext(t.Context(), "INSERT INTO k_notes_a (x) VALUES (1)"); err != nil {
			t.Error(err)
		}
	})
}

// TestManyReplicasStartAtOnce opens one new database from many sides.
func TestManyReplicasStartAtOnce(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, config Config) {
		config.MaxConns = 2
		config.Kinds = []Kind{notes(), {Name: "archive", Version: 1}}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				db, err := Open(t.Context(), config)
				if err != nil {
					t.Errorf("replica %d: %v", i, err)
					return
				}
				defer db.Close()
				table, err := db.Table("notes")
				if err == nil {
					_, err = table.Create(t.Context(), note(fmt.Sprint("from-", i), "x"))
				}
				if err != nil {
					t.Errorf("replica %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		db, table := openNotes(t, config)
		if rows := everything(t, table, ListOptions{}); len(rows) != 8 {
			t.Errorf("%d rows", len(rows))
		}
		wantConsistent(t, db, table)
	})
}

func TestEmbeddedMigrationsOfBothEnginesMatch(t *testing.T) {
	t.Parallel()
	lite, err := embedded("sqlite")
	if err != nil {
		t.Fatal(err)
	}
	post, err := embedded("postgres")
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2][]migration{{lite.base, post.base}, {lite.kind, post.kind}} {
		if len(pair[0]) == 0 || len(pair[0]) != len(pair[1]) {
			t.Fatalf("%d migrations for SQLite, %d for PostgreSQL", len(pair[0]), len(pair[1]))
		}
		for i := range pair[0] {
			if pair[0][i].name != pair[1][i].name {
				t.Errorf("migration %d is %s and %s", i+1, pair[0][i].name, pair[1][i].name)
			}
		}
	}
}
