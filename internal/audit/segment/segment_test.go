package segment_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
)

// rawSegment returns a raw segment of count records beginning with first.
func rawSegment(t testing.TB, first uint64, count int, event func(i int) string) []byte {
	t.Helper()
	b, err := segment.AppendRawStart(nil, segment.Header{Log: "r1", Origin: "o", First: first, At: time.Unix(0, 0).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	start := len(b)
	for i := range count {
		if b, err = segment.AppendEntry(b, "", func(b []byte) ([]byte, error) { return append(b, event(i)...), nil }); err != nil {
			t.Fatal(err)
		}
		if i == count/2 {
			b = segment.AppendFrame(b, segment.KindCheckpoint, []byte("not the last"), 0)
		}
	}
	b = segment.AppendFrame(b, segment.KindCheckpoint, []byte("the last"), 0)
	segment.Stamp(b[start:], time.Unix(1, 5), first)
	return b
}

func read(t *testing.T, fs *crashfs.FS, info segment.Info) (events []string, checkpoints int) {
	t.Helper()
	r, err := segment.OpenReader(fs, "d", info)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		item, err := r.Next()
		if errors.Is(err, io.EOF) {
			return events, checkpoints
		}
		if err != nil {
			t.Fatal(err)
		}
		if item.Kind == segment.KindCheckpoint {
			checkpoints++
			continue
		}
		entry, err := segment.ParseEntry(item.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if want := info.First + uint64(len(events)); item.Index != want || entry.At.UnixNano() != 1_000_000_005 {
			t.Fatalf("record %d at %v, want %d", item.Index, entry.At, want)
		}
		events = append(events, string(entry.Event))
	}
}

func TestSealKeepsEverything(t *testing.T) {
	t.Parallel()
	for _, count := range []int{256, 1024, 1280, 2560} {
		fs := crashfs.New(1)
		event := func(i int) string { return fmt.Sprintf(`{"n":%d,"x":"%s"}`, i, strings.Repeat("y", i*31%60000)) }
		fs.SetContent("d/"+segment.RawName(512), rawSegment(t, 512, count, event))
		s, err := segment.NewSealer()
		if err != nil {
			t.Fatal(err)
		}
		before, marks := read(t, fs, segment.Info{First: 512, Name: segment.RawName(512)})
		if err := s.Seal(fs, "d", 512, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.Seal(fs, "d", 512, nil); err != nil {
			t.Fatalf("sealing again: %v", err)
		}
		infos, err := segment.List(fs, "d")
		if err != nil || len(infos) != 1 || !infos[0].Sealed {
			t.Fatalf("%v %v", infos, err)
		}
		after, sealedMarks := read(t, fs, infos[0])
		if len(before) != count || len(after) != count || marks != 2 || sealedMarks != 1 {
			t.Fatalf("%d then %d records, %d then %d checkpoints", len(before), len(after), marks, sealedMarks)
		}
		for i := range before {
			if before[i] != after[i] {
				t.Fatalf("record %d changed", i)
			}
		}
		r, err := segment.OpenReader(fs, "d", infos[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := r.SkipTo(512 + uint64(count) - 3); err != nil {
			t.Fatal(err)
		}
		if item, err := r.Next(); err != nil || item.Index != 512+uint64(count)-3 {
			t.Fatalf("skipped to %d, %v", item.Index, err)
		}
		r.Close()
	}
}

func TestSealRefusesPartsOfBundles(t *testing.T) {
	t.Parallel()
	fs := crashfs.New(1)
	fs.SetContent("d/"+segment.RawName(0), rawSegment(t, 0, 255, func(int) string { return "{}" }))
	s, err := segment.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Seal(fs, "d", 0, nil); err == nil {
		t.Fatal("255 records were sealed")
	}
	if infos, _ := segment.List(fs, "d"); len(infos) != 1 || infos[0].Sealed {
		t.Fatal("the raw segment is gone")
	}
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	for _, site := range []string{"", "alpha", "a.b-c.example"} {
		b, err := segment.AppendEntry(nil, site, func(b []byte) ([]byte, error) { return append(b, `{"a":1}`...), nil })
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []time.Time{time.Unix(0, 0), time.Unix(5, 7), time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)} {
			segment.Stamp(b, at, 0)
			e, err := segment.ParseEntry(b[segment.FrameOverhead:])
			if err != nil || e.Site != site || string(e.Event) != `{"a":1}` || !e.At.Equal(at) {
				t.Errorf("%s: %+v %v", b[segment.FrameOverhead:], e, err)
			}
		}
	}
	for _, bad := range []string{"", "{}", `{"at":1,"event":{}}`, `{"at":1790000000000000000,"site":"A","event":{}}`, `{"at":1790000000000000000,"site":"a,"event":{}}`,
		`{"at":-790000000000000000,"event":{}}`, `{"at":179000000000000000x,"event":{}}`, `{"at":1790000000000000000,"x":{}}`} {
		if e, err := segment.ParseEntry([]byte(bad)); err == nil {
			t.Errorf("%s was read as %+v", bad, e)
		}
	}
	if _, err := segment.AppendEntry(nil, "", func(b []byte) ([]byte, error) { return append(b, make([]byte, segment.MaxRecord)...), nil }); err == nil {
		t.Error("a record beyond the limit was taken")
	}
	for _, bad := range []string{"", "A", "a/b", `a"b`, strings.Repeat("a", 254)} {
		if segment.ValidSite(bad) {
			t.Errorf("site %q", bad)
		}
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	fs := crashfs.New(1)
	for _, n := range []string{"00000000000000000000.log", "00000000000000000000.seg", "00000000000000000256.log", "log.json", "1.log", "0000000000000000000x.seg", "checkpoint"} {
		fs.SetContent("d/"+n, []byte{1})
	}
	infos, err := segment.List(fs, "d")
	if err != nil || len(infos) != 2 || !infos[0].Sealed || infos[1].Sealed || infos[1].First != 256 {
		t.Fatalf("%+v %v", infos, err)
	}
}

// FuzzReader reads arbitrary bytes as either kind of segment: an error or
// records, never a panic, an endless loop or memory without bound.
func FuzzReader(f *testing.F) {
	raw := rawSegment(f, 0, 256, func(i int) string { return fmt.Sprintf(`{"i":%d}`, i) })
	fs := crashfs.New(1)
	fs.SetContent("d/"+segment.RawName(0), raw)
	s, err := segment.NewSealer()
	if err != nil {
		f.Fatal(err)
	}
	if err := s.Seal(fs, "d", 0, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(raw, false)
	f.Add(fs.Content("d/"+segment.SealedName(0)), true)
	f.Fuzz(func(t *testing.T, data []byte, sealed bool) {
		if data == nil {
			return
		}
		fs := crashfs.New(1)
		info := segment.Info{Sealed: sealed, Name: "x"}
		fs.SetContent("d/x", data)
		r, err := segment.OpenReader(fs, "d", info)
		if err != nil {
			return
		}
		defer r.Close()
		for range len(data) + 300 {
			item, err := r.Next()
			if err != nil {
				return
			}
			if _, err := segment.ParseEntry(item.Payload); err != nil {
				continue
			}
		}
		if !sealed {
			t.Fatal("more items than bytes")
		}
	})
}

// A segment that was sealed when four bundles made a block stays readable.
func TestReadsLargerBlocks(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/four-bundle-blocks.sealed")
	if err != nil {
		t.Fatal(err)
	}
	fs := crashfs.New(1)
	fs.SetContent("d/"+segment.SealedName(0), b)
	events, checkpoints := read(t, fs, segment.Info{First: 0, Name: segment.SealedName(0), Sealed: true})
	if len(events) != 1280 || checkpoints != 1 {
		t.Fatalf("%d records, %d checkpoints", len(events), checkpoints)
	}
	for i, e := range events {
		if e != fmt.Sprintf(`{"n":%d}`, i) {
			t.Fatalf("record %d is %s", i, e)
		}
	}
}
