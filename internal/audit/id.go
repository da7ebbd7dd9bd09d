package audit

import (
	"crypto/rand"
	"encoding/hex"
)

// NewID returns a fresh auditID: a random UUID (RFC 9562, version 4). It is
// made here because what runs beside a cluster makes them too, and the usual
// library would link the interface of SQL drivers into it.
func NewID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	var b [36]byte
	hex.Encode(b[:8], u[:4])
	hex.Encode(b[9:13], u[4:6])
	hex.Encode(b[14:18], u[6:8])
	hex.Encode(b[19:23], u[8:10])
	hex.Encode(b[24:], u[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}
