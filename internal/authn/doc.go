// Package authn verifies credentials; package issuer mints them.
//
// It owns: the [Chain] that turns a client certificate or a bearer token into
// an [Identity], the names and groups that an identity can carry, the short
// memory of what was verified, and the list of what is banned. It refuses: to
// let any other package build an Identity, to decide what an identity may do,
// and to read requests (adapters take the credential out of them).
//
// The chain, file by file:
//
//   - certificate.go: client certificates, each purpose with CAs of its own
//   - site.go: certificates of the site CA, which make a [Site] and nothing else
//   - token.go: size, shape and unverified issuer choose exactly one source
//   - serviceaccount.go: tokens of our issuers, and the objects they are bound to
//   - legacy.go: tokens in Secrets, which never expire
//   - bootstrap.go: tokens with which a host or a cluster joins
//   - key.go: opaque secrets of doors that speak other protocols, and their sessions
//   - provider.go: tokens of identity providers that the operator configured
//   - requestheader.go: users that an authenticating proxy vouches for
//   - ban.go: what every credential passes last, remembered or not
//
// A verified token is remembered for seconds under a keyed hash of it, never
// the token. What can end a credential earlier (its expiry, its key, the
// objects it is bound to, a ban) is asked on every use, so that nothing needs
// to be evicted in time.
//
// Start at [Chain.VerifyToken] in token.go.
package authn
