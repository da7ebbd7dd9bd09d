package sql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// Config says which database to open and which kinds it serves. Exactly one of
// SQLite and Postgres must be set.
type Config struct {
	// SQLite is the path of the database file. Its directory is created with
	// mode 0700 if it is missing; a directory or file that others may enter or
	// read is refused.
	SQLite string
	// Postgres is a connection string (URL or key=value). It is a secret
	// because it may hold a password. A server that is neither local nor on a
	// loopback address needs sslmode=verify-full or verify-ca. Connections are
	// direct or pooled by session: a pooler that shares them between
	// transactions does not keep the settings that bound a statement.
	Postgres secret.String
	// MaxConns bounds the connections to PostgreSQL, or the readers of SQLite.
	// 0 means 16, or 4.
	MaxConns int
	// Timeout bounds every operation, unless its context ends earlier; 0 means
	// 15 s. PostgreSQL enforces it on its side as well.
	Timeout time.Duration
	// MigrateTimeout bounds the migrations inside Open, the wait for another
	// replica that migrates included; 0 means 10 minutes.
	MigrateTimeout time.Duration
	// Kinds are the kinds to serve; tables of kinds that are not listed are
	// left alone.
	Kinds []Kind
	// Now is the clock that gives creation times; nil means time.Now.
	Now func() time.Time
	// Logger receives what an operator should know; nil discards it.
	Logger *slog.Logger

	// dial replaces the connection to PostgreSQL in tests.
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// migrations replaces the embedded migrations in tests.
	migrations func(engine string) (schemas, error)
	// wholeCheck replaces wholeCheckBytes in tests.
	wholeCheck int64
	// sqlitePageLimit makes a SQLite database full at so many pages, in tests.
	sqlitePageLimit int
}

const (
	defaultTimeout        = 15 * time.Second
	defaultMigrateTimeout = 10 * time.Minute
	defaultPostgresConns  = 16
	defaultSQLiteReaders  = 4
	maxConns              = 1000
)

// complete validates the configuration and fills in defaults.
func (c Config) complete() (Config, error) {
	if (c.SQLite == "") == (len(c.Postgres.Reveal()) == 0) {
		return c, errors.New("exactly one of a SQLite path and a PostgreSQL connection string is needed")
	}
	if c.MaxConns < 0 || c.MaxConns > maxConns || c.Timeout < 0 || c.MigrateTimeout < 0 {
		return c, fmt.Errorf("bounds must not be negative, and connections at most %d", maxConns)
	}
	if c.MaxConns == 0 {
		c.MaxConns = defaultPostgresConns
		if c.SQLite != "" {
			c.MaxConns = defaultSQLiteReaders
		}
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.MigrateTimeout == 0 {
		c.MigrateTimeout = defaultMigrateTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.wholeCheck == 0 {
		c.wholeCheck = wholeCheckBytes
	}
	if c.migrations == nil {
		c.migrations = embedded
	}
	seen := map[string]bool{}
	for i := range c.Kinds {
		if err := c.Kinds[i].validate(); err != nil {
			return c, err
		}
		if seen[c.Kinds[i].Name] {
			return c, fmt.Errorf("kind %q is declared twice", c.Kinds[i].Name)
		}
		seen[c.Kinds[i].Name] = true
	}
	return c, nil
}
