// Package fault gives every error of the control plane one of a closed set of
// kinds and keeps the text that a caller may read apart from the cause that
// only the operator may read.
//
// It owns: the kinds, and which text of an error is public. It refuses: status
// codes of any protocol (each adapter holds its own table from [Kind]) and
// kinds beyond the list. An error that nobody classified is [Internal], and
// the text of an internal error is always withheld.
//
// Start at [New] and [Wrap] to make one, [KindOf] and [Public] to render one.
package fault

import (
	"errors"
	"fmt"
)

// Kind says what a caller can do about an error. The zero Kind is [Internal],
// so that a forgotten kind withholds its text.
type Kind uint8

// The kinds. The list is closed: adapters switch over all of them, and
// [Kinds] lets their tests prove it.
const (
	// Internal is a fault of ours; the caller learns nothing but that.
	Internal Kind = iota
	// Invalid is input that can never succeed as it is.
	Invalid
	// Unauthenticated is a caller whose credential was missing or refused.
	Unauthenticated
	// Denied is a known caller who may not do this.
	Denied
	// NotFound is an object that does not exist, or whose existence the caller
	// may not learn.
	NotFound
	// Conflict is a request that was right for an earlier state.
	Conflict
	// Exhausted is a limit reached: a rate, a quota, a size of a queue.
	Exhausted
	// Unavailable is a dependency that does not answer now; trying again later
	// can succeed.
	Unavailable
)

// kindNames is indexed by Kind and bounds the closed set.
var kindNames = [...]string{
	Internal:        "internal",
	Invalid:         "invalid",
	Unauthenticated: "unauthenticated",
	Denied:          "denied",
	NotFound:        "not found",
	Conflict:        "conflict",
	Exhausted:       "exhausted",
	Unavailable:     "unavailable",
}

// internalText is all that a caller learns about an internal fault.
const internalText = "internal error"

// Kinds returns every kind once, in a stable order.
func Kinds() []Kind {
	kinds := make([]Kind, len(kindNames))
	for i := range kinds {
		kinds[i] = Kind(i)
	}
	return kinds
}

// String returns the kind's name in lower case words.
func (k Kind) String() string {
	if int(k) >= len(kindNames) {
		return kindNames[Internal]
	}
	return kindNames[k]
}

// classified is an error with a kind. It is used by pointer, so that a
// package-level fault works as a sentinel with errors.Is.
type classified struct {
	kind   Kind
	public string
	cause  error
}

func (e *classified) Error() string {
	switch {
	case e.cause == nil:
		return e.public
	case e.public == "":
		return e.cause.Error()
	default:
		return e.public + ": " + e.cause.Error()
	}
}

func (e *classified) Unwrap() error { return e.cause }

// New returns an error of the given kind. public must be safe to show to the
// caller, unless kind is [Internal], whose text [Public] withholds.
func New(kind Kind, public string) error {
	return &classified{kind: closed(kind), public: public}
}

// Newf is [New] with a format. Every operand becomes public text: a cause
// belongs in [Wrap].
func Newf(kind Kind, format string, args ...any) error {
	return &classified{kind: closed(kind), public: fmt.Sprintf(format, args...)}
}

// Wrap returns an error of the given kind that unwraps to cause. Error shows
// the public text and the cause, [Public] the public text only. A nil cause
// still makes an error: a caller that lost its cause must not report success.
func Wrap(kind Kind, public string, cause error) error {
	return &classified{kind: closed(kind), public: public, cause: cause}
}

// KindOf returns the kind given by the outermost classification in err's tree,
// in the order of [errors.As]. Unclassified errors, and nil, are [Internal].
func KindOf(err error) Kind {
	if e := find(err); e != nil {
		return e.kind
	}
	return Internal
}

// Public returns the text of err that its caller may read: that of the
// outermost classification, or "internal error" if that kind is [Internal],
// there is no classification, or it has no text. The words that callers in
// between added with %w stay private.
func Public(err error) string {
	if e := find(err); e != nil && e.kind != Internal && e.public != "" {
		return e.public
	}
	return internalText
}

func find(err error) *classified {
	if e, ok := errors.AsType[*classified](err); ok {
		return e
	}
	return nil
}

// closed maps a number outside the list to Internal: it was never a kind.
func closed(k Kind) Kind {
	if int(k) >= len(kindNames) {
		return Internal
	}
	return k
}
