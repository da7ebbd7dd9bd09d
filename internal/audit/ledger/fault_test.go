package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/verify"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

func mustVerify(t *testing.T, fsys vfs.FS, dir string) *verify.Report {
	t.Helper()
	r, err := verify.Log(t.Context(), dir, verify.Options{FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() {
		t.Fatalf("log does not hold: %v", r.Faults)
	}
	return r
}

// TestDiskFull: refused while the disk is full, recorded again afterwards
// without help, nothing half written, and the gap told with its counts.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"write", "create", "sync"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fsys := crashfs.New(3)
				cfg := testConfig()
				cfg.FS, cfg.SegmentRecords = fsys, 256
				l := mustOpen(t, "log", cfg)
				for i := range 300 {
					if err := l.Append(t.Context(), sample(i), audit.Durable); err != nil {
						t.Fatal(err)
					}
				}
				fsys.Fail(func(o, name string) error {
					if o == op {
						return syscall.ENOSPC
					}
					return nil
				})
				refused := 0
				for i := 300; i < 600; i++ {
					err := l.Append(t.Context(), sample(i), audit.Durable)
					if err == nil {
						continue // with a failing create, until the segment is full
					}
					refused++
					if fault.KindOf(err) != fault.Unavailable || !errors.Is(err, syscall.ENOSPC) || fault.Public(err) != "the audit log cannot be written" {
						t.Fatalf("append on a full disk: %v", err)
					}
				}
				if refused == 0 {
					t.Fatal("nothing was refused")
				}
				if err := l.Append(t.Context(), sample(999), audit.Buffered); err == nil {
					t.Fatal("buffered append on a full disk succeeded")
				}
				if s := l.Stats(); s.Err == nil || s.Refused != uint64(refused) || s.Unrecorded != 1 {
					t.Fatalf("stats %+v, refused %d", s, refused)
				}
				fsys.Fail(nil)
				time.Sleep(5 * time.Second) // virtual: the retry after a failed sync
				for i := 600; i < 700; i++ {
					if err := l.Append(t.Context(), sample(i), audit.Durable); err != nil {
						t.Fatalf("after space came back: %v", err)
					}
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				r := mustVerify(t, fsys, "log")
				if len(r.Gaps) != 1 || !strings.Contains(r.Gaps[0].Why, "could not be written") {
					t.Fatalf("gaps %+v", r.Gaps)
				}
				ids := readIDs(t, fsys, "log")
				for i := 600; i < 700; i++ {
					if ids[sample(i).AuditID] != 1 {
						t.Fatalf("event %d is in the log %d times", i, ids[sample(i).AuditID])
					}
				}
				for id, n := range ids {
					if n != 1 {
						t.Fatalf("%s is in the log %d times", id, n)
					}
				}
			})
		})
	}
}

// TestSyncFailureLosesNothingAcknowledged: after a failed sync the kernel
// counts the pages as clean; buffered records acknowledged before must be
// written again, not just synced again.
func TestSyncFailureLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New(5)
		cfg := testConfig()
		cfg.FS = fsys
		l := mustOpen(t, "log", cfg)
		var fails atomic.Int32
		fsys.Fail(func(op, name string) error {
			if op == "sync" && strings.HasSuffix(name, ".log") && fails.Add(1) <= 3 {
				return syscall.EIO
			}
			return nil
		})
		for i := range 50 {
			if err := l.Append(t.Context(), sample(i), audit.Buffered); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		if fails.Load() < 4 {
			t.Fatalf("only %d syncs were tried", fails.Load())
		}
		if s := l.Stats(); s.Err != nil || s.Synced != 50 {
			t.Fatalf("not repaired: %+v", s)
		}
		after := fsys.PowerLoss()
		_ = l.Close()
		cfg.FS = after
		l = mustOpen(t, "log", cfg)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		ids := readIDs(t, after, "log")
		for i := range 50 {
			if ids[sample(i).AuditID] != 1 {
				t.Fatalf("event %d is lost", i)
			}
		}
		mustVerify(t, after, "log")
	})
}

// TestDamagedDirectory: one clear line, and nothing is changed.
func TestDamagedDirectory(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New(9)
	cfg := testConfig()
	cfg.FS, cfg.SegmentRecords = fsys, 256
	l := mustOpen(t, "log", cfg)
	for i := range 400 {
		if err := l.Append(t.Context(), sample(i), audit.Buffered); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	flip := func(name string, at int) func(*crashfs.FS) {
		return func(f *crashfs.FS) {
			b := f.Content("log/" + name)
			if at < 0 {
				at += len(b)
			}
			b[at] ^= 1
			f.SetContent("log/"+name, b)
		}
	}
	active := "00000000000000000256.log"
	cases := []struct {
		name   string
		damage func(*crashfs.FS)
		want   string
	}{
		{"record of the active segment", flip(active, 5000), "damaged: record 2"},
		{"magic of the active segment", flip(active, 3), "not the start of a log segment"},
		{"footer of the sealed segment", flip("00000000000000000000.seg", -200), "checksum of the footer"},
		{"checkpoint", flip("checkpoint", 30), "damaged: checkpoint"},
		{"log.json", flip("log.json", 2), "log.json"},
		{"no log.json", func(f *crashfs.FS) { f.SetContent("log/log.json", nil) }, "log.json is missing"},
		{"no active segment", func(f *crashfs.FS) { f.SetContent("log/"+active, nil) }, "holds 256 records, its checkpoint covers 400"},
		{"no sealed segment", func(f *crashfs.FS) { f.SetContent("log/00000000000000000000.seg", nil) }, "expected the segment that begins with record 0"},
		{"no segments", func(f *crashfs.FS) {
			f.SetContent("log/00000000000000000000.seg", nil)
			f.SetContent("log/"+active, nil)
		}, "no segments"},
		{"tail cut off", func(f *crashfs.FS) {
			b := f.Content("log/" + active)
			f.SetContent("log/"+active, b[:len(b)/2])
		}, "damaged: record"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			copied := fsys.Clone()
			c.damage(copied)
			before := snapshot(copied)
			cfg := cfg
			cfg.FS = copied
			_, err := ledger.Open("log", cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v, want one line with %q", err, c.want)
			}
			if snapshot(copied) != before {
				t.Error("a refused directory was changed")
			}
		})
	}
	t.Run("another log", func(t *testing.T) {
		t.Parallel()
		cfg := cfg
		cfg.FS, cfg.ID = fsys.Clone(), "r2"
		if _, err := ledger.Open("log", cfg); err == nil || !strings.Contains(err.Error(), "holds log r1") {
			t.Fatal(err)
		}
	})
}

func snapshot(f *crashfs.FS) string {
	var b strings.Builder
	for _, n := range f.Names() {
		fmt.Fprintf(&b, "%s %x\n", n, f.Content(n))
	}
	return b.String()
}

func TestDeduplication(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := testConfig()
	cfg.SegmentRecords = 256
	list := make([]audit.Event, 300)
	for i := range list {
		list[i] = *sample(i)
	}
	l := mustOpen(t, dir, cfg)
	expect := func(site string, events []audit.Event, recorded, duplicates int) {
		t.Helper()
		r, err := l.AppendBatch(t.Context(), site, events)
		if err != nil || r.Recorded != recorded || r.Duplicates != duplicates {
			t.Fatalf("%+v %v, want %d recorded, %d duplicates", r, err, recorded, duplicates)
		}
	}
	expect("alpha", list, 300, 0)
	expect("alpha", list[100:], 0, 200)
	expect("beta", list[:10], 10, 0) // another site's ids are its own
	other := *sample(1)
	other.Stage = audit.StageResponseStarted
	expect("alpha", []audit.Event{other, other}, 1, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, dir, cfg)
	expect("alpha", list, 0, 300)
	expect("beta", list[:11], 1, 10)
	_, err := l.AppendBatch(t.Context(), "alpha", []audit.Event{*sample(1000), {AuditID: "x"}})
	if fault.KindOf(err) != fault.Invalid || !strings.HasPrefix(fault.Public(err), "items[1].level") {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if readIDs(t, vfs.OS{}, dir)[sample(1000).AuditID] != 0 {
		t.Error("a list was taken in part")
	}
	mustVerify(t, vfs.OS{}, dir)

	// A sender that was cut off by the end of the process repeats, however much
	// later it can.
	later := cfg
	later.Clock = func() time.Time { return time.Now().Add(10 * time.Hour) }
	l = mustOpen(t, dir, later)
	expect("alpha", list[200:], 0, 100)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := mustOpen(t, dir, testConfig())
	defer l.Close()
	if _, err := ledger.Open(dir, testConfig()); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatal(err)
	}
}

// TestBoundsAndSecrets: giants are cut and marked, and no secret is written.
func TestBoundsAndSecrets(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New(1)
	cfg := testConfig()
	cfg.FS = fsys
	var logged bytes.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	l := mustOpen(t, "log", cfg)
	const hidden = "c3VwZXItc2VjcmV0"
	big := sample(1)
	big.Level = audit.LevelRequestResponse
	big.ResponseObject = []byte(`{"kind":"ConfigMap","apiVersion":"v1","data":{"x":"` + strings.Repeat("y", 1<<20) + `"}}`)
	many := sample(2)
	for i := range 10_000 {
		many.Annotate(fmt.Sprintf("example.com/key-%05d", i), "v")
	}
	broken := sample(3)
	broken.UserAgent = "agent\xff\xfe\u2028end"
	broken.RequestURI = "/x?token=" + hidden + "&a=b"
	secret := sample(4)
	secret.Level = audit.LevelRequestResponse
	secret.ObjectRef = &audit.ObjectReference{Resource: "secrets", Namespace: "a", Name: "b"}
	secret.RequestObject = []byte(`{"kind":"Secret","apiVersion":"v1","data":{"k":"` + hidden + `"}}`)
	secret.ResponseObject = []byte(`[{"op":"add","path":"/data/k","value":"` + hidden + `"}]`)
	for _, e := range []*audit.Event{big, many, broken, secret} {
		if err := l.Append(t.Context(), e, audit.Durable); err != nil {
			t.Fatal(err)
		}
	}
	if len(many.Annotations) != 10_002 || len(big.ResponseObject) < 1<<20 || !bytes.Contains(secret.RequestObject, []byte(hidden)) {
		t.Error("the caller's event was changed")
	}
	if err := l.Append(t.Context(), &audit.Event{AuditID: strings.Repeat("x", 300)}, audit.Durable); fault.KindOf(err) != fault.Invalid {
		t.Errorf("event without level: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	all := snapshotRaw(fsys)
	if strings.Contains(all, hidden) {
		t.Error("a secret is on disk")
	}
	for _, want := range []string{`"audit.gatehouse.dev/dropped":"responseObject"`, `"audit.gatehouse.dev/dropped":"annotations:98`, `"userAgent":"agent` + "\uFFFD\uFFFD" + `\u2028end"`, `/x?token=[redacted]&a=b`} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not in the log", want)
		}
	}
	if r := mustVerify(t, fsys, "log"); r.Records != 4 {
		t.Errorf("%d records", r.Records)
	}
}

func snapshotRaw(f *crashfs.FS) string {
	var b strings.Builder
	for _, n := range f.Names() {
		b.Write(f.Content(n))
	}
	return b.String()
}

func TestClosedLogRefuses(t *testing.T) {
	t.Parallel()
	l := mustOpen(t, t.TempDir(), testConfig())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatalf("second close: %v", err)
	}
	if err := l.Append(t.Context(), sample(1), audit.Durable); fault.KindOf(err) != fault.Unavailable {
		t.Fatal(err)
	}
}

// TestCheckpointCannotBeWritten: it follows when it can, also if nothing more
// is recorded.
func TestCheckpointCannotBeWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New(2)
		cfg := testConfig()
		cfg.FS = fsys
		l := mustOpen(t, "log", cfg)
		defer l.Close()
		fsys.Fail(func(op, name string) error {
			if op == "rename" {
				return syscall.EIO
			}
			return nil
		})
		if err := l.Append(t.Context(), sample(1), audit.Durable); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second) // virtual
		if s := l.Stats(); s.Synced != 1 || s.Signed != 0 {
			t.Fatalf("%+v", s)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := l.WaitSigned(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("awaited meanwhile: %v", err)
		}
		fsys.Fail(nil)
		if err := l.WaitSigned(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if s := l.Stats(); s.Signed != 1 {
			t.Fatalf("not signed afterwards: %+v", s)
		}
	})
}

// TestCloseTellsTheGap: what could not be written is on record after a close
// that finds the disk in order, and a close that does not is no clean one.
func TestCloseTellsTheGap(t *testing.T) {
	t.Parallel()
	for _, mended := range []bool{true, false} {
		fsys := crashfs.New(4)
		cfg := testConfig()
		cfg.FS = fsys
		l := mustOpen(t, "log", cfg)
		if err := l.Append(t.Context(), sample(1), audit.Durable); err != nil {
			t.Fatal(err)
		}
		fsys.Fail(func(op, name string) error {
			if op == "write" && strings.HasSuffix(name, ".log") {
				return syscall.ENOSPC
			}
			return nil
		})
		for i := range 3 {
			if err := l.Append(t.Context(), sample(2+i), audit.Buffered); err == nil {
				t.Fatal("recorded on a full disk")
			}
		}
		if mended {
			fsys.Fail(nil)
		}
		if err := l.Close(); (err == nil) != mended {
			t.Fatalf("mended %v: close: %v", mended, err)
		}
		fsys.Fail(nil)
		if err := mustOpen(t, "log", cfg).Close(); err != nil {
			t.Fatal(err)
		}
		r := mustVerify(t, fsys, "log")
		if len(r.Gaps) != 1 || mended != strings.Contains(r.Gaps[0].Why, "could not be written") {
			t.Fatalf("mended %v: %+v", mended, r.Gaps)
		}
	}
}

// TestCloseDuringAFault: a group that fails while the log is being closed leaves
// no clean end, though the group after it is written.
func TestCloseDuringAFault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New(5)
		cfg := testConfig()
		cfg.FS = fsys
		l := mustOpen(t, "log", cfg)
		full := make(chan struct{})
		first := true
		fsys.Fail(func(op, name string) error {
			if !first || op != "write" {
				return nil
			}
			first = false
			<-full
			return syscall.ENOSPC
		})
		var fails, succeeds, closes error
		var wg sync.WaitGroup
		wg.Go(func() { fails = l.Append(t.Context(), sample(1), audit.Buffered) })
		synctest.Wait()
		wg.Go(func() { succeeds = l.Append(t.Context(), sample(2), audit.Buffered) })
		synctest.Wait()
		wg.Go(func() { closes = l.Close() })
		synctest.Wait()
		close(full)
		wg.Wait()
		if fails == nil || succeeds != nil || closes == nil {
			t.Fatalf("append: %v, append: %v, close: %v", fails, succeeds, closes)
		}
		fsys.Fail(nil)
		if err := mustOpen(t, "log", cfg).Close(); err != nil {
			t.Fatal(err)
		}
		if r := mustVerify(t, fsys, "log"); len(r.Gaps) != 1 {
			t.Fatalf("%+v", r.Gaps)
		}
	})
}
