package jws

import (
	"crypto"
	"crypto/rand"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// Signer makes tokens with one ES256 key. It is safe for concurrent use when
// the key is.
type Signer struct {
	key    *Key
	signer crypto.Signer
	// header is the encoded header and the dot: the same for every token.
	header string
}

// NewSigner returns a signer whose tokens name id. private holds a P-256 key;
// it may live in another process or in hardware.
func NewSigner(id string, private crypto.Signer) (*Signer, error) {
	key, err := NewKey(id, ES256, private.Public())
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	quoted, err := quote(id)
	if err != nil {
		return nil, err
	}
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":` + quoted + `}`))
	return &Signer{key: key, signer: private, header: header + "."}, nil
}

// Key returns the public half, which verifies the signer's tokens.
func (s *Signer) Key() *Key { return s.key }

// Typed returns a signer with the same key whose tokens say in their header
// that they are JWTs (RFC 7519, section 5.1), for verifiers that insist on it.
func (s *Signer) Typed() *Signer {
	typed := *s
	plain, err := base64.RawURLEncoding.DecodeString(strings.TrimSuffix(s.header, "."))
	if err == nil { // it was encoded here
		typed.header = base64.RawURLEncoding.EncodeToString([]byte(strings.TrimSuffix(string(plain), "}")+`,"typ":"JWT"}`)) + "."
	}
	return &typed
}

// Sign returns the token with this payload.
func (s *Signer) Sign(payload []byte) (string, error) {
	const signatureSize = 64
	encoding := base64.RawURLEncoding
	size := len(s.header) + encoding.EncodedLen(len(payload)) + 1 + encoding.EncodedLen(signatureSize)
	if size > MaxBytes {
		return "", ErrTooLarge
	}
	out := append(make([]byte, 0, size), s.header...)
	out = encoding.AppendEncode(out, payload)
	der, err := s.signer.Sign(rand.Reader, digest(crypto.SHA256, string(out)), crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	raw, err := fixedWidth(der)
	if err != nil {
		return "", err
	}
	out = append(out, '.')
	return string(encoding.AppendEncode(out, raw[:])), nil
}

// fixedWidth turns the signature of a [crypto.Signer] into that of RFC 7518
// §3.4.
func fixedWidth(der []byte) (raw [64]byte, err error) {
	var sig struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &sig)
	if err != nil || len(rest) != 0 || sig.R.Sign() <= 0 || sig.S.Sign() <= 0 || sig.R.BitLen() > 256 || sig.S.BitLen() > 256 {
		return raw, errors.New("sign token: the signer returned no P-256 signature")
	}
	sig.R.FillBytes(raw[:32])
	sig.S.FillBytes(raw[32:])
	return raw, nil
}

// quote renders a key id as a JSON string. Ids are derived, so that none needs
// an escape; one that does is refused rather than escaped.
func quote(id string) (string, error) {
	for _, c := range []byte(id) {
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return "", errors.New("signing key: id has a character that a header cannot carry plainly")
		}
	}
	return `"` + id + `"`, nil
}
