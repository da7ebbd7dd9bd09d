package snapshot

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestStream(t *testing.T) {
	t.Parallel()
	frames := [][]byte{[]byte("first"), nil, bytes.Repeat([]byte("x"), 2*readStep+17), []byte("last")}
	var wire bytes.Buffer
	for _, f := range frames {
		if err := WriteFrame(&wire, f); err != nil {
			t.Fatal(err)
		}
	}
	whole := wire.Bytes()
	r := iotest.HalfReader(bytes.NewReader(whole))
	for i, want := range frames {
		got, err := ReadFrame(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("frame %d: %d bytes, %v", i, len(got), err)
		}
	}
	if _, err := ReadFrame(r); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for _, cut := range []int{2, 4, 7} { // in the length, before the frame, inside it
		if _, err := ReadFrame(bytes.NewReader(whole[:cut])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes: %v", cut, err)
		}
	}
	if _, err := ReadFrame(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff})); err == nil {
		t.Error("a frame without bounds was read")
	}
	if err := WriteFrame(io.Discard, make([]byte, MaxFrame+1)); err == nil {
		t.Error("a frame without bounds was written")
	}
}
