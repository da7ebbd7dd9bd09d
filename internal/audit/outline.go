package audit

import "bytes"

// Outline is what an index keeps of an event: the words that one asks for. Its
// strings lie inside the event they were read from.
type Outline struct {
	Username     []byte
	Impersonated []byte // name of the impersonated user
	Credential   []byte // as [Event.Credential]
	Verb         []byte
	Decision     []byte // as [Event.Decision]
	Resource     []byte
	Namespace    []byte
	Name         []byte
}

// Outline returns the outline of an event.
func (e *Event) Outline() Outline {
	o := Outline{
		Username: []byte(e.User.Username), Credential: []byte(e.Credential()),
		Verb: []byte(e.Verb), Decision: []byte(e.Decision()),
	}
	if e.ImpersonatedUser != nil {
		o.Impersonated = []byte(e.ImpersonatedUser.Username)
	}
	if r := e.ObjectRef; r != nil {
		o.Resource, o.Namespace, o.Name = []byte(r.Resource), []byte(r.Namespace), []byte(r.Name)
	}
	return o
}

// ReadOutline reads the outline of an event that [Event.AppendJSON] wrote, in
// a single pass and without allocation. An index that decoded each event as a
// whole would cost the machine more than the decision that the event records.
// ok is false for what AppendJSON does not write and for a wanted string with
// an escape: then [Decode] has the answer.
func ReadOutline(event []byte) (o Outline, ok bool) {
	s := scanner{rest: event}
	var held []byte // the credential that the extra of the user names
	s.object(func(key []byte) {
		switch string(key) {
		case "verb":
			o.Verb = s.plain()
		case "user":
			s.object(func(key []byte) {
				switch string(key) {
				case "username":
					o.Username = s.plain()
				case "extra":
					s.object(func(key []byte) {
						if string(key) == credentialExtra {
							held = s.first()
						} else {
							s.skip()
						}
					})
				default:
					s.skip()
				}
			})
		case "impersonatedUser":
			s.object(func(key []byte) {
				if string(key) == "username" {
					o.Impersonated = s.plain()
				} else {
					s.skip()
				}
			})
		case "objectRef":
			s.object(func(key []byte) {
				switch string(key) {
				case "resource":
					o.Resource = s.plain()
				case "namespace":
					o.Namespace = s.plain()
				case "name":
					o.Name = s.plain()
				default:
					s.skip()
				}
			})
		case "annotations":
			s.object(func(key []byte) {
				switch string(key) {
				case AnnotationCredential:
					o.Credential = s.plain()
				case AnnotationDecision:
					o.Decision = s.plain()
				default:
					s.skip()
				}
			})
		default:
			s.skip()
		}
	})
	if len(o.Credential) == 0 {
		o.Credential = held
	}
	return o, !s.failed && len(s.rest) == 0
}

// A scanner walks JSON without spaces, as AppendJSON writes it. Once something
// else comes, it has failed and reads no further.
type scanner struct {
	rest   []byte
	failed bool
}

func (s *scanner) fail() { s.failed, s.rest = true, nil }

// take consumes one byte if it is c.
func (s *scanner) take(c byte) bool {
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// object calls member at the value of each member; member consumes the value.
func (s *scanner) object(member func(key []byte)) {
	if !s.take('{') {
		s.fail()
		return
	}
	if s.take('}') {
		return
	}
	for !s.failed {
		key, _ := s.text()
		if !s.take(':') {
			s.fail()
			return
		}
		member(key)
		if s.take('}') {
			return
		}
		if !s.take(',') {
			s.fail()
		}
	}
}

// text consumes a string and returns what stands between its quotes.
func (s *scanner) text() (inside []byte, escaped bool) {
	if !s.take('"') {
		s.fail()
		return nil, false
	}
	for i := 0; ; i++ {
		n := bytes.IndexByte(s.rest[i:], '"')
		if n < 0 {
			s.fail()
			return nil, false
		}
		i += n
		if !backslashed(s.rest[:i]) {
			inside, s.rest = s.rest[:i], s.rest[i+1:]
			return inside, escaped || bytes.IndexByte(inside, '\\') >= 0
		}
		escaped = true
	}
}

// backslashed says that what follows b is escaped.
func backslashed(b []byte) bool {
	n := 0
	for n < len(b) && b[len(b)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// plain consumes a string that must need no unescaping.
func (s *scanner) plain() []byte {
	inside, escaped := s.text()
	if escaped {
		s.fail()
	}
	return inside
}

// first consumes a list of strings and returns the first of them.
func (s *scanner) first() []byte {
	if !s.take('[') {
		s.skip() // null
		return nil
	}
	if s.take(']') {
		return nil
	}
	out := s.plain()
	for !s.failed && !s.take(']') {
		if !s.take(',') {
			s.fail()
			return nil
		}
		s.text()
	}
	return out
}

// skip consumes any value.
func (s *scanner) skip() {
	depth := 0
	for len(s.rest) > 0 {
		switch s.rest[0] {
		case '"':
			s.text()
		case '{', '[':
			depth++
			s.rest = s.rest[1:]
		case '}', ']':
			if depth == 0 {
				return
			}
			depth--
			s.rest = s.rest[1:]
		case ',':
			if depth == 0 {
				return
			}
			s.rest = s.rest[1:]
		default:
			s.rest = s.rest[1:]
			continue // within a number, a literal, or behind a key
		}
		if depth == 0 && (len(s.rest) == 0 || s.rest[0] == ',' || s.rest[0] == '}' || s.rest[0] == ']') {
			return
		}
	}
	if depth != 0 {
		s.fail()
	}
}
