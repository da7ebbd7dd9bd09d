package query_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/query"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
)

var testKey = ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))

var epoch = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func event(i int) *audit.Event {
	e := &audit.Event{
		Level: audit.LevelMetadata, AuditID: fmt.Sprint("id-", i), Stage: audit.StageResponseComplete, Verb: []string{"get", "create"}[i%2],
		User:      audit.UserInfo{Username: fmt.Sprintf("user-%d", i%10), Groups: []string{fmt.Sprint("group-", i%5)}, Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {fmt.Sprint("JTI=", i%20)}}},
		ObjectRef: &audit.ObjectReference{APIGroup: []string{"", "apps"}[i%2], Resource: "things", Namespace: fmt.Sprint("ns-", i%3), Name: fmt.Sprint("n", i)},
	}
	if i%7 == 0 {
		e.Annotate(audit.AnnotationDecision, "forbid")
	} else {
		e.Annotate(audit.AnnotationDecision, "allow")
	}
	if i == 123 {
		e.User.Username = "quote\"d\u2028"
	}
	if i%11 == 0 {
		e.ImpersonatedUser = &audit.UserInfo{Username: "boss", Groups: []string{"bosses"}}
	}
	return e
}

// buildLog has records 0…999: own ones, but every fourth from site alpha. The
// clock of the log moves one second a record.
func buildLog(t *testing.T) *crashfs.FS {
	t.Helper()
	fsys := crashfs.New(1)
	now := make(chan time.Time, 1)
	now <- epoch
	l, err := ledger.Open("log", ledger.Config{ID: "r1", Origin: "gatehouse.test/audit/r1", Key: testKey, FS: fsys, SegmentRecords: 256, Logger: slog.New(slog.DiscardHandler),
		Clock: func() time.Time { at := <-now; now <- at; return at }})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if i%4 == 0 {
			_, err = l.AppendBatch(t.Context(), "alpha", []audit.Event{*event(i)})
		} else {
			err = l.Append(t.Context(), event(i), audit.Buffered)
		}
		if err != nil {
			t.Fatal(err)
		}
		now <- (<-now).Add(time.Second)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return fsys
}

func TestFilters(t *testing.T) {
	t.Parallel()
	fsys := buildLog(t)
	core := ""
	for name, c := range map[string]struct {
		f    query.Filter
		want func(i int) bool
	}{
		"all":          {query.Filter{}, func(int) bool { return true }},
		"user":         {query.Filter{User: "user-3"}, func(i int) bool { return i%10 == 3 && i != 123 }},
		"escaped user": {query.Filter{User: "quote\"d\u2028"}, func(i int) bool { return i == 123 }},
		"impersonated": {query.Filter{User: "boss"}, func(i int) bool { return i%11 == 0 }},
		"group":        {query.Filter{Group: "group-2"}, func(i int) bool { return i%5 == 2 }},
		"credential":   {query.Filter{Credential: "JTI=7"}, func(i int) bool { return i%20 == 7 }},
		"verb":         {query.Filter{Verb: "create"}, func(i int) bool { return i%2 == 1 }},
		"core group":   {query.Filter{APIGroup: &core, Namespace: "ns-1"}, func(i int) bool { return i%2 == 0 && i%3 == 1 }},
		"name":         {query.Filter{Name: "n12"}, func(i int) bool { return i == 12 }},
		"decision":     {query.Filter{Decision: "forbid"}, func(i int) bool { return i%7 == 0 }},
		"site":         {query.Filter{Site: "alpha"}, func(i int) bool { return i%4 == 0 }},
		"own":          {query.Filter{Site: query.OwnSite}, func(i int) bool { return i%4 != 0 }},
		"other site":   {query.Filter{Site: "alph"}, func(i int) bool { return false }},
		"time":         {query.Filter{Since: epoch.Add(200 * time.Second), Until: epoch.Add(300 * time.Second)}, func(i int) bool { return i >= 200 && i < 300 }},
		"id":           {query.Filter{AuditID: "id-999"}, func(i int) bool { return i == 999 }},
		"tenant": {query.Filter{Allow: func(site string, e *audit.Event) bool { return site == "alpha" && e.ObjectRef.Namespace == "ns-0" }},
			func(i int) bool { return i%4 == 0 && i%3 == 0 }},
		"many": {query.Filter{User: "user-4", Site: "alpha", Decision: "allow", Since: epoch.Add(500 * time.Second)}, func(i int) bool { return i%10 == 4 && i%4 == 0 && i%7 != 0 && i >= 500 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []uint64
			for i := range 1000 {
				if c.want(i) {
					want = append(want, uint64(i))
				}
			}
			for _, limit := range []int{0, 3} {
				for _, newest := range []bool{false, true} {
					f := c.f
					f.Limit, f.Newest = limit, newest
					var got []uint64
					err := query.Run(t.Context(), fsys, "log", f, func(m query.Match) error {
						got = append(got, m.Index)
						if id := fmt.Sprint("id-", m.Index); m.Event.AuditID != id || !m.At.Equal(epoch.Add(time.Duration(m.Index)*time.Second)) || len(m.Raw) == 0 {
							return fmt.Errorf("record %d is %+v", m.Index, m)
						}
						return nil
					})
					if err != nil {
						t.Fatal(err)
					}
					expect := slices.Clone(want)
					if newest {
						slices.Reverse(expect)
					}
					if limit > 0 && len(expect) > limit {
						expect = expect[:limit]
					}
					if !slices.Equal(got, expect) {
						t.Errorf("limit %d newest %v: got %v, want %v", limit, newest, got, expect)
					}
				}
			}
		})
	}
}

func TestDamageAndErrors(t *testing.T) {
	t.Parallel()
	fsys := buildLog(t)
	stop := errors.New("stop")
	if err := query.Run(t.Context(), fsys, "log", query.Filter{}, func(query.Match) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	// The torn end of a live log is its end.
	const active = "log/00000000000000000768.log"
	b := fsys.Content(active)
	live := fsys.Clone()
	live.SetContent(active, b[:len(b)*3/4])
	count := 0
	if err := query.Run(t.Context(), live, "log", query.Filter{}, func(query.Match) error { count++; return nil }); err != nil || count < 800 || count >= 1000 {
		t.Errorf("%d matches, %v", count, err)
	}
	sealed := fsys.Content("log/00000000000000000256.seg")
	sealed[500] ^= 1
	fsys.SetContent("log/00000000000000000256.seg", sealed)
	count = 0
	if err := query.Run(t.Context(), fsys, "log", query.Filter{}, func(query.Match) error { count++; return nil }); err == nil || count != 256 {
		t.Errorf("%d matches before the damage, %v", count, err)
	}
	if err := query.Run(t.Context(), vfs.OS{}, t.TempDir()+"/none", query.Filter{}, nil); err == nil {
		t.Error("a directory that is not there was searched")
	}
}
