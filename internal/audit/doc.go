// Package audit holds the record's vocabulary: the event, the levels and
// stages, how durable a write must be, and what is cut out of an event before
// anything else sees it.
//
// The event is wire-compatible with audit.k8s.io/v1 (its JSON round-trips
// through the upstream types without loss), but the type is our own: both
// programs record, and gatehouse-edge must not link k8s.io/apiserver.
//
// It owns: [Event] and its JSON, [Recorder], [DurabilityOf], [Intent], the
// bounds of an event ([Event.Fit]) and [Redactor]. It refuses: files, clocks
// and policy. Around it stand
//
//   - audit/policy: which requests are recorded, and how much of them;
//   - audit/ledger: the append-only, Merkle-treed log that Recorder writes to;
//   - audit/segment and audit/merkle: the log's files and its mathematics;
//   - audit/verify: whether a copy of the log holds, and where it does not;
//   - audit/query and audit/index: reading it back;
//   - audit/registry: what is known of every log apart from itself;
//   - audit/sink and audit/declared: to whom it is passed on, and what of it.
//
// Start at [Event] and [Recorder].
package audit
