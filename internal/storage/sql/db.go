package sql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// DB is an open database. It is safe for concurrent use.
type DB struct {
	engine  engine
	reader  *stdsql.DB
	writer  *stdsql.DB // the reader pool itself for PostgreSQL
	tables  map[string]*Table
	timeout time.Duration
	now     func() time.Time
	log     *slog.Logger

	inFlight atomic.Int64 // operations that hold or wait for a connection
	damaged  atomic.Bool  // the engine reported damaged data; set once, never cleared
	checked  bool         // Open read the whole database; not changed after that
}

const (
	// maxInFlight bounds the operations that wait for a connection.
	maxInFlight = 4096
	// maxAttempts bounds the repetition of transactions that lost a race.
	maxAttempts = 8
)

// engine is what differs between SQLite and PostgreSQL. Its methods run inside
// a transaction of the caller and return errors of the driver.
type engine interface {
	name() string
	// migrationLock waits until no other process migrates and holds the lock
	// until the transaction ends.
	migrationLock(ctx context.Context, tx *stdsql.Tx) error
	// nextRevision takes the revision of a write to the kind, keeps its
	// version from changing until the transaction ends, and returns both.
	nextRevision(ctx context.Context, tx *stdsql.Tx, kind string) (revision, version int64, err error)
	// lockKind keeps others from writing the kind until the transaction ends.
	lockKind(ctx context.Context, tx *stdsql.Tx, kind string) error
	// readTx are the options of a transaction that sees one snapshot.
	readTx() *stdsql.TxOptions

	// newestRevision is a statement that reads the last revision given out.
	newestRevision() string

	// lookup reads the rows with these keys, in any order, and locks them
	// against other writers if lock is set.
	lookup(ctx context.Context, tx *stdsql.Tx, table string, keys []Key, lock bool) ([]*stored, error)
	// heads reads the rows with these ids, in any order; without payloads
	// unless asked, but always with their size.
	heads(ctx context.Context, tx *stdsql.Tx, table string, ids []int64, payloads bool) ([]*stored, error)
	// insert adds rows, sets their ids, and fails on a key that exists.
	insert(ctx context.Context, tx *stdsql.Tx, table string, rows []*stored) error
	// update writes everything but id, key, UID and creation time.
	update(ctx context.Context, tx *stdsql.Tx, table string, rows []*stored) error
	// remove deletes the rows with these ids.
	remove(ctx context.Context, tx *stdsql.Tx, table string, ids []int64) error
	// post adds, and unpost removes, entries of the posting lists.
	post(ctx context.Context, tx *stdsql.Tx, table string, postings []posting) error
	unpost(ctx context.Context, tx *stdsql.Tx, table string, postings []posting) error

	// classify maps an error of the driver.
	classify(err error) class
	// verify reads the whole database and returns what is damaged, "" if
	// nothing is.
	verify(ctx context.Context, db *stdsql.DB) (string, error)
}

// Open opens the database, checks it, brings its schema up to date and creates
// the tables of new kinds. It returns one error that names the database and
// the fault; with PostgreSQL several replicas may open it at once.
func Open(ctx context.Context, config Config) (*DB, error) {
	config, err := config.complete()
	if err != nil {
		return nil, fmt.Errorf("open SQL storage: %w", err)
	}
	db := &DB{timeout: config.Timeout, now: config.Now, log: config.Logger, tables: map[string]*Table{}}
	place := config.SQLite
	if config.SQLite != "" {
		err = db.openSQLite(ctx, config)
	} else {
		place, err = db.openPostgres(ctx, config)
	}
	if err == nil {
		if err = db.prepareSchema(ctx, config); err != nil {
			db.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open SQL storage %s: %w", place, err)
	}
	for i := range config.Kinds {
		kind := config.Kinds[i]
		db.tables[kind.Name] = &Table{db: db, kind: &kind, name: tableName(kind.Name)}
	}
	return db, nil
}

func tableName(kind string) string { return "k_" + kind }

// Close waits for running operations to give back their connections and
// closes them. The DB must not be used afterwards.
func (db *DB) Close() error {
	var errs []error
	if db.writer != nil && db.writer != db.reader {
		errs = append(errs, db.writer.Close())
	}
	if db.reader != nil {
		errs = append(errs, db.reader.Close())
	}
	return errors.Join(errs...)
}

// Table returns the rows of a kind that Open was given.
func (db *DB) Table(kind string) (*Table, error) {
	t, ok := db.tables[kind]
	if !ok {
		return nil, fmt.Errorf("SQL storage was opened without the kind %q", kind)
	}
	return t, nil
}

// Ready reports whether the database answers and has not reported damage. It
// is cheap enough for a readiness probe.
func (db *DB) Ready(ctx context.Context) error {
	if db.damaged.Load() {
		return damagedFault("")
	}
	ctx, cancel := context.WithTimeout(ctx, db.timeout)
	defer cancel()
	return db.fault(db.reader.PingContext(ctx))
}

// Verify reads the whole database and checks its structure. It takes about a
// second for each 100 MB or so of SQLite; with PostgreSQL, whose server checks
// its own files, it asks for an answer only. Writers are not blocked. Damage
// makes Ready fail from then on.
func (db *DB) Verify(ctx context.Context) error {
	found, err := db.engine.verify(ctx, db.reader)
	if err != nil {
		return db.fault(err)
	}
	if found != "" {
		db.damaged.Store(true)
		return damagedFault(found)
	}
	return nil
}

// Run makes up for what Open left out: it verifies a large SQLite file, once,
// and logs what it finds. It returns when that is done or ctx ends.
func (db *DB) Run(ctx context.Context) error {
	if db.checked {
		return nil
	}
	start := time.Now()
	if err := db.Verify(ctx); err != nil {
		return fmt.Errorf("verify SQL storage: %w", err)
	}
	db.log.Info("database verified", "took", time.Since(start))
	return nil
}

// enter admits an operation and gives it a deadline.
func (db *DB) enter(ctx context.Context) (context.Context, func(), error) {
	if db.inFlight.Add(1) > maxInFlight {
		db.inFlight.Add(-1)
		return nil, nil, fault.New(fault.Exhausted, "too many storage operations are waiting")
	}
	ctx, cancel := context.WithTimeout(ctx, db.timeout)
	return ctx, func() {
		cancel()
		db.inFlight.Add(-1)
	}, nil
}

// read runs fn in a transaction that sees one snapshot.
func (db *DB) read(ctx context.Context, fn func(context.Context, *stdsql.Tx) error) error {
	ctx, leave, err := db.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	tx, err := db.reader.BeginTx(ctx, db.engine.readTx())
	if err != nil {
		return db.fault(err)
	}
	defer tx.Rollback() // nothing was written
	if err := fn(ctx, tx); err != nil {
		return db.fault(err)
	}
	return nil
}

// change is a write transaction on one kind.
type change struct {
	*stdsql.Tx
	table    *Table
	engine   engine
	revision int64
}

// write runs fn in a transaction and commits it. fn runs again, from the
// start, when the transaction lost a race against another.
func (t *Table) write(ctx context.Context, fn func(context.Context, *change) error) error {
	ctx, leave, err := t.db.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for attempt := 1; ; attempt++ {
		err := t.writeOnce(ctx, fn)
		if err == nil {
			return nil
		}
		if attempt == maxAttempts || !t.db.lostRace(err) || ctx.Err() != nil {
			return t.db.fault(err)
		}
	}
}

func (t *Table) writeOnce(ctx context.Context, fn func(context.Context, *change) error) error {
	tx, err := t.db.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // no effect after the commit
	revision, version, err := t.db.engine.nextRevision(ctx, tx, t.kind.Name)
	if err != nil {
		return err
	}
	if version != t.kind.Version {
		return fault.Newf(fault.Unavailable, "the stored %s were upgraded by a newer version of this program; restart this replica with that version", t.kind.Name)
	}
	if err := fn(ctx, &change{Tx: tx, table: t, engine: t.db.engine, revision: revision}); err != nil {
		return err
	}
	return tx.Commit()
}
