package sql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sqliteEngine serves one process from one file. Statements are in
// sqlite_statements.go.
type sqliteEngine struct{}

// wholeCheckBytes bounds the files that Open checks page by page. Larger ones
// are checked by header, length and schema, and wholly by Verify.
const wholeCheckBytes = 32 << 20

func (db *DB) openSQLite(ctx context.Context, config Config) error {
	path, err := filepath.Abs(config.SQLite)
	if err != nil {
		return err
	}
	size, err := prepareFile(path)
	if err != nil {
		return err
	}
	db.engine = sqliteEngine{}
	if db.writer, err = openPool(path, 1, config, "_txlock", "immediate"); err != nil {
		return err
	}
	if db.reader, err = openPool(path, config.MaxConns, config, "_pragma", "query_only(1)"); err != nil {
		db.Close()
		return err
	}
	if err := db.checkSQLite(ctx, config, size); err != nil {
		db.Close()
		return err
	}
	return nil
}

// openPool describes connections; it does not make one yet.
func openPool(path string, conns int, config Config, extra ...string) (*stdsql.DB, error) {
	query := url.Values{}
	pragmas := []string{
		fmt.Sprintf("busy_timeout(%d)", config.Timeout.Milliseconds()),
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"foreign_keys(1)",
		"trusted_schema(0)",
		"cell_size_check(1)",
		"temp_store(MEMORY)",
		"cache_size(-16384)",            // 16 MiB, filled as it is used
		"journal_size_limit(134217728)", // give back a log that one batch made large
	}
	if config.sqlitePageLimit > 0 {
		pragmas = append(pragmas, fmt.Sprintf("max_page_count(%d)", config.sqlitePageLimit))
	}
	query["_pragma"] = pragmas
	query.Add("mode", "rw") // the file exists: its mode was set before any data
	for i := 0; i < len(extra); i += 2 {
		query.Add(extra[i], extra[i+1])
	}
	source := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	pool, err := stdsql.Open("sqlite", source.String())
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	return pool, nil
}

// prepareFile makes sure that directory and file exist and are private, and
// returns the size of the file.
func prepareFile(path string) (int64, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return 0, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return 0, fmt.Errorf("directory %s has mode %04o: others must have no access (chmod 700)", dir, info.Mode().Perm())
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	if info, err = os.Lstat(path); err != nil {
		return 0, err
	}
	switch {
	case !info.Mode().IsRegular():
		return 0, errors.New("not a regular file")
	case info.Mode().Perm()&0o077 != 0:
		return 0, fmt.Errorf("file has mode %04o: others must have no access (chmod 600)", info.Mode().Perm())
	}
	if info.Size() == 0 {
		return 0, nil
	}
	return info.Size(), checkHeader(file, info.Size(), path)
}

// checkSQLite makes the first connection, which replays the log of a crash,
// and checks the file as far as its size allows.
func (db *DB) checkSQLite(ctx context.Context, config Config, size int64) error {
	ctx, cancel := context.WithTimeout(ctx, config.MigrateTimeout)
	defer cancel()
	var mode string
	if err := db.writer.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return db.fault(err)
	}
	if mode != "wal" {
		return fmt.Errorf("the file system does not allow a write-ahead log (journal mode %q)", mode)
	}
	// Reads the whole schema, so that a damaged one is found here.
	var objects int
	if err := db.writer.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&objects); err != nil {
		return db.fault(err)
	}
	if size > config.wholeCheck {
		config.Logger.Info("database is large: only header, length and schema were checked", "path", config.SQLite, "bytes", size)
		return nil
	}
	start := time.Now()
	if err := db.Verify(ctx); err != nil {
		return err
	}
	db.checked = true
	config.Logger.Debug("database checked", "path", config.SQLite, "bytes", size, "took", time.Since(start))
	return nil
}

func (sqliteEngine) verify(ctx context.Context, db *stdsql.DB) (string, error) {
	var found string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found); err != nil {
		return "", err
	}
	if strings.EqualFold(found, "ok") {
		return "", nil
	}
	return found, nil
}

func (sqliteEngine) classify(err error) class {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		if closedPool(err) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return classAway
		}
		return classInternal
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return classExists
	case sqlite3.SQLITE_BUSY_SNAPSHOT:
		return classRace
	}
	switch e.Code() & 0xff { // the primary code
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM:
		return classFull
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return classDamaged
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_PROTOCOL:
		return classAway
	default:
		return classInternal
	}
}
