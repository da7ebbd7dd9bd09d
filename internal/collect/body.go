package collect

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
)

// Bounds of the body of an event, in bytes of JSON. With everything else it
// stays below [audit.MaxEventBytes], where bodies are dropped as a whole.
const (
	MaxBody = 48 << 10
	// MaxValue is what is kept of one value, in bytes of the value.
	MaxValue   = 16 << 10
	maxDropped = 1024
	maxName    = 256
)

// Body builds the JSON object of an entry member by member, within bounds. The
// first ones are the surest to fit. The zero Body is empty and ready.
type Body struct {
	b       []byte
	dropped []byte
	more    int // not even named in dropped
	seen    map[string]bool
}

// Text adds a string. Of one that is longer than MaxValue the beginning is
// kept; full is its length before it was cut, where the caller cut it already.
// What is not UTF-8 becomes {"base64": …}, so that no byte is lost.
func (b *Body) Text(name, value string, full int64) {
	if cut := Clip(value, MaxValue); len(cut) < len(value) {
		full, value = max(full, int64(len(value))), cut
	}
	if b.JSON(name, AppendText(nil, value)) && full > int64(len(value)) {
		b.drop(name, full)
	}
}

// JSON adds a member that is JSON already, or names it as dropped. Of members
// of one name the first counts. It reports whether the member is in.
func (b *Body) JSON(name string, value []byte) bool {
	name = Clip(name, maxName)
	quoted := audit.AppendString(nil, name)
	if b.seen[name] || len(b.b)+len(quoted)+len(value)+3 > MaxBody {
		b.drop(name, int64(len(value)))
		return false
	}
	if b.seen == nil {
		b.seen = map[string]bool{}
		b.b = append(b.b, '{')
	} else {
		b.b = append(b.b, ',')
	}
	b.seen[name] = true
	b.b = append(b.b, quoted...)
	b.b = append(b.b, ':')
	b.b = append(b.b, value...)
	return true
}

// Drop names something that was left out, with its length.
func (b *Body) Drop(name string, length int64) { b.drop(Clip(name, maxName), length) }

func (b *Body) drop(name string, length int64) {
	if len(b.dropped)+len(name)+24 > maxDropped {
		b.more++
		return
	}
	if len(b.dropped) > 0 {
		b.dropped = append(b.dropped, ',')
	}
	b.dropped = append(b.dropped, name...)
	b.dropped = append(b.dropped, ':')
	b.dropped = strconv.AppendInt(b.dropped, length, 10)
}

// Close returns the object and what was cut or left out of it: names with their
// full lengths, "" for nothing.
func (b *Body) Close() (object []byte, dropped string) {
	if b.seen == nil {
		b.b = append(b.b, '{')
	}
	if b.more > 0 {
		b.dropped = append(b.dropped, ",and "...)
		b.dropped = strconv.AppendInt(b.dropped, int64(b.more), 10)
		b.dropped = append(b.dropped, " more"...)
	}
	return append(b.b, '}'), string(b.dropped)
}

// AppendText appends a value as JSON: a string if it is UTF-8, else an object
// with its base64.
func AppendText(b []byte, value string) []byte {
	if utf8.ValidString(value) {
		return audit.AppendString(b, value)
	}
	b = append(b, `{"base64":"`...)
	b = base64.StdEncoding.AppendEncode(b, []byte(value))
	return append(b, `"}`...)
}

// Clip cuts a string to at most limit bytes, at the boundary of a rune where
// there is one.
func Clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for i := limit; i > limit-utf8.UTFMax && i > 0; i-- {
		if utf8.RuneStart(s[i]) {
			return s[:i]
		}
	}
	return s[:limit]
}
