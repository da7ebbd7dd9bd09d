package e2e

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// What a stolen certificate had made ends with a ban on it: tokens, keys and
// certificates, for whomever they are, impersonated or not, at any distance. An
// operator sees beforehand what would end, and may leave it alone.
func TestBansReachWhatWasMade(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k, anybody, dir := as(t, g), bareClient(t, g), t.TempDir()
	k.namespace("loot")
	k.run("create", "serviceaccount", "robot", "-n", "loot")
	request := func(name string) (manifest, key string) {
		key = filepath.Join(dir, name+".key")
		file := filepath.Join(dir, name+".csr")
		run1(t, nil, "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", file, "-subj", "/CN="+name)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"apiVersion":"certificates.k8s.io/v1","kind":"CertificateSigningRequest","metadata":{"name":%q},"spec":{"request":%q,"signerName":"kubernetes.io/kube-apiserver-client","usages":["client auth"],"expirationSeconds":3600}}`,
			name, base64.StdEncoding.EncodeToString(data)), key
	}
	// signsIn stores a certificate and returns kubectl with it.
	signsIn := func(name, key string, certificate []byte) (kube, string) {
		path := filepath.Join(dir, name+".crt")
		if err := os.WriteFile(path, certificate, 0o600); err != nil {
			t.Fatal(err)
		}
		config := filepath.Join(dir, name+".kubeconfig")
		writeCertificateConfig(t, g, config, path, key)
		own, err := harness.NewKubectl(config)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(certificate)
		return kube{t, own}, "X509SHA256=" + fingerprint(block.Bytes)
	}
	manifest, key := request("mallory")
	mallory, stolen := signsIn("mallory", key, certificateOf(t, k, "mallory", manifest))
	k.run("create", "role", "looter", "-n", "loot", "--verb=create", "--resource=accesskeys.identity.gatehouse.dev,serviceaccounts/token")
	k.run("create", "rolebinding", "looter", "-n", "loot", "--role=looter", "--user=mallory", "--user=intern", "--serviceaccount=loot:robot")
	k.feed(`
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: looter}
rules:
- {verbs: [impersonate], apiGroups: [""], resources: [users], resourceNames: [intern]}
- {verbs: [create], apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests]}
`, "create", "-f", "-")
	k.run("create", "clusterrolebinding", "looter", "--clusterrole=looter", "--user=mallory", "--user=intern")
	eventually(t, commandWithin, "the roles count", func() bool {
		return mallory.exec("", "auth", "can-i", "create", "serviceaccounts", "--subresource=token", "-n", "loot", "--as=intern").Code == 0
	})

	// The loot: a token, one asked for with that, a key of another name, and a
	// certificate that somebody approves.
	tokens := map[string]string{"token": strings.TrimSpace(mallory.run("create", "token", "robot", "-n", "loot"))}
	tokens["token of the token"] = strings.TrimSpace(withToken(t, g, tokens["token"]).run("create", "token", "robot", "-n", "loot"))
	tokens["key"] = mallory.feed("apiVersion: identity.gatehouse.dev/v1alpha1\nkind: AccessKey\nmetadata: {name: later, namespace: loot}\nspec: {audience: gatehouse, subject: {serviceAccount: robot}}\n",
		"create", "--as=intern", "-f", "-", "-o", "jsonpath={.status.secret}")
	manifest, key = request("innocent")
	mallory.feed(manifest, "create", "--as=intern", "-f", "-")
	k.run("certificate", "approve", "innocent")
	var certificate []byte
	eventually(t, commandWithin, "the certificate", func() bool {
		certificate, _ = base64.StdEncoding.DecodeString(k.run("get", "csr", "innocent", "-o", "jsonpath={.status.certificate}"))
		return len(certificate) > 0
	})
	innocent, _ := signsIn("innocent", key, certificate)
	if text := run1(t, nil, "openssl", "x509", "-noout", "-text", "-in", filepath.Join(dir, "innocent.crt")); !strings.Contains(text, "gatehouse-origin "+stolen) {
		t.Errorf("the certificate does not say what it was made with:\n%s", text)
	}
	// One that mallory had no part in.
	spared := strings.TrimSpace(k.run("create", "token", "robot", "-n", "loot"))
	works := func() string {
		var out []string
		for _, name := range []string{"token", "token of the token", "key"} {
			if _, code := anybody.whoami(bearerOf(tokens[name])); code == 201 {
				out = append(out, name)
			}
		}
		if innocent.exec("", "auth", "whoami").Code == 0 {
			out = append(out, "certificate")
		}
		return strings.Join(out, ", ")
	}
	const all = "token, token of the token, key, certificate"
	if got := works(); got != all {
		t.Fatalf("before the ban: %s", got)
	}
	who, _ := anybody.whoami(bearerOf(tokens["token of the token"]))
	if line := fmt.Sprint(who.Status.UserInfo.Extra["authentication.gatehouse.dev/credential-origin"]); !strings.Contains(line, credentialID(t, tokens["token"])+";exp=") || !strings.Contains(line, stolen+";exp=") {
		t.Errorf("whoami of a token that was made with one: %s", line)
	}

	ban := func(more ...string) (name, says string) {
		t.Helper()
		got := command(t, g.Kubeconfig, append([]string{"revoke", "credential", stolen, "--reason", "stolen"}, more...)...)
		if got.Code != 0 {
			t.Fatalf("revoke %v: %v", more, got)
		}
		return strings.TrimSpace(got.Stdout), got.Stderr
	}
	reached := []string{"access key loot/later of serviceaccount/robot at gatehouse, KEY=", "certificate of request innocent by intern"}
	name, says := ban("--dry-run")
	for _, text := range append(reached, "every token that was asked for with it") {
		if !strings.Contains(says, text) {
			t.Errorf("a dry run does not say %q:\n%s", text, says)
		}
	}
	if got := works(); name != "" || got != all {
		t.Errorf("a dry run bans: %q, left are %s", name, got)
	}
	if text := gatehouse(t, 0, "keys", "reach", "--kubeconfig", g.Kubeconfig, "-n", "loot", "later").Stdout; !strings.Contains(text, "made with") || !strings.Contains(text, stolen) {
		t.Errorf("reach does not say what the key was made with:\n%s", text)
	}
	name, says = ban()
	if !strings.Contains(says, reached[0]) || !strings.Contains(says, reached[1]) {
		t.Errorf("the ban says:\n%s", says)
	}
	took := eventually(t, commandWithin, "what was made ends", func() bool { return works() == "" })
	t.Logf("ended %v after the ban", took)
	if _, code := anybody.whoami(bearerOf(spared)); code != 201 {
		t.Error("a token of the same account that somebody else asked for ended, too")
	}
	k.run("delete", "ban", name)
	eventually(t, commandWithin, "the ban is lifted", func() bool { return works() == all })

	// To turn off the one alone is a decision of its own, and on record.
	name, says = ban("--keep-made")
	if !strings.Contains(says, "left alone") || !strings.Contains(says, reached[0]) {
		t.Errorf("the ban that spares says:\n%s", says)
	}
	eventually(t, commandWithin, "the certificate itself is banned", func() bool { return mallory.exec("", "auth", "whoami").Code != 0 })
	if got := works(); got != all {
		t.Errorf("a ban that spares what was made leaves %s", got)
	}
	k.run("delete", "ban", name)
}
