package sql

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql/pgtest"
)

// cutter makes connections that break at a chosen message.
type cutter struct {
	armed    atomic.Bool
	messages atomic.Int64 // until the cut
	sent     bool         // whether the last message still goes out
}

func (c *cutter) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	return &cutConn{Conn: conn, cutter: c}, err
}

type cutConn struct {
	net.Conn
	cutter *cutter
}

func (c *cutConn) Write(p []byte) (int, error) {
	if c.cutter.armed.Load() && c.cutter.messages.Add(-1) == 0 {
		c.cutter.armed.Store(false)
		n := 0
		if c.cutter.sent {
			n, _ = c.Conn.Write(p) // the answer is what gets lost
		}
		c.Conn.Close()
		return n, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// TestConnectionCut breaks the connection at every message of a batch, before
// and after the message is sent. The batch is stored whole or not at all, it
// is stored if it was acknowledged, and the next call works again.
func TestConnectionCut(t *testing.T) {
	t.Parallel()
	for _, sent := range []bool{false, true} {
		cut := &cutter{sent: sent}
		config := Config{Postgres: secret.NewString(pgtest.DSN(t)), MaxConns: 1, dial: cut.dial}
		db, table := openNotes(t, config)
		if _, err := table.Upsert(t.Context(), []Row{note("a", "old"), note("b", "old")}); err != nil {
			t.Fatal(err)
		}
		unknown := 0
		for at := int64(1); ; at++ {
			batch := []Row{note("a", "new"), note("b", "new"), note("c", "new")}
			cut.messages.Store(at)
			cut.armed.Store(true)
			_, err := table.Upsert(t.Context(), batch)
			survived := cut.armed.Swap(false)
			if err != nil {
				waitForServer(t, db)
			}
			rows := everything(t, table, ListOptions{Labels: []Requirement{{Name: "state", Op: In, Values: []string{"new"}}}})
			old := everything(t, table, ListOptions{Fields: []Requirement{{Name: "state", Op: In, Values: []string{"old"}}}})
			if whole := len(rows) == 3 && len(old) == 0; !whole && (len(rows) != 0 || len(old) != 2 || err == nil) {
				t.Fatalf("cut at %d (sent %v): %v; %d new rows, %d old ones", at, sent, err, len(rows), len(old))
			} else if whole && err != nil {
				unknown++
			}
			if err != nil && fault.KindOf(err) != fault.Unavailable {
				t.Fatalf("cut at %d: %v", at, err)
			}
			wantConsistent(t, db, table)
			if survived { // the batch has fewer messages
				if err != nil {
					t.Fatal(err)
				}
				if at < 6 {
					t.Fatalf("the batch took only %d messages", at)
				}
				break
			}
			if _, err := table.Upsert(t.Context(), []Row{note("a", "old"), note("b", "old")}); err != nil {
				t.Fatal(err)
			}
			if _, err := table.Delete(t.Context(), Key{"n", "c"}, Precondition{}); err != nil && fault.KindOf(err) != fault.NotFound {
				t.Fatal(err)
			}
		}
		if sent != (unknown > 0) {
			t.Errorf("commits with a lost answer: %d, with sent = %v", unknown, sent)
		}
	}
}

// waitForServer returns when the server has dealt with every connection but
// the one in use: what was sent before the cut has then happened or never will.
func waitForServer(t *testing.T, db *DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for others := 1; others > 0; {
		const question = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`
		if err := db.reader.QueryRowContext(ctx, question).Scan(&others); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDiskFull limits the file to few pages. A batch that does not fit leaves
// nothing, reads go on, and room makes writes work again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	config := Config{SQLite: t.TempDir() + "/data/rows.db"}
	db, _ := openNotes(t, config)
	db.Close()
	small := config
	small.sqlitePageLimit = 60
	db, table := openNotes(t, small)
	if _, err := table.Upsert(t.Context(), crashRows(1)[:20]); err != nil {
		t.Fatal(err)
	}
	big := crashRows(2)
	for i := range big {
		big[i].Payload = []byte(`{"state":"` + strings.Repeat("x", 1000) + `"}`)
	}
	for range 3 {
		_, err := table.Upsert(t.Context(), big)
		if fault.KindOf(err) != fault.Exhausted {
			t.Fatalf("a full disk gives %v", err)
		}
	}
	if rows := everything(t, table, ListOptions{}); len(rows) != 20 {
		t.Errorf("%d rows after failed batches", len(rows))
	}
	wantConsistent(t, db, table)
	if err := errors.Join(db.Verify(t.Context()), db.Ready(t.Context())); err != nil {
		t.Error(err)
	}
	db.Close()
	_, table = openNotes(t, config)
	if _, err := table.Upsert(t.Context(), big); err != nil {
		t.Error(err)
	}
}

// TestWaitForALockEnds holds a lock elsewhere: the operation gives up in time.
func TestWaitForALockEnds(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, config Config) {
		holder, table := openNotes(t, config)
		if _, err := table.Create(t.Context(), note("a", "old")); err != nil {
			t.Fatal(err)
		}
		config.Timeout = 2 * time.Second // enough to open the tables and to read on a busy machine
		_, waiting := openNotes(t, config)
		tx, err := holder.writer.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(t.Context(), "UPDATE k_notes SET revision = revision"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = waiting.Update(t.Context(), note("a", "new"), Precondition{})
		if fault.KindOf(err) != fault.Unavailable {
			t.Errorf("a locked row gives %v", err)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("it took %v to give up", took)
		}
		if row, err := waiting.Get(t.Context(), Key{"n", "a"}); err != nil || row.Labels["state"] != "old" {
			t.Errorf("a reader met the lock: %+v, %v", row, err)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	db, table := openNotes(t, Config{SQLite: t.TempDir() + "/data/rows.db"})
	db.inFlight.Store(maxInFlight)
	for what, err := range map[string]error{
		"get":    second(table.Get(t.Context(), Key{"n", "a"})),
		"list":   second(table.List(t.Context(), ListOptions{})),
		"create": second(table.Create(t.Context(), note("a", "x"))),
	} {
		if fault.KindOf(err) != fault.Exhausted {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := db.inFlight.Load(); n != maxInFlight {
		t.Errorf("refused operations changed the count to %d", n)
	}
	db.inFlight.Store(0)
	if _, err := table.Create(t.Context(), note("a", "x")); err != nil {
		t.Error(err)
	}
	if n := db.inFlight.Load(); n != 0 {
		t.Errorf("%d operations are counted after the last", n)
	}
}

func second[T any](_ T, err error) error { return err }

// TestServerGone stops a PostgreSQL server under an open DB.
func TestServerGone(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t)
	db, table := openNotes(t, Config{Postgres: secret.NewString(cluster.Admin())})
	if _, err := table.Create(t.Context(), note("a", "x")); err != nil {
		t.Fatal(err)
	}
	cluster.Halt(t)
	for what, err := range map[string]error{
		"get":    second(table.Get(t.Context(), Key{"n", "a"})),
		"list":   second(table.List(t.Context(), ListOptions{})),
		"upsert": second(table.Upsert(t.Context(), []Row{note("a", "x")})),
		"ready":  db.Ready(t.Context()),
	} {
		if fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := Open(t.Context(), Config{Postgres: secret.NewString(cluster.Admin())})
	if fault.KindOf(err) != fault.Unavailable || strings.Contains(err.Error(), "\n") {
		t.Errorf("opening a stopped server: %v", err)
	}
}
