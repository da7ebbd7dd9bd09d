package journal

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// binaryField is a field in the form for data that is no text.
func binaryField(name, value string) string {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(value)))
	return name + "\n" + string(n[:]) + value + "\n"
}

const (
	at   = "__REALTIME_TIMESTAMP=1767323045000001\n"
	head = "__CURSOR=s=a;i=1\n" + at + "__MONOTONIC_TIMESTAMP=1\n_BOOT_ID=b\n"
)

func readAll(in io.Reader) ([]*collect.Entry, error) {
	r := NewReader(in)
	var all []*collect.Entry
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
}

func TestEntries(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", collect.MaxValue+5)
	for name, c := range map[string]struct {
		in      string
		host    string
		body    string
		dropped string
	}{
		"texts":              {head + "MESSAGE=a=b\n_HOSTNAME=web-1\nPRIORITY=6\n\n", "web-1", `{"MESSAGE":"a=b","__MONOTONIC_TIMESTAMP":"1","_BOOT_ID":"b","_HOSTNAME":"web-1","PRIORITY":"6"}`, ""},
		"binary text":        {head + binaryField("MESSAGE", "two\nlines") + "\n", "", `{"MESSAGE":"two\nlines"`, ""},
		"no UTF-8":           {head + binaryField("MESSAGE", "\xff\x00") + "\n", "", `{"MESSAGE":{"base64":"/wA="}`, ""},
		"no UTF-8 in a line": {head + "MESSAGE=\xff\n\n", "", `{"MESSAGE":{"base64":"/w=="}`, ""},
		"empty values":       {head + "MESSAGE=\n" + binaryField("X", "") + "\n", "", `{"MESSAGE":"",`, ""},
		"a name twice":       {head + "A=1\nB=2\nA=3\n\n", "", `"A":["1","3"],"B":"2"`, ""},
		"too long":           {head + "MESSAGE=" + long + "\n\n", "", long[:collect.MaxValue] + `"`, "MESSAGE:16389"},
		"too long, binary":   {head + binaryField("MESSAGE", long) + "\n", "", long[:collect.MaxValue] + `"`, "MESSAGE:16389"},
		"empty lines around": {"\n\n" + head + "MESSAGE=a\n\n\n\n", "", `{"MESSAGE":"a"`, ""},
		"a line of 1 MB":     {head + "MESSAGE=" + strings.Repeat("y", 1<<20) + "\n\n", "", `{"MESSAGE":"yyy`, "MESSAGE:1048576"},
	} {
		for _, in := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
			all, err := readAll(in)
			if err != nil || len(all) != 1 {
				t.Fatalf("%s: %d entries, %v", name, len(all), err)
			}
			e := all[0]
			if !strings.Contains(string(e.Body), c.body) || e.Dropped != c.dropped || e.Host != c.host || !json.Valid(e.Body) {
				t.Errorf("%s: %.300s dropped %q host %q", name, e.Body, e.Dropped, e.Host)
			}
			if e.Cursor != "s=a;i=1" || e.ID != e.Cursor || !e.At.Equal(time.Unix(1767323045, 1000)) {
				t.Errorf("%s: cursor %q at %v", name, e.Cursor, e.At)
			}
		}
	}
}

// What is not in the format is refused, and nothing of the entry that it is in
// comes out; what came whole before does.
func TestMalformed(t *testing.T) {
	t.Parallel()
	good := head + "MESSAGE=good\n\n"
	for name, c := range map[string]struct{ in, says string }{
		"breaks off in a name":    {"MESS", "breaks off"},
		"breaks off after a name": {"MESSAGE\n", "breaks off"},
		"breaks off in a line":    {"MESSAGE=a", "breaks off"},
		"breaks off in the size":  {"MESSAGE\n\x01\x00", "breaks off"},
		"breaks off in the data":  {"MESSAGE\n\x05\x00\x00\x00\x00\x00\x00\x00ab", "breaks off"},
		"breaks off after it":     {"MESSAGE\n\x01\x00\x00\x00\x00\x00\x00\x00a", "breaks off"},
		"no end of the entry":     {head + "MESSAGE=a\n", "breaks off"},
		"wrong size":              {"MESSAGE\n\x01\x00\x00\x00\x00\x00\x00\x00ab\n", "no newline"},
		"size over the limit":     {"MESSAGE\n\x00\x00\x00\x00\x00\x00\x00\x80", "larger than"},
		"no name":                 {"=a\n\n", "no name of a field"},
		"lower case":              {"message=a\n\n", "no name of a field"},
		"begins with a digit":     {"1A=a\n\n", "no name of a field"},
		"name too long":           {strings.Repeat("A", 65) + "=a\n\n", "longer than"},
		"no time":                 {"__CURSOR=c\nMESSAGE=a\n\n", "without __REALTIME_TIMESTAMP"},
		"no number":               {"__REALTIME_TIMESTAMP=soon\n\n", "is not a time"},
		"after the year 9999":     {"__REALTIME_TIMESTAMP=9223372036854775807\n\n", "is not a time"},
		"time twice":              {at + at + "\n", "comes twice"},
		"cursor twice":            {"__CURSOR=a\n__CURSOR=b\n" + at + "\n", "not a cursor"},
		"cursor too long":         {"__CURSOR=" + strings.Repeat("c", 513) + "\n" + at + "\n", "not a cursor"},
		"too many fields":         {head + strings.Repeat("A=\n", 1024) + "\n", "more than 1024 fields"},
	} {
		all, err := readAll(strings.NewReader(good + c.in))
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if len(all) != 1 {
			t.Errorf("%s: %d entries came out", name, len(all))
		}
	}
	broken := errors.New("broken")
	if all, err := readAll(io.MultiReader(strings.NewReader(good+head), iotest.ErrReader(broken))); !errors.Is(err, broken) || len(all) != 1 {
		t.Errorf("%d entries, %v", len(all), err)
	}
}

// A flood of fields does not push out what the journal vouches for, and the
// event stays within its bounds.
func TestFlood(t *testing.T) {
	t.Parallel()
	var in strings.Builder
	in.WriteString(head)
	for i := range 1000 {
		fmt.Fprintf(&in, "F%d=%s\n", i, strings.Repeat("x", 20_000))
	}
	in.WriteString("_PID=7\nMESSAGE=it\n_HOSTNAME=h\n\n")
	all, err := readAll(strings.NewReader(in.String()))
	if err != nil {
		t.Fatal(err)
	}
	body := string(all[0].Body)
	if len(body) > collect.MaxBody+1 || !strings.HasPrefix(body, `{"MESSAGE":"it","__MONOTONIC_TIMESTAMP":"1","_BOOT_ID":"b","_PID":"7","_HOSTNAME":"h"`) || !strings.Contains(all[0].Dropped, " more") {
		t.Errorf("%d bytes: %.100s, dropped %s", len(body), body, all[0].Dropped)
	}
	ev := collect.Writer{Site: "blue"}.Event(collect.NewIDs([32]byte{}), all[0], collect.Peer{}, time.Unix(1767323046, 0))
	if err := ev.Validate(); err != nil || len(ev.AppendJSON(nil)) > audit.MaxEventBytes {
		t.Errorf("%v, %d bytes", err, len(ev.AppendJSON(nil)))
	}
}

// What is held of an entry is bounded, whatever its fields are called.
func TestHeld(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"MESSAGE", "_X%d", "SYSLOG_X%d", "F%d", "SYSLOG_X"} {
		var in strings.Builder
		in.WriteString(head)
		for i := range 1000 {
			if strings.Contains(name, "%") {
				fmt.Fprintf(&in, name, i)
			} else {
				in.WriteString(name)
			}
			in.WriteString("=" + strings.Repeat("x", 10_000) + "\n")
		}
		in.WriteString("\n")
		e, err := NewReader(strings.NewReader(in.String())).read()
		if err != nil {
			t.Fatal(err)
		}
		held := 0
		for _, f := range e.fields {
			held += len(f.value)
		}
		if held > maxKept+1000 {
			t.Errorf("%s: %d bytes of one entry are held", name, held)
		}
		out, err := e.entry()
		if err != nil || len(out.Body) > collect.MaxBody+1 || out.Dropped == "" {
			t.Errorf("%s: %v, %d bytes, dropped %q", name, err, len(out.Body), out.Dropped)
		}
	}
}

// An entry without a cursor is known by its content.
func TestIdentityWithoutCursor(t *testing.T) {
	t.Parallel()
	all, err := readAll(strings.NewReader(at + "MESSAGE=a\n\n" + at + "MESSAGE=a\n\n" + at + "MESSAGE=b\n\n" + at + "MESSAG=Ea\n\n"))
	if err != nil || len(all) != 4 {
		t.Fatalf("%d %v", len(all), err)
	}
	if all[0].ID != all[1].ID || all[0].ID == all[2].ID || all[0].ID == all[3].ID || all[0].ID == "" {
		t.Errorf("%q %q %q %q", all[0].ID, all[1].ID, all[2].ID, all[3].ID)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(head + "MESSAGE=a\n\n"))
	f.Add([]byte(head + binaryField("MESSAGE", "a\nb\xff") + "A=1\nA=2\n\n" + head + "\n"))
	f.Add([]byte("MESSAGE\n\x00\x00\x00\x00\x00\x00\x00\x80"))
	f.Fuzz(func(t *testing.T, in []byte) {
		all, err := readAll(strings.NewReader(string(in)))
		if err != nil && fault.KindOf(err) != fault.Invalid {
			t.Errorf("an error that is not the sender's: %v", err)
		}
		again, _ := readAll(iotest.OneByteReader(strings.NewReader(string(in))))
		if len(all) != len(again) {
			t.Errorf("%d entries at once, %d byte by byte", len(all), len(again))
		}
		for i, e := range all {
			ev := collect.Writer{Site: "blue"}.Event(collect.NewIDs([32]byte{}), e, collect.Peer{}, time.Unix(1, 0))
			line := ev.AppendJSON(nil)
			if !json.Valid(e.Body) || !json.Valid(line) || len(line) > audit.MaxEventBytes || string(again[i].Body) != string(e.Body) {
				t.Errorf("entry %d: %s", i, line)
			}
		}
	})
}

// What is no cursor of systemd has no place, and is told apart by its digest or
// its text alone.
func TestPlace(t *testing.T) {
	t.Parallel()
	for cursor, want := range map[string]struct {
		series string
		number uint64
	}{
		"s=5e97;i=4f;b=0a;m=1;t=2;x=3": {"5e97", 0x4f},
		"i=ffffffffffffffff;s=5e97":    {"5e97", 1<<64 - 1},
		"s=5e97;i=xyz":                 {},
		"s=5e97;i=0":                   {},
		"s=5e97":                       {},
		"i=4":                          {"", 4},
		"":                             {},
		"else":                         {},
	} {
		if series, number := place(cursor); series != want.series || number != want.number {
			t.Errorf("%q: %q %d", cursor, series, number)
		}
	}
}
