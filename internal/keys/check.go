package keys

import (
	"context"
	"errors"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const (
	checkName = "root-check"
	checkText = "gatehouse root key check v1"
)

// ErrWrongRoot is a root key that is not the one the store was sealed with.
var ErrWrongRoot = errors.New("root key does not fit the data")

// VerifyRoot proves that ring opens what store holds. The first start writes a
// sealed check value; every later start, of any replica, must open it, or gets
// [ErrWrongRoot] in one line that names both keys. It must run before anything
// else reads or writes sealed values.
func VerifyRoot(ctx context.Context, store Store, ring *Keyring) error {
	entry, err := store.Get(ctx, checkName)
	if fault.KindOf(err) == fault.NotFound {
		entry, err = writeCheck(ctx, store, ring)
	}
	if errors.Is(err, ErrWrongRoot) {
		return err
	}
	if err != nil {
		return fmt.Errorf("verify root key: %w", err)
	}
	text, err := ring.vault.Open(entry.Value, place(checkName))
	if errors.Is(err, ErrUnknownRoot) {
		sealer, _ := SealedRootID(entry.Value)
		return fmt.Errorf("%w: this process holds root key %s, the data was sealed with %s: give it the root key file that the other replicas or the backup have", ErrWrongRoot, ring.RootID(), sealer)
	}
	if err != nil {
		return fmt.Errorf("verify root key: the check value is damaged: restore the store from its backup: %w", err)
	}
	if string(text) != checkText {
		return fmt.Errorf("verify root key: the check value is of a version that this program does not know")
	}
	return nil
}

// writeCheck creates the check value, unless another replica did so meanwhile,
// and returns what the store then holds.
func writeCheck(ctx context.Context, store Store, ring *Keyring) (Entry, error) {
	// Keys without a check value are not a first start: they were sealed by a
	// root that nothing can recognise any more.
	others, err := store.List(ctx, "")
	if err != nil {
		return Entry{}, err
	}
	if len(others) > 0 {
		// Another replica may have come between the two reads.
		entry, err := store.Get(ctx, checkName)
		if fault.KindOf(err) == fault.NotFound {
			return Entry{}, fmt.Errorf("%w: the store holds sealed keys but no check value: restore it from its backup", ErrWrongRoot)
		}
		return entry, err
	}
	value, err := ring.vault.Seal([]byte(checkText), place(checkName))
	if err != nil {
		return Entry{}, err
	}
	if _, err := store.Create(ctx, checkName, value); err != nil && fault.KindOf(err) != fault.Conflict {
		return Entry{}, err
	}
	return store.Get(ctx, checkName)
}

// place is where a store entry is kept, as its seal is bound to it.
func place(name string) []byte { return []byte("store/" + name) }
