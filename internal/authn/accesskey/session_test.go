package accesskey

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// store is the store of sessions, with its watch.
type store struct {
	memory *Memory
	fails  error
}

func (s store) Create(_ context.Context, r Record) error {
	if s.fails == nil {
		go s.memory.Put(r)
	}
	return s.fails
}

func (s store) Delete(_ context.Context, r Record) error { s.memory.Delete(r.ID); return s.fails }

func TestSessions(t *testing.T) {
	t.Parallel()
	memory := NewMemory()
	s := Sessions{Audience: "keystone", Store: store{memory: memory}, Memory: memory, Now: func() time.Time { return now }}
	holder := Holder{User: "jane", UID: "7", Groups: []string{"team"}, CredentialID: "KEY=parent", NotAfter: now.Add(time.Hour)}
	text, record, err := s.Open(t.Context(), holder, "project", 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if record.User != "jane" || record.OpenedBy != "KEY=parent" || record.Namespace != "project" || !record.NotAfter.Equal(holder.NotAfter) {
		t.Errorf("session %+v", record)
	}
	// Known here as soon as it is handed out.
	if known, ok, _ := memory.AccessKey(t.Context(), record.ID); !ok || known.Check(text.Reveal(), "keystone", now) != nil {
		t.Errorf("known %v", ok)
	}
	holder.NotAfter = time.Time{}
	if _, capped, err := s.Open(t.Context(), holder, "project", 24*time.Hour); err != nil || !capped.NotAfter.Equal(now.Add(longestSession)) {
		t.Errorf("capped at %v, %v", capped.NotAfter, err)
	}
	for name, c := range map[string]struct {
		s Sessions
		h Holder
	}{
		"no credential":      {s, Holder{User: "jane"}},
		"an ended one":       {s, Holder{User: "jane", CredentialID: "JTI=1", NotAfter: now}},
		"nobody":             {s, Holder{CredentialID: "JTI=1"}},
		"a store that fails": {Sessions{Audience: "a", Store: store{fails: errors.New("no")}, Memory: memory, Now: s.Now}, holder},
	} {
		if _, _, err := c.s.Open(t.Context(), c.h, "project", time.Hour); err == nil {
			t.Errorf("%s: opened", name)
		}
	}

	// Closed by its holder, at its own door, and only sessions are.
	other := s
	other.Audience = "salt-api"
	if err := other.Close(t.Context(), text.Reveal()); !errors.Is(err, ErrAudience) {
		t.Errorf("closed at another door: %v", err)
	}
	if err := s.Close(t.Context(), text.Reveal()); err != nil {
		t.Error(err)
	}
	if _, ok, _ := memory.AccessKey(t.Context(), record.ID); ok {
		t.Error("still open")
	}
	if err := s.Close(t.Context(), text.Reveal()); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	key, plain, err := New(good, now)
	if err != nil {
		t.Fatal(err)
	}
	memory.Put(plain)
	if err := s.Close(t.Context(), key.Reveal()); !errors.Is(err, ErrForm) {
		t.Errorf("a key is no session: %v", err)
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	m := NewMemory()
	m.Replace([]Record{
		{ID: "key", NotAfter: now}, {ID: "session", OpenedBy: "KEY=key", NotAfter: now}, {ID: "later", NotAfter: now.Add(time.Hour)},
	})
	if got := m.Over(now.Add(-time.Minute), now.Add(time.Second)); len(got) != 1 || got[0] != "session" {
		t.Errorf("over: %q", got)
	}
	if got := m.Over(now.Add(time.Second), now); len(got) != 1 || got[0] != "key" {
		t.Errorf("over: %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.Wait(ctx, "never")
	done := make(chan struct{})
	go func() { m.Wait(t.Context(), "soon"); close(done) }()
	m.Put(Record{ID: "soon"})
	<-done
	m.Replace(nil)
	if _, ok, _ := m.AccessKey(t.Context(), "key"); ok {
		t.Error("a key outlived the list")
	}
}

func TestCutFrom(t *testing.T) {
	t.Parallel()
	key, record, err := New(good, now)
	if err != nil {
		t.Fatal(err)
	}
	text := key.Reveal()
	for in, want := range map[string]string{
		"":                            "",
		"/x?a=" + text + "&b=ghk_":    "/x?a=ghk_" + record.ID + "_CUT&b=ghk_",
		text + text:                   "ghk_" + record.ID + "_CUTghk_" + record.ID + "_CUT",
		"ghk_ghk_" + text[4:]:         "ghk_ghk_" + record.ID + "_CUT",
		"ghk_" + record.ID + "_short": "ghk_" + record.ID + "_short",
	} {
		if got := CutFrom(in, "CUT"); got != want {
			t.Errorf("got %q, want %q", strings.ReplaceAll(got, text[21:], "SECRET"), want)
		}
	}
}

func TestHashForm(t *testing.T) {
	t.Parallel()
	_, record, err := New(good, now)
	if err != nil {
		t.Fatal(err)
	}
	if back, ok := ParseHash(FormatHash(record.Hash)); !ok || back != record.Hash {
		t.Error("a hash does not survive")
	}
	for _, text := range []string{"", "00", strings.Repeat("0", 63), strings.Repeat("0", 66), strings.Repeat("g", 64)} {
		if _, ok := ParseHash(text); ok {
			t.Errorf("%q is a hash", text)
		}
	}
}
