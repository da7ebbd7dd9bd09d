package e2e

import (
	"bytes"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// What attackers send is refused with 401 and one record, and neither crashes
// the server nor holds up other providers.
func TestHostileCredentials(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "gatehouse.yaml")
	if err := os.WriteFile(config, []byte("apiVersion: config.gatehouse.dev/v1alpha1\nkind: Configuration\nauthentication: {allowLoopbackIssuers: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := start(t, "--config", config)
	k, anybody := as(t, g), bareClient(t, g)
	staff, other := newIDP(t), newIDP(t)
	k.feed(staff.resource("staff"), "create", "-f", "-")
	k.feed(other.resource("other"), "create", "-f", "-")
	signsIn := func(p *idp) bool {
		_, code := anybody.whoami(bearerOf(p.token(nil)))
		return code == http.StatusCreated
	}
	eventually(t, commandWithin, "both providers count", func() bool { return signsIn(staff) && signsIn(other) })

	// Providers whose key sets are traps.
	trap := func(name string, serve func(w http.ResponseWriter, r *http.Request)) *idp {
		p := newIDP(t)
		document := func() map[string]string {
			return map[string]string{"issuer": p.server.URL, "jwks_uri": p.server.URL + "/keys"}
		}
		server := p.server
		p.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/keys") {
				serve(w, r)
				return
			}
			_ = json.NewEncoder(w).Encode(document())
		}))
		server.Close()
		t.Cleanup(p.server.Close)
		k.feed(p.resource(name), "create", "-f", "-")
		return p
	}
	slow := trap("slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }) // until the server has had enough
	huge := trap("huge", func(w http.ResponseWriter, r *http.Request) {
		chunk := bytes.Repeat([]byte(" "), 1<<16)
		for range 1 << 10 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	circular := trap("circular", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) })

	k.run("create", "serviceaccount", "robot", "-n", "default")
	ours := strings.TrimSpace(k.run("create", "token", "robot"))
	header, rest, _ := strings.Cut(ours, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	keys := keySet(t, adminClient(t, g))
	der, err := x509.MarshalPKIXPublicKey(keys.Keys[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, isRSA := keys.Keys[0].Key.(*rsa.PublicKey); isRSA {
		t.Fatal("the key confusion below is for ECDSA keys")
	}
	hs := func(secret []byte) string {
		signed := b64(`{"alg":"HS256","kid":"`+keys.Keys[0].KeyID+`"}`) + "." + payload
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(signed))
		return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	far := time.Now().Add(1000 * 24 * time.Hour)
	hostile := map[string]string{
		"no algorithm":                 b64(`{"alg":"none"}`) + "." + payload + ".",
		"HS256 with the public key":    hs(der),
		"one issuer's key for other's": staff.token(map[string]any{"iss": other.server.URL}),
		"a provider's key for ours":    staff.token(map[string]any{"iss": g.URL}),
		"our payload, other header":    b64(`{"alg":"ES256","kid":"../../../dev/null"}`) + "." + payload + "." + signature,
		"a kid that is SQL":            b64(`{"alg":"ES256","kid":"' OR 1=1 --"}`) + "." + payload + "." + signature,
		"a key in the header":          b64(`{"alg":"ES256","jwk":{"kty":"EC"}}`) + "." + payload + "." + signature,
		"a key behind a URL":           b64(`{"alg":"ES256","jku":"https://127.0.0.1:1/keys","kid":"one"}`) + "." + payload + "." + signature,
		"duplicate claims":             header + "." + b64(`{"iss":"`+g.URL+`","sub":"a","sub":"b"}`) + "." + signature,
		"a nested token":               b64(`{"alg":"ES256","cty":"JWT","kid":"one"}`) + "." + b64(ours) + "." + signature,
		"far-future nbf":               staff.token(map[string]any{"nbf": far.Unix(), "exp": far.Add(time.Hour).Unix()}),
		"expired":                      staff.token(map[string]any{"exp": 1}),
		"a megabyte":                   header + "." + strings.Repeat("A", 1<<20) + "." + signature,
		"a cut signature":              ours[:len(ours)-1],
		"slow keys":                    slow.token(nil),
		"huge keys":                    huge.token(nil),
		"circular keys":                circular.token(nil),
		"an unknown issuer":            newIDP(t).token(nil),
		"an access key of nobody":      "ghk_" + strings.Repeat("a", 16) + "_" + strings.Repeat("a", 52),
		"a bootstrap token of nobody":  "aaaaaa.aaaaaaaaaaaaaaaa",
	}
	// All at once, with honest callers between them.
	paths, n := map[string]string{}, 0
	for name := range hostile {
		n++
		paths[name] = fmt.Sprintf("/api/v1/namespaces/default/configmaps?labelSelector=hostile%%3Dn%dn", n)
	}
	var wg sync.WaitGroup
	answered := make(chan time.Time, 1)
	for name, token := range hostile {
		wg.Go(func() {
			if name == "slow keys" {
				defer func() { answered <- time.Now() }()
			}
			if code, body := anybody.send(http.MethodGet, paths[name], bearerOf(token), nil); code != http.StatusUnauthorized {
				t.Errorf("%s: %d %.300s", name, code, body)
			}
		})
	}
	if !signsIn(staff) || !signsIn(other) {
		t.Error("an honest caller is refused meanwhile")
	}
	honest := time.Now()
	wg.Wait()
	if slowest := <-answered; honest.After(slowest) {
		t.Errorf("honest callers waited for the keys of others, until %v after those were given up", honest.Sub(slowest))
	}
	count := map[string]int{}
	for _, e := range record(t, g) {
		if e.ResponseStatus.Code == http.StatusUnauthorized {
			count[e.RequestURI]++
		}
	}
	for name, path := range paths {
		if count[path] != 1 {
			t.Errorf("%s: %d records", name, count[path])
		}
	}
	if !signsIn(staff) || withToken(t, g, ours).exec("", "auth", "whoami").Code != 0 {
		t.Error("afterwards an honest caller is refused")
	}
}

var soakTokens = flag.Int("soak-tokens", 150, "tokens to mint and look for on disk")

// After many tokens of every kind, none is found on disk: neither whole, nor
// its signature, nor its payload, nor the secret of a key.
func TestNoTokenOnDisk(t *testing.T) {
	t.Parallel()
	g := start(t)
	k, admin := as(t, g), adminClient(t, g)
	k.namespace("minted")
	k.run("create", "serviceaccount", "robot", "-n", "minted")
	k.feed("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\nmetadata: {name: old, namespace: minted, annotations: {kubernetes.io/service-account.name: robot}}\n", "create", "-f", "-")

	// marks are by their first bytes, so that one pass over a file finds any.
	const length = 24
	marks := map[string]string{}
	var mu sync.Mutex
	note := func(what, secret string) {
		mu.Lock()
		defer mu.Unlock()
		if len(secret) < length {
			t.Errorf("%s is too short to look for", what)
			return
		}
		marks[secret[:length]] = what
	}
	jwt := func(what, token string) {
		parts := strings.Split(token, ".")
		if len(parts) != 3 {
			t.Errorf("%s is no token", what)
			return
		}
		// The payloads of all begin alike; their ends do not.
		note(what+", payload", parts[1][len(parts[1])-length:])
		note(what+", signature", parts[2])
	}
	work := make(chan int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range work {
				code, body := admin.send(http.MethodPost, "/api/v1/namespaces/minted/serviceaccounts/robot/token", nil, []byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":[]}}`))
				var made struct {
					Status struct{ Token, Secret string }
				}
				if err := json.Unmarshal(body, &made); code != http.StatusCreated || err != nil {
					t.Errorf("mint: %d %v", code, err)
					continue
				}
				jwt("a token", made.Status.Token)
				switch {
				case i%10 == 0:
					admin.send(http.MethodPost, tr1, nil, []byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"`+made.Status.Token+`"}}`))
				case i%10 == 1:
					admin.send(http.MethodGet, "/api", bearerOf(made.Status.Token), nil)
				case i%10 == 2: // refused ones are recorded, too
					admin.send(http.MethodGet, "/api?token="+made.Status.Token, bearerOf(made.Status.Token+"x"), nil)
				case i%50 == 3:
					code, body := admin.send(http.MethodPost, "/apis/identity.gatehouse.dev/v1alpha1/namespaces/minted/accesskeys", nil, []byte(fmt.Sprintf(`{"apiVersion":"identity.gatehouse.dev/v1alpha1","kind":"AccessKey","metadata":{"name":"k%d"},"spec":{"audience":"gatehouse","subject":{"serviceAccount":"robot"}}}`, i)))
					if err := json.Unmarshal(body, &made); code != http.StatusCreated || err != nil {
						t.Errorf("access key: %d %v", code, err)
						continue
					}
					note("an access key", made.Status.Secret[21:])
					admin.send(http.MethodGet, "/api", bearerOf(made.Status.Secret), nil)
					admin.send(http.MethodGet, "/api/"+made.Status.Secret, nil, nil)
				}
			}
		})
	}
	for i := range *soakTokens {
		work <- i
	}
	close(work)
	wg.Wait()
	var legacy string
	eventually(t, commandWithin, "the secret is filled", func() bool {
		legacy = k.exec("", "get", "secret", "-n", "minted", "old", "-o", "go-template={{.data.token | base64decode}}").Stdout
		return strings.Count(legacy, ".") == 2
	})
	jwt("a token of a secret", legacy)
	withToken(t, g, legacy).run("auth", "whoami")
	const open = "lighthouse-0815-above-the-waves-of-the-sea"
	k.run("create", "configmap", "c", "-n", "minted", "--from-literal=k="+open)
	marks[open[:length]] = ""
	g.Kill()

	found := false
	files(t, g.DataDir, func(path string, _ fs.FileInfo, content []byte) {
		for i := 0; i+length <= len(content); i++ {
			what, ok := marks[string(content[i:i+length])]
			switch {
			case !ok:
			case what == "":
				found = true // the search can find something
			default:
				t.Fatalf("%s holds %s in clear", path, what)
			}
		}
	})
	if !found {
		t.Error("the value of a configmap is nowhere on disk: the search proves nothing")
	}
	t.Logf("looked for %d marks of %d tokens", len(marks)-1, *soakTokens)
}
