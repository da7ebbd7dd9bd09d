package verify_test

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/verify"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
)

var (
	testKey  = ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))
	otherKey = ed25519.NewKeyFromSeed([]byte("fedcba9876543210fedcba9876543210"))
)

const (
	sealedFile = "00000000000000000000.seg"
	activeFile = "00000000000000000512.log"
	records    = 700
)

type testLog struct {
	fs      *crashfs.FS
	key     string
	anchors [][]byte // checkpoints of 300 and 700 records
}

// build writes a log of 700 records: 512 sealed, 188 in the active segment.
// prefix distinguishes the content of otherwise equal logs.
func build(t *testing.T, prefix string, key ed25519.PrivateKey, clock func() time.Time) testLog {
	t.Helper()
	out := testLog{fs: crashfs.New(1)}
	start := 0
	for _, end := range []int{300, records} {
		l, err := ledger.Open("log", ledger.Config{ID: "r1", Origin: "gatehouse.test/audit/r1", Key: key, FS: out.fs, SegmentRecords: 512, Clock: clock, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for i := start; i < end; i++ {
			e := &audit.Event{Level: audit.LevelMetadata, AuditID: fmt.Sprint(prefix, i), Stage: audit.StageResponseComplete, Verb: "get", User: audit.UserInfo{Username: "jane"}}
			if err := l.Append(t.Context(), e, audit.Buffered); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		start = end
		out.key = l.VerifierKey()
		out.anchors = append(out.anchors, l.Stats().Checkpoint)
	}
	return out
}

func run(t *testing.T, fs *crashfs.FS, o verify.Options) *verify.Report {
	t.Helper()
	o.FS = fs
	r, err := verify.Log(t.Context(), "log", o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSoundLog(t *testing.T) {
	t.Parallel()
	log := build(t, "a", testKey, nil)
	r := run(t, log.fs, verify.Options{Keys: []string{log.key}, Anchors: log.anchors})
	if !r.OK() || r.Records != records || r.Signed != records || r.Anchors != 2 || r.Segments != 2 || len(r.Unsure) != 0 {
		t.Fatalf("%+v", r)
	}
	// By itself the copy proves less, and the report says what.
	r = run(t, log.fs, verify.Options{})
	if !r.OK() || len(r.Unsure) != 2 || !strings.Contains(r.Unsure[0], "public key") || !strings.Contains(r.Unsure[1], "cut off at the end") {
		t.Fatalf("%+v", r.Unsure)
	}
}

// TestEveryByte flips each byte of every file of a log and expects the
// verifier to fail each time, naming the file (or, for what binds the files
// together, at least failing).
func TestEveryByte(t *testing.T) {
	t.Parallel()
	log := build(t, "a", testKey, nil)
	for _, name := range []string{sealedFile, activeFile, "checkpoint", "log.json"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := log.fs.Clone()
			content := fs.Content("log/" + name)
			step := 1
			if len(content) > 1500 {
				step = 1 + len(content)/1500
			}
			for at := 0; at < len(content); at += step {
				changed := slices.Clone(content)
				changed[at] ^= 0x10
				fs.SetContent("log/"+name, changed)
				r, err := verify.Log(t.Context(), "log", verify.Options{FS: fs, Keys: []string{log.key}, Anchors: log.anchors})
				if err != nil {
					if name != "log.json" {
						t.Fatalf("byte %d: %v", at, err)
					}
					continue
				}
				if r.OK() && !harmless(name, content, at, r) {
					t.Fatalf("byte %d (%q) flipped and nothing found", at, content[at])
				}
				if name == sealedFile || name == activeFile {
					if !r.OK() && r.Faults[0].File != name && r.Faults[0].Kind != verify.Altered {
						t.Fatalf("byte %d: fault elsewhere: %v", at, r.Faults)
					}
				}
			}
		})
	}
}

// harmless lists the bytes that carry nothing: whitespace and the key list of
// log.json, which is not believed when the key is given; and the last bytes of
// the active segment behind the final checkpoint, which the report mentions.
func harmless(name string, content []byte, at int, r *verify.Report) bool {
	switch name {
	case "log.json":
		return strings.Contains(string(content[:at]), `"verifiers"`) || content[at] == ' ' || content[at] == '\n'
	case activeFile:
		return len(r.Unsure) > 0 && at >= len(content)-1000
	}
	return false
}

func TestNamesThePlace(t *testing.T) {
	t.Parallel()
	log := build(t, "a", testKey, nil)
	o := verify.Options{Keys: []string{log.key}, Anchors: log.anchors}
	// frames returns the offsets of the record frames of the active segment.
	frames := func(fs *crashfs.FS) (starts []int64, indexes []uint64) {
		r, err := segment.OpenReader(fs, "log", segment.Info{First: 512, Name: activeFile})
		if err != nil {
			t.Fatal(err)
		}
		for {
			item, err := r.Next()
			if err != nil {
				return starts, indexes
			}
			if item.Kind == segment.KindRecord {
				starts, indexes = append(starts, item.Offset), append(indexes, item.Index)
			}
		}
	}
	reseal := func(frame []byte, index uint64) { // what a careful forger does
		binary.LittleEndian.PutUint32(frame[4:], segment.FrameChecksum(index, frame[segment.PrefixOffset:]))
	}
	cases := []struct {
		name   string
		tamper func(fs *crashfs.FS)
		kind   verify.Kind
		want   string
	}{
		{"flipped byte", func(fs *crashfs.FS) {
			starts, _ := frames(fs)
			b := fs.Content("log/" + activeFile)
			b[starts[50]+100] ^= 1
			fs.SetContent("log/"+activeFile, b)
		}, verify.Damaged, "record 562: checksum does not match content and place (" + activeFile},
		{"altered record with a right checksum", func(fs *crashfs.FS) {
			starts, _ := frames(fs)
			b := fs.Content("log/" + activeFile)
			frame := b[starts[50]:starts[51]]
			copy(frame[strings.Index(string(frame), "jane"):], "john")
			reseal(frame, 562)
			fs.SetContent("log/"+activeFile, b)
		}, verify.Altered, "records 300 to 699: not the records that the checkpoint of 700 records"},
		{"dropped record", func(fs *crashfs.FS) {
			starts, _ := frames(fs)
			b := fs.Content("log/" + activeFile)
			fs.SetContent("log/"+activeFile, slices.Delete(b, int(starts[50]), int(starts[51])))
		}, verify.Damaged, "record 562: checksum does not match content and place"},
		{"dropped record with right checksums", func(fs *crashfs.FS) {
			starts, _ := frames(fs)
			b := fs.Content("log/" + activeFile)
			size := int(starts[51] - starts[50])
			for i := 51; i < len(starts)-1; i++ {
				reseal(b[starts[i]:starts[i+1]], uint64(512+i-1))
			}
			fs.SetContent("log/"+activeFile, slices.Delete(b[:starts[len(starts)-1]], int(starts[50]), int(starts[50])+size))
		}, verify.Truncated, "a checkpoint covers 700"},
		{"dropped segment", func(fs *crashfs.FS) { fs.SetContent("log/"+sealedFile, nil) }, verify.Missing, "records 0 to 511"},
		{"cut off after an older checkpoint", func(fs *crashfs.FS) {
			starts, _ := frames(fs)
			b := fs.Content("log/" + activeFile)
			fs.SetContent("log/"+activeFile, b[:starts[100]])
			fs.SetContent("log/checkpoint", log.anchors[0])
		}, verify.Truncated, "a checkpoint covers 700"},
		{"damaged block", func(fs *crashfs.FS) {
			b := fs.Content("log/" + sealedFile)
			b[200] ^= 1
			fs.SetContent("log/"+sealedFile, b)
		}, verify.Damaged, "records 0 to 255: checksum of the block"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fs := log.fs.Clone()
			c.tamper(fs)
			r := run(t, fs, o)
			if !slices.ContainsFunc(r.Faults, func(f verify.Fault) bool {
				return f.Kind == c.kind && strings.Contains(f.String(), c.want)
			}) {
				t.Fatalf("want %s with %q, got %v", c.kind, c.want, r.Faults)
			}
		})
	}
}

// TestFork: a log rewritten with the right key passes by itself and fails
// against a checkpoint that somebody kept.
func TestFork(t *testing.T) {
	t.Parallel()
	kept, forged := build(t, "a", testKey, nil), build(t, "b", testKey, nil)
	if r := run(t, forged.fs, verify.Options{Keys: []string{kept.key}}); !r.OK() {
		t.Fatalf("the forged log does not even pass by itself: %v", r.Faults)
	}
	r := run(t, forged.fs, verify.Options{Keys: []string{kept.key}, Anchors: kept.anchors[:1]})
	if r.OK() || r.Faults[0].Kind != verify.Fork {
		t.Fatalf("%v", r.Faults)
	}
}

func TestAnotherKey(t *testing.T) {
	t.Parallel()
	kept, forged := build(t, "a", testKey, nil), build(t, "a", otherKey, nil)
	if r := run(t, forged.fs, verify.Options{}); !r.OK() {
		t.Fatal(r.Faults)
	}
	r := run(t, forged.fs, verify.Options{Keys: []string{kept.key}})
	if r.OK() || r.Faults[0].Kind != verify.Signature {
		t.Fatalf("%v", r.Faults)
	}
}

func TestClockBackwards(t *testing.T) {
	t.Parallel()
	// The clock is read several times a record; it jumps back once, after the
	// first session.
	now, calls := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), 0
	clock := make(chan time.Time, 1)
	clock <- now
	log := build(t, "a", testKey, func() time.Time {
		at := <-clock
		calls++
		next := at.Add(time.Millisecond)
		if calls == 500 {
			next = at.Add(-time.Hour)
		}
		clock <- next
		return at
	})
	r := run(t, log.fs, verify.Options{Keys: []string{log.key}, Anchors: log.anchors})
	if len(r.Faults) != 1 || r.Faults[0].Kind != verify.Clock || !strings.Contains(r.Faults[0].String(), "ran backwards by 1h0m0s") {
		t.Fatalf("%v (clock was read %d times)", r.Faults, calls)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	faults := verify.Compare(
		[]verify.Registration{{ID: "r1", Origin: "o/r1"}, {ID: "r2", Origin: "o/r2"}},
		[]*verify.Report{{Log: "r1"}, {Log: "r3"}})
	if len(faults) != 2 || faults[0].Kind != verify.Missing || faults[1].Kind != verify.Foreign {
		t.Fatal(faults)
	}
}
