// Package origin says which credentials another credential was made with, so
// that a ban on one of them ends it too.
//
// A caller who holds a credential can have more made: a token, an access key, a
// certificate. What is made carries a line: the credential that it was asked
// for with, the one which that was asked for with, and so on to the first. The
// package owns the form of a line, its bound and how it grows. It knows nothing
// of bans and stores nothing.
//
// Start at [Extend].
package origin

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Extra is the key under which the line of a credential stands in the extra of
// its holder.
const Extra = "authentication.gatehouse.dev/credential-origin"

// Bounds of a line.
const (
	// Max is how many credentials a line names.
	Max = 8
	// maxID bounds the id of one, in bytes as written.
	maxID = 512
)

// Entry is one credential of a line.
type Entry struct {
	// ID is its credential id, such as "JTI=…".
	ID string
	// NotAfter is when it ends by itself; the zero time is unknown.
	NotAfter time.Time
	// IssuerKey is the id of the key of ours that signed it, or "".
	IssuerKey string
}

// String writes an entry: the id, and after semicolons exp (in Unix seconds)
// and kid where they are known.
func (e Entry) String() string {
	text := escape(e.ID)
	if !e.NotAfter.IsZero() {
		text += ";exp=" + strconv.FormatInt(e.NotAfter.Unix(), 10)
	}
	if e.IssuerKey != "" {
		text += ";kid=" + escape(e.IssuerKey)
	}
	return text
}

// Parse reads what String wrote. Attributes that it does not know are passed
// over.
func Parse(text string) Entry {
	id, rest, _ := strings.Cut(text, ";")
	e := Entry{ID: unescape(id)}
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, ";")
		switch key, value, _ := strings.Cut(part, "="); key {
		case "exp":
			if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
				e.NotAfter = time.Unix(seconds, 0)
			}
		case "kid":
			e.IssuerKey = unescape(value)
		}
	}
	return e
}

// ID is the credential id in an entry as it is written.
func ID(text string) string {
	id, _, _ := strings.Cut(text, ";")
	return unescape(id)
}

// Check reports whether a line is one that Extend can have written.
func Check(line []string) bool {
	return len(line) <= Max && !slices.ContainsFunc(line, func(text string) bool {
		id, _, _ := strings.Cut(text, ";")
		return id == "" || len(text) > 3*maxID || escape(unescape(id)) != id
	})
}

var errFull = fault.Newf(fault.Denied, "the credential is the last of a line of %d that were made with one another and are still good; sign in anew", Max)

// Extend returns the line of what is made with a credential: the credential
// itself before its own line. Where the line is full, it leaves out the oldest
// one that has ended by itself; the first of all stays, because that is what
// everything came from. While all of them are good it refuses, so that nobody
// can get out of reach of a ban by asking often enough. A credential without an
// id adds nothing.
func Extend(e Entry, line []string, now time.Time) ([]string, error) {
	switch {
	case e.ID == "":
		return slices.Clone(line), nil
	case len(e.String()) > maxID:
		return nil, fault.New(fault.Denied, "the id of the credential is too long to be carried on")
	}
	out := append([]string{e.String()}, line...)
	for len(out) > Max {
		// The first of all is the last in the line.
		at := len(out) - 2
		for ; at > 0 && !over(out[at], now); at-- {
		}
		if at == 0 {
			return nil, errFull
		}
		out = slices.Delete(out, at, at+1)
	}
	return out, nil
}

func over(text string, now time.Time) bool {
	end := Parse(text).NotAfter
	return !end.IsZero() && now.After(end.Add(leeway))
}

// leeway is how long a credential may be taken for good after its end.
const leeway = time.Minute

// escape writes what would end an id, and what is not printable, as %XX.
func escape(s string) string {
	if !strings.ContainsFunc(s, special) {
		return s
	}
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(s) {
		if special(rune(c)) {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

func special(r rune) bool { return r <= ' ' || r >= 0x7f || r == '%' || r == ';' }

func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
