// Package etcd owns the store of everything that decides: an etcd inside the
// process that listens on unix sockets only, or a connection to an etcd
// cluster.
//
// It offers three things beside the endpoints that the frame's own storage
// uses: a [Blobs] store for sealed keys, a [Monitor] that knows how long ago
// etcd last confirmed that no event is missing, and [Once], an etcd lease for
// work that one replica must do.
//
// Start with [Embed] or [Connect].
package etcd
