package keystest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

// RunStore checks the whole contract of keys.Store. newStore returns an empty
// store; every part of the suite asks for its own, and they run in parallel.
// Durability needs a crash, and so stays with the implementation's own tests.
func RunStore(t *testing.T, newStore func(t *testing.T) keys.Store) {
	t.Helper()
	for name, part := range map[string]func(*testing.T, keys.Store){
		"read and write":     readAndWrite,
		"missing":            missing,
		"revisions":          revisions,
		"list":               list,
		"bad input":          badInput,
		"ownership":          ownership,
		"concurrent create":  concurrentCreate,
		"concurrent swap":    concurrentSwap,
		"cancelled context":  cancelledContext,
		"largest value":      largestValue,
		"delete and restore": deleteAndRestore,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			part(t, newStore(t))
		})
	}
}

func readAndWrite(t *testing.T, s keys.Store) {
	ctx := t.Context()
	rev, err := s.Create(ctx, "rings/a", []byte("one"))
	must(t, err)
	wantEntry(t, s, keys.Entry{Name: "rings/a", Value: []byte("one"), Revision: rev})

	_, err = s.Create(ctx, "rings/a", []byte("other"))
	wantKind(t, "create again", err, fault.Conflict)
	wantEntry(t, s, keys.Entry{Name: "rings/a", Value: []byte("one"), Revision: rev})

	next, err := s.CompareAndSwap(ctx, "rings/a", []byte("two"), rev)
	must(t, err)
	wantEntry(t, s, keys.Entry{Name: "rings/a", Value: []byte("two"), Revision: next})

	_, err = s.CompareAndSwap(ctx, "rings/a", []byte("late"), rev)
	wantKind(t, "swap at an old revision", err, fault.Conflict)
	wantKind(t, "delete at an old revision", s.Delete(ctx, "rings/a", rev), fault.Conflict)
	wantEntry(t, s, keys.Entry{Name: "rings/a", Value: []byte("two"), Revision: next})

	must(t, s.Delete(ctx, "rings/a", next))
	_, err = s.Get(ctx, "rings/a")
	wantKind(t, "get after delete", err, fault.NotFound)
}

func missing(t *testing.T, s keys.Store) {
	ctx := t.Context()
	_, err := s.Get(ctx, "none")
	wantKind(t, "get", err, fault.NotFound)
	for _, revision := range []int64{-1, 0, 1} {
		_, err = s.CompareAndSwap(ctx, "none", []byte("x"), revision)
		wantKind(t, fmt.Sprintf("swap at %d", revision), err, fault.Conflict)
		wantKind(t, fmt.Sprintf("delete at %d", revision), s.Delete(ctx, "none", revision), fault.NotFound)
	}
	entries, err := s.List(ctx, "")
	must(t, err)
	if len(entries) != 0 {
		t.Errorf("refused writes left %d entries", len(entries))
	}
}

func revisions(t *testing.T, s keys.Store) {
	ctx := t.Context()
	seen := map[int64]bool{}
	note := func(rev int64, err error) int64 {
		t.Helper()
		must(t, err)
		if rev <= 0 || seen[rev] {
			t.Fatalf("revision %d is not positive or was used before", rev)
		}
		seen[rev] = true
		return rev
	}
	for range 3 {
		rev := note(s.Create(ctx, "a", []byte("same")))
		rev = note(s.CompareAndSwap(ctx, "a", []byte("same"), rev))
		must(t, s.Delete(ctx, "a", rev))
	}
}

func list(t *testing.T, s keys.Store) {
	ctx := t.Context()
	for _, name := range []string{"rings/b", "rings/a/x", "rings/a", "ringsx", "check", "rings-old/a"} {
		_, err := s.Create(ctx, name, []byte(name))
		must(t, err)
	}
	for prefix, want := range map[string][]string{
		"":         {"check", "rings-old/a", "rings/a", "rings/a/x", "rings/b", "ringsx"},
		"rings/":   {"rings/a", "rings/a/x", "rings/b"},
		"rings/a":  {"rings/a", "rings/a/x"},
		"rings/a/": {"rings/a/x"},
		"zz":       nil,
	} {
		entries, err := s.List(ctx, prefix)
		must(t, err)
		var got []string
		for _, e := range entries {
			got = append(got, e.Name)
			if string(e.Value) != e.Name || e.Revision <= 0 {
				t.Errorf("list %q: entry %q has value %q, revision %d", prefix, e.Name, e.Value, e.Revision)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("list %q = %q, want %q", prefix, got, want)
		}
	}
}

func badInput(t *testing.T, s keys.Store) {
	ctx := t.Context()
	names := []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.b", "A", "a b", "a\x00", "a\n", "ä", "a_b", strings.Repeat("a", keys.MaxName+1)}
	for _, name := range names {
		_, err := s.Create(ctx, name, []byte("x"))
		wantKind(t, fmt.Sprintf("create %.20q", name), err, fault.Invalid)
		_, err = s.Get(ctx, name)
		wantKind(t, fmt.Sprintf("get %.20q", name), err, fault.Invalid)
		_, err = s.CompareAndSwap(ctx, name, []byte("x"), 1)
		wantKind(t, fmt.Sprintf("swap %.20q", name), err, fault.Invalid)
		wantKind(t, fmt.Sprintf("delete %.20q", name), s.Delete(ctx, name, 1), fault.Invalid)
	}
	large := make([]byte, keys.MaxValue+1)
	_, err := s.Create(ctx, "a", large)
	wantKind(t, "create an oversized value", err, fault.Invalid)
	rev, err := s.Create(ctx, "a", []byte("x"))
	must(t, err)
	_, err = s.CompareAndSwap(ctx, "a", large, rev)
	wantKind(t, "swap in an oversized value", err, fault.Invalid)
	wantEntry(t, s, keys.Entry{Name: "a", Value: []byte("x"), Revision: rev})
}

func largestValue(t *testing.T, s keys.Store) {
	ctx := t.Context()
	name := strings.Repeat("a", keys.MaxName)
	value := bytes.Repeat([]byte{0, 0xff, '\n'}, keys.MaxValue)[:keys.MaxValue]
	rev, err := s.Create(ctx, name, value)
	must(t, err)
	wantEntry(t, s, keys.Entry{Name: name, Value: value, Revision: rev})
}

func ownership(t *testing.T, s keys.Store) {
	ctx := t.Context()
	value := []byte("mine")
	rev, err := s.Create(ctx, "a", value)
	must(t, err)
	value[0] = 'X'
	got, err := s.Get(ctx, "a")
	must(t, err)
	got.Value[0] = 'Y'
	entries, err := s.List(ctx, "")
	must(t, err)
	entries[0].Value[0] = 'Z'
	wantEntry(t, s, keys.Entry{Name: "a", Value: []byte("mine"), Revision: rev})
}

func concurrentCreate(t *testing.T, s keys.Store) {
	ctx := t.Context()
	var wins atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			_, err := s.Create(ctx, "a", []byte{byte(i)})
			if err == nil {
				wins.Add(1)
				return
			}
			if fault.KindOf(err) != fault.Conflict {
				t.Errorf("create: %v", err)
			}
			// Whoever lost must see the winner's value at once.
			if _, err := s.Get(ctx, "a"); err != nil {
				t.Errorf("get after a lost create: %v", err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d creates succeeded, want 1", wins.Load())
	}
}

func concurrentSwap(t *testing.T, s keys.Store) {
	ctx := t.Context()
	_, err := s.Create(ctx, "counter", []byte{0})
	must(t, err)
	const workers, each = 8, 8
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for done := 0; done < each; {
				entry, err := s.Get(ctx, "counter")
				if err != nil {
					t.Errorf("get: %v", err)
					return
				}
				_, err = s.CompareAndSwap(ctx, "counter", []byte{entry.Value[0] + 1}, entry.Revision)
				switch {
				case err == nil:
					done++
				case fault.KindOf(err) != fault.Conflict:
					t.Errorf("swap: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	entry, err := s.Get(ctx, "counter")
	must(t, err)
	if entry.Value[0] != workers*each {
		t.Errorf("counter is %d after %d swaps: updates were lost", entry.Value[0], workers*each)
	}
}

func cancelledContext(t *testing.T, s keys.Store) {
	rev, err := s.Create(t.Context(), "a", []byte("x"))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, getErr := s.Get(ctx, "a")
	_, listErr := s.List(ctx, "")
	_, createErr := s.Create(ctx, "b", []byte("x"))
	_, swapErr := s.CompareAndSwap(ctx, "a", []byte("y"), rev)
	deleteErr := s.Delete(ctx, "a", rev)
	for name, err := range map[string]error{"get": getErr, "list": listErr, "create": createErr, "swap": swapErr, "delete": deleteErr} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", name, err)
		}
	}
	wantEntry(t, s, keys.Entry{Name: "a", Value: []byte("x"), Revision: rev})
}

func deleteAndRestore(t *testing.T, s keys.Store) {
	ctx := t.Context()
	first, err := s.Create(ctx, "a", []byte("x"))
	must(t, err)
	must(t, s.Delete(ctx, "a", first))
	second, err := s.Create(ctx, "a", []byte("x"))
	must(t, err)
	_, err = s.CompareAndSwap(ctx, "a", []byte("y"), first)
	wantKind(t, "swap at the revision of a deleted entry", err, fault.Conflict)
	wantEntry(t, s, keys.Entry{Name: "a", Value: []byte("x"), Revision: second})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, what string, err error, kind fault.Kind) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Errorf("%s: error %v of kind %v, want kind %v", what, err, fault.KindOf(err), kind)
	}
}

func wantEntry(t *testing.T, s keys.Store, want keys.Entry) {
	t.Helper()
	got, err := s.Get(t.Context(), want.Name)
	must(t, err)
	if got.Name != want.Name || got.Revision != want.Revision || !bytes.Equal(got.Value, want.Value) {
		t.Errorf("entry %.40q: %d bytes at revision %d, want %d bytes at revision %d", got.Name, len(got.Value), got.Revision, len(want.Value), want.Revision)
	}
}
