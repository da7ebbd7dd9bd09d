package issuer_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
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
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/issuer"
)

const url = "https://gatehouse.example"

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var start = time.Unix(1514764800, 0).UTC()

func newIssuer(t testing.TB, change ...func(*issuer.Config)) *issuer.Issuer {
	t.Helper()
	cfg := issuer.Config{URL: url, Now: func() time.Time { return start }}
	for _, f := range change {
		f(&cfg)
	}
	i, err := issuer.New(cfg)
	must(t, err)
	must(t, i.SetKeys(issuer.Keys{Signing: newKey(t)}))
	return i
}

func goodClaims() issuer.Claims {
	return issuer.Claims{Namespace: "myns", Account: issuer.Ref{Name: "mysvcacct", UID: "mysvcacct-uid"}, Audiences: []string{"api"}, Lifetime: time.Hour}
}

func payloadOf(t testing.TB, token string) map[string]any {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	must(t, err)
	var out map[string]any
	must(t, json.Unmarshal(raw, &out))
	return out
}

// TestClaims has the table of upstream's function of that purpose.
func TestClaims(t *testing.T) {
	t.Parallel()
	pod, secret, node := &issuer.Ref{Name: "mypod", UID: "mypod-uid"}, &issuer.Ref{Name: "mysecret", UID: "mysecret-uid"}, &issuer.Ref{Name: "mynode", UID: "mynode-uid"}
	ref := func(name string) map[string]any { return map[string]any{"name": name, "uid": name + "-uid"} }
	cases := map[string]struct {
		change func(*issuer.Claims)
		want   map[string]any // further members of kubernetes.io
		err    string
	}{
		"pod and secret":  {change: func(c *issuer.Claims) { c.Pod, c.Secret = pod, secret }, err: "token can only be bound to one object type"},
		"node and secret": {change: func(c *issuer.Claims) { c.Node, c.Secret = node, secret }, err: "token can only be bound to one object type"},
		"pod":             {change: func(c *issuer.Claims) { c.Pod = pod }, want: map[string]any{"pod": ref("mypod")}},
		"secret":          {change: func(c *issuer.Claims) { c.Secret = secret }, want: map[string]any{"secret": ref("mysecret")}},
		"no binding":      {change: func(*issuer.Claims) {}},
		"warn after": {change: func(c *issuer.Claims) { c.Pod, c.WarnAfter = pod, time.Hour },
			want: map[string]any{"pod": ref("mypod"), "warnafter": float64(start.Unix() + 3600)}},
		"node alone":             {change: func(c *issuer.Claims) { c.Node = node }, want: map[string]any{"node": ref("mynode")}},
		"node and pod":           {change: func(c *issuer.Claims) { c.Node, c.Pod = node, pod }, want: map[string]any{"node": ref("mynode"), "pod": ref("mypod")}},
		"node unregistered":      {change: func(c *issuer.Claims) { c.Node, c.Pod = &issuer.Ref{Name: "n"}, pod }, want: map[string]any{"node": map[string]any{"name": "n"}, "pod": ref("mypod")}},
		"node alone, no uid":     {change: func(c *issuer.Claims) { c.Node = &issuer.Ref{Name: "n"} }, err: "incomplete"},
		"pod without uid":        {change: func(c *issuer.Claims) { c.Pod = &issuer.Ref{Name: "n"} }, err: "incomplete"},
		"secret without name":    {change: func(c *issuer.Claims) { c.Secret = &issuer.Ref{UID: "n"} }, err: "incomplete"},
		"container of no pod":    {change: func(c *issuer.Claims) { c.Container = "c" }, err: "without its pod"},
		"no account":             {change: func(c *issuer.Claims) { c.Account.Name = "" }, err: "incomplete"},
		"no uid":                 {change: func(c *issuer.Claims) { c.Account.UID = "" }, err: "incomplete"},
		"no audience":            {change: func(c *issuer.Claims) { c.Audiences = nil }, err: "audiences"},
		"empty audience":         {change: func(c *issuer.Claims) { c.Audiences = []string{"a", ""} }, err: "audiences"},
		"no lifetime":            {change: func(c *issuer.Claims) { c.Lifetime = 0 }, err: "lifetime"},
		"lifetime in the past":   {change: func(c *issuer.Claims) { c.Lifetime = -time.Hour }, err: "lifetime"},
		"multimember audience":   {change: func(c *issuer.Claims) { c.Audiences = []string{"1", "2"} }},
		"quotes in the audience": {change: func(c *issuer.Claims) { c.Audiences = []string{`a","exp":1,"x":"<&>`} }},
	}
	i := newIssuer(t)
	ids := map[string]bool{}
	for name, tc := range cases {
		c := goodClaims()
		tc.change(&c)
		token, err := i.Mint(context.Background(), c)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) || fault.KindOf(err) != fault.Internal {
				t.Errorf("%s: error %v, want %q", name, err, tc.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		own := map[string]any{"namespace": "myns", "serviceaccount": ref("mysvcacct")}
		for key, value := range tc.want {
			own[key] = value
		}
		audiences := make([]any, len(c.Audiences))
		for n := range c.Audiences {
			audiences[n] = c.Audiences[n]
		}
		want := map[string]any{
			"iss": url, "sub": "system:serviceaccount:myns:mysvcacct", "aud": audiences, "jti": token.ID, "kubernetes.io": own,
			"iat": float64(start.Unix()), "nbf": float64(start.Unix()), "exp": float64(start.Unix() + 3600),
		}
		if got := payloadOf(t, token.Text.Reveal()); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: payload\n%v, want\n%v", name, got, want)
		}
		if ids[token.ID] || len(token.ID) != 36 || token.ID[14] != '4' || !strings.ContainsRune("89ab", rune(token.ID[19])) || token.CredentialID() != "JTI="+token.ID {
			t.Errorf("%s: id %q", name, token.ID)
		}
		ids[token.ID] = true
		if strings.Contains(fmt.Sprintf("%v %+v", token, token), token.Text.Reveal()) {
			t.Errorf("%s: the token shows when it is printed", name)
		}
	}
}

// TestVerifiedByOthers reads nothing but the published documents and verifies
// with three implementations that are not ours.
func TestVerifiedByOthers(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	token, err := i.Mint(context.Background(), goodClaims())
	must(t, err)
	text := token.Text.Reveal()
	documents, err := i.Documents()
	must(t, err)
	var discovery struct {
		Issuer     string   `json:"issuer"`
		KeySetURL  string   `json:"jwks_uri"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
		Responses  []string `json:"response_types_supported"`
		Subjects   []string `json:"subject_types_supported"`
	}
	must(t, json.Unmarshal(documents.Discovery, &discovery))
	if discovery.Issuer != url || discovery.KeySetURL != url+"/openid/v1/jwks" || !reflect.DeepEqual(discovery.Algorithms, []string{"ES256"}) ||
		!reflect.DeepEqual(discovery.Responses, []string{"id_token"}) || !reflect.DeepEqual(discovery.Subjects, []string{"public"}) {
		t.Errorf("discovery %s", documents.Discovery)
	}
	var set jose.JSONWebKeySet
	must(t, json.Unmarshal(documents.KeySet, &set))
	if len(set.Keys) != 1 || set.Keys[0].Use != "sig" || set.Keys[0].KeyID != i.SigningKeyID() || !set.Keys[0].IsPublic() {
		t.Fatalf("key set %s", documents.KeySet)
	}
	signed, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256})
	must(t, err)
	if _, err := signed.Verify(set); err != nil {
		t.Errorf("go-jose: %v", err)
	}
	_, err = jwt.Parse(text, func(tok *jwt.Token) (any, error) { return set.Key(tok.Header["kid"].(string))[0].Key, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(url), jwt.WithAudience("api"), jwt.WithExpirationRequired(), jwt.WithTimeFunc(func() time.Time { return start }))
	if err != nil {
		t.Errorf("golang-jwt: %v", err)
	}
	// By hand, from the bytes of the key set.
	var raw struct {
		Keys []struct{ X, Y string }
	}
	must(t, json.Unmarshal(documents.KeySet, &raw))
	point := []byte{4} // uncompressed
	for _, coordinate := range []string{raw.Keys[0].X, raw.Keys[0].Y} {
		b, err := base64.RawURLEncoding.DecodeString(coordinate)
		must(t, err)
		point = append(point, b...)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	must(t, err)
	at := strings.LastIndex(text, ".")
	signature, err := base64.RawURLEncoding.DecodeString(text[at+1:])
	must(t, err)
	sum := sha256.Sum256([]byte(text[:at]))
	if !ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		t.Error("crypto/ecdsa: the signature does not verify")
	}
}

// TestChainAcceptsWhatIsMinted closes the circle, key change by key change.
func TestChainAcceptsWhatIsMinted(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	other := newIssuer(t, func(c *issuer.Config) { c.URL = url + "/sites/one" })
	objects := authn.NewIndex(nil)
	objects.Put(authn.ObjectKey{Kind: authn.ServiceAccountObject, Namespace: "myns", Name: "mysvcacct"}, authn.ObjectState{UID: "mysvcacct-uid"})
	objects.Put(authn.ObjectKey{Kind: authn.PodObject, Namespace: "myns", Name: "mypod"}, authn.ObjectState{UID: "mypod-uid"})
	now := start
	chain, err := authn.New(authn.Config{Audiences: []string{"api"}, Issuers: []authn.TrustedIssuer{i.Trusted()}, Objects: objects, Now: func() time.Time { return now }})
	must(t, err)
	mint := func(i *issuer.Issuer) string {
		c := goodClaims()
		c.Pod, c.Container, c.WarnAfter = &issuer.Ref{Name: "mypod", UID: "mypod-uid"}, "main", time.Minute
		token, err := i.Mint(context.Background(), c)
		must(t, err)
		return token.Text.Reveal()
	}
	check := func(what, token string, want authn.Reason) {
		t.Helper()
		id, err := chain.VerifyToken(context.Background(), token, nil)
		if authn.ReasonOf(err) != want || id.Valid() != (want == "") {
			t.Errorf("%s: %q, %v", what, id.Name(), err)
		}
	}
	first, second, hidden := newKey(t), newKey(t), newKey(t)
	must(t, i.SetKeys(issuer.Keys{Signing: first}))
	old := mint(i)
	check("minted", old, "")
	check("minted for a site", mint(other), authn.UnknownIssuer)
	must(t, i.SetKeys(issuer.Keys{Signing: first, Published: []crypto.PublicKey{second.Public()}}))
	check("successor announced", old, "")
	must(t, i.SetKeys(issuer.Keys{Signing: second, Published: []crypto.PublicKey{first.Public(), second.Public()}, Hidden: []crypto.PublicKey{hidden.Public()}}))
	check("old key verifies", old, "")
	check("new key signs", mint(i), "")
	documents, err := i.Documents()
	must(t, err)
	var set jose.JSONWebKeySet
	must(t, json.Unmarshal(documents.KeySet, &set))
	if len(set.Keys) != 2 || set.Keys[0].KeyID != i.SigningKeyID() {
		t.Errorf("key set %s", documents.KeySet)
	}
	must(t, i.SetKeys(issuer.Keys{Signing: hidden}))
	hiddenToken := mint(i)
	must(t, i.SetKeys(issuer.Keys{Signing: second, Hidden: []crypto.PublicKey{hidden.Public()}}))
	check("key outside of the key set", hiddenToken, "")
	check("old key withdrawn", old, authn.Ended)
	must(t, i.SetKeys(issuer.Keys{Signing: second}))
	check("hidden key withdrawn", hiddenToken, authn.Ended)
	now = now.Add(time.Second)
	check("a second later", old, authn.UnknownKey)
}

func TestKeysAndConfigRefused(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "gatehouse.example", "http://gatehouse.example", "https://", "https:///x", "https://h?x=1", "https://h?", "https://h#f", "https://h#", "https://user:p@h", "https://h\x7f", "://"} {
		if _, err := issuer.New(issuer.Config{URL: bad}); err == nil {
			t.Errorf("issuer URL %q: accepted", bad)
		}
		if _, err := issuer.New(issuer.Config{URL: url, KeySetURL: bad}); err == nil && bad != "" {
			t.Errorf("key set URL %q: accepted", bad)
		}
	}
	for _, bad := range []time.Duration{time.Minute, -1, 10 * 366 * 24 * time.Hour} {
		if _, err := issuer.New(issuer.Config{URL: url, MaxLifetime: bad}); err == nil {
			t.Errorf("longest lifetime %v: accepted", bad)
		}
	}
	bare, err := issuer.New(issuer.Config{URL: url})
	must(t, err)
	if _, err := bare.Mint(context.Background(), goodClaims()); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("without keys: %v", err)
	}
	if _, err := bare.Documents(); fault.KindOf(err) != fault.Unavailable || bare.SigningKeyID() != "" {
		t.Errorf("without keys: %v", err)
	}
	i := newIssuer(t)
	id := i.SigningKeyID()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	for name, keys := range map[string]issuer.Keys{
		"none signs":        {},
		"RSA signs":         {Signing: rsaKey},
		"P-384 signs":       {Signing: p384},
		"no public key":     {Signing: newKey(t), Published: []crypto.PublicKey{"x"}},
		"RSA published":     {Signing: newKey(t), Published: []crypto.PublicKey{rsaKey.Public()}},
		"private published": {Signing: newKey(t), Published: []crypto.PublicKey{newKey(t)}},
		"P-384 hidden":      {Signing: newKey(t), Hidden: []crypto.PublicKey{p384.Public()}},
	} {
		if err := i.SetKeys(keys); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if i.SigningKeyID() != id {
		t.Error("refused keys took effect")
	}
	must(t, i.SetKeys(issuer.Keys{Signing: unplugged{newKey(t)}}))
	if _, err := i.Mint(context.Background(), goodClaims()); !errors.Is(err, errUnplugged) {
		t.Errorf("a signer that fails: %v", err)
	}
	c := goodClaims()
	c.Namespace = strings.Repeat("n", 20_000)
	must(t, i.SetKeys(issuer.Keys{Signing: newKey(t)}))
	if _, err := i.Mint(context.Background(), c); err == nil {
		t.Error("a token that nobody reads was minted")
	}
}

var errUnplugged = errors.New("unplugged")

// unplugged is a key in a device that is gone.
type unplugged struct{ *ecdsa.PrivateKey }

func (unplugged) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errUnplugged }

// TestKeyIDIsKubernetes' uses a key that Kubernetes' own tests publish.
func TestKeyIDIsKubernetes(t *testing.T) {
	t.Parallel()
	block, _ := pem.Decode([]byte("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIEZmTmUhuanLjPA2CLquXivuwBDHTt5XYwgIr/kA1LtRoAoGCCqGSM49\nAwEHoUQDQgAEH6cuzP8XuD5wal6wf9M6xDljTOPLX2i8uIp/C/ASqiIGUeeKQtX0\n/IR3qCXyThP/dbCiHrF3v1cuhBOHY8CLVg==\n-----END EC PRIVATE KEY-----\n"))
	key, err := x509.ParseECPrivateKey(block.Bytes)
	must(t, err)
	i := newIssuer(t)
	must(t, i.SetKeys(issuer.Keys{Signing: key}))
	if id := i.SigningKeyID(); id != "SoABiieYuNx4UdqYvZRVeuC6SihxgLrhLy9peHMHpTc" {
		t.Errorf("id %q", id)
	}
}

func BenchmarkMint(b *testing.B) {
	i := newIssuer(b)
	c := goodClaims()
	c.Pod, c.Node = &issuer.Ref{Name: "mypod", UID: "mypod-uid"}, &issuer.Ref{Name: "mynode", UID: "mynode-uid"}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := i.Mint(context.Background(), c); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}
