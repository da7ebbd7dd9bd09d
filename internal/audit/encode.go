package audit

import (
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// AppendJSON appends the event as one line of audit.k8s.io/v1 JSON, without
// the newline. Members stand in a fixed order and maps are sorted, so equal
// events have equal bytes; kind, apiVersion, level, auditID and stage come
// first, which lets a reader of the log identify a record by its first bytes.
// Invalid UTF-8 becomes U+FFFD. RequestObject and ResponseObject must be valid
// JSON; [Redactor.Redact] sees to that.
func (e *Event) AppendJSON(b []byte) []byte {
	b = append(b, `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":`...)
	b = AppendString(b, string(e.Level))
	b = append(b, `,"auditID":`...)
	b = AppendString(b, e.AuditID)
	b = append(b, `,"stage":`...)
	b = AppendString(b, string(e.Stage))
	b = append(b, `,"requestURI":`...)
	b = AppendString(b, e.RequestURI)
	b = append(b, `,"verb":`...)
	b = AppendString(b, e.Verb)
	b = append(b, `,"user":`...)
	b = appendUser(b, &e.User)
	if e.ImpersonatedUser != nil {
		b = append(b, `,"impersonatedUser":`...)
		b = appendUser(b, e.ImpersonatedUser)
	}
	if e.AuthenticationMetadata != nil {
		b = append(b, `,"authenticationMetadata":{`...)
		o := object{b, true}
		o.str(`"impersonationConstraint":`, e.AuthenticationMetadata.ImpersonationConstraint)
		b = append(o.b, '}')
	}
	if len(e.SourceIPs) > 0 {
		b = append(b, `,"sourceIPs":`...)
		b = appendStrings(b, e.SourceIPs)
	}
	if e.UserAgent != "" {
		b = append(b, `,"userAgent":`...)
		b = AppendString(b, e.UserAgent)
	}
	if e.ObjectRef != nil {
		b = append(b, `,"objectRef":`...)
		b = appendObjectRef(b, e.ObjectRef)
	}
	if e.ResponseStatus != nil {
		b = append(b, `,"responseStatus":`...)
		b = appendStatus(b, e.ResponseStatus)
	}
	if len(e.RequestObject) > 0 {
		b = append(b, `,"requestObject":`...)
		b = append(b, e.RequestObject...)
	}
	if len(e.ResponseObject) > 0 {
		b = append(b, `,"responseObject":`...)
		b = append(b, e.ResponseObject...)
	}
	b = append(b, `,"requestReceivedTimestamp":`...)
	b = e.RequestReceivedTimestamp.AppendJSON(b)
	b = append(b, `,"stageTimestamp":`...)
	b = e.StageTimestamp.AppendJSON(b)
	if len(e.Annotations) > 0 {
		b = append(b, `,"annotations":{`...)
		var list keyList
		for i, k := range sortedKeys(list[:0], e.Annotations) {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendString(b, k)
			b = append(b, ':')
			b = AppendString(b, e.Annotations[k])
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

// MarshalJSON implements json.Marshaler with the bytes of AppendJSON.
func (e Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil), nil }

// object appends the members of one JSON object that are not empty.
type object struct {
	b     []byte
	first bool
}

// key appends the separator and a quoted key with its colon.
func (o *object) key(quoted string) {
	if !o.first {
		o.b = append(o.b, ',')
	}
	o.first = false
	o.b = append(o.b, quoted...)
}

func (o *object) str(quoted, value string) {
	if value != "" {
		o.key(quoted)
		o.b = AppendString(o.b, value)
	}
}

func appendUser(b []byte, u *UserInfo) []byte {
	o := object{append(b, '{'), true}
	o.str(`"username":`, u.Username)
	o.str(`"uid":`, u.UID)
	if len(u.Groups) > 0 {
		o.key(`"groups":`)
		o.b = appendStrings(o.b, u.Groups)
	}
	if len(u.Extra) > 0 {
		o.key(`"extra":{`)
		var list keyList
		for i, k := range sortedKeys(list[:0], u.Extra) {
			if i > 0 {
				o.b = append(o.b, ',')
			}
			o.b = AppendString(o.b, k)
			o.b = append(o.b, ':')
			if values := u.Extra[k]; values == nil {
				o.b = append(o.b, "null"...)
			} else {
				o.b = appendStrings(o.b, values)
			}
		}
		o.b = append(o.b, '}')
	}
	return append(o.b, '}')
}

func appendObjectRef(b []byte, r *ObjectReference) []byte {
	o := object{append(b, '{'), true}
	o.str(`"resource":`, r.Resource)
	o.str(`"namespace":`, r.Namespace)
	o.str(`"name":`, r.Name)
	o.str(`"uid":`, r.UID)
	o.str(`"apiGroup":`, r.APIGroup)
	o.str(`"apiVersion":`, r.APIVersion)
	o.str(`"resourceVersion":`, r.ResourceVersion)
	o.str(`"subresource":`, r.Subresource)
	return append(o.b, '}')
}

func appendStatus(b []byte, s *Status) []byte {
	// Upstream always writes metadata here, so consumers may expect it.
	b = append(b, `{"metadata":`...)
	if len(s.Metadata) > 0 {
		b = append(b, s.Metadata...)
	} else {
		b = append(b, "{}"...)
	}
	o := object{b, false}
	o.str(`"status":`, s.Status)
	o.str(`"message":`, s.Message)
	o.str(`"reason":`, s.Reason)
	if len(s.Details) > 0 {
		o.key(`"details":`)
		o.b = append(o.b, s.Details...)
	}
	if s.Code != 0 {
		o.key(`"code":`)
		o.b = strconv.AppendInt(o.b, int64(s.Code), 10)
	}
	return append(o.b, '}')
}

func appendStrings(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendString(b, s)
	}
	return append(b, ']')
}

// keyList is the room for the keys of a usual map, on the caller's stack.
type keyList [16]string

// sortedKeys puts the keys of m into list, in order.
func sortedKeys[V any](list []string, m map[string]V) []string {
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

const hexDigits = "0123456789abcdef"

// plain marks the bytes that a JSON string holds unescaped.
var plain = func() (t [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\' && c != 0x7f
	}
	return t
}()

// AppendString appends s as a JSON string. U+2028 and U+2029 are escaped as
// well as control characters, so that a record is one line everywhere.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, s[start:i]...)
			b = append(b, "\uFFFD"...)
			start = i + 1
		case r == '\u2028' || r == '\u2029':
			b = append(b, s[start:i]...)
			b = append(b, '\\', 'u', '2', '0', '2', hexDigits[r&15])
			start = i + size
		}
		i += size
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// appendMicro appends t, which must be UTC, in microLayout. It exists because
// time.AppendFormat costs more than the rest of a small event.
func appendMicro(b []byte, t time.Time) []byte {
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, microLayout)
	}
	hour, minute, sec := t.Clock()
	micro := t.Nanosecond() / 1000
	two := func(b []byte, v int) []byte { return append(b, byte('0'+v/10), byte('0'+v%10)) }
	b = two(two(b, year/100), year%100)
	b = two(append(b, '-'), int(month))
	b = two(append(b, '-'), day)
	b = two(append(b, 'T'), hour)
	b = two(append(b, ':'), minute)
	b = two(append(b, ':'), sec)
	b = append(b, '.')
	b = two(two(two(b, micro/10000), micro/100%100), micro%100)
	return append(b, 'Z')
}
