package jws

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

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
