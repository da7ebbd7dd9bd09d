// Package authz is the decision engine of Gatehouse: it answers whether a
// caller may do something, and names the grant that says so.
//
// It owns the meaning of roles and bindings (exactly that of Kubernetes RBAC),
// of the bans and access policies around them ([Ban], [Policy]), the compiled
// index over all of them, and the questions asked of that index: may
// this caller ([Snapshot.Decide]), what may it do ([Snapshot.RulesFor]), who
// may do this ([Snapshot.WhoCan]), and does one set of rules stay inside
// another ([Covers]).
//
// It refuses to do I/O, to read a clock and to import anything beyond the
// standard library (conditions are compiled by package condition), so that the
// same code decides in the control plane, in the local decision point of a site
// and in other programs. It does not authenticate: the names in a [Request] are
// believed. It does not know system:masters or any other superuser; a caller
// that wants one asks before it asks here.
//
// Start at [Engine]: one writer changes policy in transactions, any number of
// readers decide on immutable snapshots. [Snapshot.RulesFor] answers for RBAC
// alone, [Snapshot.StandingOf] for bans and policies too; [Holders] lists
// bindings and has those beside them; [Snapshot.WhyNot] explains a refusal.
// [Snapshot.Content] spells a snapshot out, [Snapshot.Restrict] what of it one
// site needs; package snapshot ships that.
//
// The index, from the outside in: tx.go, bulk.go and link.go change it; snapshot.go
// decides by bindings and policyeval.go by policies; principal.go and wide.go
// hold what a user or group is granted, ruleset.go and permission.go what a
// role permits, policyindex.go where a policy stands; table.go, vec.go, seq.go
// and roleset.go are the persistent structures under them.
package authz
