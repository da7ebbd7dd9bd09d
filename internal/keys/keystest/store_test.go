package keystest

import (
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	RunStore(t, func(*testing.T) keys.Store { return NewMemory() })
}
