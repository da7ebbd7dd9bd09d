package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// WriteFrame writes one frame of a stream: its length in four bytes, then the
// frame. An empty frame says only that the stream is alive.
func WriteFrame(w io.Writer, frame []byte) error {
	if len(frame) > MaxFrame {
		return errors.New("write policy snapshot: it is too large")
	}
	if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(frame)))); err != nil {
		return fmt.Errorf("write policy snapshot: %w", err)
	}
	if _, err := w.Write(frame); err != nil {
		return fmt.Errorf("write policy snapshot: %w", err)
	}
	return nil
}

// readStep is how much room is made at once for what a stream says is coming.
const readStep = 1 << 20

// ReadFrame reads one frame of a stream, empty when it says only that the
// stream is alive. It returns [io.EOF] between frames and
// [io.ErrUnexpectedEOF] inside one. Memory is taken as bytes arrive, not as
// they are announced.
func ReadFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("read policy snapshot: %w", err)
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n > MaxFrame {
		return nil, fmt.Errorf("read policy snapshot: a frame of %d bytes, at most %d are allowed", n, MaxFrame)
	}
	var frame []byte
	for len(frame) < n {
		at := len(frame)
		frame = append(frame, make([]byte, min(n-at, readStep))...)
		if _, err := io.ReadFull(r, frame[at:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("read policy snapshot: %w", err)
		}
	}
	return frame, nil
}
