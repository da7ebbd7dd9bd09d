// Package tokensecret keeps the secrets that are credentials: those of
// bootstrap tokens, and those that somebody annotated to hold a token of a
// service account that never expires.
//
// It owns: the memory from which authentication is answered, the filling of
// annotated secrets, the end of those whose account is gone, and the label that
// says when a token was last used. It refuses: to give a token to a secret that
// nobody annotated, to fill a secret for an account other than the one it was
// annotated for, and to keep anything of other secrets.
//
// Start at [Memory] for what is asked and [Keeper] for what is written.
package tokensecret
