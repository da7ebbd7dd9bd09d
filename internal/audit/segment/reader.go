package segment

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

const (
	rawSuffix    = ".log"
	sealedSuffix = ".seg"
	nameDigits   = 20
)

// RawName and SealedName are the file names of the segment that begins with
// the record first.
func RawName(first uint64) string { return fmt.Sprintf("%0*d%s", nameDigits, first, rawSuffix) }

// SealedName is described at RawName.
func SealedName(first uint64) string { return fmt.Sprintf("%0*d%s", nameDigits, first, sealedSuffix) }

// Info is one segment found in a directory.
type Info struct {
	First  uint64
	Sealed bool
	Name   string
}

// Parse reads a file name; ok is false for files that are no segments.
func Parse(name string) (info Info, ok bool) {
	base, sealed := strings.CutSuffix(name, sealedSuffix)
	if !sealed {
		if base, ok = strings.CutSuffix(name, rawSuffix); !ok {
			return Info{}, false
		}
	}
	if len(base) != nameDigits {
		return Info{}, false
	}
	first, err := strconv.ParseUint(base, 10, 64)
	if err != nil {
		return Info{}, false
	}
	return Info{First: first, Sealed: sealed, Name: name}, true
}

// List returns the segments of dir in order. Where a raw segment and its
// sealed form both exist, sealing was cut off before the raw one was removed:
// the sealed one, which was synced first, is listed.
func List(fsys vfs.FS, dir string) ([]Info, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	var infos []Info
	for _, name := range names {
		info, ok := Parse(name)
		if !ok {
			continue
		}
		if n := len(infos); n > 0 && infos[n-1].First == info.First {
			if info.Sealed {
				infos[n-1] = info
			}
			continue
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// DamageError says that bytes of a segment are not what was written, and where.
type DamageError struct {
	File   string
	Offset int64
	Reason string
	// Torn is set when the damage is how an interrupted write looks: a frame
	// that the end of the file cuts off, or whose checksum fails.
	Torn bool
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s: byte %d: %s", e.File, e.Offset, e.Reason)
}

// Item is a record, or a checkpoint standing between records.
type Item struct {
	Kind Kind
	// Index is the record's index, dropped or not; for other kinds, that of the
	// next record.
	Index uint64
	// Payload is valid until the next call.
	Payload []byte
	// Prefixed is Payload after its kind byte: what the leaf hash covers.
	Prefixed []byte
	// Offset is where the frame, or in a sealed segment its block, starts.
	Offset int64
}

// Reader reads the items of one segment in order. It is not safe for
// concurrent use.
type Reader interface {
	Header() Header
	// Next returns io.EOF at the end and *DamageError where it cannot go on.
	Next() (Item, error)
	// SkipTo goes on with the record index, which must not be before the next.
	// Sealed segments do not read what they skip.
	SkipTo(index uint64) error
	// Refresh lets a raw segment see what was written since it was opened,
	// after io.EOF or a torn end.
	Refresh() error
	// Offset is the position after the last item, up to which all was whole.
	Offset() int64
	Close() error
}

// OpenReader opens a segment of either kind.
func OpenReader(fsys vfs.FS, dir string, info Info) (Reader, error) {
	f, err := fsys.Open(dir + "/" + info.Name)
	if err != nil {
		return nil, err
	}
	var r Reader
	if info.Sealed {
		r, err = newSealed(f, info)
	} else {
		r, err = newRaw(f, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

// raw reads a raw segment through a buffer of its own, since frames are small.
type raw struct {
	f      vfs.File
	info   Info
	header Header
	size   int64
	offset int64 // of the next frame
	index  uint64
	buf    []byte // file content from bufAt
	bufAt  int64
}

const readAhead = 1 << 20

func newRaw(f vfs.File, info Info) (*raw, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	r := &raw{f: f, info: info, size: size, index: info.First}
	magic, err := r.peek(len(rawMagic))
	if err != nil {
		return nil, err
	}
	if string(magic) != rawMagic {
		// After a power failure the size may be there before the content.
		unwritten := len(magic) < len(rawMagic) || bytes.Count(magic, []byte{0}) == len(magic)
		return nil, r.damage("not the start of a log segment", unwritten)
	}
	r.offset = int64(len(rawMagic))
	item, err := r.Next()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, r.damage("header is missing", true)
		}
		return nil, err
	}
	if item.Kind != KindHeader {
		return nil, r.damage("first frame is not a header", false)
	}
	if err := decodeHeader(item.Payload, &r.header, info); err != nil {
		return nil, &DamageError{File: info.Name, Offset: item.Offset, Reason: err.Error()}
	}
	return r, nil
}

func decodeHeader(b []byte, h *Header, info Info) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(h); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if h.First != info.First {
		return fmt.Errorf("header says first record %d, the file name %d", h.First, info.First)
	}
	return nil
}

func (r *raw) damage(reason string, torn bool) *DamageError {
	return &DamageError{File: r.info.Name, Offset: r.offset, Reason: reason, Torn: torn}
}

// peek returns the next n bytes at offset, or as many as the file has.
func (r *raw) peek(n int) ([]byte, error) {
	start := r.offset - r.bufAt
	if start < 0 || start+int64(n) > int64(len(r.buf)) {
		want := max(int64(n), readAhead)
		if rest := r.size - r.offset; want > rest {
			want = rest
		}
		if int64(cap(r.buf)) < want {
			r.buf = make([]byte, want)
		}
		r.buf = r.buf[:want]
		got, err := r.f.ReadAt(r.buf, r.offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read %s: %w", r.info.Name, err)
		}
		r.buf, r.bufAt, start = r.buf[:got], r.offset, 0
	}
	return r.buf[start:min(start+int64(n), int64(len(r.buf)))], nil
}

func (r *raw) Next() (Item, error) {
	if r.offset >= r.size {
		return Item{}, io.EOF
	}
	head, err := r.peek(FrameOverhead)
	if err != nil {
		return Item{}, err
	}
	if len(head) < FrameOverhead {
		return Item{}, r.damage("the file ends inside a frame", true)
	}
	length, sum := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint32(head[4:])
	if length > maxFrame {
		return Item{}, r.damage("frame is longer than any can be", true)
	}
	frame, err := r.peek(FrameOverhead + int(length))
	if err != nil {
		return Item{}, err
	}
	if len(frame) < FrameOverhead+int(length) {
		return Item{}, r.damage("the file ends inside a frame", true)
	}
	prefixed := frame[PrefixOffset:]
	if FrameChecksum(r.index, prefixed) != sum {
		return Item{}, r.damage("checksum does not match content and place", true)
	}
	item := Item{Kind: Kind(prefixed[0]), Index: r.index, Payload: prefixed[1:], Prefixed: prefixed, Offset: r.offset}
	if item.Kind > KindClose {
		return Item{}, r.damage("unknown kind of frame", false)
	}
	r.offset += int64(len(frame))
	if item.Kind == KindRecord {
		r.index++
	}
	return item, nil
}

func (r *raw) SkipTo(index uint64) error {
	for r.index < index {
		if _, err := r.Next(); err != nil {
			return err
		}
	}
	return nil
}

func (r *raw) Refresh() error {
	size, err := r.f.Size()
	if err != nil {
		return err
	}
	r.size, r.buf = size, r.buf[:0]
	return nil
}

func (r *raw) Header() Header { return r.header }
func (r *raw) Offset() int64  { return r.offset }
func (r *raw) Close() error   { return r.f.Close() }
