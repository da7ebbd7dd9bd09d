package marks

import (
	"encoding/binary"
	"fmt"
)

const (
	// blockMarks is how many numbers a block has.
	blockMarks = 512
	// A full block is stored as its marks in order. One with few is stored as
	// pairs of place and mark, which is never as long as a full one: who sends
	// numbers far apart must not fill the store with what is not there.
	fullSize = 4 * blockMarks
	pairSize = 2 + 4
)

type block struct {
	marks [blockMarks]uint32
	dirty bool
}

// encode returns a block as it is stored.
func (b *block) encode() []byte {
	pairs := make([]byte, 0, fullSize)
	for i, mark := range b.marks {
		if mark == 0 {
			continue
		}
		if len(pairs)+pairSize > fullSize {
			full := make([]byte, 0, fullSize)
			for _, mark := range b.marks {
				full = binary.BigEndian.AppendUint32(full, mark)
			}
			return full
		}
		pairs = binary.BigEndian.AppendUint16(pairs, uint16(i))
		pairs = binary.BigEndian.AppendUint32(pairs, mark)
	}
	return pairs
}

// decode reads what encode wrote, or nothing if that is damaged.
func decode(stored []byte) (marks [blockMarks]uint32, err error) {
	switch {
	case len(stored) == fullSize:
		for i := range marks {
			marks[i] = binary.BigEndian.Uint32(stored[4*i:])
		}
	case len(stored) < fullSize && len(stored)%pairSize == 0:
		for ; len(stored) > 0; stored = stored[pairSize:] {
			i := binary.BigEndian.Uint16(stored)
			if i >= blockMarks {
				return [blockMarks]uint32{}, fmt.Errorf("a block has a mark at %d", i)
			}
			marks[i] = binary.BigEndian.Uint32(stored[2:])
		}
	default:
		return marks, fmt.Errorf("a block has %d bytes", len(stored))
	}
	return marks, nil
}
