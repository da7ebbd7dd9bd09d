package keystest

import (
	"log/slog"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

// NewVault returns a vault of its own in memory, under a new root key.
func NewVault(t testing.TB, clock func() time.Time) *keys.Vault {
	t.Helper()
	root, err := keys.GenerateRoot()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keys.NewKeyring(root)
	if err != nil {
		t.Fatal(err)
	}
	vault, err := keys.OpenVault(t.Context(), keys.VaultConfig{
		Store: NewMemory(), Keyring: ring, Clock: clock, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return vault
}
