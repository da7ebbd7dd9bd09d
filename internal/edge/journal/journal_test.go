package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

func event(id string) *audit.Event {
	now := audit.MicroTime{Time: time.Unix(1, 0)}
	return &audit.Event{Level: audit.LevelMetadata, AuditID: id, Stage: audit.StageResponseComplete, Verb: "create",
		RequestURI: "/sites/blue/authorize", RequestReceivedTimestamp: now, StageTimestamp: now}
}

func config(dir string) Config {
	return Config{Dir: dir, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}

// open opens a journal whose Run goes until the test, or stop, ends it.
func open(t *testing.T, cfg Config) (j *Journal, stop func()) {
	t.Helper()
	j, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = j.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return j, stop
}

func put(t *testing.T, j *Journal, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := j.Append(t.Context(), event(id), audit.Durable); err != nil {
			t.Fatal(err)
		}
	}
}

// center takes events and keeps their ids, and what gaps say.
type center struct {
	mu   sync.Mutex // guards the rest
	ids  []string
	gaps []string
	sent int
	err  func(ids []string) error
}

func (c *center) send(_ context.Context, events []json.RawMessage) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent++
	var ids, gaps []string
	for _, raw := range events {
		var e audit.Event
		if err := json.Unmarshal(raw, &e); err != nil {
			return err
		}
		if why := e.Annotations[AnnotationGap]; why != "" {
			gaps = append(gaps, why+" "+e.Annotations[AnnotationGapCount])
			continue
		}
		ids = append(ids, e.AuditID)
	}
	if c.err != nil {
		if err := c.err(ids); err != nil {
			return err
		}
	}
	c.ids, c.gaps = append(c.ids, ids...), append(c.gaps, gaps...)
	return nil
}

// drain delivers until nothing is left.
func (c *center) drain(t *testing.T, j *Journal) {
	t.Helper()
	for {
		more, err := j.deliverSome(t.Context(), c.send)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return
		}
	}
}

func names(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("e%04d", i))
	}
	return out
}

func TestInOrderOverRestarts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "journal")
	var c center
	j, stop := open(t, config(dir))
	put(t, j, names(0, 5)...)
	c.drain(t, j)
	put(t, j, names(5, 8)...)
	if s := j.Stats(); s.Pending == 0 || s.Bytes < s.Pending {
		t.Errorf("%+v", s)
	}
	if _, err := Open(config(dir)); err == nil {
		t.Error("two journals in one directory")
	}
	stop()
	if err := j.Append(t.Context(), event("late"), audit.Durable); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a closed journal: %v", err)
	}
	j, stop = open(t, config(dir))
	put(t, j, names(8, 10)...)
	c.drain(t, j)
	if !slices.Equal(c.ids, names(0, 10)) || len(c.gaps) != 0 {
		t.Errorf("%v %v", c.ids, c.gaps)
	}
	if s := j.Stats(); s.Pending != 0 {
		t.Errorf("%d bytes wait", s.Pending)
	}
	stop()
	// Delivered files are gone but for the last.
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) != 1 {
		t.Errorf("%v %v", files, err)
	}
	// Without the note of what was delivered everything left is sent again.
	if err := os.WriteFile(filepath.Join(dir, positionName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	j, _ = open(t, config(dir))
	c.ids = nil
	c.drain(t, j)
	if !slices.Equal(c.ids, names(8, 10)) {
		t.Errorf("%v", c.ids)
	}
}

func TestCutAndDamagedFiles(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func([]byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)-3] },
		"changed": func(b []byte) []byte { b[len(b)-3] ^= 1; return b },
		"zeros":   func(b []byte) []byte { return append(b, make([]byte, 100)...) },
		"length":  func(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0) },
	} {
		dir := filepath.Join(t.TempDir(), "journal")
		j, stop := open(t, config(dir))
		put(t, j, "a", "b", "c")
		file := filepath.Join(dir, nameOf(j.number))
		stop()
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, harm(data), 0o600); err != nil {
			t.Fatal(err)
		}
		j, _ = open(t, config(dir))
		put(t, j, "d")
		var c center
		c.drain(t, j)
		want := []string{"a", "b", "d"}
		if name == "zeros" || name == "length" {
			want = []string{"a", "b", "c", "d"}
		}
		if !slices.Equal(c.ids, want) || len(c.gaps) != 1 {
			t.Errorf("%s: %v, gaps %q", name, c.ids, c.gaps)
		}
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	for _, full := range []Full{Refuse, Drop} {
		cfg := config(filepath.Join(t.TempDir(), "journal"))
		cfg.MaxBytes, cfg.Full = 1<<20, full
		j, _ := open(t, cfg)
		var kept []string
		refused := 0
		for i := 0; refused < 10 && i < 20_000; i++ {
			id := fmt.Sprint("e", i)
			before := j.Stats().Lost
			err := j.Append(t.Context(), event(id), audit.Buffered)
			switch {
			case err == nil && j.Stats().Lost == before:
				kept = append(kept, id)
			case full == Drop && err == nil:
				refused++
			case full == Refuse && fault.KindOf(err) == fault.Unavailable:
				refused++
			default:
				t.Fatal(err)
			}
			if i%500 == 0 { // room is given back a file at a time
				if err := j.Sync(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if s := j.Stats(); refused != 10 || s.Bytes > s.MaxBytes {
			t.Fatalf("%d refused, %+v", refused, s)
		}
		if err := j.Ready(); (err != nil) != (full == Refuse) {
			t.Errorf("ready: %v", err)
		}
		var c center
		c.drain(t, j)
		if err := j.Ready(); err != nil {
			t.Errorf("ready again: %v", err)
		}
		put(t, j, "after")
		c.drain(t, j)
		if !slices.Equal(c.ids, append(kept, "after")) {
			t.Errorf("%d of %d events arrived", len(c.ids), len(kept)+1)
		}
		want := []string{"the journal is full: events are lost from here on ", "the journal was full 10"}
		if full == Refuse {
			want = nil
		}
		if !slices.Equal(c.gaps, want) {
			t.Errorf("gaps: %q", c.gaps)
		}
	}
}

func TestRefusedByTheRecord(t *testing.T) {
	t.Parallel()
	j, _ := open(t, config(filepath.Join(t.TempDir(), "journal")))
	put(t, j, names(0, 20)...)
	c := center{err: func(ids []string) error {
		if slices.Contains(ids, "e0007") {
			return fault.New(fault.Invalid, "items[7]: bad")
		}
		return nil
	}}
	c.drain(t, j)
	if len(c.gaps) != 1 || !strings.HasSuffix(c.gaps[0], " 1") {
		t.Errorf("gaps %q, before anything else is appended", c.gaps)
	}
	put(t, j, "after")
	c.drain(t, j)
	want := slices.DeleteFunc(append(names(0, 20), "after"), func(id string) bool { return id == "e0007" })
	if !slices.Equal(c.ids, want) || len(c.gaps) != 1 || !strings.HasSuffix(c.gaps[0], " 1") {
		t.Errorf("%v, gaps %q", c.ids, c.gaps)
	}
}

func TestDeliverTriesAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	synctest.Test(t, func(t *testing.T) {
		j, _ := open(t, config(dir))
		c := &center{}
		c.err = func([]string) error {
			if c.sent < 4 {
				return errors.New("away")
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = j.Deliver(ctx, c.send) }()
		put(t, j, "a")
		time.Sleep(10 * time.Second)
		put(t, j, "b")
		time.Sleep(time.Second)
		cancel()
		<-done
		if !slices.Equal(c.ids, []string{"a", "b"}) {
			t.Errorf("%v", c.ids)
		}
	})
}

// TestConcurrent appends while events are delivered: each arrives once, and
// those of one writer in its order.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	cfg := config(filepath.Join(t.TempDir(), "journal"))
	cfg.MaxBytes = 4 << 20
	j, _ := open(t, cfg)
	var c center
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 500 {
				d := audit.Buffered
				if i%50 == 0 {
					d = audit.Durable
				}
				if err := j.Append(t.Context(), event(fmt.Sprintf("%d-%04d", w, i)), d); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { defer close(done); writers.Wait() }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		c.drain(t, j)
	}
	if len(c.ids) != 2000 {
		t.Fatalf("%d events", len(c.ids))
	}
	for w := range 4 {
		var mine []string
		for _, id := range c.ids {
			if strings.HasPrefix(id, fmt.Sprint(w, "-")) {
				mine = append(mine, id)
			}
		}
		if !slices.IsSorted(mine) || len(slices.Compact(mine)) != 500 {
			t.Errorf("writer %d: %d events", w, len(mine))
		}
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	j, _ := open(t, config(filepath.Join(t.TempDir(), "journal")))
	if r, err := j.AppendBatch(t.Context(), "blue", []audit.Event{*event("a"), *event("b")}); err != nil || r.Recorded != 2 {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := j.AppendBatch(t.Context(), "blue", []audit.Event{*event("c"), {}}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("an event without an id: %v", err)
	}
	large := event("large")
	large.RequestObject = json.RawMessage(`{"kind":"ConfigMap","data":{"k":"` + strings.Repeat("x", 100_000) + `"}}`)
	put(t, j, "d")
	if err := j.Append(t.Context(), large, audit.Durable); err != nil {
		t.Fatal(err)
	}
	var c center
	c.drain(t, j)
	if !slices.Equal(c.ids, []string{"a", "b", "d", "large"}) {
		t.Errorf("%v", c.ids)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(magic))
	f.Add([]byte(magic + "\x02\x00\x00\x00\x00\x00\x00\x00{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, next, _, err := read(path, int64(len(magic)), int64(len(data)))
		if err == nil && next > max(int64(len(data)), int64(len(magic))) {
			t.Errorf("read %d of %d bytes", next, len(data))
		}
	})
}
