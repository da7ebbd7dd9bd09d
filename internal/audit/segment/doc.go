// Package segment is the format of the audit log's files.
//
// A log directory holds
//
//	log.json                     id, origin and public keys of the log
//	checkpoint                   the newest signed checkpoint (C2SP tlog-checkpoint)
//	00000000000000000000.log     a raw segment: frames in the order of writing
//	00000000000000065536.seg     a sealed segment: compressed blocks and a footer
//
// Names are the index of the first record. A raw segment is a magic line and
// then frames: length (4 bytes, little endian), CRC-32C of record index, kind
// and payload (4 bytes), kind (1 byte), payload. The kind of a record is zero, so that kind
// and payload together are exactly what RFC 6962 hashes for a leaf. A sealed
// segment holds the same records in zstd blocks, and a footer with the hash of
// every bundle of 256 records, so that tiles and proofs need not read them.
//
// It owns: frames, the envelope of a record, both kinds of file, and the names.
// It refuses: hashing policy, signatures and deciding what damage means; it
// reports damage with the file and the offset.
//
// Start at [OpenReader], or at [AppendEntry] for the writer's side.
package segment
