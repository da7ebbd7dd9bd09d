package sql

import (
	"bytes"
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql/pgtest"
)

func TestFilesArePrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "a ?#%20&dir", "rows.db")
	_, table := openNotes(t, Config{SQLite: path})
	if _, err := table.Create(t.Context(), note("a", "x")); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 3 { // with the log and its index
		t.Fatalf("files %v, %v", files, err)
	}
	for file, want := range map[string]os.FileMode{files[0]: 0o600, files[1]: 0o600, files[2]: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v", file, info.Mode(), err)
		}
	}
}

func TestSQLiteSettings(t *testing.T) {
	t.Parallel()
	db, _ := openNotes(t, Config{SQLite: filepath.Join(t.TempDir(), "d", "rows.db")})
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "15000", "query_only": "0"} {
		for name, pool := range map[string]*stdsql.DB{"writer": db.writer, "reader": db.reader} {
			if pragma == "query_only" && name == "reader" {
				want = "1"
			}
			var got string
			if err := pool.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
				t.Errorf("%s: %s = %q, %v", name, pragma, got, err)
			}
			if pragma == "query_only" {
				want = "0"
			}
		}
	}
}

// sampleDatabase returns a closed database file with some 100 pages.
func sampleDatabase(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data", "rows.db")
	db, table := openNotes(t, Config{SQLite: path})
	if _, err := table.Upsert(t.Context(), crashRows(1)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil { // moves the log into the file
		t.Fatal(err)
	}
	return path
}

func rewrite(t *testing.T, path string, edit func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, edit(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	t.Parallel()
	fill := func(from, to int, b byte) func([]byte) []byte {
		return func(data []byte) []byte {
			copy(data[from:to], bytes.Repeat([]byte{b}, to-from))
			return data
		}
	}
	for name, c := range map[string]struct {
		edit func([]byte) []byte
		want string
	}{
		"a text file":         {func([]byte) []byte { return bytes.Repeat([]byte("hello "), 100) }, "not a SQLite database"},
		"shorter than header": {func(d []byte) []byte { return d[:50] }, "damaged"},
		"cut in half":         {func(d []byte) []byte { return d[:len(d)/2] }, "damaged"},
		"last page missing":   {func(d []byte) []byte { return d[:len(d)-4096] }, "damaged"},
		"bad page size":       {fill(16, 18, 7), "damaged"},
		"schema overwritten":  {fill(100, 4096, 0xa5), "damaged"},
		"a page overwritten":  {fill(5*4096, 6*4096, 0xa5), "damaged"},
		"all but the header":  {func(d []byte) []byte { return fill(4096, len(d), 0)(d) }, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := sampleDatabase(t)
			rewrite(t, path, c.edit)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			db, err := Open(t.Context(), Config{SQLite: path, Kinds: []Kind{notes()}})
			if err == nil {
				db.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") || fault.KindOf(err) != fault.Unavailable {
				t.Errorf("the error is %v", err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the refused file was changed, %v", err)
			}
		})
	}
}

// TestDamageInALargeFile uses a bound at which the sample counts as large.
func TestDamageInALargeFile(t *testing.T) {
	t.Parallel()
	path := sampleDatabase(t)
	rewrite(t, path, func(data []byte) []byte {
		for i := 8 * 4096; i < len(data); i++ {
			data[i] = 0xa5
		}
		return data
	})
	db, table := openNotes(t, Config{SQLite: path, wholeCheck: 4096})
	if err := db.Ready(t.Context()); err != nil {
		t.Errorf("before the damage is met: %v", err)
	}
	_, err := table.List(t.Context(), ListOptions{})
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(fault.Public(err), "damaged") {
		t.Errorf("reading it: %v", err)
	}
	if err := db.Ready(t.Context()); err == nil {
		t.Error("ready after damage was met")
	}
	db.Close()
	db, _ = openNotes(t, Config{SQLite: path, wholeCheck: 4096})
	if err := db.Run(t.Context()); fault.KindOf(err) != fault.Unavailable || db.Ready(t.Context()) == nil {
		t.Errorf("verify: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := func(t *testing.T) string { return filepath.Join(t.TempDir(), "d") }
	for name, c := range map[string]struct {
		config func(*testing.T) Config
		want   string
	}{
		"nothing": {func(*testing.T) Config { return Config{} }, "exactly one"},
		"both": {func(t *testing.T) Config {
			return Config{SQLite: dir(t) + "/x", Postgres: secret.NewString("host=/x")}
		}, "exactly one"},
		"open directory": {func(t *testing.T) Config {
			d := dir(t)
			if err := errors.Join(os.Mkdir(d, 0o700), os.Chmod(d, 0o750)); err != nil {
				t.Fatal(err)
			}
			return Config{SQLite: d + "/x"}
		}, "chmod 700"},
		"open file": {func(t *testing.T) Config {
			d := dir(t)
			if err := errors.Join(os.Mkdir(d, 0o700), os.WriteFile(d+"/x", nil, 0o600), os.Chmod(d+"/x", 0o640)); err != nil {
				t.Fatal(err)
			}
			return Config{SQLite: d + "/x"}
		}, "chmod 600"},
		"link": {func(t *testing.T) Config {
			d := dir(t)
			if err := errors.Join(os.Mkdir(d, 0o700), os.WriteFile(d+"/real", nil, 0o600), os.Symlink("real", d+"/x")); err != nil {
				t.Fatal(err)
			}
			return Config{SQLite: d + "/x"}
		}, "not a regular file"},
		"directory": {func(t *testing.T) Config {
			d := dir(t)
			if err := os.MkdirAll(d+"/x", 0o700); err != nil {
				t.Fatal(err)
			}
			return Config{SQLite: d + "/x"}
		}, "is a directory"},
		"bad kind": {func(t *testing.T) Config {
			return Config{SQLite: dir(t) + "/x", Kinds: []Kind{{Name: "Drop table"}}}
		}, "the name must match"},
		"index name": {func(t *testing.T) Config {
			return Config{SQLite: dir(t) + "/x", Kinds: []Kind{{Name: "a_terms", Version: 1}}}
		}, "_terms"},
		"no version": {func(t *testing.T) Config { return Config{SQLite: dir(t) + "/x", Kinds: []Kind{{Name: "a"}}} }, "version"},
		"kind twice": {func(t *testing.T) Config {
			return Config{SQLite: dir(t) + "/x", Kinds: []Kind{notes(), notes()}}
		}, "twice"},
		"fields alone": {func(t *testing.T) Config {
			return Config{SQLite: dir(t) + "/x", Kinds: []Kind{{Name: "a", Version: 1, Fields: []string{"f"}}}}
		}, "Derive"},
		"bad string": {func(*testing.T) Config {
			return Config{Postgres: secret.NewString("postgres://u:hunter2@[bad/")}
		}, "not valid"},
		"remote in clear": {func(*testing.T) Config {
			return Config{Postgres: secret.NewString("postgres://u:hunter2@db.example.org/g")}
		}, "sslmode=verify-full"},
		"wrong encoding": {func(t *testing.T) Config {
			cluster := pgtest.DSN(t)
			admin, err := stdsql.Open("pgx", cluster)
			if err != nil {
				t.Fatal(err)
			}
			defer admin.Close()
			name := fmt.Sprintf("latin%d", time.Now().UnixNano())
			if _, err := admin.Exec("CREATE DATABASE " + name + " ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'"); err != nil {
				t.Fatal(err)
			}
			return Config{Postgres: secret.NewString(cluster + " dbname=" + name)}
		}, "encoding LATIN1"},
		"asynchronous commit": {func(t *testing.T) Config {
			return Config{Postgres: secret.NewString(pgtest.DSN(t) + " synchronous_commit=off")}
		}, "synchronous_commit is off"},
		"no such database": {func(t *testing.T) Config {
			return Config{Postgres: secret.NewString(pgtest.DSN(t) + " dbname=nowhere")}
		}, "does not exist"},
		"read-only server": {func(t *testing.T) Config {
			return Config{Postgres: secret.NewString(pgtest.DSN(t) + " default_transaction_read_only=on")}
		}, "read only"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := Open(t.Context(), c.config(t))
			if err == nil {
				db.Close()
				t.Fatal("opened")
			}
			if text := err.Error(); !strings.Contains(text, c.want) || strings.Contains(text, "hunter2") || strings.Contains(text, "\n") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func TestRemoteServersNeedVerifiedTLS(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]bool{
		"host=/run/postgresql dbname=g":                                 true,
		"host=127.0.0.1 dbname=g sslmode=disable":                       true,
		"host=::1 dbname=g":                                             true,
		"host=localhost dbname=g":                                       true,
		"host=10.0.0.1 dbname=g":                                        false, // prefer
		"host=10.0.0.1 dbname=g sslmode=disable":                        false,
		"host=10.0.0.1 dbname=g sslmode=allow":                          false,
		"host=db.example.org dbname=g sslmode=require":                  false,
		"host=db.example.org dbname=g sslmode=verify-full":              true,
		"host=db.example.org dbname=g sslmode=verify-ca":                true,
		"host=/run/postgresql,db.example.org dbname=g":                  false,
		"host=a.example,b.example dbname=g sslmode=verify-full":         true,
		"host=localhost.example.org dbname=g sslmode=prefer":            false,
		"postgres://10.0.0.1,10.0.0.2/g?sslmode=require":                false,
		"postgres://u@db.example.org/g?sslmode=verify-full":             true,
		"postgres://u@127.0.0.1.example.org/g?sslmode=prefer":           false,
		"host=db.example.org hostaddr=127.0.0.1 dbname=g sslmode=allow": false,
	} {
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			t.Fatalf("%s: %v", dsn, err)
		}
		if err := requireTLS(config); (err == nil) != want {
			t.Errorf("%s: %v", dsn, err)
		}
	}
}

func TestPostgresErrors(t *testing.T) {
	t.Parallel()
	state := func(code string) error { return fmt.Errorf("query: %w", &pgconn.PgError{Code: code, Message: "m"}) }
	for _, c := range []struct {
		err  error
		want fault.Kind
	}{
		{state("23505"), fault.Conflict},
		{state("40001"), fault.Unavailable},
		{state("40P01"), fault.Unavailable},
		{state("53100"), fault.Exhausted}, // disk full
		{state("53200"), fault.Exhausted},
		{state("53300"), fault.Unavailable},
		{state("57P01"), fault.Unavailable},
		{state("57014"), fault.Unavailable},
		{state("55P03"), fault.Unavailable},
		{state("25006"), fault.Unavailable},
		{state("08006"), fault.Unavailable},
		{state("28P01"), fault.Unavailable},
		{state("58030"), fault.Unavailable},
		{state("XX001"), fault.Unavailable},
		{state("XX000"), fault.Internal},
		{state("42601"), fault.Internal},
		{state("22003"), fault.Internal},
		{state(""), fault.Internal},
		{io.ErrUnexpectedEOF, fault.Unavailable},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, fault.Unavailable},
		{stdsql.ErrTxDone, fault.Unavailable},
		{context.Canceled, fault.Unavailable},
		{fmt.Errorf("q: %w", context.DeadlineExceeded), fault.Unavailable},
		{errors.New("unknown"), fault.Internal},
		{fault.New(fault.NotFound, "x"), fault.NotFound},
	} {
		db := &DB{engine: postgresEngine{}, log: discard}
		err := db.fault(c.err)
		if fault.KindOf(err) != c.want {
			t.Errorf("%v: %v, want %v", c.err, fault.KindOf(err), c.want)
		}
		var driver *pgconn.PgError
		if errors.As(err, &driver) {
			t.Errorf("%v: the driver's error is reachable", c.err)
		}
		if damaged := strings.Contains(c.err.Error(), "XX001"); db.damaged.Load() != damaged {
			t.Errorf("%v: damage noted = %v", c.err, !damaged)
		}
	}
}

func FuzzCheckHeader(f *testing.F) {
	f.Add([]byte("SQLite format 3\x00"), int64(100))
	f.Add(append([]byte("SQLite format 3\x00\x10\x00"), make([]byte, 82)...), int64(4096))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		err := checkHeader(bytes.NewReader(data), size, "/nonexistent")
		if err == nil && (len(data) < 100 || !bytes.HasPrefix(data, []byte("SQLite format 3\x00"))) {
			t.Errorf("accepted %q", data)
		}
	})
}

func FuzzParseContinue(f *testing.F) {
	kind := notes()
	q, err := kind.newQuery(ListOptions{Namespace: "n"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encodeContinue(q, Key{"n", "a"}))
	f.Add("")
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, token string) {
		key, err := parseContinue(token, q)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Errorf("%q: %v", token, err)
			}
			return
		}
		if key.Namespace != "n" || key.Name == "" || encodeContinue(q, key) != token {
			t.Errorf("%q gives %v", token, key)
		}
	})
}
