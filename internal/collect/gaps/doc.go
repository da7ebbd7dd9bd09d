// Package gaps finds what is missing in the audit events of a kube-apiserver.
// A stock one discards events when its buffer is full or it has tried a batch
// often enough, counts that in metrics of its own and tells nobody.
//
// Two signs of it are sound without the sender's help:
//
//   - A request of which one stage is on record and the other is not, where the
//     same user's requests of the same kind have both before and after it. Only
//     a sender whose policy records RequestReceived shows it. The count is of
//     stages that are missing; requests of which both were discarded are in
//     none, so it is a lower bound.
//   - A time in which a cluster that is never still (its kube-apiserver renews
//     a lease every ten seconds) has no event at all. How many are missing
//     cannot be known, and the kube-apiserver may as well have been down; the
//     event says both.
//
// Both are judged once nothing can still arrive: a batch that waits in the
// sender's retries is late and not missing. What a gap shorter than half a
// minute took away from a sender that records one stage only leaves no trace
// here; the sender's metric apiserver_audit_error_total is the only witness, and
// package collect/senders takes that.
//
// It owns: [Tracker] and the events about gaps. It refuses: storage and clocks.
// Start at [Tracker.Observe].
package gaps
