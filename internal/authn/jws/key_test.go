package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

func TestKeysRefused(t *testing.T) {
	t.Parallel()
	p256 := newP256(t)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	modulus := new(big.Int).Lsh(big.NewInt(1), 2047)
	modulus.Add(modulus, big.NewInt(13))
	cases := map[string]struct {
		id     string
		alg    Algorithm
		public crypto.PublicKey
	}{
		"no id":            {"", ES256, p256.Public()},
		"long id":          {strings.Repeat("k", 300), ES256, p256.Public()},
		"none":             {"k", "none", p256.Public()},
		"HS256":            {"k", "HS256", []byte("a shared secret of thirty-two by")},
		"secret as ES256":  {"k", ES256, []byte("a shared secret of thirty-two by")},
		"private key":      {"k", ES256, p256},
		"curve of another": {"k", ES384, p256.Public()},
		"P-224":            {"k", ES256, p224.Public()},
		"RSA name":         {"k", RS256, p256.Public()},
		"EdDSA name":       {"k", EdDSA, p256.Public()},
		"short Ed25519":    {"k", EdDSA, ed25519.PublicKey("short")},
		"RSA as ES256":     {"k", ES256, &rsa.PublicKey{N: modulus, E: 65537}},
		"1024 bits":        {"k", RS256, &rsa.PublicKey{N: new(big.Int).Rsh(modulus, 1024), E: 65537}},
		"exponent 1":       {"k", RS256, &rsa.PublicKey{N: modulus, E: 1}},
		"even exponent":    {"k", RS256, &rsa.PublicKey{N: modulus, E: 65536}},
		"100,000 bits":     {"k", RS256, &rsa.PublicKey{N: new(big.Int).Lsh(modulus, 98_000), E: 65537}},
		//lint:ignore SA1019 no other way leads to a point off the curve
		"off the curve": {"k", ES256, &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}},
		//lint:ignore SA1019 no other way leads to the point at infinity
		"point at infinity": {"k", ES256, &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(0), Y: big.NewInt(0)}},
	}
	for name, tc := range cases {
		if _, err := NewKey(tc.id, tc.alg, tc.public); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestKeySetsRefused(t *testing.T) {
	t.Parallel()
	point := func(t *testing.T) (string, string) {
		bytes, err := newP256(t).PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(bytes[1:33]), base64.RawURLEncoding.EncodeToString(bytes[33:])
	}
	x, y := point(t)
	ec := func(extra string) string {
		return fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q%s}`, x, y, extra)
	}
	cases := map[string]struct {
		set  string
		keys int
		want string
	}{
		"good":                 {`{"keys":[` + ec(`,"kid":"a"`) + `]}`, 1, ""},
		"id derived":           {`{"keys":[` + ec(``) + `]}`, 1, ""},
		"for encryption":       {`{"keys":[` + ec(`,"use":"enc"`) + `]}`, 0, ""},
		"unknown type":         {`{"keys":[{"kty":"AKP"}]}`, 0, ""},
		"unknown curve":        {`{"keys":[{"kty":"EC","crv":"secp256k1"},{"kty":"OKP","crv":"X25519"}]}`, 0, ""},
		"duplicate id":         {`{"keys":[` + ec(`,"kid":"a"`) + `,` + ec(`,"kid":"a"`) + `]}`, 0, "twice"},
		"duplicate member":     {`{"keys":[` + ec(`,"kid":"a","kid":"b"`) + `]}`, 0, "twice"},
		"shared secret":        {`{"keys":[` + ec(`,"kid":"a"`) + `,{"kty":"oct","k":"AAAA"}]}`, 0, "shared secret"},
		"private key":          {`{"keys":[` + ec(`,"d":"AAAA"`) + `]}`, 0, "private key"},
		"kid a number":         {`{"keys":[` + ec(`,"kid":7`) + `]}`, 0, "not a string"},
		"no keys":              {`{}`, 0, "no array"},
		"keys an object":       {`{"keys":{}}`, 0, "no array"},
		"key no object":        {`{"keys":["x"]}`, 0, "not an object"},
		"no JSON":              {`keys`, 0, "json"},
		"short coordinate":     {`{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}]}`, 0, "malformed"},
		"huge modulus":         {`{"keys":[{"kty":"RSA","n":"` + strings.Repeat("A", 8000) + `","e":"AQAB"}]}`, 0, "malformed"},
		"huge exponent":        {`{"keys":[{"kty":"RSA","n":"AQAB","e":"` + strings.Repeat("A", 80) + `"}]}`, 0, "malformed"},
		"too many":             {`{"keys":[` + strings.Repeat(`{"kty":"x"},`, 100) + `{"kty":"x"}]}`, 0, "more than"},
		"too large":            {`{"keys":[` + strings.Repeat(" ", maxSetBytes) + `]}`, 0, "too large"},
		"short Ed25519":        {`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}`, 0, "malformed"},
		"not for verifying":    {`{"keys":[` + ec(`,"key_ops":["encrypt"]`) + `]}`, 0, ""},
		"for verifying":        {`{"keys":[` + ec(`,"key_ops":["verify"]`) + `]}`, 1, ""},
		"operations no list":   {`{"keys":[` + ec(`,"key_ops":"verify"`) + `]}`, 0, ""},
		"algorithm of another": {`{"keys":[` + ec(`,"alg":"RS256"`) + `]}`, 0, "does not fit"},
	}
	for name, tc := range cases {
		keys, err := ParseKeySet([]byte(tc.set))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		}
		if len(keys) != tc.keys {
			t.Errorf("%s: %d keys, want %d", name, len(keys), tc.keys)
		}
	}
}

// TestKeyIDMatchesKubernetes uses a key pair and id that Kubernetes' own tests
// publish.
func TestKeyIDMatchesKubernetes(t *testing.T) {
	t.Parallel()
	block, _ := pem.Decode([]byte("-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEH6cuzP8XuD5wal6wf9M6xDljTOPL\nX2i8uIp/C/ASqiIGUeeKQtX0/IR3qCXyThP/dbCiHrF3v1cuhBOHY8CLVg==\n-----END PUBLIC KEY-----\n"))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := KeyID(public); err != nil || id != "SoABiieYuNx4UdqYvZRVeuC6SihxgLrhLy9peHMHpTc" {
		t.Errorf("id %q, %v", id, err)
	}
	if _, err := KeyID("no key"); err == nil {
		t.Error("an id for what is no key")
	}
	if alg, err := AlgorithmFor(public); err != nil || alg != ES256 {
		t.Errorf("algorithm %q, %v", alg, err)
	}
	if _, err := AlgorithmFor("no key"); err == nil {
		t.Error("an algorithm for what is no key")
	}
}

func FuzzParseKeySet(f *testing.F) {
	signer, _ := newSigner(f, "k1")
	set, err := MarshalKeySet([]*Key{signer.Key()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(set)
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":""}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := ParseKeySet(data)
		if err != nil {
			return
		}
		again, err := MarshalKeySet(keys)
		if err != nil {
			t.Fatal(err)
		}
		read, err := ParseKeySet(again)
		if err != nil || len(read) != len(keys) {
			t.Fatalf("own key set not read back: %v", err)
		}
	})
}
