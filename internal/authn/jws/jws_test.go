package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

func TestSignAndVerify(t *testing.T) {
	t.Parallel()
	signer, _ := newSigner(t, "k1")
	for _, payload := range []string{"", "{}", `{"iss":"x"}`, strings.Repeat("p", 9000)} {
		token, err := signer.Sign([]byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		unverified, err := Parse(token)
		if err != nil {
			t.Fatal(err)
		}
		got, err := unverified.Verify(signer.Key())
		if err != nil || string(got) != payload {
			t.Errorf("payload of %d bytes: got %d bytes, %v", len(payload), len(got), err)
		}
	}
	if _, err := signer.Sign(make([]byte, MaxBytes)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an oversized payload: %v", err)
	}
}

// TestIndependentImplementations has two other libraries verify our tokens
// through our published key set, and ours verify theirs.
func TestIndependentImplementations(t *testing.T) {
	t.Parallel()
	signer, private := newSigner(t, "k1")
	token, err := signer.Sign([]byte(`{"sub":"someone"}`))
	if err != nil {
		t.Fatal(err)
	}
	published, err := MarshalKeySet([]*Key{signer.Key()})
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(published, &set); err != nil {
		t.Fatal(err)
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	if payload, err := signed.Verify(set); err != nil || string(payload) != `{"sub":"someone"}` {
		t.Errorf("go-jose: %q, %v", payload, err)
	}
	parsed, err := jwt.Parse(token, func(tok *jwt.Token) (any, error) { return set.Key(tok.Header["kid"].(string))[0].Key, nil }, jwt.WithValidMethods([]string{"ES256"}))
	if err != nil || !parsed.Valid {
		t.Errorf("golang-jwt: %v", err)
	}

	theirs := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"sub": "other"})
	theirs.Header["kid"] = "k1"
	token, err = theirs.SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseKeySet(published)
	if err != nil || len(keys) != 1 || !keys[0].Equal(signer.Key()) {
		t.Fatalf("own key set read back: %v, %v", keys, err)
	}
	unverified, err := Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	if payload, err := unverified.Verify(keys[0]); err != nil || string(payload) != `{"sub":"other"}` {
		t.Errorf("token of golang-jwt: %q, %v", payload, err)
	}
}

func TestEveryAlgorithmRoundTripsThroughItsKeySet(t *testing.T) {
	t.Parallel()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256 := newP256(t)
	cases := []struct {
		alg     Algorithm
		method  jwt.SigningMethod
		private any
		public  crypto.PublicKey
	}{
		{ES256, jwt.SigningMethodES256, p256, p256.Public()},
		{ES384, jwt.SigningMethodES384, p384, p384.Public()},
		{ES512, jwt.SigningMethodES512, p521, p521.Public()},
		{RS256, jwt.SigningMethodRS256, rsaKey, rsaKey.Public()},
		{RS384, jwt.SigningMethodRS384, rsaKey, rsaKey.Public()},
		{RS512, jwt.SigningMethodRS512, rsaKey, rsaKey.Public()},
		{PS256, jwt.SigningMethodPS256, rsaKey, rsaKey.Public()},
		{PS384, jwt.SigningMethodPS384, rsaKey, rsaKey.Public()},
		{PS512, jwt.SigningMethodPS512, rsaKey, rsaKey.Public()},
		{EdDSA, jwt.SigningMethodEdDSA, edPrivate, edPublic},
	}
	var keys []*Key
	tokens := map[Algorithm]string{}
	for _, tc := range cases {
		key, err := NewKey(string(tc.alg), tc.alg, tc.public)
		if err != nil {
			t.Fatalf("%s: %v", tc.alg, err)
		}
		keys = append(keys, key)
		theirs := jwt.NewWithClaims(tc.method, jwt.MapClaims{"sub": "x"})
		theirs.Header["kid"] = string(tc.alg)
		if tokens[tc.alg], err = theirs.SignedString(tc.private); err != nil {
			t.Fatal(err)
		}
	}
	data, err := MarshalKeySet(keys)
	if err != nil {
		t.Fatal(err)
	}
	read, err := ParseKeySet(data)
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range read {
		if !key.Equal(keys[i]) {
			t.Errorf("%s changed on its way through a key set", key.Algorithm())
		}
		for alg, token := range tokens {
			unverified, err := Parse(token)
			if err != nil {
				t.Fatal(err)
			}
			_, err = unverified.Verify(key)
			if alg == key.Algorithm() && err != nil || alg != key.Algorithm() && !errors.Is(err, ErrAlgorithm) {
				t.Errorf("token %s with key %s: %v", alg, key.Algorithm(), err)
			}
		}
		// The same key under another algorithm's name never verifies.
		for alg, token := range tokens {
			if alg == key.Algorithm() {
				continue
			}
			other, err := NewKey(string(alg), key.Algorithm(), key.Public())
			if err != nil {
				t.Fatal(err)
			}
			unverified, _ := Parse(token)
			if _, err := unverified.Verify(other); !errors.Is(err, ErrAlgorithm) {
				t.Errorf("token %s with a key for %s: %v", alg, key.Algorithm(), err)
			}
		}
	}
}
