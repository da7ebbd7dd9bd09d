package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// run1 runs a program that must succeed and returns what it printed.
func run1(t *testing.T, env []string, path string, args ...string) string {
	t.Helper()
	out, err := try(t, env, path, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", path, strings.Join(args, " "), err, out)
	}
	return out
}

func try(t *testing.T, env []string, path string, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), path, args...)
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	return string(out), err
}

// edgeProgram is gatehouse-edge as built for the tests.
func edgeProgram(t *testing.T) string {
	t.Helper()
	bin, err := harness.BuildGatehouse()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(filepath.Dir(bin), "gatehouse-edge")
}

// shortDir is a directory whose path fits into that of a unix socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// softHSM is a PKCS#11 token named people, and the variable that finds it.
func softHSM(t *testing.T, dir string) (uri func(object string) string, env []string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf, pin := filepath.Join(dir, "softhsm2.conf"), filepath.Join(dir, "pin")
	for path, text := range map[string]string{conf: "directories.tokendir = " + filepath.Join(dir, "tokens") + "\nobjectstore.backend = file\n", pin: "4711\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env = []string{"SOFTHSM2_CONF=" + conf}
	run1(t, env, "softhsm2-util", "--init-token", "--free", "--label", "people", "--pin", "4711", "--so-pin", "12345678")
	return func(object string) string {
		return "pkcs11:token=people;object=" + object + "?module-path=" + softHSMModule + "&pin-source=file:" + pin
	}, env
}

const softHSMModule = "/usr/lib/softhsm/libsofthsm2.so"

// swTPM is a TPM 2.0 behind a socket.
func swTPM(t *testing.T, dir string) (socket string) {
	t.Helper()
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "tpm")
	p, err := harness.Start("swtpm", "swtpm", nil, "socket", "--tpm2", "--tpmstate", "dir="+state,
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+filepath.Join(dir, "ctrl"), "--flags", "not-need-init,startup-clear")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("--- swtpm ---\n%s", p.Log())
		}
	})
	// The file is there a moment before anybody listens, and a call to try it
	// would be the one that swtpm takes.
	eventually(t, commandWithin, "the TPM listens", func() bool {
		_, listens := listeners(t)[socket]
		return listens
	})
	return socket
}

// certificateOf has a request created by the administrator, approved, and
// returns the certificate.
func certificateOf(t *testing.T, k kube, name, manifest string) []byte {
	t.Helper()
	k.feed(manifest, "create", "-f", "-")
	k.run("certificate", "approve", name)
	var got []byte
	eventually(t, commandWithin, "the certificate", func() bool {
		text := k.run("get", "csr", name, "-o", "jsonpath={.status.certificate}")
		got, _ = base64.StdEncoding.DecodeString(text)
		return len(got) > 0
	})
	return got
}

// noPrivateKeys looks for a private key in any file below dir.
func noPrivateKeys(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, []byte("PRIVATE KEY")) {
			t.Errorf("%s holds a private key", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Stock kubectl works with keys that cannot leave a PKCS#11 token and a TPM.
func TestKeysInHardware(t *testing.T) {
	t.Parallel()
	g, edge := shared(t), edgeProgram(t)
	k := as(t, g)
	k.namespace("hardware")
	k.run("create", "rolebinding", "hardware", "--clusterrole=edit", "--group=hardware", "-n", "hardware")
	ca := filepath.Join(t.TempDir(), "ca.crt")
	authority, err := base64.StdEncoding.DecodeString(k.run("config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca, authority, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"token", "tpm"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			k := as(t, g)
			dir := shortDir(t)
			uri, other := "", ""
			var env []string
			if kind == "token" {
				name, e := softHSM(t, dir)
				uri, other, env = name("ada"), name("nobody"), e
			} else {
				pin := filepath.Join(dir, "pin")
				if err := os.WriteFile(pin, []byte("0815"), 0o600); err != nil {
					t.Fatal(err)
				}
				socket := swTPM(t, dir)
				uri = "tpm:" + socket + "?handle=0x81010001&pin-source=file:" + pin
				other = "tpm:" + socket + "?handle=0x81010002&pin-source=file:" + pin
			}
			run1(t, env, edge, "credential", "create-key", "--key", uri)
			if out, err := try(t, env, edge, "credential", "create-key", "--key", uri); err == nil {
				t.Errorf("a second key of the name: %s", out)
			}
			if out, err := try(t, env, edge, "credential", "request", "--key", other, "--user", "ada"); err == nil {
				t.Errorf("a key that is not there: %s", out)
			}
			user, request := "ada-"+kind, "hardware-"+kind
			manifest := run1(t, env, edge, "credential", "request", "--key", uri, "--user", user, "--group", "hardware", "--name", request)
			certificate := filepath.Join(dir, "ada.crt")
			if err := os.WriteFile(certificate, certificateOf(t, k, request, manifest), 0o600); err != nil {
				t.Fatal(err)
			}
			config := filepath.Join(dir, "kubeconfig")
			proxy, err := harness.Start("credential proxy", edge, env, "credential", "proxy", "--key", uri, "--certificate", certificate,
				"--server", g.URL, "--ca", ca, "--kubeconfig", config, "--namespace", "hardware")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				proxy.Kill()
				if t.Failed() {
					t.Logf("--- proxy ---\n%s", proxy.Log())
				}
			})
			line, err := proxy.WaitLine(t.Context(), "ready https://")
			if err != nil {
				t.Fatal(err)
			}
			stock, err := harness.NewKubectl(config)
			if err != nil {
				t.Fatal(err)
			}
			through := kube{t, stock}
			through.shows([]string{user, "hardware", "X509SHA256="}, "auth", "whoami")
			through.fails(1, []string{"Forbidden"}, "get", "secrets", "-n", "default")

			// A watch gives what happens as it happens.
			watch, err := stock.Start("get", "configmaps", "--watch", "-o", "name")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(watch.Kill)
			through.run("create", "configmap", "seen-"+kind)
			if _, err := watch.WaitLine(t.Context(), "configmap/seen-"+kind); err != nil {
				t.Error(err)
			}

			// Without the token of the kubeconfig the key cannot be borrowed.
			base, trust, err := stock.Endpoint(t.Context())
			if err != nil || base != strings.TrimPrefix(line, "ready ") {
				t.Fatalf("kubeconfig is of %q: %v", base, err)
			}
			trust.Certificates = nil
			stranger := newClient(t, base, trust)
			for name, header := range map[string]http.Header{"nothing": nil, "another token": bearerOf("x"), "an empty one": bearerOf("")} {
				if code, _ := stranger.send(http.MethodGet, "/api/v1/namespaces/hardware/configmaps", header, nil); code != http.StatusUnauthorized {
					t.Errorf("%s: %d", name, code)
				}
			}
			if info, err := os.Stat(config); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("kubeconfig: %v %v", info, err)
			}
			noPrivateKeys(t, dir)
			if kind == "token" {
				keptInToken(t, dir, env, edge)
			}

			// What the key gives ends as with any other credential.
			gatehouse(t, 0, "revoke", "subject", "user/"+user, "--reason", "lost", "--kubeconfig", g.Kubeconfig)
			promptly(t, effectWithin, "the ban", func() bool { return through.exec("", "get", "configmaps").Code != 0 })
			if code, err := proxy.Stop(commandWithin); err != nil || code != 0 {
				t.Errorf("end: %d %v", code, err)
			}
			if _, err := os.Stat(config); err == nil {
				t.Error("the kubeconfig outlives the proxy")
			}
		})
	}
}

// keptInToken asks the token itself, with a program of somebody else.
func keptInToken(t *testing.T, dir string, env []string, edge string) {
	t.Helper()
	tool := func(args ...string) (string, error) {
		return try(t, env, "pkcs11-tool", append([]string{"--module", softHSMModule, "--token-label", "people", "--login", "--pin", "4711"}, args...)...)
	}
	out, err := tool("--list-objects", "--type", "privkey")
	if err != nil || !strings.Contains(out, "never extractable") || !strings.Contains(out, "sensitive") {
		t.Errorf("the token says: %v\n%s", err, out)
	}
	// A key that the token would hand out is not used.
	if out, err := tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", "loose", "--id", "77", "--extractable"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	loose := "pkcs11:token=people;object=loose?module-path=" + softHSMModule + "&pin-source=file:" + filepath.Join(dir, "pin")
	if out, err := try(t, env, edge, "credential", "request", "--key", loose, "--user", "x"); err == nil || !strings.Contains(out, "hand this key out") {
		t.Errorf("an extractable key: %v %s", err, out)
	}
}

// A long-lived certificate, shown in the handshake alone, gives a short-lived
// one; that does not give another.
func TestCertificateLogin(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k, dir := as(t, g), t.TempDir()
	key, request, certificate := filepath.Join(dir, "eve.key"), filepath.Join(dir, "eve.csr"), filepath.Join(dir, "eve.crt")
	run1(t, nil, "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request, "-subj", "/O=staff/CN=eve")
	pemRequest, err := os.ReadFile(request)
	if err != nil {
		t.Fatal(err)
	}
	manifest := func(name, more string) string {
		return fmt.Sprintf(`{"apiVersion":"certificates.k8s.io/v1","kind":"CertificateSigningRequest","metadata":{"name":%q},"spec":{"request":%q,"signerName":"kubernetes.io/kube-apiserver-client","usages":["client auth"]%s}}`,
			name, base64.StdEncoding.EncodeToString(pemRequest), more)
	}
	long := certificateOf(t, k, "eve-long", manifest("eve-long", `,"expirationSeconds":2592000`))
	if err := os.WriteFile(certificate, long, 0o600); err != nil {
		t.Fatal(err)
	}
	k.run("create", "clusterrole", "certificate-login", "--verb=create,get", "--resource=certificatesigningrequests.certificates.k8s.io")
	k.run("create", "clusterrolebinding", "certificate-login", "--clusterrole=certificate-login", "--user=eve")
	env := []string{"XDG_CACHE_HOME=" + filepath.Join(dir, "cache")}
	config := filepath.Join(dir, "kubeconfig")
	login := func(code int, says string, args ...string) {
		t.Helper()
		run, err := harness.Start("gatehouse login", g.Path, env, append([]string{"login", "--kubeconfig", g.Kubeconfig, "--out", config}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := run.Wait(t.Context()); err != nil || got != code || !strings.Contains(run.Log(), says) {
			t.Errorf("login %v: want %d %q, got %d %v\n%s", args, code, says, got, err, run.Log())
		}
	}
	// By rule only for whom policy says so; others wait for somebody.
	login(1, "nobody approved", "--certificate", certificate, "--key", key, "--lifetime", "10m", "--login-timeout", "3s")
	k.run("create", "clusterrole", "certificate-login-self", "--verb=create", "--resource=certificatesigningrequests.certificates.k8s.io/selfclient")
	k.run("create", "clusterrolebinding", "certificate-login-self", "--clusterrole=certificate-login-self", "--user=eve")
	eventually(t, commandWithin, "the right", func() bool {
		return k.exec("", "auth", "can-i", "create", "certificatesigningrequests.certificates.k8s.io/selfclient", "--as=eve").Code == 0
	})
	login(0, "signed in as eve", "--certificate", certificate, "--key", key, "--lifetime", "10m")
	stock, err := harness.NewKubectl(config)
	if err != nil {
		t.Fatal(err)
	}
	eve := kube{t, stock.WithEnv(env...)}
	eve.shows([]string{"eve", "staff"}, "auth", "whoami")
	block, _ := pem.Decode(long)
	if id := whoAndWhat(eve); strings.Contains(id, fingerprint(block.Bytes)) {
		t.Error("kubectl shows the long-lived certificate")
	}
	p := &person{t: t, home: dir}
	entry := kept(t, p)
	if left := time.Until(entry["expires"].(time.Time)); left > 11*time.Minute {
		t.Errorf("the short-lived certificate lasts %v", left)
	}

	// A ban on the long-lived one ends what was given for it, and lifting it does
	// the reverse.
	banned := strings.TrimSpace(gatehouse(t, 0, "revoke", "credential", "X509SHA256="+fingerprint(block.Bytes), "--reason", "copied", "--kubeconfig", g.Kubeconfig).Stdout)
	promptly(t, effectWithin, "the ban on what it was given for", func() bool { return eve.exec("", "auth", "whoami").Code != 0 })
	k.run("delete", "ban", banned)
	eventually(t, commandWithin, "the end of the ban", func() bool { return eve.exec("", "auth", "whoami").Code == 0 })

	// The short-lived one is no way to another.
	short, shortKey := filepath.Join(dir, "short.crt"), filepath.Join(dir, "short.key")
	for path, field := range map[string]string{short: "certificate", shortKey: "key"} {
		if err := os.WriteFile(path, []byte(entry[field].(string)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	login(1, "nobody approved", "--certificate", short, "--key", shortKey, "--lifetime", "10m", "--login-timeout", "3s")
	// Its request stays for as long as it is good: without it a ban would not
	// reach it, and it would be a way to another.
	requests := k.run("get", "csr", "-o", `jsonpath={range .items[?(@.spec.username=="eve")]}{.metadata.name}={.status.conditions[0].reason} {end}`)
	for one := range strings.FieldsSeq(requests) {
		if name, reason, _ := strings.Cut(one, "="); reason == "AutoApproved" {
			k.fails(1, []string{"good until", "a Ban ends it"}, "delete", "csr", name)
		}
	}
	if !strings.Contains(requests, "=AutoApproved") {
		t.Errorf("requests of eve: %s", requests)
	}
	// Nor is another name, a group that eve is not in, or one group less: what
	// is denied to that would not be denied.
	for name, subject := range map[string]string{"other-name": "/CN=mallory", "other-group": "/O=admins/CN=eve", "fewer-groups": "/CN=eve"} {
		run1(t, nil, "openssl", "req", "-new", "-key", key, "-out", request, "-subj", subject)
		if pemRequest, err = os.ReadFile(request); err != nil {
			t.Fatal(err)
		}
		longPair := filepath.Join(dir, "long.kubeconfig")
		writeCertificateConfig(t, g, longPair, certificate, key)
		withLong, err := harness.NewKubectl(longPair)
		if err != nil {
			t.Fatal(err)
		}
		kube{t, withLong}.feed(manifest("eve-"+name, `,"expirationSeconds":600`), "create", "-f", "-")
		if got := k.run("get", "csr", "eve-"+name, "-o", "jsonpath={.status}"); got != "{}" && got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
	// What the signer cannot make fails with the reason.
	run1(t, nil, "openssl", "req", "-new", "-key", key, "-out", request, "-subj", "/CN=system:node:eve")
	if pemRequest, err = os.ReadFile(request); err != nil {
		t.Fatal(err)
	}
	k.feed(manifest("eve-node", ""), "create", "-f", "-")
	k.run("certificate", "approve", "eve-node")
	eventually(t, commandWithin, "a reserved name fails", func() bool {
		return strings.Contains(k.run("get", "csr", "eve-node", "-o", "jsonpath={.status.conditions[*].reason}"), "SignerValidationFailure")
	})

	// A certificate without its key is worth nothing, however it is sent.
	text := base64.StdEncoding.EncodeToString(block.Bytes)
	for _, header := range []http.Header{
		bearerOf(text), {"X-Client-Cert": {text}}, {"Ssl-Client-Cert": {text}}, {"X-Remote-User": {"eve"}}, {"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("eve:"+text))}},
	} {
		if who, code := bareClient(t, g).whoami(header); code != http.StatusUnauthorized {
			t.Errorf("%v: %d %v", header, code, who)
		}
	}
}

// fingerprint is the id of a certificate without its prefix.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// writeCertificateConfig writes a kubeconfig that shows a certificate.
func writeCertificateConfig(t *testing.T, g *harness.Gatehouse, path, certificate, key string) {
	t.Helper()
	k := as(t, g)
	if err := os.WriteFile(path, []byte(k.run("config", "view", "--raw", "--flatten")), 0o600); err != nil {
		t.Fatal(err)
	}
	own, err := harness.NewKubectl(path)
	if err != nil {
		t.Fatal(err)
	}
	o := kube{t, own}
	o.run("config", "set-credentials", "own", "--client-certificate="+certificate, "--client-key="+key, "--embed-certs")
	o.run("config", "set-context", "--current", "--user=own")
}
