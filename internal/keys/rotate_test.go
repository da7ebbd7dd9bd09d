package keys_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/keys/keystest"
)

var discard = slog.New(slog.DiscardHandler)

var schedule = keys.Schedule{Every: 24 * time.Hour, Lead: time.Hour, Keep: 10 * time.Hour}

func verifierIDs[P keys.Purpose](ring *keys.Ring[P], now time.Time) []string {
	var out []string
	for _, v := range ring.Set().Verifiers(now) {
		out = append(out, v.KeyID())
	}
	return out
}

// TestRotationTimeline follows one rotation: the new key verifies at once and
// signs later, the old key verifies until nothing it signed can be valid.
func TestRotationTimeline(t *testing.T) {
	t.Parallel()
	now := newClock()
	vault := openVault(t, keystest.NewMemory(), newKeyring(t), now.Now)
	ring := ensure[keys.Tokens](t, vault)
	first := ring.Set()
	old := first.Signer(now.Now()).KeyID()
	now.Advance(30 * time.Minute)
	if err := ring.Rotate(t.Context(), schedule); err != nil {
		t.Fatal(err)
	}
	select {
	case <-first.Replaced():
	default:
		t.Error("the old set does not know that it was replaced")
	}
	select {
	case <-ring.Set().Replaced():
		t.Error("the current set was replaced")
	default:
	}
	if ring.Set().Revision() == first.Revision() {
		t.Error("the revision did not change")
	}
	ids := verifierIDs(ring, now.Now())
	if len(ids) != 2 || ids[0] != old {
		t.Fatalf("verifiers %v, want the old and one more", ids)
	}
	fresh := ids[1]
	rotated := now.Now().Truncate(time.Second)
	signs, ends := rotated.Add(time.Hour), rotated.Add(11*time.Hour+5*time.Minute)

	byID := func(id string) *keys.Verifier[keys.Tokens] {
		v, ok := ring.Set().Verifier(rotated, id)
		if !ok {
			t.Fatalf("no verifier %s", id)
		}
		return v
	}
	if v := byID(old); !v.RetireAfter().Equal(ends) {
		t.Errorf("the old key ends %v, want %v", v.RetireAfter(), ends)
	}
	if v := byID(fresh); !v.RetireAfter().IsZero() || !v.SignFrom().Equal(signs) {
		t.Errorf("the new key signs from %v until %v, want %v and no end", v.SignFrom(), v.RetireAfter(), signs)
	}

	cases := []struct {
		at      time.Time
		signer  string
		verify  []string
		retires []string
	}{
		{rotated, old, []string{old, fresh}, nil},
		{signs.Add(-1), old, []string{old, fresh}, nil},
		{signs, fresh, []string{old, fresh}, nil},
		{ends.Add(-1), fresh, []string{old, fresh}, nil},
		{ends, fresh, []string{fresh}, []string{old}},
		{ends.Add(1000 * time.Hour), fresh, []string{fresh}, nil},
	}
	for _, tc := range cases {
		now.Advance(tc.at.Sub(now.Now()))
		if got := ring.Set().Signer(tc.at).KeyID(); got != tc.signer {
			t.Errorf("at %v: wrong signer", tc.at)
		}
		if got := verifierIDs(ring, tc.at); !slices.Equal(got, tc.verify) {
			t.Errorf("at %v: verifiers %v, want %v", tc.at, got, tc.verify)
		}
		for _, id := range []string{old, fresh, "unknown"} {
			v, ok := ring.Set().Verifier(tc.at, id)
			if ok != slices.Contains(tc.verify, id) || ok && v.KeyID() != id {
				t.Errorf("at %v: verifier of %s: %v", tc.at, id, ok)
			}
		}
		gone, err := ring.Retire(t.Context())
		if err != nil || !slices.Equal(gone, tc.retires) {
			t.Errorf("at %v: retired %v, %v, want %v", tc.at, gone, err, tc.retires)
		}
	}
	// A clock that is behind the first key still has a signer.
	if got := ring.Set().Signer(start.Add(-time.Hour)).KeyID(); got != fresh {
		t.Error("no signer for a clock that is behind")
	}
}

func TestVerifierLookupDoesNotAllocate(t *testing.T) {
	vault := openVault(t, keystest.NewMemory(), newKeyring(t), newClock().Now)
	set := ensure[keys.Tokens](t, vault).Set()
	id := set.Signer(start).KeyID()
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := set.Verifier(start, id); !ok {
			t.Error("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRotationRefusals(t *testing.T) {
	t.Parallel()
	now := newClock()
	vault := openVault(t, keystest.NewMemory(), newKeyring(t), now.Now)
	ring := ensure[keys.Tokens](t, vault)
	for _, bad := range []keys.Schedule{{Every: -1}, {Lead: -1}, {Keep: -1}, {Every: time.Hour, Lead: time.Hour}} {
		if err := ring.Rotate(t.Context(), bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("rotate %+v: %v", bad, err)
		}
		if err := ring.Maintain(t.Context(), bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("maintain %+v: %v", bad, err)
		}
		if err := ring.Run(t.Context(), bad, time.Hour); fault.KindOf(err) != fault.Invalid {
			t.Errorf("run %+v: %v", bad, err)
		}
	}
	if err := ring.Run(t.Context(), schedule, 0); fault.KindOf(err) != fault.Invalid {
		t.Errorf("run without an interval: %v", err)
	}
	if err := ring.Rotate(t.Context(), schedule); err != nil {
		t.Fatal(err)
	}
	pending := verifierIDs(ring, now.Now())[1]
	if err := ring.Rotate(t.Context(), schedule); fault.KindOf(err) != fault.Conflict || !strings.Contains(fault.Public(err), pending) {
		t.Errorf("rotate during a rotation: %v", err)
	}
	// Nothing retires for a year: the ring fills up, and says until when.
	for range 14 {
		now.Advance(2 * time.Hour)
		if err := ring.Rotate(t.Context(), keys.Schedule{Lead: time.Hour, Keep: 365 * 24 * time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	now.Advance(2 * time.Hour)
	if err := ring.Rotate(t.Context(), schedule); fault.KindOf(err) != fault.Exhausted || !strings.Contains(fault.Public(err), "16 keys") {
		t.Errorf("rotate a full ring: %v", err)
	}
}

// TestReplicasMaintainingTogetherRotateOnce runs many replicas over a year.
func TestReplicasMaintainingTogetherRotateOnce(t *testing.T) {
	t.Parallel()
	store, roots, now := keystest.NewMemory(), newKeyring(t), newClock()
	var rings []*keys.Ring[keys.Jobs]
	for range 6 {
		rings = append(rings, ensure[keys.Jobs](t, openVault(t, store, roots, now.Now)))
	}
	seen := map[string]bool{}
	for range 30 {
		var wg sync.WaitGroup
		for _, ring := range rings {
			wg.Go(func() {
				if err := ring.Maintain(t.Context(), schedule); err != nil {
					t.Errorf("maintain: %v", err)
				}
			})
		}
		wg.Wait()
		for _, ring := range rings {
			if err := ring.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := verifierIDs(ring, now.Now()); !slices.Equal(got, verifierIDs(rings[0], now.Now())) {
				t.Fatalf("replicas differ: %v", got)
			}
		}
		if n := len(verifierIDs(rings[0], now.Now())); n > 2 {
			t.Fatalf("%d keys at once, want at most 2", n)
		}
		seen[rings[0].Set().Signer(now.Now()).KeyID()] = true
		now.Advance(12*time.Hour + time.Minute)
	}
	// 15 days of half-day steps: a key signs from the hour after its rotation.
	if len(seen) < 9 || len(seen) > 15 {
		t.Errorf("%d keys signed in 15 days of daily rotation", len(seen))
	}
	never := ensure[keys.Reports](t, openVault(t, store, roots, now.Now))
	now.Advance(1000 * time.Hour)
	if err := never.Maintain(t.Context(), keys.Schedule{}); err != nil {
		t.Fatal(err)
	}
	if len(verifierIDs(never, now.Now())) != 1 {
		t.Error("rotated without a schedule")
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T) (*keys.Ring[keys.Tokens], *clock) {
		now := newClock()
		return ensure[keys.Tokens](t, openVault(t, keystest.NewMemory(), newKeyring(t), now.Now)), now
	}
	revoke := func(t *testing.T, ring *keys.Ring[keys.Tokens], now *clock, id string) {
		t.Helper()
		if err := ring.Revoke(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(verifierIDs(ring, now.Now()), id) {
			t.Error("the revoked key still verifies")
		}
		// What was written must be readable, by a replica that starts now.
		if err := ring.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
	}
	rotate := func(t *testing.T, ring *keys.Ring[keys.Tokens]) {
		t.Helper()
		if err := ring.Rotate(t.Context(), schedule); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("the only key", func(t *testing.T) {
		t.Parallel()
		ring, now := setup(t)
		id := ring.Set().Signer(now.Now()).KeyID()
		revoke(t, ring, now, id)
		if got := ring.Set().Signer(now.Now()).KeyID(); got == id || len(verifierIDs(ring, now.Now())) != 1 {
			t.Error("no new signer took over")
		}
	})
	t.Run("the signer during a rotation", func(t *testing.T) {
		t.Parallel()
		ring, now := setup(t)
		now.Advance(time.Minute)
		rotate(t, ring)
		ids := verifierIDs(ring, now.Now())
		revoke(t, ring, now, ids[0])
		if got := ring.Set().Signer(now.Now()); got.KeyID() != ids[1] || got.SignFrom().After(now.Now()) {
			t.Error("the pending key did not take over at once")
		}
	})
	t.Run("the pending key", func(t *testing.T) {
		t.Parallel()
		ring, now := setup(t)
		now.Advance(time.Minute)
		rotate(t, ring)
		ids := verifierIDs(ring, now.Now())
		revoke(t, ring, now, ids[1])
		got := verifierIDs(ring, now.Now())
		if len(got) != 2 || got[0] != ids[0] || ring.Set().Signer(now.Now()).KeyID() != got[1] {
			t.Errorf("keys %v after %v", got, ids)
		}
	})
	t.Run("the signer after a rotation", func(t *testing.T) {
		t.Parallel()
		ring, now := setup(t)
		rotate(t, ring)
		now.Advance(2 * time.Hour)
		ids := verifierIDs(ring, now.Now())
		revoke(t, ring, now, ids[1])
		if got := ring.Set().Signer(now.Now()).KeyID(); slices.Contains(ids, got) {
			t.Error("an old key signs again")
		}
		if !slices.Contains(verifierIDs(ring, now.Now()), ids[0]) {
			t.Error("another key went too")
		}
	})
	t.Run("an old verifier", func(t *testing.T) {
		t.Parallel()
		ring, now := setup(t)
		rotate(t, ring)
		now.Advance(2 * time.Hour)
		ids := verifierIDs(ring, now.Now())
		revoke(t, ring, now, ids[0])
		if got := verifierIDs(ring, now.Now()); !slices.Equal(got, ids[1:]) {
			t.Errorf("keys %v, want %v", got, ids[1:])
		}
	})
	t.Run("with a clock that is behind", func(t *testing.T) {
		t.Parallel()
		ring, now := setup(t)
		rotate(t, ring)
		now.Advance(2 * time.Hour)
		ids := verifierIDs(ring, now.Now())
		now.Advance(-3 * time.Hour)
		revoke(t, ring, now, ids[1])
	})
	t.Run("unknown", func(t *testing.T) {
		t.Parallel()
		ring, _ := setup(t)
		if err := ring.Revoke(t.Context(), "unknown"); fault.KindOf(err) != fault.NotFound {
			t.Errorf("got %v", err)
		}
	})
}

func TestAuthorityRotationCertifiesTheNewKey(t *testing.T) {
	t.Parallel()
	now := newClock()
	vault := openVault(t, keystest.NewMemory(), newKeyring(t), now.Now)
	ring, err := keys.EnsureAuthority(t.Context(), vault, func(s *keys.Signer[keys.ClientCA]) ([]byte, error) {
		return []byte(s.KeyID()), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Rotate(t.Context(), schedule); err != nil {
		t.Fatal(err)
	}
	got := ring.Set().Verifiers(now.Now())
	if len(got) != 2 {
		t.Fatalf("%d keys", len(got))
	}
	for _, v := range got {
		if string(v.Certificate()) != v.KeyID() {
			t.Error("a key has the certificate of another")
		}
	}
}

func TestRunMaintainsUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var hang atomic.Bool
		store := &flaky{Store: keystest.NewMemory(), before: func(string) error {
			if !hang.Load() {
				return nil
			}
			time.Sleep(11 * time.Minute)
			return context.DeadlineExceeded
		}}
		var log bytes.Buffer
		vault, err := keys.OpenVault(t.Context(), keys.VaultConfig{
			Store: store, Keyring: newKeyring(t), Clock: time.Now, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ring := ensure[keys.Tokens](t, vault)
		first := ring.Set().Signer(time.Now()).KeyID()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- ring.Run(ctx, schedule, 10*time.Minute) }()

		time.Sleep(24*time.Hour + 11*time.Minute)
		synctest.Wait()
		if n := len(verifierIDs(ring, time.Now())); n != 2 {
			t.Errorf("%d keys after a day, want 2", n)
		}
		// A store that hangs costs one interval and a log line, no more.
		hang.Store(true)
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		hang.Store(false)
		time.Sleep(13 * time.Hour)
		synctest.Wait()
		if got := verifierIDs(ring, time.Now()); len(got) != 1 || got[0] == first {
			t.Errorf("keys %v half a day later, want only the second", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, want := range []string{"key created", "key rotated", "key retired", "key maintenance"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("log lacks %q", want)
			}
		}
	})
}

// TestFollow lets a follower see each of the changes of a rotation, at its time.
func TestFollow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		vault := openVault(t, keystest.NewMemory(), newKeyring(t), time.Now)
		ring := ensure[keys.Tokens](t, vault)
		type event struct {
			signer    string
			verifiers int
			after     time.Duration
		}
		var events []event
		fail := true
		begin := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- ring.Follow(ctx, func(set *keys.Set[keys.Tokens], now time.Time) error {
				if fail {
					fail = false
					return context.DeadlineExceeded
				}
				events = append(events, event{set.Signer(now).KeyID(), len(set.Verifiers(now)), now.Sub(begin)})
				return nil
			})
		}()
		time.Sleep(time.Hour)
		// Odd seconds, which a look once a minute would miss.
		odd := keys.Schedule{Lead: time.Hour + 7*time.Second, Keep: 10 * time.Hour}
		if err := ring.Rotate(t.Context(), odd); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if _, err := ring.Retire(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(events) != 5 {
			t.Fatalf("events %+v, want five", events)
		}
		old, fresh := events[0].signer, events[2].signer
		want := []event{
			{old, 1, 10 * time.Second}, // the first call failed
			{old, 2, time.Hour},
			{fresh, 2, 2*time.Hour + 7*time.Second},
			{fresh, 1, 12*time.Hour + 5*time.Minute + 7*time.Second},
			{fresh, 1, 25 * time.Hour}, // the old key left the store
		}
		if !slices.Equal(events, want) || old == fresh {
			t.Errorf("events\n%+v, want\n%+v", events, want)
		}
	})
}
