// Package pki owns the certificate authorities of the control plane and all
// certificates they issue.
//
// There is one authority for each door (serving, client, site, request header,
// agent), and each is trusted at its own door only. The door is part of the
// type: a [Verified] certificate of the client CA cannot be passed where one
// of the site CA is wanted. Each authority's own certificate limits it too: to
// one extended key usage, to path length 0 and, where certificates carry a
// subject only, to no alternative name.
//
// It refuses: signing anything that did not pass lint (the only way to a
// signature is a single-use [Prepared], made by one of the profiles in
// profile.go), reserved names in certificates that anybody may ask for, and
// intermediate certificates.
//
// Private keys of authorities stay in package keys. Keys of serving
// certificates live in memory only, and are made anew with each certificate.
//
// Start at [Open]; then profile.go for what can be issued, verify.go for what
// is accepted, serving.go and tls.go for listeners.
package pki
