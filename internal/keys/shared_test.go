package keys_test

import (
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/keys/keystest"
)

// What a replica derives from a shared secret, every other one does, also after
// the root key was replaced; another use has another secret.
func TestSharedSecrets(t *testing.T) {
	t.Parallel()
	store, now := keystest.NewMemory(), newClock()
	var roots [2]keys.Root
	for i := range roots {
		var err error
		if roots[i], err = keys.GenerateRoot(); err != nil {
			t.Fatal(err)
		}
	}
	open := func(roots ...keys.Root) *keys.Vault {
		t.Helper()
		ring, err := keys.NewKeyring(roots...)
		if err != nil {
			t.Fatal(err)
		}
		return openVault(t, store, ring, now.Now)
	}
	one, err := open(roots[0]).Shared(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	both := open(roots[1], roots[0])
	if _, err := both.Reseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := open(roots[1]).Shared(t.Context(), "test")
	if err != nil || !again.Equal(one) || again.Len() != 32 {
		t.Fatalf("after a new root key: %v", err)
	}
	other, err := both.Shared(t.Context(), "other")
	if err != nil || other.Equal(one) {
		t.Errorf("another use: %v", err)
	}
	if _, err := both.Shared(t.Context(), "../x"); err == nil {
		t.Error("a use that is no name")
	}
}
