package segment

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/gatehouse-dev/gatehouse/internal/audit/merkle"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

const (
	sealedMagic  = "gatehouse-audit-seg-1\n"
	trailerMagic = "gh-seg-1"
	trailerSize  = 4 + 4 + 8 + len(trailerMagic)
	blockHead    = 8
	// BlockRecords is how many records are compressed together. A question
	// about one subject reads a block for each of its events, so the block is
	// the least that retention can drop, a bundle; it costs a tenth more bytes
	// than four bundles and reads in a quarter of the time.
	BlockRecords = merkle.BundleWidth
	// maxBlockRecords bounds what is read: segments were sealed with blocks of
	// four bundles before.
	maxBlockRecords = 4 * merkle.BundleWidth
	maxFooter       = 16 << 20
	maxBlock        = maxBlockRecords * (MaxRecord + 4)
)

// Block is one compressed run of records.
type Block struct {
	Offset  int64 `json:"o"`
	Length  int   `json:"l"`
	Records int   `json:"n"`
	// Since and Until are the lowest and highest time of its records, in
	// nanoseconds since 1970, so that a query by time can pass it over.
	Since int64 `json:"s"`
	Until int64 `json:"u"`
	// Dropped is set when retention removed every record of the block. Then it
	// has no bytes.
	Dropped bool `json:"d,omitempty"`
}

// Footer closes a sealed segment.
type Footer struct {
	Header  Header `json:"header"`
	Records uint64 `json:"records"`
	// Bundles are the hashes of the bundles of 256 records, concatenated.
	Bundles []byte  `json:"bundles"`
	Blocks  []Block `json:"blocks"`
	// Sites is how many records sites had sent when the segment was sealed.
	Sites uint64 `json:"sites,omitempty"`
	// Dropped is how many of the records retention has removed.
	Dropped uint64 `json:"dropped,omitempty"`
	// Checkpoint is the last signed one that stood in the raw segment.
	Checkpoint string `json:"checkpoint,omitempty"`
}

// Bundle returns the hash of the nth bundle.
func (f *Footer) Bundle(n int) (h merkle.Hash) {
	copy(h[:], f.Bundles[n*len(h):])
	return h
}

// sealed reads a sealed segment block by block.
type sealed struct {
	f      vfs.File
	info   Info
	footer Footer
	block  int // next to read
	items  Records
	next   int // in items
	gone   int // records of a dropped block still to be passed
	index  uint64
	offset int64
	done   bool
	dec    *zstd.Decoder
	comp   []byte
}

// newDecoder returns a decoder bounded to what a block can hold. It is used
// without its own goroutines.
func newDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlock))
}

func newSealed(f vfs.File, info Info) (*sealed, error) {
	footer, err := readFooter(f, info)
	if err != nil {
		return nil, err
	}
	dec, err := newDecoder()
	if err != nil {
		return nil, err
	}
	return &sealed{f: f, info: info, footer: footer, index: info.First, offset: int64(len(sealedMagic)), dec: dec}, nil
}

// ReadFooter reads and checks the footer of a sealed segment.
func ReadFooter(fsys vfs.FS, dir string, info Info) (Footer, error) {
	f, err := fsys.Open(dir + "/" + info.Name)
	if err != nil {
		return Footer{}, err
	}
	defer f.Close()
	return readFooter(f, info)
}

func readFooter(f vfs.File, info Info) (Footer, error) {
	var footer Footer
	damage := func(offset int64, reason string) error {
		return &DamageError{File: info.Name, Offset: offset, Reason: reason}
	}
	size, err := f.Size()
	if err != nil {
		return footer, err
	}
	at := size - int64(trailerSize)
	if at < int64(len(sealedMagic)) {
		return footer, damage(size, "shorter than any sealed segment")
	}
	var magic [len(sealedMagic)]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil {
		return footer, err
	}
	if string(magic[:]) != sealedMagic {
		return footer, damage(0, "not the start of a sealed segment")
	}
	var trailer [trailerSize]byte
	if _, err := f.ReadAt(trailer[:], at); err != nil && !errors.Is(err, io.EOF) {
		return footer, err
	}
	length, sum := binary.LittleEndian.Uint32(trailer[:]), binary.LittleEndian.Uint32(trailer[4:])
	start := binary.LittleEndian.Uint64(trailer[8:])
	if string(trailer[16:]) != trailerMagic || length > maxFooter || start != uint64(at)-uint64(length) {
		return footer, damage(at, "trailer does not match")
	}
	b := make([]byte, length)
	if _, err := f.ReadAt(b, int64(start)); err != nil {
		return footer, err
	}
	if Checksum(b) != sum {
		return footer, damage(int64(start), "checksum of the footer does not match")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&footer); err != nil {
		return footer, damage(int64(start), "footer: "+err.Error())
	}
	if err := footer.check(info, int64(start)); err != nil {
		return footer, damage(int64(start), err.Error())
	}
	return footer, nil
}

// check says whether the footer agrees with itself and its file.
func (f *Footer) check(info Info, end int64) error {
	if f.Header.First != info.First {
		return fmt.Errorf("footer says first record %d, the file name %d", f.Header.First, info.First)
	}
	if f.Records == 0 || f.Records%merkle.BundleWidth != 0 || f.Records > 1<<32 ||
		uint64(len(f.Bundles)) != f.Records/merkle.BundleWidth*uint64(len(merkle.Hash{})) {
		return errors.New("footer: number of records and bundles differ")
	}
	offset, records := int64(len(sealedMagic)), uint64(0)
	for _, b := range f.Blocks {
		if b.Offset != offset || b.Length < 0 || (b.Length == 0) != b.Dropped || (b.Dropped && b.Records%merkle.BundleWidth != 0) || int64(b.Length) > end-offset || b.Records <= 0 || b.Records > maxBlockRecords {
			return errors.New("footer: blocks do not follow each other")
		}
		offset += int64(b.Length)
		records += uint64(b.Records)
	}
	if offset != end || records != f.Records || f.Dropped > f.Records {
		return errors.New("footer: blocks do not fill the segment")
	}
	return nil
}

// Records are the payloads of a block.
type Records struct {
	data []byte // each payload after its kind byte
	ends []int
}

// Len returns how many there are.
func (r *Records) Len() int { return len(r.ends) }

// Prefixed returns the nth payload after its kind byte: [KindRecord], or
// [KindDropped] and a leaf hash.
func (r *Records) Prefixed(n int) []byte {
	start := 0
	if n > 0 {
		start = r.ends[n-1]
	}
	return r.data[start:r.ends[n]]
}

// readBlock decompresses block b into out.
func readBlock(f vfs.File, info Info, b Block, dec *zstd.Decoder, comp []byte, out *Records) ([]byte, error) {
	damage := func(reason string) error {
		return &DamageError{File: info.Name, Offset: b.Offset, Reason: reason}
	}
	if b.Dropped {
		out.data, out.ends = out.data[:0], out.ends[:0]
		return comp, nil
	}
	if cap(comp) < b.Length {
		comp = make([]byte, b.Length)
	}
	comp = comp[:b.Length]
	if _, err := f.ReadAt(comp, b.Offset); err != nil {
		return comp, fmt.Errorf("read %s: %w", info.Name, err)
	}
	if len(comp) < blockHead || int(binary.LittleEndian.Uint32(comp)) != len(comp)-blockHead {
		return comp, damage("length of the block does not match")
	}
	if Checksum(comp[blockHead:]) != binary.LittleEndian.Uint32(comp[4:]) {
		return comp, damage("checksum of the block does not match")
	}
	data, err := dec.DecodeAll(comp[blockHead:], out.data[:0])
	if err != nil {
		return comp, damage("block does not decompress: " + err.Error())
	}
	out.data, out.ends = data, out.ends[:0]
	// The lengths stand before the bodies, each body after its kind byte.
	pos := 0
	for range b.Records {
		n, used := binary.Uvarint(data[pos:])
		if used <= 0 || n > MaxRecord {
			return comp, damage("lengths in the block are not valid")
		}
		pos += used
		if n == 0 { // no record is empty: a dropped one
			n = uint64(len(merkle.Hash{}))
		}
		out.ends = append(out.ends, int(n)+1)
	}
	out.data = data[pos:]
	total := 0
	for i := range out.ends {
		total += out.ends[i]
		if total > len(out.data) {
			return comp, damage("lengths and content of the block differ")
		}
		if k := Kind(out.data[total-out.ends[i]]); k != KindRecord && (k != KindDropped || out.ends[i] != len(merkle.Hash{})+1) {
			return comp, damage("lengths and content of the block differ")
		}
		out.ends[i] = total
	}
	if total != len(out.data) {
		return comp, damage("lengths and content of the block differ")
	}
	return comp, nil
}

// Sealed reads a sealed segment by blocks. It is not safe for concurrent use.
type Sealed struct{ s *sealed }

// OpenSealed opens a sealed segment for reading by blocks.
func OpenSealed(fsys vfs.FS, dir string, info Info) (*Sealed, error) {
	f, err := fsys.Open(dir + "/" + info.Name)
	if err != nil {
		return nil, err
	}
	s, err := newSealed(f, info)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Sealed{s}, nil
}

// Footer returns the segment's footer.
func (s *Sealed) Footer() *Footer { return &s.s.footer }

// Block returns the records of the nth block, valid until the next call; none
// when the block is dropped.
func (s *Sealed) Block(n int) (*Records, error) {
	var err error
	s.s.comp, err = readBlock(s.s.f, s.s.info, s.s.footer.Blocks[n], s.s.dec, s.s.comp, &s.s.items)
	if err != nil {
		return nil, err
	}
	return &s.s.items, nil
}

// Close closes the file.
func (s *Sealed) Close() error { return s.s.Close() }

func (s *sealed) Next() (Item, error) {
	for s.next >= s.items.Len() {
		if s.gone > 0 {
			s.gone--
			s.index++
			return Item{Kind: KindDropped, Index: s.index - 1, Offset: s.offset}, nil
		}
		if s.block >= len(s.footer.Blocks) {
			if s.footer.Checkpoint != "" && !s.done {
				s.done = true
				return Item{Kind: KindCheckpoint, Index: s.index, Payload: []byte(s.footer.Checkpoint), Offset: s.offset}, nil
			}
			return Item{}, io.EOF
		}
		b := s.footer.Blocks[s.block]
		var err error
		if s.comp, err = readBlock(s.f, s.info, b, s.dec, s.comp, &s.items); err != nil {
			return Item{}, err
		}
		s.block++
		s.next, s.offset = 0, b.Offset+int64(b.Length)
		if b.Dropped {
			s.gone = b.Records
		}
	}
	p := s.items.Prefixed(s.next)
	item := Item{Kind: Kind(p[0]), Index: s.index, Payload: p[1:], Prefixed: p, Offset: s.footer.Blocks[s.block-1].Offset}
	s.next++
	s.index++
	return item, nil
}

func (s *sealed) SkipTo(index uint64) error {
	for s.index < index {
		if s.next >= s.items.Len() && s.gone == 0 && s.block < len(s.footer.Blocks) {
			b := s.footer.Blocks[s.block]
			if s.index+uint64(b.Records) <= index {
				s.index += uint64(b.Records)
				s.block++
				s.offset = b.Offset + int64(b.Length)
				continue
			}
		}
		if _, err := s.Next(); err != nil {
			return err
		}
	}
	return nil
}

func (s *sealed) Refresh() error { return nil } // never changes

func (s *sealed) Header() Header { return s.footer.Header }
func (s *sealed) Offset() int64  { return s.offset }
func (s *sealed) Close() error {
	s.dec.Close()
	return s.f.Close()
}
