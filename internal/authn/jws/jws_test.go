package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

func newP256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newSigner(t testing.TB, id string) (*Signer, *ecdsa.PrivateKey) {
	t.Helper()
	private := newP256(t)
	signer, err := NewSigner(id, private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, private
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// forge signs any header and payload with a good key, so that only the form
// can be the reason of a refusal.
func forge(t testing.TB, private *ecdsa.PrivateKey, header, payload string) string {
	t.Helper()
	signed := b64(header) + "." + b64(payload)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, private, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 64)
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(raw)
}

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

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	private := newP256(t)
	key, err := NewKey("k1", ES256, private.Public())
	if err != nil {
		t.Fatal(err)
	}
	good := forge(t, private, `{"alg":"ES256","kid":"k1"}`, `{}`)
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	hs := func(secret []byte) string {
		signed := b64(`{"alg":"HS256","kid":"k1"}`) + "." + b64(`{}`)
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(signed))
		return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	header := func(h string) string { return forge(t, private, h, `{}`) }
	jwkOfAttacker, err := MarshalKeySet([]*Key{key})
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		token string
		want  error
	}{
		"alg none":                         {b64(`{"alg":"none"}`) + "." + b64(`{}`) + ".", ErrNotSigned},
		"alg none with a signature":        {header(`{"alg":"none","kid":"k1"}`), ErrHeader},
		"alg NoNe":                         {header(`{"alg":"NoNe","kid":"k1"}`), ErrHeader},
		"alg absent":                       {header(`{"kid":"k1"}`), ErrHeader},
		"alg null":                         {header(`{"alg":null,"kid":"k1"}`), ErrHeader},
		"alg in an array":                  {header(`{"alg":["ES256"],"kid":"k1"}`), ErrHeader},
		"alg lower case":                   {header(`{"alg":"es256","kid":"k1"}`), ErrHeader},
		"alg twice":                        {header(`{"alg":"none","alg":"ES256","kid":"k1"}`), ErrHeader},
		"alg twice through an escape":      {header(`{"\u0061lg":"none","alg":"ES256","kid":"k1"}`), ErrHeader},
		"HS256 with the public key as DER": {hs(der), ErrHeader},
		"HS256 with the public key as PEM": {hs(publicPEM), ErrHeader},
		"other algorithm than the key":     {header(`{"alg":"ES384","kid":"k1"}`), ErrAlgorithm},
		"RSA algorithm":                    {header(`{"alg":"RS256","kid":"k1"}`), ErrAlgorithm},
		"other kid":                        {header(`{"alg":"ES256","kid":"k2"}`), ErrAlgorithm},
		"kid number":                       {header(`{"alg":"ES256","kid":1}`), ErrHeader},
		"kid object":                       {header(`{"alg":"ES256","kid":{"$ne":""}}`), ErrHeader},
		"kid too long":                     {header(`{"alg":"ES256","kid":"` + strings.Repeat("k", 300) + `"}`), ErrHeader},
		"kid path":                         {header(`{"alg":"ES256","kid":"../../../../dev/null"}`), ErrAlgorithm},
		"kid injection":                    {header(`{"alg":"ES256","kid":"k1' UNION SELECT 'x"}`), ErrAlgorithm},
		"embedded jwk":                     {header(`{"alg":"ES256","kid":"k1","jwk":` + string(jwkOfAttacker) + `}`), ErrHeader},
		"jku":                              {header(`{"alg":"ES256","kid":"k1","jku":"https://attacker.example/jwks"}`), ErrHeader},
		"x5u":                              {header(`{"alg":"ES256","kid":"k1","x5u":"https://attacker.example/x"}`), ErrHeader},
		"x5c":                              {header(`{"alg":"ES256","kid":"k1","x5c":["AAAA"]}`), ErrHeader},
		"crit":                             {header(`{"alg":"ES256","kid":"k1","crit":["exp"],"exp":1}`), ErrHeader},
		"empty crit":                       {header(`{"alg":"ES256","kid":"k1","crit":[]}`), ErrHeader},
		"unencoded payload":                {header(`{"alg":"ES256","kid":"k1","b64":false,"crit":["b64"]}`), ErrHeader},
		"nested token":                     {header(`{"alg":"ES256","kid":"k1","cty":"JWT"}`), ErrHeader},
		"compressed":                       {header(`{"alg":"ES256","kid":"k1","zip":"DEF"}`), ErrHeader},
		"another kind of token":            {header(`{"alg":"ES256","kid":"k1","typ":"JOSE+JSON"}`), ErrHeader},
		"header no object":                 {header(`["ES256"]`), ErrHeader},
		"header no JSON":                   {header(`alg=ES256`), ErrHeader},
		"header with trailing text":        {header(`{"alg":"ES256","kid":"k1"}{}`), ErrHeader},
		"header too large":                 {header(`{"alg":"ES256","kid":"k1"` + strings.Repeat(" ", 1024) + `}`), ErrHeader},
		"empty":                            {"", ErrNotSigned},
		"one segment":                      {"abc", ErrNotSigned},
		"two segments":                     {good[:strings.LastIndex(good, ".")], ErrNotSigned},
		"four segments":                    {good + ".", ErrNotSigned},
		"five segments":                    {good + ".a.b", ErrNotSigned},
		"no header":                        {good[strings.Index(good, "."):], ErrNotSigned},
		"no signature":                     {good[:strings.LastIndex(good, ".")+1], ErrNotSigned},
		"json serialisation":               {`{"payload":"e30","signatures":[]}`, ErrNotSigned},
		"padding":                          {good + "=", ErrEncoding},
		"line break":                       {good[:len(good)-3] + "\n" + good[len(good)-3:], ErrEncoding},
		"line break in the payload":        {strings.Replace(good, ".e30.", ".e3\r0.", 1), ErrEncoding},
		"space":                            {good + " ", ErrEncoding},
		"standard alphabet":                {good[:len(good)-4] + "+/+/", ErrEncoding},
		"1 MB":                             {good + strings.Repeat("A", 1<<20), ErrTooLarge},
		"1 MB of dots":                     {strings.Repeat(".", 1<<20), ErrTooLarge},
		"payload changed":                  {strings.Replace(good, ".e30.", ".e31.", 1), ErrEncoding},
		"payload replaced":                 {strings.Replace(good, ".e30.", "."+b64(`{"a":1}`)+".", 1), ErrSignature},
		"signature cut":                    {good[:strings.LastIndex(good, ".")+1] + strings.Repeat("A", 80), ErrSignature},
		"signature longer":                 {good + "AAAA", ErrSignature},
		"signature as DER":                 {derSigned(t, private), ErrSignature},
		"signature zero":                   {good[:strings.LastIndex(good, ".")+1] + strings.Repeat("A", 86), ErrSignature},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			unverified, err := Parse(tc.token)
			if err == nil {
				_, err = unverified.Verify(key)
			}
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if err != nil && len(err.Error()) > 200 {
				t.Errorf("the error repeats the token: %d bytes", len(err.Error()))
			}
		})
	}
	if unverified, err := Parse(good); err != nil {
		t.Errorf("the good token: %v", err)
	} else if _, err := unverified.Verify(key); err != nil {
		t.Errorf("the good token: %v", err)
	}
}

func TestForeignHeaders(t *testing.T) {
	t.Parallel()
	private := newP256(t)
	key, err := NewKey("k1", ES256, private.Public())
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]bool{
		`{"alg":"ES256","kid":"k1"}`: true,
		`{"alg":"ES256","kid":"k1","typ":"at+JWT","x5t":"abc","x5c":["MII"],"nonce":{"a":1}}`: true,
		`{"alg":"ES256","kid":"k1","jwk":{}}`:                                                 false,
		`{"alg":"ES256","kid":"k1","jku":"https://attacker.example"}`:                         false,
		`{"alg":"ES256","kid":"k1","x5u":"https://attacker.example"}`:                         false,
		`{"alg":"ES256","kid":"k1","crit":["exp"]}`:                                           false,
		`{"alg":"ES256","kid":"k1","b64":"false"}`:                                            false,
		`{"alg":"ES256","kid":"k1","cty":"JWT"}`:                                              false,
		`{"alg":"ES256","kid":"k1","zip":"DEF"}`:                                              false,
		`{"alg":"none","kid":"k1"}`:                                                           false,
		`{"alg":"HS256","kid":"k1"}`:                                                          false,
		`{"alg":"ES256","kid":7}`:                                                             false,
		`{"alg":"ES256","kid":"k1","x":1,"x":2}`:                                              false,
		`{"alg":"ES256","kid":"k1","x5c":"` + strings.Repeat("A", 9000) + `"}`:                false,
	} {
		unverified, err := ParseForeign(forge(t, private, header, `{}`))
		if err == nil {
			_, err = unverified.Verify(key)
		}
		if (err == nil) != want {
			t.Errorf("%.80s: %v", header, err)
		}
	}
}

func derSigned(t *testing.T, private *ecdsa.PrivateKey) string {
	t.Helper()
	signed := b64(`{"alg":"ES256","kid":"k1"}`) + "." + b64(`{}`)
	sum := sha256.Sum256([]byte(signed))
	der, err := ecdsa.SignASN1(rand.Reader, private, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(der)
}

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

// brokenSigner is a key whose device misbehaves.
type brokenSigner struct {
	public crypto.PublicKey
	out    []byte
	err    error
}

func (b brokenSigner) Public() crypto.PublicKey { return b.public }
func (b brokenSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return b.out, b.err
}

func TestSignerRefuses(t *testing.T) {
	t.Parallel()
	private := newP256(t)
	for name, id := range map[string]string{"empty": "", "quote": `a"b`, "backslash": `a\b`, "control": "a\nb", "not ASCII": "é"} {
		if _, err := NewSigner(id, private); err == nil {
			t.Errorf("id %s: accepted", name)
		}
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSigner("k", p384); err == nil {
		t.Error("a P-384 key: accepted")
	}
	unplugged := errors.New("unplugged")
	for name, device := range map[string]brokenSigner{
		"error":          {private.Public(), nil, unplugged},
		"empty":          {private.Public(), nil, nil},
		"no DER":         {private.Public(), []byte("nonsense"), nil},
		"negative":       {private.Public(), []byte{0x30, 6, 2, 1, 0xff, 2, 1, 1}, nil},
		"trailing bytes": {private.Public(), []byte{0x30, 6, 2, 1, 1, 2, 1, 1, 0}, nil},
	} {
		signer, err := NewSigner("k", device)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signer.Sign([]byte("{}")); err == nil {
			t.Errorf("%s: a token was made", name)
		} else if device.err != nil && !errors.Is(err, device.err) {
			t.Errorf("%s: cause lost: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	signer, private := newSigner(f, "k1")
	good, err := signer.Sign([]byte(`{"iss":"x"}`))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{good, "", "..", "a.b.c", b64(`{"alg":"ES256"}`) + "..", forge(f, private, `{"alg":"ES256","kid":"k1","crit":[]}`, "")} {
		f.Add(s)
	}
	allowed := []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.EdDSA}
	f.Fuzz(func(t *testing.T, token string) {
		unverified, err := Parse(token)
		if err != nil {
			return
		}
		// What we read, an independent reader reads, and the same.
		theirs, err := jose.ParseSignedCompact(token, allowed)
		if err != nil {
			t.Fatalf("accepted what go-jose refuses (%v): %q", err, token)
		}
		if string(theirs.UnsafePayloadWithoutVerification()) != string(unverified.Claimed()) || theirs.Signatures[0].Header.KeyID != unverified.KeyID() || theirs.Signatures[0].Header.Algorithm != string(unverified.Algorithm()) {
			t.Fatalf("read differently: %q", token)
		}
		if _, err := unverified.Verify(signer.Key()); err == nil && token != good {
			if _, err := theirs.Verify(&private.PublicKey); err != nil {
				t.Fatalf("verified what go-jose does not: %q", token)
			}
		}
	})
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

func BenchmarkVerifyES256(b *testing.B) {
	signer, private := newSigner(b, "k1")
	payload := []byte(`{"iss":"https://gatehouse.example","sub":"` + strings.Repeat("s", 600) + `"}`)
	token, err := signer.Sign(payload)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("token", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			unverified, err := Parse(token)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := unverified.Verify(signer.Key()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("crypto-ecdsa-alone", func(b *testing.B) {
		sum := sha256.Sum256(payload)
		der, err := ecdsa.SignASN1(rand.Reader, private, sum[:])
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if !ecdsa.VerifyASN1(&private.PublicKey, sum[:], der) {
				b.Fatal("does not verify")
			}
		}
	})
}

func BenchmarkSignES256(b *testing.B) {
	signer, _ := newSigner(b, "k1")
	payload := []byte(strings.Repeat("p", 600))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := signer.Sign(payload); err != nil {
			b.Fatal(err)
		}
	}
}
