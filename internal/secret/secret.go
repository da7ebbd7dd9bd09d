// Package secret holds values that must not reach a log, an error, a URL or a
// marshalled document by accident.
//
// It owns: [Bytes] and [String], which every formatting verb, slog, JSON and
// text marshaller shows as "[redacted]", also when they sit in an unexported
// field that fmt reaches by reflection. It refuses: comparison with == (it is
// not constant time; use Equal) and unmarshalling (a secret enters through its
// constructor, where a reader sees it). It does not wipe memory: the garbage
// collector may have copied the value, so a promise to wipe would be false.
//
// Start at [NewString] and [String.Reveal]; grep for Reveal to find every
// place where a secret leaves its type.
package secret

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// redacted stands for the value wherever it would be shown.
const redacted = "[redacted]"

// Bytes is a secret byte string. The zero Bytes is empty. Values are immutable
// and safe for concurrent use.
//
// The value sits behind a function: reflection cannot look into a closure, so
// no printer or dumper reaches it, and a struct with a function in it does not
// compare with ==.
type Bytes struct{ reveal func() []byte }

// NewBytes returns a secret copy of b.
func NewBytes(b []byte) Bytes {
	own := bytes.Clone(b)
	return Bytes{reveal: func() []byte { return own }}
}

// Reveal returns the value itself, which the caller must not modify.
func (s Bytes) Reveal() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

// Len returns the length in bytes, which is not secret.
func (s Bytes) Len() int { return len(s.Reveal()) }

// Equal reports whether both secrets hold the same bytes, in time that depends
// on the lengths only.
func (s Bytes) Equal(other Bytes) bool {
	return subtle.ConstantTimeCompare(s.Reveal(), other.Reveal()) == 1
}

// String returns a fixed text, never the value.
func (s Bytes) String() string { return redacted }

// GoString returns a fixed text, never the value.
func (s Bytes) GoString() string { return redacted }

// Format writes a fixed text for every verb.
func (s Bytes) Format(f fmt.State, _ rune) { writeRedacted(f) }

// LogValue returns a fixed text, never the value.
func (s Bytes) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns a fixed text, never the value.
func (s Bytes) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns a fixed text, never the value.
func (s Bytes) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// String is a secret text. The zero String is empty. Values are immutable and
// safe for concurrent use.
type String struct{ reveal func() string }

// NewString returns s as a secret.
func NewString(s string) String {
	return String{reveal: func() string { return s }}
}

// Reveal returns the value itself.
func (s String) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// Len returns the length in bytes, which is not secret.
func (s String) Len() int { return len(s.Reveal()) }

// Equal reports whether both secrets hold the same text, in time that depends
// on the lengths only.
func (s String) Equal(other String) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// String returns a fixed text, never the value.
func (s String) String() string { return redacted }

// GoString returns a fixed text, never the value.
func (s String) GoString() string { return redacted }

// Format writes a fixed text for every verb.
func (s String) Format(f fmt.State, _ rune) { writeRedacted(f) }

// LogValue returns a fixed text, never the value.
func (s String) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns a fixed text, never the value.
func (s String) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns a fixed text, never the value.
func (s String) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// writeRedacted has no error to report: fmt keeps the first write error itself.
func writeRedacted(f fmt.State) { _, _ = io.WriteString(f, redacted) }
