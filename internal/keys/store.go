package keys

import (
	"context"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const (
	// MaxName is the longest name in a [Store], in bytes.
	MaxName = 320
	// MaxValue is the longest value in a [Store], in bytes.
	MaxValue = 512 << 10
)

// Entry is one named value of a [Store].
type Entry struct {
	Name  string
	Value []byte
	// Revision is positive and changes with every write of the name. It never
	// returns to an earlier one, not even after Delete and Create.
	Revision int64
}

// Store keeps small sealed values by name. Implementations pass
// keystest.RunStore.
//
//   - Atomic: a write happens as a whole or not at all, and each read sees
//     every write that was acknowledged before it began, by whichever replica
//     (linearizable).
//   - Durable: a write that returned nil survives a crash.
//   - An error of kind Unavailable, or of the context, may hide a write that
//     took effect. Callers read again before they go on.
//   - Names follow [CheckName]; others are refused with kind Invalid, as are
//     values over [MaxValue].
//   - Safe for concurrent use. Values passed in are not kept, values returned
//     belong to the caller.
type Store interface {
	// Get returns the entry, or an error of kind NotFound.
	Get(ctx context.Context, name string) (Entry, error)
	// List returns the entries whose names begin with prefix, in order of
	// their names. The empty prefix lists all.
	List(ctx context.Context, prefix string) ([]Entry, error)
	// Create writes a name that does not exist, or returns an error of kind
	// Conflict. Of several concurrent calls exactly one succeeds.
	Create(ctx context.Context, name string, value []byte) (revision int64, err error)
	// CompareAndSwap writes a name whose revision is still the given one, or
	// returns an error of kind Conflict, also if the name is gone.
	CompareAndSwap(ctx context.Context, name string, value []byte, revision int64) (newRevision int64, err error)
	// Delete removes a name whose revision is still the given one, or returns
	// an error of kind Conflict, or NotFound if the name is gone.
	Delete(ctx context.Context, name string, revision int64) error
}

// CheckName returns an error of kind Invalid unless name consists of segments
// of lower case letters, digits, '-' and '.', divided by '/', none of them
// empty or beginning with a dot, and has at most [MaxName] bytes.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName {
		return fault.Newf(fault.Invalid, "key name must have 1 to %d bytes", MaxName)
	}
	for segment := range strings.SplitSeq(name, "/") {
		if segment == "" || segment[0] == '.' {
			return fault.Newf(fault.Invalid, "key name %q has an empty segment or one that begins with a dot", name)
		}
		for _, c := range []byte(segment) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
				return fault.Newf(fault.Invalid, "key name %q may hold lower case letters, digits, '-', '.' and '/' only", name)
			}
		}
	}
	return nil
}
