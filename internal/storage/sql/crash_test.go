package sql

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// crashVariable names the database that the child process of the crash tests
// writes to.
const crashVariable = "GATEHOUSE_TEST_SQL_CRASH"

const crashBatch = 300

// RunCrashChild turns a test process that was started by the crash tests into
// a writer that never ends: it stores batch after batch and prints the number
// of each that was acknowledged.
func RunCrashChild() {
	place := os.Getenv(crashVariable)
	if place == "" {
		return
	}
	fmt.Println(crashChild(place))
	os.Exit(1)
}

func crashChild(place string) error {
	config := Config{Kinds: []Kind{notes()}}
	if dsn, ok := strings.CutPrefix(place, "postgres:"); ok {
		config.Postgres = secret.NewString(dsn)
	} else {
		config.SQLite = place
	}
	ctx := context.Background()
	db, err := Open(ctx, config)
	if err != nil {
		return err
	}
	table, err := db.Table("notes")
	if err != nil {
		return err
	}
	// Every batch rewrites the same rows and adds one, so that a half batch of
	// either sort shows.
	first, err := table.List(ctx, ListOptions{Labels: []Requirement{{Name: "ack", Op: Exists}}})
	if err != nil {
		return err
	}
	for number := len(first.Rows); ; number++ {
		if _, err := table.Upsert(ctx, crashRows(number)); err != nil {
			return err
		}
		fmt.Println("stored", number)
	}
}

func crashRows(number int) []Row {
	state := strconv.Itoa(number)
	mark := note(fmt.Sprintf("z-%06d", number), state)
	mark.Labels["ack"] = state
	rows := []Row{mark}
	for i := range crashBatch {
		rows = append(rows, note(fmt.Sprintf("a-%03d", i), state))
	}
	return rows
}

// TestKillDuringBatches kills the writer with SIGKILL again and again. What
// was acknowledged is there, and every batch is there whole or not at all.
func TestKillDuringBatches(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, config Config) {
		place := config.SQLite
		if place == "" {
			place = "postgres:" + string(config.Postgres.Reveal())
		}
		acknowledged := -1
		for _, batches := range []int{1, 4, 2, 7} {
			acknowledged = killAfter(t, place, batches)
			db, table := openNotes(t, config)
			if err := db.Verify(t.Context()); err != nil {
				t.Fatal(err)
			}
			marks := everything(t, table, ListOptions{Labels: []Requirement{{Name: "ack", Op: Exists}}})
			newest := len(marks) - 1
			if newest < acknowledged || newest > acknowledged+1 {
				t.Fatalf("batch %d was acknowledged, the newest stored is %d", acknowledged, newest)
			}
			rows := everything(t, table, ListOptions{Fields: []Requirement{{Name: "state", Op: In, Values: []string{strconv.Itoa(newest)}}}})
			if len(rows) != crashBatch+1 {
				t.Fatalf("%d rows of batch %d, want %d", len(rows), newest, crashBatch+1)
			}
			if all := everything(t, table, ListOptions{}); len(all) != crashBatch+len(marks) {
				t.Fatalf("%d rows after batch %d", len(all), newest)
			}
			wantConsistent(t, db, table)
			db.Close()
		}
	})
}

// killAfter runs the child until it acknowledged so many batches, kills it
// inside the next one and returns the number of the last.
func killAfter(t *testing.T, place string, batches int) int {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), crashVariable+"="+place)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	last := -1
	lines := bufio.NewScanner(out)
	for seen := 0; lines.Scan(); {
		number, ok := strings.CutPrefix(lines.Text(), "stored ")
		if !ok {
			t.Errorf("the writer says: %s", lines.Text())
			break
		}
		if last, err = strconv.Atoi(number); err != nil {
			t.Error(err)
		}
		if seen++; seen == batches {
			child.Process.Kill()
			// Lines that were written before the kill were acknowledged too.
		}
	}
	child.Wait() // it was killed
	if last < 0 {
		t.Fatal("the writer acknowledged nothing")
	}
	return last
}
