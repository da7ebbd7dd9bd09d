package origin_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func entry(n int, left time.Duration) origin.Entry {
	return origin.Entry{ID: fmt.Sprintf("JTI=%d", n), NotAfter: now.Add(left)}
}

func TestEntries(t *testing.T) {
	t.Parallel()
	for _, e := range []origin.Entry{
		{ID: "JTI=0d5b6c3a-8f0e-4f3b-9d0e-0a1b2c3d4e5f"},
		{ID: "X509SHA256=aa", NotAfter: time.Unix(1763800000, 0)},
		{ID: "SECRET=ns/name", IssuerKey: "k;1 %"},
		{ID: "JTI=a;exp=1;kid=evil", NotAfter: time.Unix(7, 0), IssuerKey: "k"},
		{ID: "JTI=\x00\nüber%3B"},
	} {
		text := e.String()
		if got := origin.Parse(text); got.ID != e.ID || !got.NotAfter.Equal(e.NotAfter) || got.IssuerKey != e.IssuerKey || origin.ID(text) != e.ID {
			t.Errorf("%+v came back from %q as %+v", e, text, got)
		}
		if !origin.Check([]string{text}) || strings.ContainsAny(text, " \n\x00") {
			t.Errorf("%q is not in order", text)
		}
	}
	for _, bad := range [][]string{{""}, {";exp=1"}, {"JTI=a b"}, {strings.Repeat("a", 4096)}, slices.Repeat([]string{"JTI=a"}, origin.Max+1)} {
		if origin.Check(bad) {
			t.Errorf("%.80q passes", bad)
		}
	}
}

// While a credential is good, a ban on it reaches everything at any distance:
// nothing leaves a line before its end.
func TestNobodyShakesOffALine(t *testing.T) {
	t.Parallel()
	var line []string
	var err error
	for n := range origin.Max {
		if line, err = origin.Extend(entry(n, time.Hour), line, now); err != nil || len(line) != n+1 {
			t.Fatalf("%d: %v %v", n, line, err)
		}
	}
	if _, err := origin.Extend(entry(99, time.Hour), line, now); fault.KindOf(err) != fault.Denied {
		t.Fatalf("a full line grows: %v", err)
	}
	// An hour later its renewals go on, and the first stays for ever.
	for n := range 50 {
		at := now.Add(2 * time.Hour).Add(time.Duration(n) * time.Hour)
		e := origin.Entry{ID: fmt.Sprintf("JTI=later%d", n), NotAfter: at.Add(30 * time.Minute)}
		if line, err = origin.Extend(e, line, at); err != nil {
			t.Fatalf("renewal %d: %v", n, err)
		}
	}
	if len(line) != origin.Max || origin.ID(line[0]) != "JTI=later49" || origin.ID(line[origin.Max-1]) != "JTI=0" || !origin.Check(line) {
		t.Errorf("line %q", line)
	}
}

func TestWhatHasNoEnd(t *testing.T) {
	t.Parallel()
	line := slices.Repeat([]string{"KEY=a"}, origin.Max)
	if _, err := origin.Extend(entry(1, time.Hour), line, now.Add(1e6*time.Hour)); err == nil {
		t.Error("one that may still be good was left out")
	}
	if got, err := origin.Extend(origin.Entry{}, line[:2], now); err != nil || len(got) != 2 {
		t.Errorf("a credential without an id: %q %v", got, err)
	}
	if _, err := origin.Extend(origin.Entry{ID: strings.Repeat("x", 600)}, nil, now); fault.KindOf(err) != fault.Denied {
		t.Errorf("an id without bounds: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("JTI=a;exp=1763800000;kid=k")
	f.Add("%;%%41;exp=x")
	f.Fuzz(func(t *testing.T, text string) {
		e := origin.Parse(text)
		again := origin.Parse(e.String())
		if again.ID != e.ID || again.IssuerKey != e.IssuerKey || !again.NotAfter.Equal(e.NotAfter) {
			t.Errorf("%q: %+v, then %+v", text, e, again)
		}
		if origin.ID(text) != e.ID {
			t.Errorf("%q: ids differ", text)
		}
	})
}
