// Package pgtest gives tests a real PostgreSQL server: a private cluster in a
// temporary directory, on a unix socket only, that belongs to the test process
// and ends with it.
//
// It owns: finding the binaries, starting and stopping the server, and a fresh
// database for each test. It refuses to let a test skip: where the binaries
// (Debian package postgresql) are missing, the test fails with the reason.
//
// PostgreSQL refuses to run as root. When the tests do, the server runs as the
// user postgres, or nobody.
//
// Start at [DSN]; a package that uses it needs
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
package pgtest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// startTimeout bounds initdb and the start of the server, each.
const startTimeout = 60 * time.Second

// settings fit tests: nothing has to survive the power going off.
var settings = []string{
	"listen_addresses=", "fsync=off", "full_page_writes=off",
	"max_connections=200", "shared_buffers=64MB", "max_wal_size=1GB", "autovacuum_naptime=5",
	"logging_collector=off", "log_min_messages=fatal",
}

// Cluster is a running server.
type Cluster struct {
	dir  string // also the directory of the socket
	proc *os.Process
	done chan struct{} // closed when the server has ended
	log  *bytes.Buffer // read after done only
	next atomic.Int64  // number of the next database
}

// shared is the cluster that DSN starts for the whole process.
var shared struct {
	once sync.Once
	*Cluster
	err error
}

// Main runs the tests of a package, stops the server that they shared, and
// returns the exit code.
func Main(m *testing.M) int {
	code := m.Run()
	if shared.Cluster != nil {
		if err := shared.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop PostgreSQL:", err)
			return max(code, 1)
		}
	}
	return code
}

// DSN returns the connection string of a new, empty database on a server that
// all tests of the process share. The database is dropped after the test.
func DSN(tb testing.TB) string {
	tb.Helper()
	shared.once.Do(func() { shared.Cluster, shared.err = start() })
	if shared.err != nil {
		tb.Fatalf("start PostgreSQL: %v", shared.err)
	}
	return shared.Database(tb)
}

// Start starts a server of the test's own, with further settings such as
// "fsync=on", and stops it after the test.
func Start(tb testing.TB, more ...string) *Cluster {
	tb.Helper()
	c, err := start(more...)
	if err != nil {
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	tb.Cleanup(func() {
		if err := c.Stop(); err != nil {
			tb.Errorf("stop PostgreSQL: %v", err)
		}
	})
	return c
}

// Admin returns the connection string of the superuser's database.
func (c *Cluster) Admin() string { return c.dsn("postgres") }

func (c *Cluster) dsn(database string) string {
	return fmt.Sprintf("host=%s user=gatehouse dbname=%s sslmode=disable", c.dir, database)
}

// Database creates an empty database and returns its connection string. It is
// dropped after the test, connections that are still open included.
func (c *Cluster) Database(tb testing.TB) string {
	tb.Helper()
	name := fmt.Sprintf("t%d", c.next.Add(1))
	if err := c.exec("CREATE DATABASE " + name + " ENCODING 'UTF8' TEMPLATE template0"); err != nil {
		tb.Fatalf("create database: %v", err)
	}
	tb.Cleanup(func() {
		if err := c.exec("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			tb.Errorf("drop database: %v", err)
		}
	})
	return c.dsn(name)
}

func (c *Cluster) exec(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	db, err := sql.Open("pgx", c.Admin())
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, statement)
	return err
}

// Stop ends the server at once and removes its directory.
func (c *Cluster) Stop() error {
	if err := c.halt(); err != nil {
		return err
	}
	return os.RemoveAll(c.dir)
}

// Halt ends the server in the middle of a test, as if its machine went away.
func (c *Cluster) Halt(tb testing.TB) {
	tb.Helper()
	if err := c.halt(); err != nil {
		tb.Fatalf("stop PostgreSQL: %v", err)
	}
}

func (c *Cluster) halt() error {
	// SIGINT is the fast shutdown: it ends sessions and waits for none.
	if err := c.proc.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.done:
	case <-time.After(startTimeout):
		c.proc.Kill()
		<-c.done
		return errors.New("the server did not stop in time")
	}
	return nil
}

func start(more ...string) (*Cluster, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	account, err := account()
	if err != nil {
		return nil, err
	}
	// Short, because the path of a unix socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", "pg-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, done: make(chan struct{}), log: &bytes.Buffer{}}
	if account != nil {
		err = os.Chown(dir, int(account.Uid), int(account.Gid))
	}
	if err == nil {
		err = c.initialise(bin, account)
	}
	if err == nil {
		err = c.serve(bin, account, more)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return c, nil
}

// binaries returns the directory of the newest PostgreSQL.
func binaries() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // 0 for a name that is no number
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		return filepath.Dir(path), nil
	}
	return "", errors.New("no postgres binary in /usr/lib/postgresql/*/bin or PATH: install the Debian package postgresql")
}

// account returns whom the server runs as, nil for the tests' own user.
func account() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres or nobody")
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *Cluster) initialise(bin string, account *syscall.Credential) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "--pgdata", c.data(), "--username=gatehouse",
		"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	cmd.Dir, cmd.Env = c.dir, []string{"PATH=" + bin + ":/usr/bin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

// serve starts the server and waits until it answers.
func (c *Cluster) serve(bin string, account *syscall.Credential, more []string) error {
	args := []string{"-D", c.data(), "-k", c.dir}
	for _, setting := range append(slices.Clone(settings), more...) {
		args = append(args, "-c", setting)
	}
	cmd := exec.Command(filepath.Join(bin, "postgres"), args...)
	cmd.Dir, cmd.Env = c.dir, []string{"LC_ALL=C"}
	cmd.Stdout, cmd.Stderr = c.log, c.log
	// The server must not outlive a test process that was killed: the kernel
	// stops it when the thread that started it ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account, Pdeathsig: syscall.SIGQUIT}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for as long as the server runs
		defer close(c.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() // the exit code of a stopped server says nothing
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	c.proc = cmd.Process
	for deadline := time.Now().Add(startTimeout); ; {
		err := c.exec("SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("the server ended: %s", c.log)
		case <-time.After(20 * time.Millisecond): // it gives no other sign of being ready
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("the server does not answer: %w", err), c.Stop())
		}
	}
}
