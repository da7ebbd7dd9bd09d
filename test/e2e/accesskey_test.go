package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// A key is shown once, signs its holder in at its door alone, is listed with
// what it can do, and ends within a second: revoked, banned, or with its
// account.
func TestAccessKeys(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k, anybody := as(t, g), bareClient(t, g)
	k.namespace("keys")
	k.run("create", "serviceaccount", "scanner", "-n", "keys")
	k.run("create", "rolebinding", "scanner", "-n", "keys", "--clusterrole=view", "--serviceaccount=keys:scanner")

	type made struct {
		Metadata struct{ Name string }
		Status   struct{ Secret, CredentialID, Hash string }
	}
	create := func(args ...string) made {
		t.Helper()
		got := command(t, g.Kubeconfig, append([]string{"keys", "create", "-n", "keys", "-o", "json"}, args...)...)
		var out made
		if err := json.Unmarshal([]byte(got.Stdout), &out); got.Code != 0 || err != nil || !strings.HasPrefix(out.Status.Secret, "ghk_") {
			t.Fatalf("keys create %v: %v %v", args, got, err)
		}
		return out
	}
	scan := create("scan", "--audience", "gatehouse", "--subject", "serviceaccount/scanner", "--until", "1h")
	signsIn := func(key string) bool {
		who, code := anybody.whoami(bearerOf(key))
		return code == http.StatusCreated && who.Status.UserInfo.Username == "system:serviceaccount:keys:scanner"
	}
	// At once: who is told a key can use it.
	who, code := anybody.whoami(bearerOf(scan.Status.Secret))
	if u := who.Status.UserInfo; code != http.StatusCreated || u.Username != "system:serviceaccount:keys:scanner" ||
		fmt.Sprint(u.Extra["authentication.kubernetes.io/credential-id"]) != "["+scan.Status.CredentialID+"]" {
		t.Fatalf("signed in as %d %+v", code, u)
	}
	withToken(t, g, scan.Status.Secret).run("get", "configmaps", "-n", "keys")

	// Nothing of the secret is shown again or recorded.
	tail := scan.Status.Secret[21:]
	if out := k.run("get", "accesskey", "scan", "-n", "keys", "-o", "yaml", "--show-managed-fields"); strings.Contains(out, tail) || !strings.Contains(out, scan.Status.Hash) {
		t.Error("the secret can be read")
	}
	if out := gatehouse(t, 0, "audit", "query", "--kubeconfig", g.Kubeconfig, "--resource", "accesskeys", "-o", "json").Stdout; strings.Contains(out, tail) || !strings.Contains(out, `"accesskeys"`) {
		t.Error("the secret is on record, or its creation is not")
	}

	// Another door's key opens nothing here, and TokenReview says for which it
	// is good.
	dojo := create("--audience", "defectdojo", "--subject", "serviceaccount/scanner")
	if signsIn(dojo.Status.Secret) {
		t.Error("a key for another door signs in")
	}
	review := func(token string, audiences string) string {
		_, body := adminClient(t, g).send(http.MethodPost, tr1, nil, []byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"`+token+`","audiences":[`+audiences+`]}}`))
		return string(body)
	}
	if got := review(dojo.Status.Secret, `"keystone","defectdojo"`); !strings.Contains(got, `"audiences":["defectdojo"]`) || !strings.Contains(got, `"authenticated":true`) {
		t.Errorf("review at its door: %s", got)
	}
	if got := review(dojo.Status.Secret, `"keystone"`); strings.Contains(got, `"authenticated":true`) {
		t.Errorf("review at another door: %s", got)
	}
	// In a URL it is refused, with a good credential beside it, and not recorded.
	if code, _ := adminClient(t, g).send(http.MethodGet, "/api/v1/namespaces/keys/configmaps?fieldSelector=metadata.name%3D"+scan.Status.Secret, nil, nil); code != http.StatusUnauthorized {
		t.Errorf("in a URL: %d", code)
	}
	events := record(t, g)
	for _, e := range events {
		if strings.Contains(e.RequestURI, tail) {
			t.Errorf("a key in a URL is on record: %+v", e)
		}
	}
	if !events.has(func(e event) bool { return strings.Contains(e.RequestURI, scan.Status.Secret[:21]+"[redacted]") }) {
		t.Error("the request with a key in its URL is not on record")
	}

	// What each can do, by the decisions' own rules.
	reach := gatehouse(t, 0, "keys", "reach", "--kubeconfig", g.Kubeconfig, "-n", "keys", scan.Metadata.Name).Stdout
	for _, text := range []string{"keys/scan", "gatehouse", "system:serviceaccount:keys:scanner", "everywhere", "configmaps"} {
		if !strings.Contains(reach, text) {
			t.Errorf("reach does not say %q:\n%s", text, reach)
		}
	}
	if strings.Contains(reach, "secrets") {
		t.Errorf("reach of view names secrets:\n%s", reach)
	}
	gatehouse(t, 1, "keys", "reach", "--kubeconfig", g.Kubeconfig, "-n", "keys", "nothing")
	if out := gatehouse(t, 0, "keys", "list", "--kubeconfig", g.Kubeconfig, "-n", "keys").Stdout; !strings.Contains(out, "scan") || !strings.Contains(out, "defectdojo") {
		t.Errorf("list:\n%s", out)
	}

	// Ended: revoked for good, banned until the ban is lifted, with the account.
	second := create("--audience", "gatehouse", "--subject", "serviceaccount/scanner")
	gatehouse(t, 0, "keys", "revoke", "--kubeconfig", g.Kubeconfig, scan.Status.CredentialID)
	promptly(t, effectWithin, "the key is revoked", func() bool { return !signsIn(scan.Status.Secret) })
	k.fails(1, []string{"stays so"}, "patch", "accesskey", "scan", "-n", "keys", "--type=merge", "-p", `{"spec":{"revoked":false}}`)
	k.fails(1, []string{"another key"}, "patch", "accesskey", "scan", "-n", "keys", "--type=merge", "-p", `{"spec":{"audience":"keystone"}}`)
	ban := revoke(t, g, "credential", second.Status.CredentialID)
	promptly(t, effectWithin, "the key is banned", func() bool { return !signsIn(second.Status.Secret) })
	k.run("delete", "ban", ban)
	promptly(t, effectWithin, "the ban is lifted", func() bool { return signsIn(second.Status.Secret) })
	k.run("delete", "serviceaccount", "scanner", "-n", "keys")
	promptly(t, effectWithin, "the key ends with its account", func() bool { return !signsIn(second.Status.Secret) })
	if got := gatehouse(t, 0, "keys", "reach", "--kubeconfig", g.Kubeconfig, "-n", "keys", second.Metadata.Name).Stdout; !strings.Contains(got, "deleted") {
		t.Errorf("reach of an ended key: %s", got)
	}
}

// Nobody makes a key that reaches further than its maker, and no key makes
// keys.
func TestAccessKeysGiveNothing(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	k.namespace("keymakers")
	k.run("create", "serviceaccount", "maker", "-n", "keymakers")
	k.run("create", "serviceaccount", "victim", "-n", "keymakers")
	k.run("create", "role", "maker", "-n", "keymakers", "--verb=create,get,list", "--resource=accesskeys.identity.gatehouse.dev")
	k.run("create", "rolebinding", "maker", "-n", "keymakers", "--role=maker", "--serviceaccount=keymakers:maker", "--user=ada")
	maker := withToken(t, g, strings.TrimSpace(k.run("create", "token", "maker", "-n", "keymakers")))
	key := func(name, spec string) string {
		return "apiVersion: identity.gatehouse.dev/v1alpha1\nkind: AccessKey\nmetadata: {name: " + name + ", namespace: keymakers}\nspec: " + spec + "\n"
	}
	eventually(t, commandWithin, "the role counts", func() bool { return maker.exec("", "get", "accesskeys", "-n", "keymakers").Code == 0 })
	for name, spec := range map[string]string{
		"victim":     `{audience: gatehouse, subject: {serviceAccount: victim}}`,
		"itself":     `{audience: gatehouse, subject: {serviceAccount: maker}}`,
		"somebody":   `{audience: gatehouse, subject: {user: ada}}`,
		"some-group": `{audience: gatehouse, subject: {user: ada, groups: [ops]}}`,
	} {
		if got := maker.exec(key(name, spec), "create", "-f", "-"); got.Code == 0 || !strings.Contains(got.Stderr, "orbidden") {
			t.Errorf("a key for %s: %v", name, got)
		}
	}
	for name, spec := range map[string]string{
		"masters": `{audience: gatehouse, subject: {user: ada, groups: ["system:masters"]}}`,
		"system":  `{audience: gatehouse, subject: {user: "system:kube-scheduler"}}`,
		"foreign": `{audience: gatehouse, subject: {user: "system:serviceaccount:kube-system:default"}}`,
		"a-site":  `{audience: "gatehouse:site:blue", subject: {user: ada}}`,
		"nobody":  `{audience: gatehouse, subject: {serviceAccount: ghost}}`,
	} {
		if got := k.exec(key(name, spec), "create", "-f", "-"); got.Code == 0 || strings.Contains(got.Stdout, "created") {
			t.Errorf("a key for %s, by the administrator: %v", name, got)
		}
	}
	// With the right to its tokens the key is made; a status that comes along
	// is not believed; dry runs and applies behave.
	k.run("create", "role", "tokens", "-n", "keymakers", "--verb=create", "--resource=serviceaccounts/token", "--resource-name=victim")
	k.run("create", "rolebinding", "tokens", "-n", "keymakers", "--role=tokens", "--serviceaccount=keymakers:maker")
	forged := key("victim", `{audience: gatehouse, subject: {serviceAccount: victim}}`) + "status: {hash: \"" + strings.Repeat("00", 32) + "\", credentialID: KEY=aaaaaaaaaaaaaaaa}\n"
	var got harness.Result
	eventually(t, commandWithin, "the role counts", func() bool {
		got = maker.exec(forged, "create", "-f", "-", "-o", "jsonpath={.status.secret}", "--dry-run=server")
		return got.Code == 0
	})
	if got.Stdout != "" {
		t.Errorf("a dry run shows a secret: %v", got)
	}
	got = maker.exec(forged, "create", "-f", "-", "-o", "jsonpath={.status.credentialID} {.status.secret}")
	id, secret, _ := strings.Cut(got.Stdout, " ")
	if got.Code != 0 || id == "KEY=aaaaaaaaaaaaaaaa" || !strings.HasPrefix(secret, "ghk_"+strings.TrimPrefix(id, "KEY=")) || !strings.Contains(got.Stderr, "never shown again") {
		t.Fatalf("the key: %v", got)
	}
	if got := maker.exec(key("other-door", `{audience: keystone, subject: {serviceAccount: victim}}`), "create", "-f", "-"); got.Code == 0 {
		t.Errorf("a key for an audience that policy does not give: %v", got)
	}
	applied := k.feed(key("applied", `{audience: keystone, subject: {user: ada}}`), "apply", "--server-side", "-f", "-", "-o", "jsonpath={.status.secret}")
	if !strings.HasPrefix(applied, "ghk_") {
		t.Errorf("applied: %q", applied)
	}
	if again := k.feed(key("applied", `{audience: keystone, subject: {user: ada}}`), "apply", "--server-side", "-f", "-", "-o", "jsonpath={.status.secret}"); again != "" {
		t.Errorf("applied again: %q", again)
	}
	// What was delegated ends; a key of a year would not.
	k.run("create", "serviceaccount", "lent", "-n", "keymakers")
	k.feed(fmt.Sprintf(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: Delegation
metadata: {name: lends-tokens}
spec:
  to: {kind: ServiceAccount, namespace: keymakers, name: maker}
  rules:
  - {verbs: [create], apiGroups: [""], resources: [serviceaccounts/token]}
  - {verbs: [impersonate], apiGroups: [""], resources: [serviceaccounts, users, groups]}
  - {verbs: [create], apiGroups: [identity.gatehouse.dev], resources: [proxycertificates]}
  sites: [gatehouse]
  notAfter: %q
`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)), "create", "-f", "-")
	eventually(t, commandWithin, "the delegation counts", func() bool {
		return maker.exec("", "create", "token", "lent", "-n", "keymakers").Code == 0
	})
	for name, spec := range map[string]string{
		"lent":          `{audience: gatehouse, subject: {serviceAccount: lent}}`,
		"lent-somebody": `{audience: gatehouse, subject: {user: ada}}`,
	} {
		if got := maker.exec(key(name, spec), "create", "-f", "-"); got.Code == 0 || !strings.Contains(got.Stderr, "orbidden") {
			t.Errorf("a key for %s, by delegation: %v", name, got)
		}
	}
	proxy := `{"apiVersion":"identity.gatehouse.dev/v1alpha1","kind":"ProxyCertificate","spec":{"commonName":"front","request":"eA=="}}`
	if got := maker.exec(proxy, "create", "--raw", "/apis/identity.gatehouse.dev/v1alpha1/proxycertificates", "-f", "-"); got.Code == 0 || !strings.Contains(got.Stderr, "may not have a proxy certified") {
		t.Errorf("a proxy's certificate, by delegation: %v", got)
	}
	// Who leaves a group out would leave behind what is denied to it.
	if got := k.exec(key("fewer", `{audience: gatehouse, subject: {user: ada}}`), "create", "-f", "-", "--as=ada", "--as-group=team"); got.Code == 0 || !strings.Contains(got.Stderr, "orbidden") {
		t.Errorf("a key of a member that is none: %v", got)
	}
	// A person makes a key for itself, and the key makes none.
	mine := k.feed(key("mine", `{audience: gatehouse}`), "create", "-f", "-", "--as=ada", "--as-group=team", "-o", "jsonpath={.status.secret}")
	who, code := bareClient(t, g).whoami(bearerOf(mine))
	if code != http.StatusCreated || who.Status.UserInfo.Username != "ada" || !strings.Contains(fmt.Sprint(who.Status.UserInfo.Groups), "team") {
		t.Fatalf("ada's own key: %d %+v", code, who)
	}
	if got := withToken(t, g, mine).exec(key("child", `{audience: gatehouse, subject: {user: ada, groups: [team]}}`), "create", "-f", "-"); got.Code == 0 || !strings.Contains(got.Stderr, "orbidden") {
		t.Errorf("a key that makes a key: %v", got)
	}
}

// Who may mint for which audience is policy; the API's own is as in Kubernetes.
func TestMintPolicy(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	k.namespace("mint")
	k.run("create", "serviceaccount", "app", "-n", "mint")
	k.run("create", "serviceaccount", "ci", "-n", "mint")
	k.run("create", "rolebinding", "edit", "-n", "mint", "--clusterrole=edit", "--serviceaccount=mint:ci")
	ci := withToken(t, g, strings.TrimSpace(k.run("create", "token", "ci", "-n", "mint")))
	eventually(t, commandWithin, "edit mints for the API", func() bool {
		return ci.exec("", "create", "token", "app", "-n", "mint").Code == 0
	})
	ci.fails(1, []string{"orbidden", "vault"}, "create", "token", "app", "-n", "mint", "--audience=vault")
	k.feed(`apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: vault-tokens, namespace: mint}
rules: [{apiGroups: [""], verbs: [request-serviceaccounts-token-audience], resources: [vault], resourceNames: [app]}]
`, "create", "-f", "-")
	k.run("create", "rolebinding", "vault-tokens", "-n", "mint", "--role=vault-tokens", "--serviceaccount=mint:ci")
	eventually(t, commandWithin, "the rule counts", func() bool {
		return ci.exec("", "create", "token", "app", "-n", "mint", "--audience=vault").Code == 0
	})
	ci.fails(1, []string{"orbidden"}, "create", "token", "ci", "-n", "mint", "--audience=vault")
	ci.fails(1, []string{"orbidden"}, "create", "token", "app", "-n", "mint", "--audience=vault", "--audience=other")

	// What a token attests is what its account may attest.
	ask := func(group string) (int, string) {
		code, body := adminClient(t, g).send(http.MethodPost, "/api/v1/namespaces/mint/serviceaccounts/app/token", nil, []byte(fmt.Sprintf(
			`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":["https://hook.example/check"],"attestations":{"admissionReviewAPIGroups":[%q]}}}`, group)))
		return code, string(body)
	}
	if code, body := ask("apps"); code != http.StatusForbidden || !strings.Contains(body, "may not attest") {
		t.Errorf("an attestation without the right: %d %s", code, body)
	}
	k.feed(`apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: attest-apps}
rules: [{apiGroups: [authentication.k8s.io], verbs: [attest], resources: [admissionReviewAPIGroups], resourceNames: [apps]}]
`, "create", "-f", "-")
	k.run("create", "clusterrolebinding", "attest-apps", "--clusterrole=attest-apps", "--serviceaccount=mint:app")
	var body string
	eventually(t, commandWithin, "the right counts", func() bool {
		var code int
		code, body = ask("apps")
		return code == http.StatusCreated
	})
	var out struct{ Status struct{ Token string } }
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(claims(t, out.Status.Token)["kubernetes.io"]); !strings.Contains(got, "attestation.authentication.kubernetes.io/admissionReviewAPIGroups:[apps]") {
		t.Errorf("the token says %s", got)
	}
	if code, body := ask("*"); code != http.StatusForbidden {
		t.Errorf("more than the account may: %d %s", code, body)
	}
	if _, code := bareClient(t, g).whoami(bearerOf(out.Status.Token)); code != http.StatusUnauthorized {
		t.Errorf("a webhook's token at the API: %d", code)
	}
}
