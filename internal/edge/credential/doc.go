// Package credential gives kubectl, and every other client-go program, the
// credential of a person: it speaks client.authentication.k8s.io/v1 as an exec
// plugin, keeps what a sign-in gave between runs, and renews it before it ends.
//
// It owns: when a credential is still good, when it is renewed, and when a
// person has to be asked; [Source] is where one comes from ([OIDC] an ID token,
// [Exchange] a short-lived certificate for a long-lived one). It refuses: to ask
// a person when the client says that none is there, and to print a credential to
// a terminal.
//
// Start at [Keeper.Get], and at [Exec] for the protocol. Package hardkey holds
// keys that cannot be handed to kubectl at all; package mtlsproxy serves them.
package credential
