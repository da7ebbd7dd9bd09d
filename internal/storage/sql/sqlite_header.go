package sql

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// checkHeader compares the header of a SQLite file (section 1.3 of the file
// format) with the length of the file. It finds what a partial copy or a full
// disk leaves behind, in constant time. A file with a log beside it may differ
// from its header until the log is replayed, so only the header is checked.
func checkHeader(file io.ReaderAt, size int64, path string) error {
	var header [100]byte
	if _, err := file.ReadAt(header[:], 0); err != nil {
		return damagedFault("the file is shorter than a header")
	}
	if !bytes.Equal(header[:16], []byte("SQLite format 3\x00")) {
		return fault.New(fault.Unavailable, "the file is not a SQLite database, or its start is damaged; restore it from a backup")
	}
	page := int64(binary.BigEndian.Uint16(header[16:18]))
	if page == 1 { // 65536 does not fit
		page = 65536
	}
	if page < 512 || page&(page-1) != 0 {
		return damagedFault(fmt.Sprintf("page size %d", page))
	}
	if log, err := os.Stat(path + "-wal"); err == nil && log.Size() > 0 {
		return nil
	}
	pages := int64(binary.BigEndian.Uint32(header[28:32]))
	changes, validFor := header[24:28], header[92:96]
	if bytes.Equal(changes, validFor) && pages*page > size {
		return damagedFault(fmt.Sprintf("the file has %d bytes, its header asks for %d", size, pages*page))
	}
	return nil
}
