package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// An idp is an issuer of tokens that somebody else runs.
type idp struct {
	t      *testing.T
	server *httptest.Server
	key    *ecdsa.PrivateKey
	down   atomic.Bool
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &idp{t: t, key: key}
	p.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case p.down.Load():
			w.WriteHeader(http.StatusBadGateway)
		case strings.HasSuffix(r.URL.Path, "/keys"):
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "ES256", Use: "sig"}}})
		default:
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": p.server.URL, "jwks_uri": p.server.URL + "/keys"})
		}
	}))
	t.Cleanup(p.server.Close)
	return p
}

func (p *idp) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw}))
}

func (p *idp) token(changes map[string]any) string {
	p.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: "one"}}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	all := map[string]any{"iss": p.server.URL, "aud": "gatehouse", "sub": "jane", "groups": []string{"team"}, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "jti": fmt.Sprint(time.Now().UnixNano())}
	maps.Copy(all, changes)
	body, err := json.Marshal(all)
	if err != nil {
		p.t.Fatal(err)
	}
	signed, err := signer.Sign(body)
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

// resource is the provider as a resource of that name.
func (p *idp) resource(name string) string {
	return fmt.Sprintf(`{"apiVersion":"identity.gatehouse.dev/v1alpha1","kind":"IdentityProvider","metadata":{"name":%q},"spec":{"jwt":{
"issuer":{"url":%q,"audiences":["gatehouse"],"certificateAuthority":%q},
"claimMappings":{"username":{"claim":"sub","prefix":"%[1]s:"},"groups":{"claim":"groups","prefix":"%[1]s:"}}}}}`, name, p.server.URL, p.ca())
}

// A provider counts as soon as it is written, ends as soon as it is deleted,
// and takes nobody down with it when it is away.
func TestIdentityProviders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	static, staff, guests := newIDP(t), newIDP(t), newIDP(t)
	file := filepath.Join(dir, "authentication.yaml")
	writeFile := func(p *idp) {
		t.Helper()
		text := fmt.Sprintf(`{"apiVersion":"apiserver.config.k8s.io/v1","kind":"AuthenticationConfiguration","jwt":[{"issuer":{"url":%q,"audiences":["gatehouse"],"certificateAuthority":%q},"claimMappings":{"username":{"claim":"sub","prefix":"static:"}}}]}`, p.server.URL, p.ca())
		replaceFile(t, file, text)
	}
	writeFile(static)
	config := filepath.Join(dir, "gatehouse.yaml")
	if err := os.WriteFile(config, []byte("apiVersion: config.gatehouse.dev/v1alpha1\nkind: Configuration\nauthentication: {allowLoopbackIssuers: true, configFile: "+file+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	gatehouse(t, 0, "check", "--config", config)
	g := start(t, "--config", config)
	k, admin, anybody := as(t, g), adminClient(t, g), bareClient(t, g)
	name := func(p *idp, changes map[string]any) string {
		t.Helper()
		who, code := anybody.whoami(bearerOf(p.token(changes)))
		if code != http.StatusCreated {
			return fmt.Sprint(code)
		}
		return who.Status.UserInfo.Username + fmt.Sprint(who.Status.UserInfo.Groups)
	}
	is := func(what string, p *idp, want string) {
		t.Helper()
		last := ""
		eventually(t, commandWithin, what+" is "+want, func() bool { last = name(p, nil); return last == want })
	}
	is("the file's issuer", static, "static:jane[system:authenticated]")
	is("an unknown issuer", staff, "401")
	k.feed(staff.resource("staff"), "create", "-f", "-")
	is("the new issuer", staff, "staff:jane[staff:team system:authenticated]")
	k.feed(guests.resource("guests"), "create", "-f", "-")
	is("another one", guests, "guests:jane[guests:team system:authenticated]")
	for what, changes := range map[string]map[string]any{
		"expired": {"exp": time.Now().Add(-time.Hour).Unix()}, "another audience": {"aud": "other"}, "far future": {"nbf": time.Now().Add(1000 * time.Hour).Unix()},
	} {
		if got := name(staff, changes); got != "401" {
			t.Errorf("%s: %s", what, got)
		}
	}
	// An issuer has one provider: the first.
	k.feed(staff.resource("twice"), "create", "-f", "-")
	eventually(t, commandWithin, "the second provider of an issuer is refused", func() bool {
		return k.run("get", "idp", "twice", "-o", `jsonpath={.status.conditions[?(@.type=="Accepted")].status}`) == "False"
	})
	k.run("delete", "idp", "twice")
	k.failsFed(strings.Replace(staff.resource("own"), staff.server.URL, g.URL, 1), 1, []string{"spec.jwt.issuer.url"}, "create", "-f", "-")

	// One that is away is named, and the others go on.
	k.feed(strings.Replace(staff.resource("gone"), staff.server.URL, "https://127.0.0.1:1", 1), "create", "-f", "-")
	guests.down.Store(true)
	stranger := newIDP(t)
	stranger.server.URL = "https://127.0.0.1:1"
	is("a token of the provider that is away", stranger, "401")
	is("while one is away, the others", staff, "staff:jane[staff:team system:authenticated]")
	eventually(t, commandWithin, "the status tells", func() bool {
		return k.run("get", "idp", "gone", "-o", `jsonpath={.status.conditions[?(@.type=="Available")].status}`) == "False"
	})
	code, body := admin.send(http.MethodGet, "/readyz?verbose", nil, nil)
	if code != http.StatusOK || !strings.Contains(string(body), "[i]identity-provider gone down since") || !strings.Contains(string(body), "[i]identity-provider staff ok") {
		t.Errorf("readiness: %d\n%s", code, body)
	}
	if _, body := admin.send(http.MethodGet, "/metrics", nil, nil); !strings.Contains(string(body), `gatehouse_identity_provider_up{provider="gone"} 0`) || !strings.Contains(string(body), `gatehouse_identity_provider_up{provider="staff"} 1`) {
		t.Error("the metrics do not tell which provider is away")
	}

	// Whoever may write providers but not be anybody cannot make himself one.
	k.run("create", "clusterrole", "idp-writer", "--verb=create", "--resource=identityproviders.identity.gatehouse.dev")
	k.run("create", "clusterrolebinding", "idp-writer", "--clusterrole=idp-writer", "--user=mallory")
	k.can(true, "create", "identityproviders.identity.gatehouse.dev", "--as=mallory")
	k.failsFed(stranger.resource("mallory"), 1, []string{"Forbidden", "impersonate"}, "create", "-f", "-", "--as=mallory")

	keysOfPeople(t, g, k)

	// The file counts again when it changes; deleted resources end at once.
	other := newIDP(t)
	writeFile(other)
	is("the file's new issuer", other, "static:jane[system:authenticated]")
	is("the file's old issuer", static, "401")
	token := staff.token(nil)
	if _, code := anybody.whoami(bearerOf(token)); code != http.StatusCreated {
		t.Fatalf("before the end: %d", code)
	}
	k.run("delete", "idp", "staff")
	promptly(t, effectWithin*5, "a token that was used ends with its provider", func() bool {
		_, code := anybody.whoami(bearerOf(token))
		return code == http.StatusUnauthorized
	})
}

// A person's key is the person, with what the provider said of them: what is
// denied for it is denied to the key, and the key ends with a ban on the ID
// token that made it.
func keysOfPeople(t *testing.T, g *harness.Gatehouse, k kube) {
	t.Helper()
	partners := newIDP(t)
	k.feed(strings.Replace(partners.resource("partners"), `"claimMappings":{`, `"claimMappings":{"extra":[{"key":"example.org/level","valueExpression":"claims.level"}],`, 1), "create", "-f", "-")
	k.namespace("partners")
	k.run("create", "role", "partners", "-n", "partners", "--verb=create,get", "--resource=accesskeys.identity.gatehouse.dev,configmaps")
	k.run("create", "rolebinding", "partners", "-n", "partners", "--role=partners", "--group=partners:team")
	k.feed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: no-interns}
spec:
  effect: Deny
  subjects: [{kind: Group, name: partners:team}]
  rules: [{apiGroups: [""], resources: [configmaps], verbs: ["*"]}]
  sites: [gatehouse]
  namespaces: {names: [partners]}
  condition: '"example.org/level" in request.extra && "intern" in request.extra["example.org/level"]'
`, "create", "-f", "-")
	const manifest = "apiVersion: identity.gatehouse.dev/v1alpha1\nkind: AccessKey\nmetadata: {generateName: own-, namespace: partners}\nspec: {audience: gatehouse%s}\n"
	secrets := map[string]string{}
	for _, level := range []string{"intern", "senior"} {
		token := partners.token(map[string]any{"level": level, "jti": "id-of-" + level})
		person := withToken(t, g, token)
		want := map[string]int{"intern": 1, "senior": 0}[level]
		eventually(t, commandWithin, level+" is signed in", func() bool {
			return person.exec("", "get", "accesskeys", "x", "-n", "partners").Code == 1 && person.exec("", "get", "configmap", "kube-root-ca.crt", "-n", "partners").Code == want
		})
		secrets[level] = person.feed(fmt.Sprintf(manifest, ""), "create", "-f", "-", "-o", "jsonpath={.status.secret}")
		if got := withToken(t, g, secrets[level]).exec("", "get", "configmap", "kube-root-ca.crt", "-n", "partners"); got.Code != want {
			t.Errorf("the key of %s: %v", level, got)
		}
		// Without what was said of the person it would be another.
		person.failsFed(fmt.Sprintf(manifest, `, subject: {user: "partners:jane", groups: ["partners:team"]}`), 1, []string{"orbidden"}, "create", "-f", "-")
	}
	who, _ := bareClient(t, g).whoami(bearerOf(secrets["intern"]))
	if got := fmt.Sprint(who.Status.UserInfo.Extra["example.org/level"]); got != "[intern]" {
		t.Errorf("the key says of its holder: %s", got)
	}
	revoke(t, g, "credential", "JTI=id-of-intern")
	eventually(t, commandWithin, "the key ends with the ID token that made it", func() bool {
		_, code := bareClient(t, g).whoami(bearerOf(secrets["intern"]))
		return code == http.StatusUnauthorized
	})
	if _, code := bareClient(t, g).whoami(bearerOf(secrets["senior"])); code != http.StatusCreated {
		t.Errorf("another key of the same name: %d", code)
	}
}
