package sql

import (
	"context"
	stdsql "database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// postgresEngine serves any number of replicas. It reaches pgx through
// database/sql and not through pgx's own pool, so that transactions, contexts
// and the suite that proves them are the same code for both engines; bulk
// writes pass arrays, which cost one round trip either way. Statements are in
// postgres_statements.go.
type postgresEngine struct{}

const (
	minPostgres       = 130000 // server_version_num
	connectTimeout    = 10 * time.Second
	maxConnLifetime   = 30 * time.Minute // follows a failover behind a name in time
	maxConnIdle       = 5 * time.Minute
	migrationLockName = 0x6761746568 // "gateh"
)

// openPostgres returns the place it connects to, without the password.
func (db *DB) openPostgres(ctx context.Context, config Config) (string, error) {
	parsed, err := pgx.ParseConfig(string(config.Postgres.Reveal()))
	if err != nil {
		// The parser quotes what it was given.
		return "PostgreSQL", errors.New("the connection string is not valid")
	}
	place := fmt.Sprintf("PostgreSQL %s/%s", net.JoinHostPort(parsed.Host, strconv.Itoa(int(parsed.Port))), parsed.Database)
	if err := requireTLS(parsed); err != nil {
		return place, err
	}
	if parsed.ConnectTimeout == 0 || parsed.ConnectTimeout > connectTimeout {
		parsed.ConnectTimeout = connectTimeout
	}
	if parsed.ValidateConnect == nil {
		// After a failover the old primary may still answer, read-only.
		parsed.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if config.dial != nil {
		parsed.DialFunc = config.dial
	}
	millis := strconv.FormatInt(config.Timeout.Milliseconds(), 10)
	for name, value := range map[string]string{
		"application_name":                    "gatehouse",
		"statement_timeout":                   millis,
		"lock_timeout":                        millis,
		"idle_in_transaction_session_timeout": millis,
		// Every statement here is a walk along an index. Plans that fit the
		// average value of a parameter scan whole tables for the others.
		"plan_cache_mode": "force_custom_plan",
		// Nothing here needs a sort but what an index already has in order; the
		// planner would sort a list that it believes to be short.
		"enable_seqscan":   "off",
		"enable_sort":      "off",
		"random_page_cost": "1.1",
		"jit":              "off",
	} {
		if _, set := parsed.RuntimeParams[name]; !set {
			parsed.RuntimeParams[name] = value
		}
	}
	db.engine, db.checked = postgresEngine{}, true
	db.writer = stdlib.OpenDB(*parsed)
	db.reader = db.writer
	db.writer.SetMaxOpenConns(config.MaxConns)
	db.writer.SetMaxIdleConns(config.MaxConns)
	db.writer.SetConnMaxLifetime(maxConnLifetime)
	db.writer.SetConnMaxIdleTime(maxConnIdle)
	if err := db.checkPostgres(ctx, config.Timeout); err != nil {
		db.Close()
		return place, err
	}
	return place, nil
}

// requireTLS refuses every way to reach a remote server without knowing that
// it is the right one. sslmode=prefer, the usual default, has such a way.
func requireTLS(config *pgx.ConnConfig) error {
	check := func(host string, verified bool) error {
		if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" {
			return nil
		}
		if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
			return nil
		}
		if !verified {
			return fmt.Errorf("host %s is remote: set sslmode=verify-full and sslrootcert in the connection string", host)
		}
		return nil
	}
	// sslmode=require skips verification; verify-ca replaces it by its own.
	tls := config.TLSConfig
	if err := check(config.Host, tls != nil && (!tls.InsecureSkipVerify || tls.VerifyPeerCertificate != nil || tls.VerifyConnection != nil)); err != nil {
		return err
	}
	for _, other := range config.Fallbacks {
		tls := other.TLSConfig
		if err := check(other.Host, tls != nil && (!tls.InsecureSkipVerify || tls.VerifyPeerCertificate != nil || tls.VerifyConnection != nil)); err != nil {
			return err
		}
	}
	return nil
}

func (db *DB) checkPostgres(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var version int
	var encoding, commit string
	err := db.reader.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int,
		current_setting('server_encoding'), current_setting('synchronous_commit')`).Scan(&version, &encoding, &commit)
	switch {
	case err != nil:
		return db.fault(err)
	case version < minPostgres:
		return fmt.Errorf("the server is version %d.x; at least %d is needed", version/10000, minPostgres/10000)
	case encoding != "UTF8":
		return fmt.Errorf("the database has the encoding %s; UTF8 is needed", encoding)
	case commit == "off":
		return errors.New("synchronous_commit is off, so that acknowledged changes could be lost; turn it on for this database")
	}
	return nil
}

// verify asks for an answer only: the server checks its own pages, and a
// client that reads all of them learns no more.
func (postgresEngine) verify(ctx context.Context, db *stdsql.DB) (string, error) {
	var n int
	return "", db.QueryRowContext(ctx, "SELECT count(*) FROM gatehouse_kinds").Scan(&n)
}

func (postgresEngine) readTx() *stdsql.TxOptions {
	return &stdsql.TxOptions{Isolation: stdsql.LevelRepeatableRead, ReadOnly: true}
}

// classify goes by SQLSTATE (appendix A of the PostgreSQL manual).
func (postgresEngine) classify(err error) class {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		var network net.Error
		var connect *pgconn.ConnectError
		if closedPool(err) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) || errors.As(err, &network) || errors.As(err, &connect) ||
			errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
			return classAway
		}
		return classInternal
	}
	switch e.Code {
	case "23505":
		return classExists
	case "40001", "40P01":
		return classRace
	case "53100", "53200", "54000":
		return classFull
	case "57014", "55P03", "25006", "53300", "25P03":
		return classAway
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "XX":
		if e.Code == "XX001" || e.Code == "XX002" {
			return classDamaged
		}
		return classInternal
	case "08", "57", "28", "3D": // connection, operator, authorization, no such database
		return classAway
	case "58": // the server's operating system
		return classAway
	default:
		return classInternal
	}
}
