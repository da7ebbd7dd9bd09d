// Package webhookauth lets a webhook know who calls it, and a caller prove who
// it is: the calls of webhooks are authenticated with tokens of service
// accounts that a Gatehouse control plane mints for the one webhook.
//
// A webhook uses a [Verifier]. It proves the Authorization header of a call
// with the public keys of the issuer, which it fetches from the OpenID
// discovery documents, and, if it is given a [Review], asks the control plane
// whether the token still holds: deleted accounts and bans are known only
// there. [Verifier.Handler] refuses what is not proven with 401.
//
// A caller uses a [Source]. It has tokens minted by TokenRequest, renews them
// in time, and adds them to requests ([Source.Transport]) or keeps them in a
// file ([Source.Keep]), which is what the kubeconfig of a kube-apiserver's
// admission webhooks can name as tokenFile.
//
// The package owns both ends of that and nothing else. It refuses: tokens
// without the webhook's own audience, so that a webhook cannot use at one
// place what it was sent at another; every algorithm but those of the
// published keys; plain HTTP; redirects; and a call whose token cannot be
// checked now.
//
// A token can be shown again while it lasts: it proves who calls, not that a
// request is fresh. TLS keeps others from reading it, and audiences and short
// lives limit what a webhook can do with the tokens it sees.
package webhookauth
