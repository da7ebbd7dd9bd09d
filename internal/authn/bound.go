package authn

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// boundClaims are the claims of a service account token that hardly any other
// token shares.
type boundClaims struct {
	id                    string
	podName, podUID       string
	secretName, secretUID string
	container             string
	// warnAfter is in Unix seconds; 0 is absent.
	warnAfter int64
}

// A remembered token must cost little, so its claims are packed into one
// string: field by field in the order of the struct, each a tag byte and its
// bytes. UUIDs in their usual spelling take 16 bytes instead of 36.
const (
	tagLong = 0xfe // two bytes of length follow
	tagUUID = 0xff // 16 bytes follow
)

func pack(b boundClaims) string {
	out := make([]byte, 0, 96)
	for _, field := range [...]string{b.id, b.podName, b.podUID, b.secretName, b.secretUID, b.container} {
		out = packField(out, field)
	}
	if b.warnAfter != 0 {
		out = binary.BigEndian.AppendUint64(out, uint64(b.warnAfter))
	}
	return string(out)
}

func packField(out []byte, field string) []byte {
	var id [16]byte
	switch {
	case parseUUID(field, &id):
		return append(append(out, tagUUID), id[:]...)
	case len(field) < tagLong:
		return append(append(out, byte(len(field))), field...)
	default:
		out = append(out, tagLong, byte(len(field)>>8), byte(len(field)))
		return append(out, field...)
	}
}

// packedField is a field as it is stored.
type packedField struct {
	raw  string
	uuid bool
}

// nextField takes the first field off a packed string that [pack] made.
func nextField(packed string) (packedField, string) {
	switch tag := packed[0]; tag {
	case tagUUID:
		return packedField{packed[1:17], true}, packed[17:]
	case tagLong:
		n := 3 + int(packed[1])<<8 + int(packed[2])
		return packedField{packed[3:n], false}, packed[n:]
	default:
		n := 1 + int(tag)
		return packedField{packed[1:n], false}, packed[n:]
	}
}

func (f packedField) String() string {
	if !f.uuid {
		// A part of the packed string would keep all of it in memory.
		return strings.Clone(f.raw)
	}
	var id [16]byte
	copy(id[:], f.raw)
	text := formatUUID(id)
	return string(text[:])
}

// is compares without allocating.
func (f packedField) is(text string) bool {
	if !f.uuid {
		return f.raw == text
	}
	var id [16]byte
	return parseUUID(text, &id) && string(id[:]) == f.raw
}

func unpack(packed string) (b boundClaims) {
	if packed == "" {
		return b
	}
	var f packedField
	for _, field := range [...]*string{&b.id, &b.podName, &b.podUID, &b.secretName, &b.secretUID, &b.container} {
		f, packed = nextField(packed)
		*field = f.String()
	}
	if packed != "" {
		b.warnAfter = int64(binary.BigEndian.Uint64([]byte(packed)))
	}
	return b
}

// unpackID returns the id alone, which is the first field.
func unpackID(packed string) string {
	f, _ := nextField(packed)
	return f.String()
}

const uuidLayout = 36

// parseUUID reads the one spelling that [formatUUID] writes: lower case hex in
// groups of 8, 4, 4, 4 and 12.
func parseUUID(s string, id *[16]byte) bool {
	if len(s) != uuidLayout || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	for i := range id {
		at := uuidDigits[i]
		hi, lo := fromHex(s[at]), fromHex(s[at+1])
		if hi > 15 || lo > 15 {
			return false
		}
		id[i] = hi<<4 | lo
	}
	return true
}

// uuidDigits is where the two digits of each byte stand.
var uuidDigits = [16]uint8{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

func fromHex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	default:
		return 0xff
	}
}

func formatUUID(id [16]byte) (text [uuidLayout]byte) {
	hex.Encode(text[0:8], id[0:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:36], id[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return text
}
