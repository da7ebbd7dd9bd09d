package segment

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
)

// Kind is the kind of a frame.
type Kind uint8

// The kinds. A record must be zero (see the package documentation).
const (
	KindRecord Kind = iota
	KindHeader
	KindCheckpoint
	KindClose
	// KindDropped stands in sealed segments for a record that retention
	// removed; its payload is the record's leaf hash, or empty when the whole
	// block was dropped and only bundle hashes are left.
	KindDropped
)

// FrameOverhead is the length of a frame without its payload, PrefixOffset
// where the kind stands: from there to the end is what the checksum and the
// leaf hash cover.
const (
	FrameOverhead = 9
	PrefixOffset  = 8
)

// MaxRecord is the longest payload: what the 16-bit length of a tlog-tiles
// entry bundle can say.
const MaxRecord = 65535

// maxFrame bounds what a reader believes of a length.
const maxFrame = MaxRecord

const rawMagic = "gatehouse-audit-log-1\n"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC-32C that blocks and footers carry. It finds accidents;
// the Merkle tree finds intent.
func Checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// FrameChecksum is the CRC-32C of a frame: over the index of the record (of the
// next one, for other kinds) and then kind and payload. With the index in it, a
// frame that was dropped, doubled or moved shows at its place.
func FrameChecksum(index uint64, prefixed []byte) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], index)
	return crc32.Update(crc32.Checksum(b[:], castagnoli), castagnoli, prefixed)
}

// AppendFrame appends a frame; index is where in the log it will stand, and
// may be left to [Stamp].
func AppendFrame(b []byte, kind Kind, payload []byte, index uint64) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, byte(kind))
	b = append(b, payload...)
	frame := b[start:]
	binary.LittleEndian.PutUint32(frame, uint32(len(payload)))
	binary.LittleEndian.PutUint32(frame[4:], FrameChecksum(index, frame[PrefixOffset:]))
	return b
}

// The envelope of a record is one line of JSON:
//
//	{"at":1790000000000000000,"site":"NAME","event":{…}}
//
// at is when the log took the record, in nanoseconds since 1970 by the
// replica's clock; site is the site that sent it and is absent for our own.
const (
	envelopeAt    = `{"at":`
	envelopeSite  = `,"site":"`
	envelopeEvent = `,"event":`
	atDigits      = 19
	atPlaceholder = "                  0" // a shorter number keeps its place by leading spaces
)

// EnvelopeOverhead bounds what the envelope adds to an event.
const EnvelopeOverhead = len(envelopeAt) + atDigits + len(envelopeSite) + 256 + 1 + len(envelopeEvent) + 1

// ValidSite says whether a site name can stand in an envelope: a DNS label or
// subdomain, at most 253 bytes.
func ValidSite(site string) bool {
	if site == "" || len(site) > 253 {
		return false
	}
	for i := range len(site) {
		c := site[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// AppendEntry appends the unfinished frame of a record: [Stamp] finishes it
// when its place in the log is known. event appends the event's JSON; the site
// must be empty or satisfy [ValidSite].
func AppendEntry(b []byte, site string, event func([]byte) ([]byte, error)) ([]byte, error) {
	start := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, byte(KindRecord))
	b = append(b, envelopeAt+atPlaceholder...)
	if site != "" {
		b = append(b, envelopeSite...)
		b = append(b, site...)
		b = append(b, '"')
	}
	b = append(b, envelopeEvent...)
	b, err := event(b)
	if err != nil {
		return b[:start], err
	}
	b = append(b, '}')
	if n := len(b) - start - FrameOverhead; n > MaxRecord {
		return b[:start], fmt.Errorf("record of %d bytes, at most %d", n, MaxRecord)
	}
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start-FrameOverhead))
	return b, nil
}

// Stamp finishes the frames in b, the first record of which has the given
// index: it puts the time at into records and the checksum into all.
func Stamp(b []byte, at time.Time, index uint64) {
	var digits [atDigits]byte
	ns := at.UnixNano()
	copy(digits[:], atPlaceholder)
	for i := atDigits - 1; i >= 0 && ns > 0; i-- {
		digits[i] = byte('0' + ns%10)
		ns /= 10
	}
	for len(b) > 0 {
		frame, rest := NextFrame(b)
		b = rest
		record := Kind(frame[PrefixOffset]) == KindRecord
		if record {
			copy(frame[FrameOverhead+len(envelopeAt):], digits[:])
		}
		binary.LittleEndian.PutUint32(frame[4:], FrameChecksum(index, frame[PrefixOffset:]))
		if record {
			index++
		}
	}
}

// NextFrame splits the first frame off b, which must hold whole frames.
func NextFrame(b []byte) (frame, rest []byte) {
	n := FrameOverhead + int(binary.LittleEndian.Uint32(b))
	return b[:n], b[n:]
}

// Entry is a parsed envelope. Event aliases the payload.
type Entry struct {
	At    time.Time
	Site  string
	Event []byte
}

// AppendPayload appends the payload of a record as [Stamp] leaves it: what its
// leaf hash covers, after the kind byte.
func AppendPayload(b []byte, e Entry) []byte {
	b = fmt.Appendf(append(b, envelopeAt...), "%*d", atDigits, e.At.UnixNano())
	if e.Site != "" {
		b = append(append(append(b, envelopeSite...), e.Site...), '"')
	}
	return append(append(append(b, envelopeEvent...), e.Event...), '}')
}

var errEnvelope = errors.New("not a record envelope")

// ParseEntry takes a record's payload apart. It checks the envelope strictly
// and the event not at all.
func ParseEntry(payload []byte) (Entry, error) {
	var e Entry
	p := payload
	if len(p) < len(envelopeAt)+atDigits+len(envelopeEvent)+1 || string(p[:len(envelopeAt)]) != envelopeAt || p[len(p)-1] != '}' {
		return e, errEnvelope
	}
	p = p[len(envelopeAt) : len(p)-1]
	ns, err := strconv.ParseUint(strings.TrimLeft(string(p[:atDigits]), " "), 10, 63)
	if err != nil {
		return e, errEnvelope
	}
	e.At = time.Unix(0, int64(ns)).UTC()
	p = p[atDigits:]
	if len(p) > len(envelopeSite) && string(p[:len(envelopeSite)]) == envelopeSite {
		p = p[len(envelopeSite):]
		end := 0
		for end < len(p) && p[end] != '"' {
			end++
		}
		if end == len(p) || !ValidSite(string(p[:end])) {
			return e, errEnvelope
		}
		e.Site, p = string(p[:end]), p[end+1:]
	}
	if len(p) <= len(envelopeEvent) || string(p[:len(envelopeEvent)]) != envelopeEvent {
		return e, errEnvelope
	}
	e.Event = p[len(envelopeEvent):]
	return e, nil
}

// Header opens every segment.
type Header struct {
	// Log is the id of the log, Origin the name its checkpoints carry.
	Log    string `json:"log"`
	Origin string `json:"origin"`
	// First is the index of the first record.
	First uint64 `json:"first"`
	// At is when the segment was begun, Boot the boot of the machine then: if
	// it is still the same, nothing handed to the kernel can have been lost.
	At   time.Time `json:"at"`
	Boot string    `json:"boot,omitempty"`
}

// AppendRawStart appends what a raw segment starts with.
func AppendRawStart(b []byte, h Header) ([]byte, error) {
	payload, err := json.Marshal(h)
	if err != nil {
		return b, err
	}
	return AppendFrame(append(b, rawMagic...), KindHeader, payload, h.First), nil
}
