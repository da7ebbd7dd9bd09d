package sql

import (
	"context"
	"crypto/sha256"
	stdsql "database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
)

// Migrations are numbered from 1 without gaps. Those in base make what the
// database has once, those in kind what each kind has; {kind} in their text
// stands for the kind's table. A file that was released never changes: its
// checksum is stored with the databases that ran it.
//
//go:embed migrations
var migrationFiles embed.FS

type migration struct {
	number   int
	name     string // file name
	text     string
	checksum string
}

// schemas are the migrations of one engine.
type schemas struct{ base, kind []migration }

// kindPlaceholder is replaced by the table name.
const kindPlaceholder = "{kind}"

func embedded(engine string) (schemas, error) {
	sub, err := fs.Sub(migrationFiles, "migrations/"+engine)
	if err != nil {
		return schemas{}, err
	}
	return readSchemas(sub)
}

func readSchemas(files fs.FS) (s schemas, err error) {
	if s.base, err = readMigrations(files, "base"); err != nil {
		return s, err
	}
	s.kind, err = readMigrations(files, "kind")
	return s, err
}

var migrationName = regexp.MustCompile(`^([0-9]{4})_[a-z0-9_]+\.sql$`)

func readMigrations(files fs.FS, dir string) ([]migration, error) {
	entries, err := fs.ReadDir(files, dir) // sorted by name
	if err != nil {
		return nil, err
	}
	var list []migration
	for _, entry := range entries {
		match := migrationName.FindStringSubmatch(entry.Name())
		if match == nil {
			return nil, fmt.Errorf("migration %s/%s: the name must match %s", dir, entry.Name(), migrationName)
		}
		number, err := strconv.Atoi(match[1])
		if err != nil {
			return nil, err
		}
		if number != len(list)+1 {
			return nil, fmt.Errorf("migration %s/%s: number %d is missing or repeated", dir, entry.Name(), len(list)+1)
		}
		data, err := fs.ReadFile(files, dir+"/"+entry.Name())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		list = append(list, migration{number: number, name: entry.Name(), text: string(data), checksum: hex.EncodeToString(sum[:])})
	}
	return list, nil
}

// migrationTable exists before the first migration. scope is "" for base and
// the name of the kind otherwise.
const migrationTable = `CREATE TABLE IF NOT EXISTS gatehouse_migrations (
	scope    text    NOT NULL,
	number   integer NOT NULL,
	name     text    NOT NULL,
	checksum text    NOT NULL,
	PRIMARY KEY (scope, number)
)`

// prepareSchema applies what is missing, in one transaction under a lock.
// Replicas that start together wait for the first and find nothing to do.
func (db *DB) prepareSchema(ctx context.Context, config Config) error {
	all, err := config.migrations(db.engine.name())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, config.MigrateTimeout)
	defer cancel()
	tx, err := db.writer.BeginTx(ctx, nil)
	if err != nil {
		return db.fault(err)
	}
	defer tx.Rollback() // no effect after the commit
	if err := db.engine.migrationLock(ctx, tx); err != nil {
		return db.fault(err)
	}
	if _, err := tx.ExecContext(ctx, migrationTable); err != nil {
		return db.fault(err)
	}
	if err := db.migrate(ctx, tx, "", all.base); err != nil {
		return err
	}
	for i := range config.Kinds {
		kind := &config.Kinds[i]
		if err := db.migrate(ctx, tx, kind.Name, all.kind); err != nil {
			return err
		}
		if err := db.registerKind(ctx, tx, kind); err != nil {
			return err
		}
	}
	return db.fault(tx.Commit())
}

// migrate brings one scope up to date.
func (db *DB) migrate(ctx context.Context, tx *stdsql.Tx, scope string, list []migration) error {
	subject := "the schema"
	if scope != "" {
		subject = "the schema of kind " + scope
	}
	applied, err := db.appliedMigrations(ctx, tx, scope)
	if err != nil {
		return db.fault(err)
	}
	for i, checksum := range applied {
		if i >= len(list) {
			return fmt.Errorf("%s has migration %d, which this version of the program does not know: start the version that made it, or a later one", subject, i+1)
		}
		if checksum != list[i].checksum {
			return fmt.Errorf("%s was made by another text of migration %s: a released migration must not change", subject, list[i].name)
		}
	}
	for _, m := range list[len(applied):] {
		statements := m.text
		if scope != "" {
			statements = strings.ReplaceAll(statements, kindPlaceholder, tableName(scope))
		}
		if _, err := tx.ExecContext(ctx, statements); err != nil {
			return fmt.Errorf("apply migration %s to %s: %w", m.name, subject, db.fault(err))
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO gatehouse_migrations (scope, number, name, checksum) VALUES ($1, $2, $3, $4)",
			scope, m.number, m.name, m.checksum); err != nil {
			return db.fault(err)
		}
		db.log.Info("schema migrated", "scope", scope, "migration", m.name)
	}
	return nil
}

// appliedMigrations returns the checksums by number, from 1.
func (db *DB) appliedMigrations(ctx context.Context, tx *stdsql.Tx, scope string) ([]string, error) {
	rows, err := tx.QueryContext(ctx, "SELECT number, checksum FROM gatehouse_migrations WHERE scope = $1 ORDER BY number", scope)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var sums []string
	for rows.Next() {
		var number int
		var sum string
		if err := rows.Scan(&number, &sum); err != nil {
			return nil, err
		}
		if number != len(sums)+1 {
			return nil, fmt.Errorf("the record of migrations lacks number %d", len(sums)+1)
		}
		sums = append(sums, sum)
	}
	return sums, rows.Err()
}

// registerKind records the version of a kind and derives the fields of rows
// that an older version wrote.
func (db *DB) registerKind(ctx context.Context, tx *stdsql.Tx, kind *Kind) error {
	if err := db.engine.lockKind(ctx, tx, kind.Name); err != nil {
		return db.fault(err)
	}
	var version int64
	err := tx.QueryRowContext(ctx, "SELECT version FROM gatehouse_kinds WHERE name = $1", kind.Name).Scan(&version)
	switch {
	case errors.Is(err, stdsql.ErrNoRows):
		_, err = tx.ExecContext(ctx, "INSERT INTO gatehouse_kinds (name, version) VALUES ($1, $2)", kind.Name, kind.Version)
		return db.fault(err)
	case err != nil:
		return db.fault(err)
	case version > kind.Version:
		return fmt.Errorf("rows of kind %s were written by a newer version of the program (%d, this one has %d): start that version, or a later one", kind.Name, version, kind.Version)
	case version == kind.Version:
		return nil
	}
	if _, err := tx.ExecContext(ctx, "UPDATE gatehouse_kinds SET version = $2 WHERE name = $1", kind.Name, kind.Version); err != nil {
		return db.fault(err)
	}
	n, err := db.rederive(ctx, tx, kind)
	if err != nil {
		return db.fault(err)
	}
	db.log.Info("fields of stored rows derived anew", "kind", kind.Name, "version", kind.Version, "rows", n)
	return nil
}

// rederiveBatch bounds the rows in memory; their payloads are at most 1.5 MiB
// each by default, and far smaller in kinds with many rows.
const rederiveBatch = 200

// rederive walks a table by id and rewrites what Derive changes. Revisions
// stay: the objects are the same.
func (db *DB) rederive(ctx context.Context, tx *stdsql.Tx, kind *Kind) (int, error) {
	table, total, last := tableName(kind.Name), 0, int64(-1<<62)
	for {
		ids, err := queryIDs(ctx, tx, "SELECT id FROM "+table+" WHERE id > $1 ORDER BY id LIMIT $2", last, rederiveBatch)
		if err != nil || len(ids) == 0 {
			return total, err
		}
		last = ids[len(ids)-1]
		rows, err := db.engine.heads(ctx, tx, table, ids, true)
		if err != nil {
			return total, err
		}
		var changed []*stored
		var gone, added []posting
		for _, row := range rows {
			before := row.postings()
			if err := kind.derive(&row.Row); err != nil {
				return total, err
			}
			if removed, inserted := diffPostings(before, row.postings()); len(removed)+len(inserted) > 0 {
				gone, added = append(gone, removed...), append(added, inserted...)
				changed = append(changed, row)
			}
		}
		if err := db.engine.unpost(ctx, tx, table, gone); err != nil {
			return total, err
		}
		if err := db.engine.update(ctx, tx, table, changed); err != nil {
			return total, err
		}
		if err := db.engine.post(ctx, tx, table, added); err != nil {
			return total, err
		}
		total += len(rows)
	}
}

func queryIDs(ctx context.Context, tx *stdsql.Tx, query string, args ...any) ([]int64, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
