// Package ledger is the append-only log of one replica: it takes events,
// writes them to segments with group commit, builds the Merkle tree over them
// and signs checkpoints.
//
// Two goroutines share the work. The writer takes whatever has gathered since
// its last turn as one group, stamps and writes it; the syncer makes groups
// durable, wakes who waited, adds the records to the tree and signs. So a sync
// under way never holds up a write, and the tree never holds up an answer. A
// third compresses finished segments.
//
// The rules that make a crash harmless:
//
//   - a durable append returns after the sync, a buffered one after the write;
//   - only synced records enter the tree, so no checkpoint covers a record
//     that a crash can take back;
//   - a failed sync is not repeated: the kernel may have dropped the pages.
//     The bytes are kept until a sync succeeded, and written again first;
//   - what a process finds when it opens the log may be in the page cache only:
//     what no checkpoint covers is written again before it counts;
//   - a torn tail is cut off (and kept aside) only behind the newest signed
//     checkpoint; damage before it refuses to open.
//
// It owns: the directory, the order of records, durability, deduplication of
// what sites send, gap records. It refuses: deciding what is recorded
// (audit/policy) and serving a damaged directory.
//
// Start at [Open].
package ledger
