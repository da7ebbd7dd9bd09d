// Package oidc signs a person in at an OpenID Connect provider and renews what
// came of it: authorization code with PKCE over a loopback redirect (RFC 6749,
// 7636, 8252, 9207) and device code (RFC 8628), then refresh tokens.
//
// It owns: the requests to the provider, all bounded in size and time, and the
// checks that a client owes before it uses an answer: state, nonce, issuer,
// audience and subject. It does not verify signatures: an ID token is taken
// only from the token endpoint itself, over TLS to the provider named in the
// settings (OpenID Connect Core 3.1.3.7, step 6), and the control plane verifies
// it for what it is worth. It refuses: plain http, redirects of the provider's
// documents and tokens, providers that cannot do S256, and to show a person any
// text of the provider that a terminal could take for a command.
//
// Start at [New].
package oidc
