package sql

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// stored is a row as the engines see it.
type stored struct {
	Row
	id   int64
	size int // of the payload, also when it was not read
}

// columns is the order in which the engines select a row. The payload follows.
const columns = "id, namespace, name, uid, revision, created, labels, fields, owners"

// scanner is the part of *sql.Rows that reads one row.
type scanner interface{ Scan(dest ...any) error }

// scan reads columns and then either the payload or its size.
func scan(rows scanner, payload bool) (*stored, error) {
	var s stored
	var created int64
	var labels, fields, owners []byte
	dest := []any{&s.id, &s.Namespace, &s.Name, &s.UID, &s.Revision, &created, &labels, &fields, &owners, &s.size}
	if payload {
		dest[len(dest)-1] = &s.Payload
	}
	if err := rows.Scan(dest...); err != nil {
		return nil, err
	}
	if payload {
		s.size = len(s.Payload)
		if s.Payload == nil {
			s.Payload = []byte{}
		}
	}
	s.Created = time.UnixMicro(created).UTC()
	for _, column := range []struct {
		text []byte
		into any
	}{{labels, &s.Labels}, {fields, &s.Fields}, {owners, &s.Owners}} {
		if len(column.text) == 2 { // {} or []
			continue
		}
		if err := json.Unmarshal(column.text, column.into); err != nil {
			return nil, fmt.Errorf("row %d: column is not JSON: %w", s.id, err)
		}
	}
	return &s, nil
}

// encoded returns the text of the labels, fields and owners columns.
func (s *stored) encoded() (labels, fields, owners string) {
	return encodeMap(s.Labels), encodeMap(s.Fields), encodeList(s.Owners)
}

func encodeMap(m map[string]string) string {
	if len(m) == 0 {
		return "{}"
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(text)
}

func encodeList(list []string) string {
	if len(list) == 0 {
		return "[]"
	}
	text, err := json.Marshal(list)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(text)
}

// sameContent reports whether writing next over s would change nothing.
func (s *stored) sameContent(next *Row) bool {
	return bytes.Equal(s.Payload, next.Payload) && maps.Equal(s.Labels, next.Labels) &&
		maps.Equal(s.Fields, next.Fields) && slices.Equal(s.Owners, next.Owners)
}

// posting is an entry of a posting list.
type posting struct {
	term int64
	Key
	id int64
}

func comparePostings(a, b posting) int {
	if c := cmp.Compare(a.term, b.term); c != 0 {
		return c
	}
	return a.Key.compare(b.Key)
}

// The spaces of terms. The space is hashed with the text.
const (
	termLabelKey   = 'k' // has the label
	termLabelValue = 'v' // has the label with this value
	termField      = 'f' // has the field with this value
	termOwner      = 'o' // has the owner
)

// term hashes a selectable property to 64 bits, so that posting lists stay
// small. Rows that a collision adds to a list are rechecked like all others.
func term(space byte, name, value string) int64 {
	buf := make([]byte, 0, 256)
	buf = append(buf, space)
	buf = append(buf, name...)
	buf = append(buf, 0) // neither part contains a NUL
	buf = append(buf, value...)
	sum := sha256.Sum256(buf)
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// postings returns the row's entries, sorted and each term once.
func (s *stored) postings() []posting {
	list := make([]posting, 0, 2*len(s.Labels)+len(s.Fields)+len(s.Owners))
	add := func(term int64) { list = append(list, posting{term: term, Key: s.Key, id: s.id}) }
	for key, value := range s.Labels {
		add(term(termLabelKey, key, ""))
		add(term(termLabelValue, key, value))
	}
	for name, value := range s.Fields {
		add(term(termField, name, value))
	}
	for _, owner := range s.Owners {
		add(term(termOwner, owner, ""))
	}
	slices.SortFunc(list, comparePostings)
	return slices.CompactFunc(list, func(a, b posting) bool { return a.term == b.term })
}

// diffPostings compares two sorted lists of the same row.
func diffPostings(before, after []posting) (gone, added []posting) {
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(after) == 0 || len(before) > 0 && before[0].term < after[0].term:
			gone, before = append(gone, before[0]), before[1:]
		case len(before) == 0 || after[0].term < before[0].term:
			added, after = append(added, after[0]), after[1:]
		default:
			before, after = before[1:], after[1:]
		}
	}
	return gone, added
}
