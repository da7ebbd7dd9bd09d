// Package identityprovider puts OpenID Connect and JWT issuers of others into
// the authentication chain, with the semantics of Kubernetes'
// AuthenticationConfiguration: claim mapping and validation, CEL included.
//
// It owns: reading and validating the configuration, and fetching an issuer's
// documents. Fetching is bounded in size, time, frequency and in the addresses
// it may reach, because the documents are somebody else's. It refuses: to
// decide which names may become an identity (package authn does), redirects,
// plain HTTP, and keys or algorithms that our own tokens could not have.
//
// The mapping of claims is upstream's authenticator, so that a configuration
// means here what it means there; the signatures and keys are checked by
// internal/authn/jws.
//
// Start at [Load] and [New].
package identityprovider
