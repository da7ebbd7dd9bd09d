package ledger_test

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/verify"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
)

// readIDs returns how often each auditID of caller's events is in the log.
func readIDs(t *testing.T, fsys vfs.FS, dir string) map[string]int {
	t.Helper()
	infos, err := segment.List(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]int{}
	for _, info := range infos {
		r, err := segment.OpenReader(fsys, dir, info)
		if err != nil {
			t.Fatal(err)
		}
		for {
			item, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if item.Kind != segment.KindRecord {
				continue
			}
			entry, err := segment.ParseEntry(item.Payload)
			if err != nil {
				t.Fatal(err)
			}
			id, _, ok := audit.Identify(entry.Event)
			if !ok {
				t.Fatalf("record %d cannot be identified: %s", item.Index, entry.Event)
			}
			ids[id]++
		}
		r.Close()
	}
	return ids
}

// acked is what the log promised.
type acked struct {
	mu                sync.Mutex
	durable, buffered []string
}

// tiny keeps the runs short: what counts is the number of operations.
func tiny() *audit.Event {
	return &audit.Event{Level: audit.LevelMetadata, Stage: audit.StageResponseComplete, Verb: "get", User: audit.UserInfo{Username: "u"}}
}

// exercise appends from several goroutines until the file system dies.
func exercise(t *testing.T, l *ledger.Log, round string, a *acked) {
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range 70 {
				e := tiny()
				e.AuditID = fmt.Sprintf("%s-%d-%d", round, w, i)
				d := audit.Durable
				if (w+i)%3 == 0 {
					d = audit.Buffered
				}
				if l.Append(t.Context(), e, d) != nil {
					return
				}
				a.mu.Lock()
				if d == audit.Durable {
					a.durable = append(a.durable, e.AuditID)
				} else {
					a.buffered = append(a.buffered, e.AuditID)
				}
				a.mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for b := range 5 {
			batch := make([]audit.Event, 20)
			for i := range batch {
				batch[i] = *tiny()
				batch[i].AuditID = fmt.Sprintf("%s-site-%d-%d", round, b, i)
			}
			if _, err := l.AppendBatch(t.Context(), "alpha", batch); err != nil {
				return
			}
			a.mu.Lock()
			for i := range batch {
				a.durable = append(a.durable, batch[i].AuditID)
			}
			a.mu.Unlock()
		}
	})
	wg.Wait()
}

func crashConfig(fsys vfs.FS) ledger.Config {
	cfg := testConfig()
	cfg.FS = fsys
	cfg.SegmentRecords = 256
	cfg.SyncInterval = time.Millisecond
	cfg.CheckpointInterval = 2 * time.Millisecond // several in each run
	return cfg
}

// TestCrashAtEveryPoint cuts the log off at thousands of points of its write
// path, by kill -9 and by power failure, and checks after each that everything
// acknowledged is there once, that the log verifies, and that it goes on.
func TestCrashAtEveryPoint(t *testing.T) {
	t.Parallel()
	// One undisturbed run tells how many points there are.
	fsys := crashfs.New(1)
	l := mustOpen(t, "log", crashConfig(fsys))
	exercise(t, l, "full", &acked{})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	points := fsys.Ops()
	if points < 100 {
		t.Fatalf("only %d operations: the test would prove little", points)
	}
	const shards = 8
	passes := max(1, 2100/points)
	if testing.Short() {
		passes = 1
	}
	for shard := range shards {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			for n := shard; n < points*passes; n += shards {
				crashOnce(t, uint64(n), n%points+1, ends[n%len(ends)])
			}
		})
	}
}

// ends are how two rounds can end, true for a power failure: after a kill the
// next process finds records that are in the page cache only.
var ends = [][2]bool{{false, false}, {true, true}, {false, true}}

func crashOnce(t *testing.T, seed uint64, point int, ends [2]bool) {
	t.Helper()
	fsys := crashfs.New(seed)
	var a acked
	var anchors [][]byte
	boot := 0
	for round, power := range ends {
		if round == 1 && ends[0] != power {
			point = 1 + int(seed)%40 // soon after what the kill left
		}
		fsys.CrashAt(point)
		cfg := crashConfig(fsys)
		cfg.BootID = fmt.Sprint("boot-", boot)
		l, err := ledger.Open("log", cfg)
		if err == nil {
			exercise(t, l, fmt.Sprint("round", round), &a)
			if c := l.Stats().Checkpoint; c != nil {
				anchors = append(anchors, c)
			}
			_ = l.Close() // fails when the crash came first
		} else if !errors.Is(err, crashfs.ErrCrashed) {
			t.Fatalf("seed %d point %d: open in round %d: %v", seed, point, round, err)
		}
		if power {
			boot++
			fsys = fsys.PowerLoss()
			a.buffered = nil // these may be lost, and the gap is recorded
		} else {
			fsys = fsys.Kill()
		}
		if t.Failed() {
			return
		}
	}
	fsys.CrashAt(0)
	l, err := ledger.Open("log", crashConfig(fsys))
	if err != nil {
		t.Fatalf("seed %d point %d: open after the crash: %v\n%v", seed, point, err, fsys.Names())
	}
	var after acked
	exercise(t, l, "after", &after)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ids := readIDs(t, fsys, "log")
	for _, id := range append(append(append(a.durable, a.buffered...), after.durable...), after.buffered...) {
		if ids[id] != 1 {
			t.Fatalf("seed %d point %d power %v: acknowledged %s is in the log %d times", seed, point, ends, id, ids[id])
		}
	}
	report, err := verify.Log(t.Context(), "log", verify.Options{FS: fsys, Keys: []string{l.VerifierKey()}, Anchors: anchors})
	if err != nil {
		t.Fatal(err)
	}
	if !report.OK() || report.Signed != report.Records {
		t.Fatalf("seed %d point %d power %v: %+v", seed, point, ends, report)
	}
}
