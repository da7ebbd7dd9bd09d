package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
)

// digest is over the fields of one entry.
type digest struct{ h hash.Hash }

func newDigest() *digest { return &digest{sha256.New()} }

func (d *digest) add(name string) {
	d.h.Write([]byte{0})
	d.h.Write([]byte(name))
	d.h.Write([]byte{0})
}

func (d *digest) write(b []byte) { d.h.Write(b) }

// Write implements io.Writer.
func (d *digest) Write(b []byte) (int, error) { return d.h.Write(b) }

func (d *digest) text() string { return hex.EncodeToString(d.h.Sum(nil)) }
