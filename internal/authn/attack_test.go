package authn_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// raw signs any header and payload text with the key of the world.
func (w *world) raw(header, payload string) string {
	w.t.Helper()
	return sign(w.t, w.private, header, payload)
}

func sign(t testing.TB, private *ecdsa.PrivateKey, header, payload string) string {
	t.Helper()
	signed := encode(header) + "." + encode(payload)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, private, sum[:])
	must(t, err)
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func text(t testing.TB, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	must(t, err)
	return string(out)
}

// TestHostileTokens sends what attackers send. Each is refused, for a reason
// that does not depend on luck, and a good token works right after.
func TestHostileTokens(t *testing.T) {
	t.Parallel()
	const siteIssuer = "https://gatehouse.example/sites/one"
	siteKey := newKey(t)
	siteSigner := newSigner(t, siteKey)
	siteRing, err := authn.NewKeyRing(siteSigner.Key())
	must(t, err)
	w := newWorld(t, func(c *authn.Config) {
		c.Issuers = append(c.Issuers, authn.TrustedIssuer{URL: siteIssuer, Keys: siteRing})
	})
	good := text(t, w.claims())
	kid := w.signer.Key().ID()
	header := fmt.Sprintf(`{"alg":"ES256","kid":%q}`, kid)
	der, err := x509.MarshalPKIXPublicKey(w.private.Public())
	must(t, err)
	mac := func(secret []byte) string {
		signed := encode(fmt.Sprintf(`{"alg":"HS256","kid":%q}`, kid)) + "." + encode(good)
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(signed))
		return signed + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
	}
	withKid := func(id string) string { return w.raw(fmt.Sprintf(`{"alg":"ES256","kid":%q}`, id), good) }
	double := func(member string) string { return strings.Replace(good, `"sub":`, member+`,"sub":`, 1) }
	foreign := newKey(t)
	cases := map[string]struct {
		token  string
		reason authn.Reason
	}{
		"empty":                             {"", authn.Malformed},
		"alg none":                          {encode(`{"alg":"none"}`) + "." + encode(good) + ".", authn.Malformed},
		"alg none with the kid":             {encode(fmt.Sprintf(`{"alg":"none","kid":%q}`, kid)) + "." + encode(good) + "." + encode("x"), authn.Malformed},
		"HS256 keyed with the public key":   {mac(der), authn.Malformed},
		"HS256 keyed with nothing":          {mac(nil), authn.Malformed},
		"signed by a stranger":              {sign(t, foreign, header, good), authn.BadSignature},
		"signed by a stranger, own kid":     {sign(t, foreign, fmt.Sprintf(`{"alg":"ES256","kid":%q}`, newSigner(t, foreign).Key().ID()), good), authn.UnknownKey},
		"embedded key":                      {w.raw(fmt.Sprintf(`{"alg":"ES256","kid":%q,"jwk":{"kty":"EC"}}`, kid), good), authn.Malformed},
		"key by URL":                        {w.raw(fmt.Sprintf(`{"alg":"ES256","kid":%q,"jku":"https://attacker.example"}`, kid), good), authn.Malformed},
		"critical extension":                {w.raw(fmt.Sprintf(`{"alg":"ES256","kid":%q,"crit":["x"],"x":1}`, kid), good), authn.Malformed},
		"no kid":                            {w.raw(`{"alg":"ES256"}`, good), authn.UnknownKey},
		"empty kid":                         {withKid(""), authn.UnknownKey},
		"kid with SQL":                      {withKid("' OR 1=1 --"), authn.UnknownKey},
		"kid with a path":                   {withKid("../../etc/passwd"), authn.UnknownKey},
		"kid with a NUL":                    {w.raw(`{"alg":"ES256","kid":"`+kid+`\u0000"}`, good), authn.UnknownKey},
		"kid of the other issuer":           {sign(t, siteKey, fmt.Sprintf(`{"alg":"ES256","kid":%q}`, siteSigner.Key().ID()), good), authn.UnknownKey},
		"key of the other issuer, our kid":  {sign(t, siteKey, header, good), authn.BadSignature},
		"our key, other issuer":             {w.raw(header, text(t, w.with(object{"iss": siteIssuer}))), authn.UnknownKey},
		"issuer twice, ours first":          {w.raw(header, double(`"iss":"https://attacker.example"`)), authn.Malformed},
		"audience twice":                    {w.raw(header, double(`"aud":"x"`)), authn.Malformed},
		"audience twice through an escape":  {w.raw(header, double(`"\u0061ud":"x"`)), authn.Malformed},
		"account twice":                     {w.raw(header, strings.Replace(good, `"serviceaccount":`, `"serviceaccount":{"name":"root","uid":"x"},"serviceaccount":`, 1)), authn.Malformed},
		"claims in other letter case":       {w.raw(header, strings.Replace(good, `"exp":`, `"EXP":`, 1)), authn.Malformed},
		"text after the claims":             {w.raw(header, good+"{}"), authn.Malformed},
		"claims no object":                  {w.raw(header, `["a"]`), authn.UnknownIssuer},
		"nested token":                      {w.raw(fmt.Sprintf(`{"alg":"ES256","kid":%q,"cty":"JWT"}`, kid), w.token(w.claims())), authn.Malformed},
		"token as payload":                  {w.raw(header, w.token(w.claims())), authn.Malformed},
		"deeply nested claims":              {w.raw(header, strings.Replace(good, `"sub":`, `"x":`+strings.Repeat("[", 2000)+strings.Repeat("]", 2000)+`,"sub":`, 1)), authn.Malformed},
		"1 MB":                              {w.token(w.claims()) + strings.Repeat("A", 1<<20), authn.Malformed},
		"1 MB of dots":                      {strings.Repeat(".", 1<<20), authn.Malformed},
		"five segments, as encrypted":       {"a.b.c.d.e", authn.Malformed},
		"JSON serialisation":                {`{"payload":"` + encode(good) + `","protected":"x","signature":"y"}`, authn.Malformed},
		"JSON with a compact token in it":   {`{"malformed_iss":".` + encode(`{"iss":"`+issuerURL+`"}`) + `."}`, authn.Malformed},
		"garbage":                           {"invalid token", authn.Malformed},
		"bytes that are no text":            {"\xff\xfe.\x00.\x01", authn.Malformed},
		"signature of zeros":                {encode(header) + "." + encode(good) + "." + strings.Repeat("A", 86), authn.BadSignature},
		"payload changed after signing":     {strings.Replace(w.token(w.claims()), "."+encode(good)+".", "."+encode(strings.Replace(good, "00000000002a", "00000000002b", 1))+".", 1), authn.BadSignature},
		"bootstrap token, none accepted":    {"abcdef.0123456789abcdef", authn.UnknownIssuer},
		"access key, none accepted":         {"ghk_" + strings.Repeat("a", 16) + "_" + strings.Repeat("a", 52), authn.UnknownIssuer},
		"issuer that would match a pattern": {w.raw(header, text(t, w.with(object{"iss": issuerURL + "/%2e%2e"}))), authn.UnknownIssuer},
	}
	// The replacement above must have changed something.
	if cases["payload changed after signing"].token == w.token(w.claims()) {
		t.Fatal("the payload was not changed")
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := *w
			v.t = t
			for range 3 {
				err := v.refused(tc.token, tc.reason)
				if len(err.Error()) > 1000 {
					t.Errorf("the error has %d bytes", len(err.Error()))
				}
			}
			v.accepted(v.token(v.claims()))
		})
	}
}

// TestSiteTokenIsNotForUs: where we sign a site's tokens, only that site
// trusts them. The chain does not know the site's issuer.
func TestSiteTokenIsNotForUs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refused(w.token(w.with(object{"iss": "https://gatehouse.example/sites/one"})), authn.UnknownIssuer)
	w.refused(w.token(w.with(object{"aud": []string{"gatehouse:site:one"}})), authn.WrongAudience)
	w.refused(w.token(w.claims()), authn.WrongAudience, "gatehouse:site:one")
}

// TestFloodIsBounded fills every place where signatures are verified and every
// place to wait: the next caller is told to come back, a remembered token
// still works, and nobody verified more than the limit at once.
func TestFloodIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token := w.token(w.claims())
	w.accepted(token)
	release := authn.FillGate(w.chain)
	other := w.token(w.with(object{"jti": "other"}))
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := w.chain.VerifyToken(ctx, other, nil); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("waiting caller whose time is over: %v", err)
	}
	done := authn.FillQueue(w.chain)
	if _, err := w.verify(other); fault.KindOf(err) != fault.Exhausted {
		t.Errorf("one caller too many: %v", err)
	}
	w.accepted(token)
	// What is refused without cryptography needs no place either.
	w.refused(w.token(w.with(object{"exp": 1})), authn.Expired)
	done()
	release()
	w.accepted(other)
}

func FuzzVerifyToken(f *testing.F) {
	w := newWorld(f)
	good := w.token(w.claims())
	w.put(authn.PodObject, "ns", "podname", "poduid", time.Time{})
	f.Add(good)
	f.Add(w.token(w.bound(object{"pod": object{"name": "podname", "uid": "poduid"}, "warnafter": 1})))
	f.Add("abcdef.0123456789abcdef")
	f.Add(encode(`{"alg":"ES256"}`) + "." + encode(`{"iss":"`+issuerURL+`"}`) + "." + encode("s"))
	f.Fuzz(func(t *testing.T, token string) {
		id, err := w.verify(token)
		if err == nil && !strings.HasPrefix(id.Name(), "system:serviceaccount:ns:") {
			t.Fatalf("accepted %q", token)
		}
		if err != nil && (id.Valid() || authn.ReasonOf(err) == "") {
			t.Fatalf("refused without a reason: %v", err)
		}
	})
}

// FuzzClaims signs whatever the fuzzer thinks of, so that the claims are read
// and not only the signature.
func FuzzClaims(f *testing.F) {
	w := newWorld(f)
	f.Add(text(f, w.claims()))
	f.Add(text(f, w.bound(object{"pod": object{"name": "podname", "uid": "poduid"}, "node": object{"name": "n"}})))
	f.Add(text(f, w.with(object{"aud": audience, "gatehouse.dev": object{"container": "c"}})))
	header := fmt.Sprintf(`{"alg":"ES256","kid":%q}`, w.signer.Key().ID())
	f.Fuzz(func(t *testing.T, payload string) {
		v := *w
		v.t = t
		id, err := v.verify(v.raw(header, payload))
		if err != nil {
			return
		}
		if id.Name() != "system:serviceaccount:ns:saname" || id.UID() != "sauid" || len(id.Audiences()) == 0 {
			t.Fatalf("accepted %q as %q", payload, id.Name())
		}
		id.Extra()
	})
}
