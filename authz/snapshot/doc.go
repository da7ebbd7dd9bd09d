// Package snapshot ships policy to where it is decided: restricted to one site,
// numbered, signed, and good until an end.
//
// It owns the format of a frame, what a follower demands of one, and the order
// of frames in a stream. A full frame carries the policy; a renewal says that
// the policy of the last full frame still holds, later and for longer. It
// refuses frames that are not signed, are for another site, are older than what
// is held, have ended, or are larger than [MaxFrame]; a refused frame changes
// nothing. It opens nothing and reads no clock, and it knows no keys: callers
// bring a [Signer] or a [Verifier].
//
// A frame is
//
//	magic | header length, 4 bytes | header | signature length, 2 bytes | signature | body
//
// with the header in JSON and the body in the form of encode.go; numbers are
// big-endian. The signature is over everything before its length, and the
// header has the digest of the body.
//
// Start at [Seal] on the side that signs, and at [Follower] on the other;
// [WriteFrame] and [ReadFrame] carry frames over one connection.
package snapshot
