package syslog

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
)

// Bounds of RFC 5424 (section 6) and, for structured data, our own.
const (
	maxHostname = 255
	maxAppName  = 48
	maxProcID   = 128
	maxMsgID    = 32
	maxSDName   = 32
	maxElements = 64
	maxParams   = 256
)

// message is one message of RFC 5424.
type message struct {
	facility, severity               int
	at                               time.Time // zero for NILVALUE
	hostname, appName, procID, msgID string
	data                             []element
	text                             string
}

type element struct {
	id     string
	params []param
}

type param struct{ name, value string }

// parse reads a message strictly. why names the first part that is not in the
// format, "" for none; then the message holds what was read before it.
func parse(in string) (m message, why string) {
	p := parser{rest: in}
	m = p.message()
	return m, p.why
}

// parser reads from the front of rest until why is set.
type parser struct{ rest, why string }

func (p *parser) fail(what string) {
	if p.why == "" {
		p.why = what
	}
}

func (p *parser) message() (m message) {
	m.facility, m.severity = p.priority()
	if v := p.word("VERSION", 3, digits); v != "1" {
		p.fail("VERSION")
	}
	if t := p.word("TIMESTAMP", 32, printable); t != "-" && p.why == "" {
		var err error
		// RFC 5424, section 6.2.3: RFC 3339 with T and Z in upper case, at most
		// six digits of a second's fraction, and no leap second.
		if m.at, err = time.Parse(time.RFC3339Nano, t); err != nil || strings.ContainsAny(t, "tz") || tooFine(t) {
			m.at = time.Time{}
			p.fail("TIMESTAMP")
		}
	}
	m.hostname = p.nilOr("HOSTNAME", maxHostname)
	m.appName = p.nilOr("APP-NAME", maxAppName)
	m.procID = p.nilOr("PROCID", maxProcID)
	m.msgID = p.nilOr("MSGID", maxMsgID)
	m.data = p.structuredData()
	if p.why != "" || p.rest == "" {
		return m
	}
	if p.rest[0] != ' ' {
		p.fail("STRUCTURED-DATA")
		return m
	}
	m.text = strings.TrimPrefix(p.rest[1:], "\ufeff")
	return m
}

// tooFine reports whether a timestamp has more than six digits after the
// second.
func tooFine(t string) bool {
	_, fraction, ok := strings.Cut(t, ".")
	if !ok {
		return false
	}
	n := strings.IndexFunc(fraction, func(r rune) bool { return r < '0' || r > '9' })
	return n < 1 || n > 6
}

func (p *parser) priority() (facility, severity int) {
	rest, ok := strings.CutPrefix(p.rest, "<")
	value, rest, ok2 := strings.Cut(rest, ">")
	n, err := strconv.Atoi(value)
	if !ok || !ok2 || err != nil || n < 0 || n > 191 || len(value) > 3 || len(value) > 1 && value[0] == '0' || !all(value, digits) {
		p.fail("PRI")
		return 0, 0
	}
	p.rest = rest
	return n / 8, n % 8
}

func digits(c byte) bool    { return c >= '0' && c <= '9' }
func printable(c byte) bool { return c > ' ' && c < 0x7f }
func sdName(c byte) bool    { return printable(c) && c != '=' && c != ']' && c != '"' }

func all(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

// word reads up to the next space, which must be there.
func (p *parser) word(what string, limit int, ok func(byte) bool) string {
	if p.why != "" {
		return ""
	}
	word, rest, found := strings.Cut(p.rest, " ")
	if !found || word == "" || len(word) > limit || !all(word, ok) {
		p.fail(what)
		return ""
	}
	p.rest = rest
	return word
}

func (p *parser) nilOr(what string, limit int) string {
	if w := p.word(what, limit, printable); w != "-" {
		return w
	}
	return ""
}

// structuredData reads "-" or elements, and leaves what follows.
func (p *parser) structuredData() (out []element) {
	if p.why != "" {
		return nil
	}
	if rest, ok := strings.CutPrefix(p.rest, "-"); ok {
		p.rest = rest
		return nil
	}
	params := 0
	for p.why == "" && strings.HasPrefix(p.rest, "[") {
		p.rest = p.rest[1:]
		e := element{id: p.name()}
		for p.why == "" && strings.HasPrefix(p.rest, " ") {
			p.rest = p.rest[1:]
			e.params = append(e.params, p.param())
			if params++; params > maxParams {
				p.fail("STRUCTURED-DATA")
			}
		}
		rest, ok := strings.CutPrefix(p.rest, "]")
		if !ok || len(out) == maxElements {
			p.fail("STRUCTURED-DATA")
		}
		if p.why != "" {
			return out
		}
		p.rest = rest
		out = append(out, e)
	}
	if len(out) == 0 {
		p.fail("STRUCTURED-DATA")
	}
	return out
}

func (p *parser) name() string {
	n := 0
	for n < len(p.rest) && sdName(p.rest[n]) {
		n++
	}
	if n == 0 || n > maxSDName {
		p.fail("STRUCTURED-DATA")
		return ""
	}
	name := p.rest[:n]
	p.rest = p.rest[n:]
	return name
}

// param reads NAME="VALUE". In a value, '"', '\' and ']' are escaped, and a
// backslash before anything else is itself (section 6.3.3).
func (p *parser) param() (out param) {
	out.name = p.name()
	rest, ok := strings.CutPrefix(p.rest, `="`)
	if !ok {
		p.fail("STRUCTURED-DATA")
		return out
	}
	var value []byte
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '"':
			p.rest, out.value = rest[i+1:], string(value)
			return out
		case c == '\\' && i+1 < len(rest) && strings.IndexByte(`"\]`, rest[i+1]) >= 0:
			i++
			value = append(value, rest[i])
		case c == ']':
			p.fail("STRUCTURED-DATA")
			return out
		default:
			value = append(value, c)
		}
	}
	p.fail("STRUCTURED-DATA")
	return out
}

// entry gives a message the form in which it is recorded. full is its length
// before it was cut. A message that is not RFC 5424 is recorded whole, as text,
// with the part that it fails at: what somebody logged is not thrown away for
// its form.
func entry(in string, full int64, id string) *collect.Entry {
	out := &collect.Entry{Kind: kind, ID: id}
	if full == int64(len(in)) && strings.HasSuffix(in, "\n") {
		in, full = in[:len(in)-1], full-1 // the usual template of rsyslog ends a line
	}
	var b collect.Body
	m, why := parse(in)
	if why != "" {
		b.Text("message", in, full)
		b.Text("malformed", why, 0)
		out.Body, out.Dropped = b.Close()
		return out
	}
	out.At, out.Host = m.at, strings.ToLower(m.hostname)
	// What was cut off was cut at the end, which is the text's.
	text := int64(0)
	if cut := full - int64(len(in)); cut > 0 {
		text = int64(len(m.text)) + cut
	}
	b.Text("message", m.text, text)
	b.JSON("facility", strconv.AppendInt(nil, int64(m.facility), 10))
	b.JSON("severity", strconv.AppendInt(nil, int64(m.severity), 10))
	for _, f := range []struct{ name, value string }{{"hostname", m.hostname}, {"appName", m.appName}, {"procID", m.procID}, {"msgID", m.msgID}} {
		if f.value != "" {
			b.Text(f.name, f.value, 0)
		}
	}
	if len(m.data) > 0 {
		b.JSON("structuredData", structured(m.data))
	}
	out.Body, out.Dropped = b.Close()
	return out
}

// structured writes elements as a list, because an id and a name may come more
// than once.
func structured(data []element) []byte {
	b := []byte{'['}
	for i, e := range data {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"id":`...)
		b = audit.AppendString(b, e.id)
		b = append(b, `,"params":[`...)
		for j, p := range e.params {
			if j > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"name":`...)
			b = audit.AppendString(b, p.name)
			b = append(b, `,"value":`...)
			b = collect.AppendText(b, p.value)
			b = append(b, '}')
		}
		b = append(b, `]}`...)
	}
	return append(b, ']')
}

// whole reports whether a text that was cut ends between characters.
func whole(s string) string {
	for i := 0; i < utf8.UTFMax && len(s) > 0; i++ {
		r, size := utf8.DecodeLastRuneInString(s)
		if r != utf8.RuneError || size != 1 {
			return s
		}
		s = s[:len(s)-1]
	}
	return s
}
