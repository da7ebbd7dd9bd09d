package keys

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// sharedPrefix is where shared secrets are kept: shared/<use>.
const sharedPrefix = "shared/"

// sharedSize is their length, in bytes.
const sharedSize = 32

// Shared returns the secret of one use, 32 random bytes that are the same for
// all replicas and for good; the first call ever makes it. It is for what is
// derived and never verified by anybody else: there is no rotation.
func (v *Vault) Shared(ctx context.Context, use string) (secret.Bytes, error) {
	name := sharedPrefix + use
	entry, err := v.store.Get(ctx, name)
	if fault.KindOf(err) == fault.NotFound {
		fresh := make([]byte, sharedSize)
		_, _ = rand.Read(fresh) // never fails
		var sealed []byte
		if sealed, err = v.roots.vault.Seal(fresh, place(name)); err != nil {
			return secret.Bytes{}, fmt.Errorf("secret for %s: %w", use, err)
		}
		if _, err = v.store.Create(ctx, name, sealed); err == nil || fault.KindOf(err) == fault.Conflict {
			// Another replica may have been first.
			entry, err = v.store.Get(ctx, name)
		}
	}
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("secret for %s: %w", use, err)
	}
	key, err := v.roots.vault.Open(entry.Value, place(name))
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("secret for %s: %w", use, err)
	}
	if len(key) != sharedSize {
		return secret.Bytes{}, fmt.Errorf("secret for %s: has %d bytes, not %d", use, len(key), sharedSize)
	}
	return secret.NewBytes(key), nil
}
