package jws

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/authn/strictjson"
)

// MaxBytes bounds a token before anything looks into it.
const MaxBytes = 16 << 10

// Why a token is not one that this package reads.
var (
	ErrTooLarge  = errors.New("token is too large")
	ErrNotSigned = errors.New("not a signed token in compact form")
	ErrEncoding  = errors.New("token is not strictly base64url encoded")
	ErrHeader    = errors.New("token header refused")
	ErrAlgorithm = errors.New("token algorithm does not belong to the key")
	ErrSignature = errors.New("token signature does not verify")
)

// Parts are the three segments of a compact token, still encoded.
type Parts struct{ Header, Payload, Signature string }

// Split cuts a token into its segments. Only the shape and the size are
// checked: the segments are what the sender made them.
func Split(token string) (Parts, error) {
	if len(token) > MaxBytes {
		return Parts{}, ErrTooLarge
	}
	header, rest, ok := strings.Cut(token, ".")
	if !ok {
		return Parts{}, ErrNotSigned
	}
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") || header == "" || signature == "" {
		return Parts{}, ErrNotSigned
	}
	return Parts{Header: header, Payload: payload, Signature: signature}, nil
}

// Decode decodes one segment. There is exactly one accepted encoding of any
// bytes: no padding, no line breaks, no loose bits at the end.
func Decode(segment string) ([]byte, error) {
	// The decoder of the standard library skips line breaks.
	if strings.ContainsAny(segment, "\r\n") {
		return nil, ErrEncoding
	}
	out, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return nil, ErrEncoding
	}
	return out, nil
}

// Unverified is a token whose form is sound and whose content nobody has
// vouched for yet.
type Unverified struct {
	alg       Algorithm
	kid       string
	signed    string
	payload   []byte
	signature []byte
}

// Parse reads a token of ours and its header.
func Parse(token string) (Unverified, error) { return parse(token, false) }

// ParseForeign reads a token of another issuer. Its header may hold further
// members, such as hints and nonces, which are ignored; those that would change
// how it is verified or what it is are refused all the same.
func ParseForeign(token string) (Unverified, error) { return parse(token, true) }

func parse(token string, foreign bool) (Unverified, error) {
	parts, err := Split(token)
	if err != nil {
		return Unverified{}, err
	}
	u := Unverified{signed: token[:len(parts.Header)+1+len(parts.Payload)]}
	if u.alg, u.kid, err = header(parts.Header, foreign); err != nil {
		return Unverified{}, err
	}
	if u.payload, err = Decode(parts.Payload); err != nil {
		return Unverified{}, err
	}
	if u.signature, err = Decode(parts.Signature); err != nil {
		return Unverified{}, err
	}
	return u, nil
}

// Algorithm returns what the header names. It is among the known ones.
func (u Unverified) Algorithm() Algorithm { return u.alg }

// KeyID returns the kid of the header, possibly empty.
func (u Unverified) KeyID() string { return u.kid }

// Claimed returns the payload as the sender wrote it. Nothing in it is true
// until [Unverified.Verify] returned it.
func (u Unverified) Claimed() []byte { return u.payload }

// Bounds on the encoded header: alg, kid and typ need no more than the first;
// others send certificates along.
const (
	maxHeader        = 1024
	maxForeignHeader = 8192
)

// refusedMembers change how a token is verified (RFC 8725 §3.10), what it is,
// or must be understood (RFC 7515 §4.1.11).
var refusedMembers = map[string]bool{"jwk": true, "jku": true, "x5u": true, "crit": true, "b64": true, "zip": true, "enc": true, "cty": true}

func header(segment string, foreign bool) (Algorithm, string, error) {
	limit := maxHeader
	if foreign {
		limit = maxForeignHeader
	}
	if len(segment) > limit {
		return "", "", fmt.Errorf("%w: too large", ErrHeader)
	}
	raw, err := Decode(segment)
	if err != nil {
		return "", "", err
	}
	v, err := strictjson.Parse(raw)
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrHeader, err)
	}
	if v.Kind != strictjson.Object {
		return "", "", fmt.Errorf("%w: not an object", ErrHeader)
	}
	var alg, kid string
	for _, m := range v.Members {
		if foreign && m.Name != "alg" && m.Name != "kid" && m.Name != "typ" && !refusedMembers[m.Name] {
			continue
		}
		if m.Value.Kind != strictjson.String {
			return "", "", fmt.Errorf("%w: %.20q is not a string", ErrHeader, m.Name)
		}
		switch m.Name {
		case "alg":
			alg = m.Value.Text
		case "kid":
			kid = m.Value.Text
		case "typ":
			// RFC 7519 §5.1; anything else is another kind of token.
			if !strings.EqualFold(m.Value.Text, "JWT") && !(foreign && strings.EqualFold(m.Value.Text, "at+jwt")) {
				return "", "", fmt.Errorf("%w: typ %.20q", ErrHeader, m.Value.Text)
			}
		default:
			// The header never says what the token is verified with.
			return "", "", fmt.Errorf("%w: member %.20q", ErrHeader, m.Name)
		}
	}
	if _, known := schemes[Algorithm(alg)]; !known {
		return "", "", fmt.Errorf("%w: alg %.20q", ErrHeader, alg)
	}
	if len(kid) > maxKeyID {
		return "", "", fmt.Errorf("%w: kid is too long", ErrHeader)
	}
	return Algorithm(alg), kid, nil
}
