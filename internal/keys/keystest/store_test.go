package keystest

import (
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	RunStore(t, func(*testing.T) keys.Store { return NewMemory() })
}

func TestNewVault(t *testing.T) {
	t.Parallel()
	ring, err := keys.Ensure[keys.Jobs](t.Context(), NewVault(t, time.Now))
	if err != nil || ring.Set().Signer(time.Now()) == nil {
		t.Errorf("no key: %v", err)
	}
}
