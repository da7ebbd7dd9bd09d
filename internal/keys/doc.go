// Package keys protects every private key and every secret that the control
// plane stores.
//
// It owns, from the outside in:
//
//   - the root key file, the one key that lies unencrypted on disk
//     (rootfile.go, root.go);
//   - sealing: authenticated encryption of values under keys derived from the
//     root key, bound to the place where the value is kept (seal.go, on the
//     XAES-256-GCM of xaes.go);
//   - the check value that recognises a wrong root key before anything else
//     happens (check.go);
//   - rings of private keys, one for each purpose, created once however many
//     replicas start together, rotated with overlap (purpose.go, ring.go,
//     rotate.go), kept sealed in a [Store] (store.go).
//
// It refuses: the use of a key for another purpose (the purpose is part of the
// type, so the mistake does not compile), handing out private keys (a [Signer]
// signs), and sealing anything with the root key itself.
//
// What it does not defend against: whoever can write the store can put back an
// older sealed value of the same name. Such a writer already decides policy.
//
// Start at [OpenRoot], then [VerifyRoot], [NewVault] and [Ensure]. Package
// keystest holds the in-memory store and the suite that every [Store] passes.
package keys
