package journal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/collect"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Bounds of the format. The first three are the journal's own: what is beyond
// them was not written by one.
const (
	maxName   = 64        // bytes of a field's name
	maxFields = 1024      // of an entry
	maxData   = 768 << 20 // bytes of a field's value
	// maxEntry bounds the fields of one entry together.
	maxEntry = 1 << 30
	// maxKept is what is held of the values of one entry, of each weight.
	maxKept = 128 << 10
	// bufferSize is what is read ahead.
	bufferSize = 64 << 10
)

// A field is one field of an entry with as much of its value as is kept.
type field struct {
	name  string
	value string
	full  int64
}

// raw is an entry as it was read.
type raw struct {
	cursor   string
	realtime uint64 // µs since 1970
	fields   []field
	// digest is over all of the entry, for one without a cursor.
	digest func() string
	size   int64
}

// Reader reads entries of the journal export format, one after the other and
// without holding more of one than it keeps. It is for one goroutine.
type Reader struct {
	in *bufio.Reader
}

// NewReader reads from in.
func NewReader(in io.Reader) *Reader { return &Reader{bufio.NewReaderSize(in, bufferSize)} }

// Pending reports whether bytes have arrived that were not looked at.
func (r *Reader) Pending() bool { return r.in.Buffered() > 0 }

// malformed is a fault of the sender, with its place in the entry.
func malformed(format string, args ...any) error {
	return fault.Newf(fault.Invalid, "journal export format: "+format, args...)
}

// Next returns the next entry, or io.EOF after the last whole one. An entry
// that breaks off is an error and not returned; so is whatever is not in the
// format.
func (r *Reader) Next() (*collect.Entry, error) {
	e, err := r.read()
	if err != nil {
		return nil, err
	}
	return e.entry()
}

func (r *Reader) read() (*raw, error) {
	e := &raw{}
	sum := newDigest()
	var kept [weights]int
	for {
		name, value, text, err := r.name()
		switch {
		case errors.Is(err, io.EOF) && name == "":
			if e.size > 0 {
				return nil, malformed("the last entry breaks off")
			}
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, malformed("the last entry breaks off")
		case err != nil:
			return nil, err
		case name == "" && !text: // an empty line
			if e.size == 0 {
				continue
			}
			e.digest = sum.text
			return e, nil
		}
		if len(e.fields) == maxFields {
			return nil, malformed("an entry has more than %d fields", maxFields)
		}
		if !validName(name) {
			return nil, malformed("%q is no name of a field", collect.Clip(name, maxName))
		}
		sum.add(name)
		w := weight(name)
		keep := max(0, min(collect.MaxValue, maxKept-kept[w]))
		f := field{name: name}
		if text {
			f.value, f.full, err = r.text(value, keep, sum)
		} else {
			f.value, f.full, err = r.binary(keep, sum)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, malformed("the last entry breaks off")
		}
		if err != nil {
			return nil, err
		}
		if e.size += int64(len(name)) + f.full + 1; e.size > maxEntry {
			return nil, malformed("an entry is larger than %d bytes", maxEntry)
		}
		kept[w] += len(f.value)
		if err := e.take(f); err != nil {
			return nil, err
		}
	}
}

// name reads up to the end of a field's name: "NAME=" before a text, "NAME"
// and a newline before binary data, or an empty line. value is the part of the
// text that was read with it, with its newline if that was too.
func (r *Reader) name() (name string, value []byte, text bool, err error) {
	line, err := r.in.ReadSlice('\n')
	if len(line) == 0 {
		return "", nil, false, err
	}
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return "?", nil, false, err // the stream ends inside a line
	}
	for i, c := range line[:min(len(line), maxName+1)] {
		switch c {
		case '=':
			return string(line[:i]), line[i+1:], true, nil
		case '\n':
			return string(line[:i]), nil, false, nil
		}
	}
	return "", nil, false, malformed("a name of a field is longer than %d bytes", maxName)
}

// text returns a value that ends with the line, and its length. What goes
// beyond keep is passed over.
func (r *Reader) text(first []byte, keep int, sum *digest) (string, int64, error) {
	var value []byte
	var full int64
	for part := first; ; {
		line, ended := part, false
		if n := len(part); n > 0 && part[n-1] == '\n' {
			line, ended = part[:n-1], true
		}
		sum.write(line)
		full += int64(len(line))
		value = append(value, line[:min(len(line), keep-len(value))]...)
		if full > maxData {
			return "", 0, malformed("a field is larger than %d bytes", maxData)
		}
		if ended {
			return string(value), full, nil
		}
		var err error
		if part, err = r.in.ReadSlice('\n'); err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return "", 0, err
		}
	}
}

// binary returns a value that comes with its length, 64 bits, little endian.
func (r *Reader) binary(keep int, sum *digest) (string, int64, error) {
	var head [8]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return "", 0, err
	}
	size := binary.LittleEndian.Uint64(head[:])
	if size > maxData {
		return "", 0, malformed("a field is larger than %d bytes", maxData)
	}
	value := make([]byte, min(int(size), keep))
	if _, err := io.ReadFull(r.in, value); err != nil {
		return "", 0, err
	}
	sum.write(value)
	if _, err := io.CopyN(sum, r.in, int64(size)-int64(len(value))); err != nil {
		return "", 0, err
	}
	end, err := r.in.ReadByte()
	if err != nil {
		return "", 0, err
	}
	if end != '\n' {
		return "", 0, malformed("no newline after %d bytes of data", size)
	}
	return string(value), int64(size), nil
}

// validName accepts what a journal accepts.
func validName(name string) bool {
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		return false
	}
	return strings.IndexFunc(name, func(c rune) bool {
		return (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_'
	}) < 0
}

// weights is how many there are. Each has a share of its own of the room that an
// entry has: a flood of fields of one must not push out the message, nor what
// the journal itself vouches for (names that begin with an underscore, which no
// client can set).
const weights = 4

// weight orders fields by how much they tell.
func weight(name string) int {
	switch {
	case name == "MESSAGE":
		return 0
	case strings.HasPrefix(name, "_"):
		return 1
	case name == "PRIORITY", name == "MESSAGE_ID", strings.HasPrefix(name, "SYSLOG_"):
		return 2
	}
	return 3
}

// take puts a field where it belongs. Address fields, "__…", say where the
// entry stands and come once.
func (e *raw) take(f field) error {
	once := func(seen bool) error {
		if seen || f.full != int64(len(f.value)) {
			return malformed("%s comes twice or is too long", f.name)
		}
		return nil
	}
	switch f.name {
	case "__CURSOR":
		if err := once(e.cursor != ""); err != nil || f.value == "" || len(f.value) > maxCursor {
			return errors.Join(err, malformed("__CURSOR is not a cursor"))
		}
		e.cursor = f.value
		return nil
	case "__REALTIME_TIMESTAMP":
		if err := once(e.realtime != 0); err != nil {
			return err
		}
		n, err := strconv.ParseUint(f.value, 10, 63)
		if err != nil || n == 0 || n > maxRealtime {
			return malformed("__REALTIME_TIMESTAMP %q is not a time", collect.Clip(f.value, 32))
		}
		e.realtime = n
		return nil
	}
	e.fields = append(e.fields, f)
	return nil
}

const (
	maxCursor = 512
	// maxRealtime is the end of the year 9999, the last that RFC 3339 writes.
	maxRealtime = 253402300799999999
)

// entry gives an entry the form in which it is recorded.
func (e *raw) entry() (*collect.Entry, error) {
	if e.realtime == 0 {
		return nil, malformed("an entry without __REALTIME_TIMESTAMP")
	}
	out := &collect.Entry{Kind: kind, Cursor: e.cursor, ID: e.cursor, At: time.UnixMicro(int64(e.realtime)).UTC()}
	out.Series, out.Number = place(e.cursor)
	if e.cursor == "" {
		out.ID = fmt.Sprintf("%d %s", e.realtime, e.digest())
	}
	var b collect.Body
	for w := range weights {
		for i := range e.fields {
			if f := &e.fields[i]; weight(f.name) == w {
				e.add(&b, i)
				if f.name == "_HOSTNAME" {
					out.Host = f.value
				}
			}
		}
	}
	out.Body, out.Dropped = b.Close()
	return out, nil
}

// place reads out of a cursor (s=…;i=…;…) which numbering the entry belongs to
// and its number there. A cursor is opaque by its documentation: of one that
// looks otherwise nothing is read.
func place(cursor string) (series string, number uint64) {
	for part := range strings.SplitSeq(cursor, ";") {
		name, value, _ := strings.Cut(part, "=")
		var err error
		switch name {
		case "s":
			series = value
		case "i":
			number, err = strconv.ParseUint(value, 16, 64)
		}
		if err != nil {
			return "", 0
		}
	}
	if number == 0 {
		return "", 0
	}
	return series, number
}

// add writes a field, or all of that name at the first of them: a name may come
// more than once, and then its values become a list, as journalctl writes it.
func (e *raw) add(b *collect.Body, i int) {
	f := &e.fields[i]
	var list []byte
	more := false
	for j := range e.fields {
		other := &e.fields[j]
		if other.name != f.name || j == i {
			continue
		}
		if j < i {
			return
		}
		if !more {
			more = true
			list = collect.AppendText(append(list, '['), f.value)
		}
		list = collect.AppendText(append(list, ','), other.value)
		if other.full > int64(len(other.value)) {
			b.Drop(other.name, other.full)
		}
	}
	switch {
	case more:
		if f.full > int64(len(f.value)) {
			b.Drop(f.name, f.full)
		}
		b.JSON(f.name, append(list, ']'))
	case f.value == "" && f.full > 0:
		b.Drop(f.name, f.full)
	default:
		b.Text(f.name, f.value, f.full)
	}
}
