package syslog

import (
	"bufio"
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

// The messages are those of RFC 5424, section 6.5, and their neighbours.
func TestParse(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \ufeff'su root' failed for lonvick on /dev/pts/8":                                                              `{4 2 2003-10-11 22:14:15.003 +0000 UTC mymachine.example.com su  ID47 [] 'su root' failed for lonvick on /dev/pts/8}`,
		"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.":                                                                            `{20 5 2003-08-24 12:14:15.000003 +0000 UTC 192.0.2.1 myproc 8710  [] %% It's time to make the do-nuts.}`,
		`<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"][examplePriority@32473 class="high"]`: `{20 5 2003-10-11 22:14:15.003 +0000 UTC mymachine.example.com evntslog  ID47 [{exampleSDID@32473 [{iut 3} {eventSource Application} {eventID 1011}]} {examplePriority@32473 [{class high}]}] }`,
		`<0>1 - - - - - -`:                            `{0 0 0001-01-01 00:00:00 +0000 UTC     [] }`,
		`<0>1 - - - - - - `:                           `{0 0 0001-01-01 00:00:00 +0000 UTC     [] }`,
		`<191>1 - h a p m [a] x`:                      `{23 7 0001-01-01 00:00:00 +0000 UTC h a p m [{a []}] x}`,
		`<1>1 - - - - - [a b="\"\\\]\n"][a b=""] [x]`: `{0 1 0001-01-01 00:00:00 +0000 UTC     [{a [{b "\]\n}]} {a [{b }]}] [x]}`,
		"<1>1 - - - - - - two\nlines\x00":             "{0 1 0001-01-01 00:00:00 +0000 UTC     [] two\nlines\x00}",
	} {
		m, why := parse(in)
		got := fmt.Sprintf("{%d %d %v %s %s %s %s %v %s}", m.facility, m.severity, m.at.UTC(), m.hostname, m.appName, m.procID, m.msgID, m.data, m.text)
		if why != "" || got != want {
			t.Errorf("%s:\n got %s %s\nwant %s", in, got, why, want)
		}
	}
	for in, want := range map[string]string{
		"": "PRI", "1 - - - - - -": "PRI", "<>1 - - - - - -": "PRI", "<192>1 - - - - - -": "PRI", "<01>1 - - - - - -": "PRI", "<+1>1 - - - - - -": "PRI", "<-1>1 - - - - - -": "PRI",
		"<34>Oct 11 22:14:15 mymachine su: 'su root' failed": "VERSION", "<1>2 - - - - - -": "VERSION", "<1>": "VERSION",
		"<1>1 2003-08-24T05:14:15.000000003-07:00 - - - - -": "TIMESTAMP", "<1>1 2003-10-11t22:14:15z - - - - -": "TIMESTAMP", "<1>1 2003-10-11 22:14:15Z - - - -": "TIMESTAMP", "<1>1 2003-10-11T22:14:60Z - - - - -": "TIMESTAMP", "<1>1 now - - - - -": "TIMESTAMP",
		"<1>1 - ": "HOSTNAME", "<1>1 -  - - - -": "HOSTNAME", "<1>1 - " + strings.Repeat("h", 256) + " - - - -": "HOSTNAME", "<1>1 - h\xff - - - -": "HOSTNAME",
		"<1>1 - - " + strings.Repeat("a", 49) + " - - -": "APP-NAME", "<1>1 - - - " + strings.Repeat("p", 129) + " - -": "PROCID", "<1>1 - - - - " + strings.Repeat("m", 33) + " -": "MSGID", "<1>1 - - - - -": "MSGID",
		"<1>1 - - - - - ": "STRUCTURED-DATA", "<1>1 - - - - - x": "STRUCTURED-DATA", "<1>1 - - - - - -x": "STRUCTURED-DATA", "<1>1 - - - - - []": "STRUCTURED-DATA", "<1>1 - - - - - [a": "STRUCTURED-DATA",
		`<1>1 - - - - - [a b]`: "STRUCTURED-DATA", `<1>1 - - - - - [a b=c]`: "STRUCTURED-DATA", `<1>1 - - - - - [a b="c]`: "STRUCTURED-DATA", `<1>1 - - - - - [a b="]"]`: "STRUCTURED-DATA", `<1>1 - - - - - [a b="c"]x`: "STRUCTURED-DATA",
		"<1>1 - - - - - " + strings.Repeat("[a]", 65): "STRUCTURED-DATA", "<1>1 - - - - - [a" + strings.Repeat(` b="c"`, 257) + "]": "STRUCTURED-DATA",
	} {
		if _, why := parse(in); why != want {
			t.Errorf("%.80q fails at %q, want %q", in, why, want)
		}
	}
}

func TestEntryKeepsWhatIsMalformed(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"<1>1 - - - - - - a\n\n":              `{"message":"a\n","facility":0,"severity":1}`,
		"<34>Oct 11 22:14:15 box su: no":      `{"message":"<34>Oct 11 22:14:15 box su: no","malformed":"VERSION"}`,
		"<1>1 - Box app 1 m [a b=\"c\"] \xff": `{"message":{"base64":"/w=="},"facility":0,"severity":1,"hostname":"Box","appName":"app","procID":"1","msgID":"m","structuredData":[{"id":"a","params":[{"name":"b","value":"c"}]}]}`,
	} {
		if e := entry(in, int64(len(in)), "id"); string(e.Body) != want || e.Dropped != "" {
			t.Errorf("%q: %s %s", in, e.Body, e.Dropped)
		}
	}
	long := "<1>1 - - - - - - " + strings.Repeat("x", collect.MaxValue+1)
	if e := entry(long[:len(long)-1], int64(len(long)), "id"); e.Dropped != fmt.Sprint("message:", collect.MaxValue+1) {
		t.Errorf("dropped %q", e.Dropped)
	}
}

func readFrames(in io.Reader) (all []string, err error) {
	f := frames{r: bufio.NewReader(in), deadline: func(time.Time) {}}
	for {
		text, full, err := f.next()
		if err != nil {
			return all, err
		}
		all = append(all, fmt.Sprint(text, "|", full))
	}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("é", maxKept)
	for in, want := range map[string][]string{
		"":                      {},
		"3 abc1 d":              {"abc|3", "d|1"},
		"3 abc\n2 de\r\n":       {"abc|3", "de|2"},
		"4 a\nbc":               {"a\nbc|4"},
		"65536 " + big + "1 x":  {big[:maxKept] + "|65536", "x|1"},
		"65537 a" + big + "1 x": {"a" + big[:maxKept-2] + "|65537", "x|1"}, // not half a character
	} {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
			if got, err := readFrames(r); !errors.Is(err, io.EOF) || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%.20q: %d frames, %v", in, len(got), err)
			}
		}
	}
	for in, want := range map[string]string{
		"<34>1 - - - - - - no counting\n": "octet counting is required", "03 abc": "octet counting", "GET / HTTP/1.1\r\n": "octet counting", "3x abc": "no number",
		"1048577 x": "longer than 1048576", "99999999999999999999999 x": "longer than", "3 ab": "breaks off", "3": "breaks off", "99": "breaks off",
	} {
		if _, err := readFrames(strings.NewReader(in)); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte("<34>1 2003-10-11T22:14:15.003Z h su - ID47 [a b=\"\\]\"] text"))
	f.Add([]byte("17 <1>1 - - - - - - x"))
	f.Fuzz(func(t *testing.T, in []byte) {
		e := entry(string(in), int64(len(in)), "id")
		ev := collect.Writer{Site: "blue"}.Event(collect.NewIDs([32]byte{}), e, collect.Peer{}, time.Unix(1, 0))
		line := ev.AppendJSON(nil)
		if !json.Valid(e.Body) || !json.Valid(line) || len(line) > audit.MaxEventBytes {
			t.Errorf("%s", line)
		}
		all, err := readFrames(strings.NewReader(string(in)))
		if !errors.Is(err, io.EOF) && fault.KindOf(err) != fault.Invalid {
			t.Errorf("%v", err)
		}
		again, _ := readFrames(iotest.OneByteReader(strings.NewReader(string(in))))
		if fmt.Sprint(all) != fmt.Sprint(again) {
			t.Errorf("%q at once, %q byte by byte", all, again)
		}
	})
}
