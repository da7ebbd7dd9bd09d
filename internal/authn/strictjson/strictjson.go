// Package strictjson reads JSON documents in which a signature or a decision
// depends on every reader seeing the same thing.
//
// It owns: one reading of a document. It refuses whatever two readers may take
// differently: a member name that occurs twice in one object (RFC 7519 §4 lets
// a verifier refuse it), invalid UTF-8, unpaired surrogates, text after the
// value; and, as bounds, deep nesting and very many values. Member names match
// byte for byte, unlike in encoding/json, where "ISS" also fills "iss".
//
// Start at [Parse] and [Value.Get].
package strictjson

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Bounds on one document. The caller bounds its length.
const (
	// MaxDepth is how deep arrays and objects may nest.
	MaxDepth = 16
	// MaxValues is how many values one document may hold.
	MaxValues = 4096
)

// Kind is the JSON type of a [Value].
type Kind uint8

// The kinds. The zero Kind is no value at all.
const (
	None Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

var kindNames = [...]string{"nothing", "null", "boolean", "number", "string", "array", "object"}

func (k Kind) String() string { return kindNames[k] }

// Value is one JSON value. It is immutable by convention: nobody changes one
// after [Parse] returned it.
type Value struct {
	Kind Kind
	// True is the value of a Bool.
	True bool
	// Text is the content of a String, or a Number as it was written.
	Text string
	// Items are the values of an Array.
	Items []Value
	// Members are those of an Object, in their order, names unique.
	Members []Member
}

// Member is one name and value of an object.
type Member struct {
	Name  string
	Value Value
}

// Get returns the member with exactly this name. Its Kind is [None] when v is
// no object or has no such member.
func (v Value) Get(name string) Value {
	for i := range v.Members {
		if v.Members[i].Name == name {
			return v.Members[i].Value
		}
	}
	return Value{}
}

// Int returns a Number that is written as an integer and fits in 64 bits.
func (v Value) Int() (int64, bool) {
	if v.Kind != Number {
		return 0, false
	}
	n, err := strconv.ParseInt(v.Text, 10, 64)
	return n, err == nil
}

// Float returns a Number that a float64 can represent.
func (v Value) Float() (float64, bool) {
	if v.Kind != Number {
		return 0, false
	}
	f, err := strconv.ParseFloat(v.Text, 64)
	return f, err == nil
}

// Parse reads exactly one JSON value with nothing but white space around it.
// An error says what is wrong and at which byte, never what the text is.
func Parse(data []byte) (Value, error) {
	p := parser{in: string(data)}
	p.space()
	v, err := p.value(0)
	if err != nil {
		return Value{}, fmt.Errorf("json at byte %d: %w", p.at, err)
	}
	p.space()
	if p.at != len(p.in) {
		return Value{}, fmt.Errorf("json at byte %d: %w", p.at, errTrailing)
	}
	return v, nil
}

var (
	errTrailing  = errors.New("text after the value")
	errEnd       = errors.New("unexpected end")
	errSyntax    = errors.New("unexpected character")
	errDepth     = errors.New("nested too deep")
	errValues    = errors.New("too many values")
	errDuplicate = errors.New("a member name occurs twice")
	errUTF8      = errors.New("invalid UTF-8")
	errControl   = errors.New("control character in a string")
	errEscape    = errors.New("invalid escape")
	errSurrogate = errors.New("unpaired surrogate")
	errNumber    = errors.New("invalid number")
)

type parser struct {
	in     string
	at     int
	values int
}

func (p *parser) space() {
	for p.at < len(p.in) {
		switch p.in[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0 at the end. A NUL in the input is no
// structural character, so that the two need not be told apart.
func (p *parser) peek() byte {
	if p.at < len(p.in) {
		return p.in[p.at]
	}
	return 0
}

func (p *parser) unexpected() error {
	if p.at >= len(p.in) {
		return errEnd
	}
	return errSyntax
}

func (p *parser) value(depth int) (Value, error) {
	if p.values++; p.values > MaxValues {
		return Value{}, errValues
	}
	switch c := p.peek(); {
	case c == '{':
		return p.object(depth + 1)
	case c == '[':
		return p.array(depth + 1)
	case c == '"':
		s, err := p.string()
		return Value{Kind: String, Text: s}, err
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	case c == 't':
		return Value{Kind: Bool, True: true}, p.word("true")
	case c == 'f':
		return Value{Kind: Bool}, p.word("false")
	case c == 'n':
		return Value{Kind: Null}, p.word("null")
	default:
		return Value{}, p.unexpected()
	}
}

func (p *parser) word(w string) error {
	if len(p.in)-p.at < len(w) || p.in[p.at:p.at+len(w)] != w {
		return errSyntax
	}
	p.at += len(w)
	return nil
}

func (p *parser) object(depth int) (Value, error) {
	if depth > MaxDepth {
		return Value{}, errDepth
	}
	v := Value{Kind: Object}
	p.at++
	p.space()
	if p.peek() == '}' {
		p.at++
		return v, nil
	}
	var seen map[string]struct{}
	for {
		if p.peek() != '"' {
			return Value{}, p.unexpected()
		}
		name, err := p.string()
		if err != nil {
			return Value{}, err
		}
		if seen, err = unique(v.Members, seen, name); err != nil {
			return Value{}, err
		}
		p.space()
		if p.peek() != ':' {
			return Value{}, p.unexpected()
		}
		p.at++
		p.space()
		member, err := p.value(depth)
		if err != nil {
			return Value{}, err
		}
		v.Members = append(v.Members, Member{Name: name, Value: member})
		p.space()
		switch p.peek() {
		case ',':
			p.at++
			p.space()
		case '}':
			p.at++
			return v, nil
		default:
			return Value{}, p.unexpected()
		}
	}
}

// unique refuses a name that the object already has. Small objects, which all
// honest ones are, need no map; seen bounds the work for the others.
func unique(members []Member, seen map[string]struct{}, name string) (map[string]struct{}, error) {
	const small = 16
	if len(members) < small {
		for i := range members {
			if members[i].Name == name {
				return nil, errDuplicate
			}
		}
		return nil, nil
	}
	if seen == nil {
		seen = make(map[string]struct{}, 2*small)
		for i := range members {
			seen[members[i].Name] = struct{}{}
		}
	}
	if _, twice := seen[name]; twice {
		return nil, errDuplicate
	}
	seen[name] = struct{}{}
	return seen, nil
}

func (p *parser) array(depth int) (Value, error) {
	if depth > MaxDepth {
		return Value{}, errDepth
	}
	v := Value{Kind: Array}
	p.at++
	p.space()
	if p.peek() == ']' {
		p.at++
		return v, nil
	}
	for {
		item, err := p.value(depth)
		if err != nil {
			return Value{}, err
		}
		v.Items = append(v.Items, item)
		p.space()
		switch p.peek() {
		case ',':
			p.at++
			p.space()
		case ']':
			p.at++
			return v, nil
		default:
			return Value{}, p.unexpected()
		}
	}
}

// number accepts the grammar of RFC 8259 §6 and keeps the literal.
func (p *parser) number() (Value, error) {
	start := p.at
	if p.peek() == '-' {
		p.at++
	}
	switch c := p.peek(); {
	case c == '0':
		p.at++
	case c >= '1' && c <= '9':
		p.digits()
	default:
		return Value{}, errNumber
	}
	if p.peek() == '.' {
		p.at++
		if p.digits() == 0 {
			return Value{}, errNumber
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		if p.digits() == 0 {
			return Value{}, errNumber
		}
	}
	return Value{Kind: Number, Text: p.in[start:p.at]}, nil
}

func (p *parser) digits() int {
	start := p.at
	for p.at < len(p.in) && p.in[p.at] >= '0' && p.in[p.at] <= '9' {
		p.at++
	}
	return p.at - start
}

// string reads a string whose opening quote is next. Without escapes it is a
// part of the input and allocates nothing.
func (p *parser) string() (string, error) {
	p.at++
	start := p.at
	for p.at < len(p.in) {
		switch c := p.in[p.at]; {
		case c == '"':
			s := p.in[start:p.at]
			p.at++
			if !utf8.ValidString(s) {
				return "", errUTF8
			}
			return s, nil
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return "", errControl
		default:
			p.at++
		}
	}
	return "", errEnd
}

func (p *parser) escaped(start int) (string, error) {
	out := append(make([]byte, 0, p.at-start+32), p.in[start:p.at]...)
	for p.at < len(p.in) {
		c := p.in[p.at]
		switch {
		case c == '"':
			p.at++
			if !utf8.Valid(out) {
				return "", errUTF8
			}
			return string(out), nil
		case c < 0x20:
			return "", errControl
		case c != '\\':
			out = append(out, c)
			p.at++
			continue
		}
		p.at++
		c = p.peek()
		p.at++
		switch c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, err := p.escapedRune()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		default:
			return "", errEscape
		}
	}
	p.at = len(p.in)
	return "", errEnd
}

// escapedRune reads the digits after \u and, for a high surrogate, the low one
// that must follow.
func (p *parser) escapedRune() (rune, error) {
	const high, low, end = 0xd800, 0xdc00, 0xe000
	r, err := p.hex4()
	if err != nil || r < high || r >= end {
		return r, err
	}
	if r >= low || len(p.in)-p.at < 2 || p.in[p.at:p.at+2] != `\u` {
		return 0, errSurrogate
	}
	p.at += 2
	second, err := p.hex4()
	if err != nil {
		return 0, err
	}
	if second < low || second >= end {
		return 0, errSurrogate
	}
	return (r-high)<<10 + (second - low) + 0x10000, nil
}

func (p *parser) hex4() (rune, error) {
	if len(p.in)-p.at < 4 {
		return 0, errEscape
	}
	var r rune
	for _, c := range []byte(p.in[p.at : p.at+4]) {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, errEscape
		}
	}
	p.at += 4
	return r, nil
}
