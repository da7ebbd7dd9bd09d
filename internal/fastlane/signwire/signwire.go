// Package signwire holds the bodies of the doors sign and keys of a site, as
// the fast lane reads and writes them and gatehouse-edge signer does. It owns
// their shape and nothing else. Start with [SignRequest].
package signwire

import "time"

// SignRequest is posted to /sites/NAME/sign.
type SignRequest struct {
	// Claims is the payload of a token in base64url.
	Claims string `json:"claims"`
}

// SignResponse is the rest of the token.
type SignResponse struct {
	Header    string `json:"header"`
	Signature string `json:"signature"`
}

// KeysResponse answers a post of {} to /sites/NAME/keys.
type KeysResponse struct {
	// Issuer is the iss that the site's tokens must have.
	Issuer string `json:"issuer"`
	Keys   []Key  `json:"keys"`
	// MaxLifetimeSeconds caps every token.
	MaxLifetimeSeconds int64 `json:"maxLifetimeSeconds"`
	// At is when the keys were these.
	At time.Time `json:"at"`
}

// Key is one public key, PKIX.
type Key struct {
	ID  string `json:"id"`
	Key []byte `json:"key"`
}
