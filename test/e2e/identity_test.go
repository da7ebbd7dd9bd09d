package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// gatehouse runs a subcommand that must end with the given code.
func gatehouse(t *testing.T, code int, args ...string) harness.Result {
	t.Helper()
	got, err := harness.RunGatehouse(t.Context(), args...)
	if err != nil || got.Code != code {
		t.Fatalf("gatehouse %s: %v %v", strings.Join(args, " "), err, got)
	}
	return got
}

// whoami is what the control plane takes the bearer of a token for.
type whoami struct {
	Status struct {
		UserInfo struct {
			Username string
			Groups   []string
			Extra    map[string][]string
		}
	}
}

const selfReview = `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`

func (c client) whoami(header http.Header) (whoami, int) {
	c.t.Helper()
	var out whoami
	code, body := c.send(http.MethodPost, "/apis/authentication.k8s.io/v1/selfsubjectreviews", header, []byte(selfReview))
	if code == http.StatusCreated {
		if err := json.Unmarshal(body, &out); err != nil {
			c.t.Fatal(err)
		}
	}
	return out, code
}

func bearerOf(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// Two containers of one pod hold tokens that tell them apart, and the request
// that made each is on record with the id of its token.
func TestTokenOfOneContainer(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k, admin := as(t, g), adminClient(t, g)
	k.namespace("containers")
	k.run("create", "serviceaccount", "runner", "-n", "containers")
	k.feed(pod("web", "containers"), "create", "-f", "-")
	ask := func(container, bound string, seconds int) (int, []byte) {
		return admin.send(http.MethodPost, "/api/v1/namespaces/containers/serviceaccounts/runner/token", nil, []byte(fmt.Sprintf(
			`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","metadata":{"annotations":{"authentication.gatehouse.dev/container-name":%q}},"spec":{"audiences":[],"expirationSeconds":%d%s}}`, container, seconds, bound)))
	}
	const toPod = `,"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"web"}`
	code, body := ask("main", toPod, 3600)
	var made struct{ Status struct{ Token string } }
	if err := json.Unmarshal(body, &made); code != http.StatusCreated || err != nil {
		t.Fatalf("token for the container: %d %s %v", code, body, err)
	}
	who, code := bareClient(t, g).whoami(bearerOf(made.Status.Token))
	extra := who.Status.UserInfo.Extra
	if code != http.StatusCreated || fmt.Sprint(extra["authentication.gatehouse.dev/container-name"]) != "[main]" || fmt.Sprint(extra["authentication.kubernetes.io/pod-name"]) != "[web]" {
		t.Errorf("the token's holder is %d %v", code, extra)
	}
	id := "JTI=" + fmt.Sprint(claims(t, made.Status.Token)["jti"])
	if !record(t, g, "--resource", "serviceaccounts", "--namespace", "containers").has(func(e event) bool {
		return e.Annotations["authentication.kubernetes.io/issued-credential-id"] == id
	}) {
		t.Errorf("no event says that %s was issued", id)
	}
	for name, tc := range map[string]struct{ container, bound, says string }{
		"a container of no pod":             {"main", "", "bound to its pod"},
		"a container of a secret":           {"main", `,"boundObjectRef":{"apiVersion":"v1","kind":"Secret","name":"web"}`, "bound to its pod"},
		"a container the pod has not":       {"other", toPod, "does not have"},
		"a container by an impossible name": {"a/b", toPod, "does not have"},
	} {
		if code, body := ask(tc.container, tc.bound, 3600); code < 400 || code >= 500 || !strings.Contains(string(body), tc.says) {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	// What is shortened is said.
	got := k.exec("", "create", "token", "runner", "-n", "containers", "--duration", "100h")
	if got.Code != 0 || !strings.Contains(got.Stderr, "Warning: requested expiration of 360000 seconds shortened to 86400 seconds") {
		t.Errorf("a long token: %v", got)
	}
}

// A token in a secret is made for the annotated secret alone, marked when it is
// used, listed, ended, and gone with its secret.
func TestLegacyTokens(t *testing.T) {
	t.Parallel()
	g := start(t)
	k := as(t, g)
	k.namespace("old")
	k.run("create", "serviceaccount", "robot", "-n", "old")
	secret := func(name, account string) string {
		return "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\nmetadata: {name: " + name + ", namespace: old, annotations: {kubernetes.io/service-account.name: " + account + "}}\n"
	}
	k.feed(secret("used", "robot"), "create", "-f", "-")
	k.feed(secret("unused", "robot"), "create", "-f", "-")
	k.feed(secret("orphan", "nobody"), "create", "-f", "-")
	read := func(name, path string) string {
		return k.exec("", "get", "secret", "-n", "old", name, "-o", "jsonpath="+path).Stdout
	}
	eventually(t, commandWithin, "the secrets are filled", func() bool {
		return read("used", "{.data.token}") != "" && read("unused", "{.data.token}") != "" && k.exec("", "get", "secret", "-n", "old", "orphan").Code == 1
	})
	token := k.run("get", "secret", "-n", "old", "used", "-o", "go-template={{.data.token | base64decode}}")
	if got := read("used", `{.metadata.annotations.kubernetes\.io/service-account\.uid}`); got != k.run("get", "sa", "-n", "old", "robot", "-o", "jsonpath={.metadata.uid}") {
		t.Errorf("annotated with uid %q", got)
	}
	robot := withToken(t, g, token)
	today := time.Now().UTC().Format(time.DateOnly)
	got := robot.exec("", "auth", "whoami")
	if got.Code != 0 || !strings.Contains(got.Stdout, "system:serviceaccount:old:robot") || !strings.Contains(got.Stderr, "Warning: the token of Secret old/used never expires") {
		t.Fatalf("using it: %v", got)
	}
	tomorrow := time.Now().UTC().Format(time.DateOnly) // if the story runs at midnight
	eventually(t, commandWithin, "the use is on the label", func() bool {
		used := read("used", `{.metadata.labels.kubernetes\.io/legacy-token-last-used}`)
		if used == tomorrow {
			today = tomorrow
		}
		return used == today
	})
	if !record(t, g, "--user", "system:serviceaccount:old:robot").has(func(e event) bool {
		return e.Annotations["authentication.k8s.io/legacy-token-manual-secret"] == "used"
	}) {
		t.Error("no event tells of the secret")
	}
	// On the fast lane too.
	code, header := postForHeader(t, bareClient(t, g), token)
	if code != http.StatusForbidden || !strings.Contains(header.Get("Warning"), "never expires") {
		t.Errorf("a review with it: %d %v", code, header)
	}

	list := func(code int, args ...string) string {
		t.Helper()
		return gatehouse(t, code, append([]string{"tokens", "legacy", "--kubeconfig", g.Kubeconfig}, args...)...).Stdout
	}
	if out := list(0); !strings.Contains(out, "used") || !strings.Contains(out, today) || !strings.Contains(out, "never") {
		t.Errorf("inventory:\n%s", out)
	}
	var rows []struct{ Secret, LastUsed, InvalidSince string }
	if err := json.Unmarshal([]byte(list(0, "-o", "json", "--unused-for", "1ms")), &rows); err != nil || len(rows) != 1 || rows[0].Secret != "unused" {
		t.Errorf("unused: %v %v", rows, err)
	}
	list(1, "--unused-for", "24h")
	list(2, "used", "--invalidate")
	list(0, "--namespace", "old", "used", "--invalidate")
	refused := func() bool { return robot.exec("", "auth", "whoami").Code != 0 }
	promptly(t, effectWithin*5, "the token is refused", refused)
	list(0, "--namespace", "old", "used", "--restore")
	promptly(t, effectWithin*5, "the token is accepted again", func() bool { return !refused() })
	k.run("delete", "serviceaccount", "robot", "-n", "old")
	eventually(t, commandWithin, "the secrets go with their account", func() bool {
		return refused() && k.exec("", "get", "secret", "-n", "old", "used").Code == 1
	})
}

// postForHeader asks a review of the fast lane and returns the answer's header.
func postForHeader(t *testing.T, c client, token string) (int, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.base+"/apis/authorization.k8s.io/v1/subjectaccessreviews",
		strings.NewReader(`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"x","nonResourceAttributes":{"path":"/","verb":"get"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header
}

// A bootstrap token signs in from the moment its secret is there until it is
// gone.
func TestBootstrapToken(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k, anybody := as(t, g), bareClient(t, g)
	const token = "abcdef.0123456789abcdef"
	works := func() bool {
		who, code := anybody.whoami(bearerOf(token))
		return code == http.StatusCreated && who.Status.UserInfo.Username == "system:bootstrap:abcdef" && strings.Contains(fmt.Sprint(who.Status.UserInfo.Groups), "system:bootstrappers:lab")
	}
	if works() {
		t.Fatal("a token without a secret signs in")
	}
	k.feed(`apiVersion: v1
kind: Secret
type: bootstrap.kubernetes.io/token
metadata: {name: bootstrap-token-abcdef, namespace: kube-system}
stringData: {token-id: abcdef, token-secret: 0123456789abcdef, usage-bootstrap-authentication: "true", auth-extra-groups: "system:bootstrappers:lab"}
`, "create", "-f", "-")
	promptly(t, effectWithin*5, "the token signs in", works)
	if _, code := anybody.whoami(bearerOf("abcdef.0123456789abcdee")); code != http.StatusUnauthorized {
		t.Errorf("a wrong secret: %d", code)
	}
	k.run("delete", "secret", "-n", "kube-system", "bootstrap-token-abcdef")
	promptly(t, effectWithin*5, "the token ends", func() bool { return !works() })
}

// A proxy of the configured authority speaks for its callers, and nobody else.
func TestAuthenticatingProxy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, caKey := certify(t, "proxy-ca", nil, nil)
	file := filepath.Join(dir, "proxy-ca.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "gatehouse.yaml")
	if err := os.WriteFile(config, []byte("apiVersion: config.gatehouse.dev/v1alpha1\nkind: Configuration\nauthentication: {requestHeader: {clientCAFile: "+file+", allowedNames: [front]}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := start(t, "--config", config)
	proxy := func(name string) client {
		leaf, key := certify(t, name, ca, caKey)
		return bareClient(t, g, tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key})
	}
	jane := http.Header{"X-Remote-User": {"jane"}, "X-Remote-Group": {"team"}, "X-Remote-Extra-Example.org%2fdesk": {"7"}}
	who, code := proxy("front").whoami(jane)
	if u := who.Status.UserInfo; code != http.StatusCreated || u.Username != "jane" || fmt.Sprint(u.Groups) != "[team system:authenticated]" || fmt.Sprint(u.Extra["example.org/desk"]) != "[7]" {
		t.Errorf("through the proxy: %d %+v", code, u)
	}
	for name, try := range map[string]func() (whoami, int){
		"a proxy of another name": func() (whoami, int) { return proxy("back").whoami(jane) },
		"the proxy for itself":    func() (whoami, int) { return proxy("front").whoami(nil) },
		"the proxy for a site":    func() (whoami, int) { return proxy("front").whoami(http.Header{"X-Remote-User": {"system:site:blue"}}) },
		"nobody's certificate":    func() (whoami, int) { return bareClient(t, g).whoami(jane) },
	} {
		if who, code := try(); code != http.StatusUnauthorized {
			t.Errorf("%s: %d %+v", name, code, who)
		}
	}
	// Who signs in otherwise is who that says, whatever headers come along.
	if who, code := adminClient(t, g).whoami(jane); code != http.StatusCreated || who.Status.UserInfo.Username != "gatehouse-admin" {
		t.Errorf("the administrator with headers: %d %+v", code, who)
	}
}

// certify makes a certificate for a client, or without a parent an authority.
func certify(t *testing.T, name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if parent == nil {
		parent, parentKey = template, key
		template.IsCA, template.KeyUsage, template.ExtKeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// Certificates of somebody else's authority sign people in, by ordinary names
// only, until the authority takes them back.
func TestForeignClientCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, caKey := certify(t, "company", nil, nil)
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		replaceFile(t, path, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
		return path
	}
	list := func(number int64, next time.Time, revoked ...*x509.Certificate) string {
		template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Minute + time.Duration(number)*time.Second), NextUpdate: next}
		for _, c := range revoked {
			template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
		}
		der, err := x509.CreateRevocationList(rand.Reader, template, ca, caKey)
		if err != nil {
			t.Fatal(err)
		}
		return file("company.crl", "X509 CRL", der)
	}
	later := time.Now().Add(time.Hour)
	config := filepath.Join(dir, "gatehouse.yaml")
	if err := os.WriteFile(config, []byte("apiVersion: config.gatehouse.dev/v1alpha1\nkind: Configuration\nauthentication: {clientCertificates: {caFile: "+
		file("company.crt", "CERTIFICATE", ca.Raw)+", crlFiles: ["+list(1, later)+"]}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := start(t, "--config", config)
	person := func(name string) (*x509.Certificate, client) {
		leaf, key := certify(t, name, ca, caKey)
		return leaf, bareClient(t, g, tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key})
	}
	leaf, jane := person("jane")
	_, bob := person("bob")
	who, code := jane.whoami(nil)
	if code != http.StatusCreated || who.Status.UserInfo.Username != "jane" || !strings.HasPrefix(fmt.Sprint(who.Status.UserInfo.Extra["authentication.kubernetes.io/credential-id"]), "[X509SHA256=") {
		t.Errorf("jane: %d %+v", code, who)
	}
	for _, name := range []string{"system:kube-controller-manager", "system:serviceaccount:kube-system:default", "system:site:blue", "gatehouse:x"} {
		if _, c := person(name); c.t != nil {
			if who, code := c.whoami(nil); code != http.StatusUnauthorized {
				t.Errorf("%s: %d %+v", name, code, who)
			}
		}
	}
	list(2, later, leaf)
	eventually(t, 3*commandWithin, "jane's certificate is revoked", func() bool { _, code := jane.whoami(nil); return code == http.StatusUnauthorized })
	if _, code := bob.whoami(nil); code != http.StatusCreated {
		t.Errorf("bob, when jane is revoked: %d", code)
	}
	// An authority that is late with its list vouches for nobody; the control
	// plane's own does.
	list(3, time.Now().Add(-time.Second))
	eventually(t, 3*commandWithin, "the list is overdue", func() bool { _, code := bob.whoami(nil); return code == http.StatusUnauthorized })
	if _, code := adminClient(t, g).whoami(nil); code != http.StatusCreated {
		t.Errorf("the administrator: %d", code)
	}
}

// What clients of Kubernetes expect to find: the authority of the API in every
// namespace, and what an authenticating proxy and a delegating server need.
func TestPublishedTrust(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	k.namespace("published")
	read := func(namespace, name, key string) string {
		return k.exec("", "get", "configmap", name, "-n", namespace, "-o", `go-template={{index .data "`+key+`"}}`).Stdout
	}
	certificate := func(text string) bool { return strings.HasPrefix(text, "-----BEGIN CERTIFICATE-----") }
	eventually(t, commandWithin, "the authority is there", func() bool { return certificate(read("published", "kube-root-ca.crt", "ca.crt")) })
	ca := read("published", "kube-root-ca.crt", "ca.crt")
	k.run("patch", "configmap", "kube-root-ca.crt", "-n", "published", "--type=merge", "-p", `{"data":{"ca.crt":"mine"}}`)
	eventually(t, commandWithin, "it is mended", func() bool { return read("published", "kube-root-ca.crt", "ca.crt") == ca })
	k.run("delete", "configmap", "kube-root-ca.crt", "-n", "published")
	eventually(t, commandWithin, "it is back", func() bool { return read("published", "kube-root-ca.crt", "ca.crt") == ca })
	k.run("delete", "namespace", "published")

	const delegation = "extension-apiserver-authentication"
	eventually(t, commandWithin, "the trust of delegating servers is there", func() bool {
		return certificate(read("kube-system", delegation, "client-ca-file")) && certificate(read("kube-system", delegation, "requestheader-client-ca-file"))
	})
	for key, want := range map[string]string{
		"requestheader-username-headers": `["X-Remote-User"]`, "requestheader-group-headers": `["X-Remote-Group"]`,
		"requestheader-extra-headers-prefix": `["X-Remote-Extra-"]`, "requestheader-allowed-names": `[]`,
	} {
		if got := read("kube-system", delegation, key); got != want {
			t.Errorf("%s: %s", key, got)
		}
	}

	// A proxy is certified by command, and speaks for its callers.
	dir := filepath.Join(t.TempDir(), "proxy")
	gatehouse(t, 0, "proxy-certificate", "front", "--out", dir, "--kubeconfig", g.Kubeconfig)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "proxy.crt"), filepath.Join(dir, "proxy.key"))
	if err != nil {
		t.Fatal(err)
	}
	issued, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(read("kube-system", delegation, "requestheader-client-ca-file")))
	if _, err := issued.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("its certificate: %v", err)
	}
	proxy := bareClient(t, g, pair)
	jane := http.Header{"X-Remote-User": {"jane"}, "X-Remote-Group": {"team"}}
	if who, code := proxy.whoami(jane); code != http.StatusCreated || who.Status.UserInfo.Username != "jane" || fmt.Sprint(who.Status.UserInfo.Groups) != "[team system:authenticated]" {
		t.Errorf("through the proxy: %d %+v", code, who)
	}
	if _, code := proxy.whoami(nil); code != http.StatusUnauthorized {
		t.Errorf("the proxy for itself: %d", code)
	}
	k.run("create", "clusterrole", "proxies", "--verb=create", "--resource=proxycertificates.identity.gatehouse.dev")
	k.run("create", "clusterrolebinding", "proxies", "--clusterrole=proxies", "--user=ada")
	request := `{"apiVersion":"identity.gatehouse.dev/v1alpha1","kind":"ProxyCertificate","spec":{"request":"eA==","commonName":"front"}}`
	eventually(t, commandWithin, "the role counts", func() bool {
		code, body := adminClient(t, g).send(http.MethodPost, "/apis/identity.gatehouse.dev/v1alpha1/proxycertificates", http.Header{"Impersonate-User": {"ada"}}, []byte(request))
		return code == http.StatusForbidden && strings.Contains(string(body), "impersonate on all users")
	})
	revoke(t, g, "credential", "X509SHA256="+fmt.Sprintf("%x", sha256.Sum256(pair.Certificate[0])))
	promptly(t, effectWithin, "the proxy is banned", func() bool { _, code := proxy.whoami(jane); return code == http.StatusUnauthorized })
}
