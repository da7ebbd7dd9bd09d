package keys_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/keys/keystest"
)

func TestWrongRootIsRefused(t *testing.T) {
	t.Parallel()
	store, right, wrong := keystest.NewMemory(), newKeyring(t), newKeyring(t)
	for range 2 {
		if err := keys.VerifyRoot(t.Context(), store, right); err != nil {
			t.Fatal(err)
		}
	}
	before := mustGet(t, store, "root-check")
	err := keys.VerifyRoot(t.Context(), store, wrong)
	if !errors.Is(err, keys.ErrWrongRoot) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{right.RootID(), wrong.RootID(), "give it the root key file"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error of several lines: %q", err)
	}
	if _, err := keys.OpenVault(t.Context(), keys.VaultConfig{Store: store, Keyring: wrong, Clock: newClock().Now, Logger: discard}); !errors.Is(err, keys.ErrWrongRoot) {
		t.Errorf("vault opened: %v", err)
	}
	if after := mustGet(t, store, "root-check"); after.Revision != before.Revision {
		t.Error("the refused start wrote")
	}
}

func TestReplicasWithDifferentRootsStartingTogether(t *testing.T) {
	t.Parallel()
	store := keystest.NewMemory()
	var wins atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		roots := newKeyring(t)
		wg.Go(func() {
			err := keys.VerifyRoot(t.Context(), store, roots)
			if err == nil {
				wins.Add(1)
			} else if !errors.Is(err, keys.ErrWrongRoot) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d roots were accepted, want 1", wins.Load())
	}
}

func TestMissingCheckBesideKeysIsRefused(t *testing.T) {
	t.Parallel()
	store, roots := keystest.NewMemory(), newKeyring(t)
	ensure[keys.Tokens](t, openVault(t, store, roots, newClock().Now))
	check := mustGet(t, store, "root-check")
	if err := store.Delete(t.Context(), "root-check", check.Revision); err != nil {
		t.Fatal(err)
	}
	if err := keys.VerifyRoot(t.Context(), store, roots); !errors.Is(err, keys.ErrWrongRoot) || !strings.Contains(err.Error(), "no check value") {
		t.Errorf("got %v", err)
	}
	if _, err := store.Get(t.Context(), "root-check"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a check value was written: %v", err)
	}
}

// TestFirstStartBesideAnother lets another replica finish its first start
// between this one's look for the check value and its look for keys.
func TestFirstStartBesideAnother(t *testing.T) {
	t.Parallel()
	roots, memory := newKeyring(t), keystest.NewMemory()
	store := &flaky{Store: memory}
	store.before = func(op string) error {
		if op == "list" {
			ensure[keys.Tokens](t, openVault(t, memory, roots, newClock().Now))
		}
		return nil
	}
	if err := keys.VerifyRoot(t.Context(), store, roots); err != nil {
		t.Error(err)
	}
}

func TestDamagedCheckIsRefused(t *testing.T) {
	t.Parallel()
	roots := newKeyring(t)
	place := []byte("store/root-check")
	store := keystest.NewMemory()
	if err := keys.VerifyRoot(t.Context(), store, roots); err != nil {
		t.Fatal(err)
	}
	good := mustGet(t, store, "root-check")
	// What another use of the same root sealed is not a check value.
	foreign, err := roots.Rows().Seal([]byte("gatehouse root key check v1"), place)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string][]byte{"empty": {}, "cut": good.Value[:len(good.Value)-1], "foreign": foreign} {
		store := keystest.NewMemory()
		if _, err := store.Create(t.Context(), "root-check", value); err != nil {
			t.Fatal(err)
		}
		err := keys.VerifyRoot(t.Context(), store, roots)
		if !errors.Is(err, keys.ErrSealed) || !strings.Contains(err.Error(), "is damaged: restore the store") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVerifyRootStoreFailures(t *testing.T) {
	t.Parallel()
	down := fault.New(fault.Unavailable, "storage does not answer")
	for _, op := range []string{"get", "list", "create"} {
		store := &flaky{Store: keystest.NewMemory(), before: func(got string) error {
			if got == op {
				return down
			}
			return nil
		}}
		if err := keys.VerifyRoot(t.Context(), store, newKeyring(t)); !errors.Is(err, down) || fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s fails: %v", op, err)
		}
	}
}

func TestReseal(t *testing.T) {
	t.Parallel()
	one, err := keys.GenerateRoot()
	if err != nil {
		t.Fatal(err)
	}
	two, err := keys.GenerateRoot()
	if err != nil {
		t.Fatal(err)
	}
	keyring := func(roots ...keys.Root) *keys.Keyring {
		ring, err := keys.NewKeyring(roots...)
		if err != nil {
			t.Fatal(err)
		}
		return ring
	}
	old, both, next := keyring(one), keyring(two, one), keyring(two)
	store, now := keystest.NewMemory(), newClock()
	ring := ensure[keys.Tokens](t, openVault(t, store, old, now.Now))
	id := ring.Set().Signer(start).KeyID()

	vault := openVault(t, store, both, now.Now)
	if n, err := vault.Reseal(t.Context()); n != 2 || err != nil {
		t.Errorf("resealed %d, %v, want 2", n, err)
	}
	if n, err := vault.Reseal(t.Context()); n != 0 || err != nil {
		t.Errorf("resealed %d again, %v", n, err)
	}
	// Now the old root is needed no more, and does not help any more.
	if got := ensure[keys.Tokens](t, openVault(t, store, next, now.Now)).Set().Signer(start).KeyID(); got != id {
		t.Error("the key changed")
	}
	if err := keys.VerifyRoot(t.Context(), store, old); !errors.Is(err, keys.ErrWrongRoot) {
		t.Errorf("old root: %v", err)
	}
}

// TestResealBesideAWriter changes and deletes entries under the feet of Reseal.
func TestResealBesideAWriter(t *testing.T) {
	t.Parallel()
	one, err1 := keys.GenerateRoot()
	two, err2 := keys.GenerateRoot()
	old, err3 := keys.NewKeyring(one)
	both, err4 := keys.NewKeyring(two, one)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	memory := keystest.NewMemory()
	vault := openVault(t, memory, old, newClock().Now)
	tokens := ensure[keys.Tokens](t, vault)
	if _, err := keys.EnsureForSite[keys.SiteTokens](t.Context(), vault, "berlin"); err != nil {
		t.Fatal(err)
	}
	store := &flaky{Store: memory}
	swaps := 0
	store.before = func(op string) error {
		if op != "swap" {
			return nil
		}
		swaps++
		if swaps > 1 {
			return nil
		}
		// The first swap finds every ring changed.
		return errors.Join(
			tokens.Rotate(t.Context(), keys.Schedule{}),
			keys.DropForSite[keys.SiteTokens](t.Context(), vault, "berlin"),
		)
	}
	if n, err := openVault(t, store, both, newClock().Now).Reseal(t.Context()); n != 2 || err != nil {
		t.Errorf("resealed %d, %v, want the check and the tokens", n, err)
	}
	next, err := keys.NewKeyring(two)
	if err != nil {
		t.Fatal(err)
	}
	if got := ensure[keys.Tokens](t, openVault(t, memory, next, newClock().Now)).Set().Verifiers(start); len(got) != 2 {
		t.Errorf("%d keys, want both of the rotation", len(got))
	}
}
