package oidc

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	maxIDToken = 64 << 10
	// skew is how far the clocks of provider and person may differ.
	skew = time.Minute
)

type idClaims struct {
	Issuer     string   `json:"iss"`
	Subject    string   `json:"sub"`
	Audience   audience `json:"aud"`
	Authorized string   `json:"azp"`
	Nonce      string   `json:"nonce"`
	Expires    int64    `json:"exp"`
}

// audience is one name or a list of them (RFC 7519 section 4.1.3).
type audience []string

func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// check holds an ID token against what was asked (OpenID Connect Core 3.1.3.7,
// all steps but the signature; see the package). An empty nonce is not looked
// for: device code and refresh have none.
func (c *Client) check(token, nonce string) (*idClaims, error) {
	if len(token) > maxIDToken {
		return nil, fmt.Errorf("larger than %d bytes", maxIDToken)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || !headerSafe(token) {
		return nil, errors.New("is not a signed token")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, errors.New("is not base64url")
	}
	var claims idClaims
	if err := json.Unmarshal(raw, &claims); err != nil {
		return nil, errors.New("has claims that are not JSON")
	}
	switch {
	case claims.Issuer != c.cfg.Issuer:
		return nil, fmt.Errorf("is of issuer %.200q", claims.Issuer)
	case !slices.Contains(claims.Audience, c.cfg.ClientID):
		return nil, errors.New("is for another client")
	case claims.Authorized != "" && claims.Authorized != c.cfg.ClientID:
		return nil, errors.New("was given to another client")
	case claims.Subject == "":
		return nil, errors.New("names nobody")
	case nonce != "" && subtle.ConstantTimeCompare([]byte(claims.Nonce), []byte(nonce)) != 1:
		return nil, errors.New("answers another sign-in (nonce)")
	case !time.Unix(claims.Expires, 0).After(c.cfg.Now().Add(-skew)):
		return nil, errors.New("has expired already")
	}
	return &claims, nil
}

// headerSafe reports whether a token can go into a header.
func headerSafe(token string) bool {
	return !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })
}
