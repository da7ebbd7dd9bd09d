// Package issuer mints the tokens of service accounts; package authn verifies
// them.
//
// It owns: the claims of a token, how long one lives, what it may be bound to,
// and the documents (OpenID discovery and key set) by which anybody can verify
// a token. It refuses: to mint for an
// account or a bound object that does not exist as asked, lifetimes below ten
// minutes or beyond the cap, and to hold private keys (it is given something
// that signs).
//
// An [Issuer] is a value with a URL and keys of its own. A site whose tokens
// we sign gets one more issuer; nothing is shared between two.
//
// Start at [Requests.Create] for what the API does and [Issuer.Mint] for the
// token itself. Which keys sign and verify when is planned by internal/keys.
package issuer
