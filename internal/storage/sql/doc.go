// Package sql stores what is recorded in bulk as rows: kinds of the API with
// too many objects, or too many writes, for etcd. SQLite and PostgreSQL serve
// the same contract, and one conformance suite (sqltest) runs on both.
//
// It owns: opening and checking a database, its migrations, and [Kind], the
// descriptor from which the tables of a kind and every operation on them
// derive. It refuses: watches, joins, and knowledge of what a payload means.
// No error of a driver leaves the package: every error has a kind of package
// fault.
//
// Start at [Open] and [DB.Table]; [Table] has the seven operations.
//
// # Contract
//
// Atomicity: each call of a writing method is one transaction. Either all of
// it is stored, or none of it.
//
// Durability: when a writing method returns nil, its rows survive kill -9 and
// power loss (SQLite: WAL with synchronous=FULL; PostgreSQL: a server that
// answers commits with synchronous_commit=off is refused by [Open]). When it
// returns [fault.Unavailable], the outcome may be unknown: a connection can
// break after the commit was sent. The other kinds promise that nothing was
// stored.
//
// Retry: [Table.Get], [Table.List] and [Table.Upsert] can be repeated freely.
// Create, Update and Delete are repeated safely with a [Precondition] or by
// treating fault.Conflict of a repeated Create as a question (compare UIDs).
// Deadlocks and serialization failures are retried inside.
//
// Concurrency: all methods may be called from any number of goroutines and,
// with PostgreSQL, of replicas. SQLite has one writer at a time; readers never
// wait for it. Writers of one row are serialised; an Update or Delete with a
// Precondition wins against exactly the state it names.
//
// Order and revisions: lists are ordered by namespace, then name, both as
// bytes. Every write transaction takes one new revision, unique and growing in
// the database; a row carries the revision of its last change. A revision is
// opaque to clients and compares only for equality. Reads always show the
// latest committed state, so "not older than" holds for every revision; a read
// at an exact past revision is not offered.
package sql
