// Package jws verifies and makes signed compact tokens (RFC 7515 §3.1) under
// the narrowest reading of the standard that the platforms we serve need.
//
// It owns: the compact form, the protected header, the pairing of a key with
// exactly one algorithm, JSON Web Key sets. It refuses: every algorithm with a
// shared secret and "none" (a [Key] for them cannot be built, so a public key
// can never act as a MAC key), a header member other than alg, kid and typ
// (jwk, jku, x5u, x5c and crit among them), nested tokens, the JSON
// serialisations, encryption, padding, line breaks and loose bits in base64,
// and weak keys.
//
// The parsing is ours because a general library must accept what we refuse;
// the cryptography is the standard library's. The tests hold both against
// independent implementations and the published attack vectors.
//
// Start at [Parse] and [Unverified.Verify]; [Signer.Sign] is the other way.
package jws
