package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// keySet reads the key set that a stock kube-apiserver publishes.
func keySet(t *testing.T, c client) jose.JSONWebKeySet {
	t.Helper()
	var set jose.JSONWebKeySet
	code, body := c.send(http.MethodGet, "/openid/v1/jwks", http.Header{"Accept": {"application/jwk-set+json"}}, nil)
	if err := json.Unmarshal(body, &set); code != http.StatusOK || err != nil {
		t.Fatalf("key set: %d %s %v", code, body, err)
	}
	return set
}

// verifyOffline verifies a token with nothing but the published keys.
func verifyOffline(t *testing.T, set jose.JSONWebKeySet, issuer, token string) error {
	t.Helper()
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return err
	}
	found := set.Key(parsed.Headers[0].KeyID)
	if len(found) != 1 {
		return fmt.Errorf("no key %q among %d", parsed.Headers[0].KeyID, len(set.Keys))
	}
	var claims jwt.Claims
	if err := parsed.Claims(found[0].Key, &claims); err != nil {
		return err
	}
	return claims.ValidateWithLeeway(jwt.Expected{Issuer: issuer, Subject: "system:serviceaccount:default:robot", Time: time.Now()}, time.Minute)
}

// A stock kube-apiserver has its tokens signed by the control plane, which
// rotates the keys without a restart of either.
func TestSiteTokensSignedElsewhere(t *testing.T) {
	t.Parallel()
	g := shared(t)
	dir, _ := connect(t, g, "signed", "--service-account-tokens", "gatehouse")
	bin, err := harness.BuildGatehouse()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(shortDir(t), "s")
	edge, err := harness.Start("gatehouse-edge", filepath.Join(filepath.Dir(bin), "gatehouse-edge"), nil,
		"signer", "--socket", socket, "--server", g.URL, "--site", "signed", "--dir", dir, "--refresh", "1s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		edge.Kill()
		if t.Failed() {
			t.Logf("--- gatehouse-edge ---\n%s", edge.Log())
		}
	})
	line, err := edge.WaitLine(t.Context(), "issuer ")
	if err != nil {
		t.Fatal(err)
	}
	issuer := strings.TrimPrefix(line, "issuer ")
	if issuer != g.URL+"/sites/signed" {
		t.Errorf("issuer %s", issuer)
	}
	cluster := startCluster(t, "--service-account-signing-endpoint="+socket, "--service-account-issuer="+issuer)
	k, admin := as(t, cluster), adminClient(t, cluster)
	k.run("create", "serviceaccount", "robot", "-n", "default")
	newToken := func() string { return strings.TrimSpace(k.run("create", "token", "robot", "-n", "default")) }
	kid := func(token string) string {
		t.Helper()
		parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		return parsed.Headers[0].KeyID
	}
	old := newToken()
	withToken(t, cluster, old).shows([]string{"system:serviceaccount:default:robot"}, "auth", "whoami")
	var discovery struct {
		Issuer string `json:"issuer"`
	}
	if admin.get("/.well-known/openid-configuration", &discovery); discovery.Issuer != issuer {
		t.Errorf("the cluster's discovery document is about %q", discovery.Issuer)
	}
	if err := verifyOffline(t, keySet(t, admin), issuer, old); err != nil {
		t.Errorf("offline: %v", err)
	}
	jti := "JTI=" + fmt.Sprint(claims(t, old)["jti"])
	if !record(t, g, "--user", "system:site:signed").has(func(e event) bool {
		return e.Annotations["authentication.kubernetes.io/issued-credential-id"] == jti
	}) {
		t.Errorf("no event says that %s was signed", jti)
	}
	// Nobody else trusts it.
	if _, code := bareClient(t, g).whoami(bearerOf(old)); code != http.StatusUnauthorized {
		t.Errorf("the control plane takes the site's token: %d", code)
	}

	var rotated struct{ KeyID string }
	if err := json.Unmarshal([]byte(gatehouse(t, 0, "site", "rotate-keys", "signed", "--lead", "0s", "-o", "json", "--kubeconfig", g.Kubeconfig).Stdout), &rotated); err != nil || rotated.KeyID == "" || rotated.KeyID == kid(old) {
		t.Fatalf("rotation: %+v %v", rotated, err)
	}
	var fresh string
	eventually(t, commandWithin, "the new key signs", func() bool {
		fresh = newToken()
		return kid(fresh) == rotated.KeyID
	})
	for name, token := range map[string]string{"old": old, "new": fresh} {
		withToken(t, cluster, token).shows([]string{"system:serviceaccount:default:robot"}, "auth", "whoami")
		eventually(t, commandWithin, "the "+name+" token verifies offline", func() bool {
			return verifyOffline(t, keySet(t, admin), issuer, token) == nil
		})
	}
	if set := keySet(t, admin); !slices.ContainsFunc(set.Keys, func(key jose.JSONWebKey) bool { return key.KeyID == rotated.KeyID }) || len(set.Keys) != 2 {
		t.Errorf("the key set holds %d keys", len(set.Keys))
	}

	// The doors sign for this site's issuer alone.
	site := asSite(t, g, dir)
	for name, body := range map[string]string{
		"our own issuer": `{"claims":"eyJpc3MiOiJodHRwczovL3gifQ"}`, "no claims": `{}`, "unknown field": `{"claims":"e30","more":1}`, "no JSON": `claims`,
	} {
		if code, answer := site.send(http.MethodPost, "/sites/signed/sign", nil, []byte(body)); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, code, answer)
		}
	}
	if code, _ := site.send(http.MethodPost, "/sites/prod/sign", nil, []byte(`{"claims":"e30"}`)); code != http.StatusForbidden {
		t.Errorf("another site's door: %d", code)
	}
	// Without the right to rotate there is no rotation.
	k2 := as(t, g)
	k2.failsFed(`{"apiVersion":"federation.gatehouse.dev/v1alpha1","kind":"SiteKeyRotation"}`, 1, []string{"Forbidden"},
		"create", "--raw", "/apis/federation.gatehouse.dev/v1alpha1/sites/signed/keyrotation", "-f", "-", "--as=mallory")

	// A cluster whose issuer is another one gets no token.
	other := startClusterWithIssuer(t, socket)
	o := as(t, other)
	o.run("create", "serviceaccount", "robot", "-n", "default")
	o.fails(1, []string{"--service-account-issuer=" + issuer}, "create", "token", "robot", "-n", "default")
}

func startClusterWithIssuer(t *testing.T, socket string) *harness.Cluster {
	t.Helper()
	return startCluster(t, "--service-account-signing-endpoint="+socket, "--service-account-issuer=https://other.example")
}
