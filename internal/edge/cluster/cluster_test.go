package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKubeconfig(t *testing.T) {
	t.Parallel()
	var seen []string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := r.Header.Get("Authorization")
		if len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		seen = append(seen, who)
		if r.URL.Path == "/elsewhere" {
			http.Redirect(w, r, "https://other.example/", http.StatusFound)
		}
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "robot"}, NotAfter: time.Now().Add(time.Hour)},
		&x509.Certificate{}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b64 := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	certificate, private := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	for name, text := range map[string]string{"ca.crt": ca, "tls.crt": certificate, "tls.key": private, "token": "from-file\n", "empty": ""} {
		write(t, filepath.Join(dir, name), text)
	}
	path := filepath.Join(dir, "kubeconfig")
	config := func(cluster, user string) string {
		return "current-context: c\ncontexts: [{name: other, context: {cluster: x, user: x}}, {name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {" + cluster + "}}]\nusers: [{name: u, user: {" + user + "}}]\n"
	}
	at := "server: '" + server.URL + "'"
	for name, c := range map[string]struct{ cluster, user, who string }{
		"token":         {at + ", certificate-authority: ca.crt", "token: direct", "Bearer direct"},
		"token file":    {at + ", certificate-authority-data: " + b64(ca), "token: direct, tokenFile: token", "Bearer from-file"},
		"certificate":   {at + ", certificate-authority-data: " + b64(ca), "client-certificate: tls.crt, client-key: tls.key", "robot"},
		"inline":        {at + ", certificate-authority-data: " + b64(ca), "client-certificate-data: " + b64(certificate) + ", client-key-data: " + b64(private), "robot"},
		"a server name": {at + ", tls-server-name: example.com, certificate-authority: " + filepath.Join(dir, "ca.crt"), "token: direct", "Bearer direct"},
	} {
		write(t, path, config(c.cluster, c.user))
		base, client, err := FromKubeconfig(path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		seen = nil
		response, err := client.Get(base + "/x")
		if err != nil || len(seen) != 1 || seen[0] != c.who {
			t.Errorf("%s: %v, seen %v", name, err, seen)
			continue
		}
		response.Body.Close()
		if response, err := client.Get(base + "/elsewhere"); err == nil {
			response.Body.Close()
			t.Errorf("%s: a redirect was followed", name)
		}
	}
	for name, text := range map[string]string{
		"no YAML":         "{",
		"nothing":         "",
		"another context": strings.Replace(config(at, "token: x"), "current-context: c", "current-context: other", 1),
		"no TLS":          config("server: 'http://x', certificate-authority: ca.crt", "token: x"),
		"no authority":    config(at, "token: x"),
		"bad authority":   config(at+", certificate-authority: token", "token: x"),
		"not verified":    config(at+", insecure-skip-tls-verify: true", "token: x"),
		"a proxy":         config(at+", certificate-authority: ca.crt, proxy-url: 'http://x'", "token: x"),
		"nobody":          config(at+", certificate-authority: ca.crt", ""),
		"exec":            config(at+", certificate-authority: ca.crt", "exec: {command: x}"),
		"password":        config(at+", certificate-authority: ca.crt", "username: x, password: y"),
		"impersonation":   config(at+", certificate-authority: ca.crt", "token: x, as: system:admin"),
		"two lines":       config(at+", certificate-authority: ca.crt", `token: "x\ny"`),
		"empty file":      config(at+", certificate-authority: ca.crt", "tokenFile: empty"),
		"no file":         config(at+", certificate-authority: ca.crt", "tokenFile: none"),
		"no key":          config(at+", certificate-authority: ca.crt", "client-certificate: tls.crt"),
		"another key":     config(at+", certificate-authority: ca.crt", "client-certificate: tls.crt, client-key: tls.crt"),
		"large":           strings.Repeat("#", maxFile+1),
	} {
		write(t, path, text)
		if _, _, err := FromKubeconfig(path); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, _, err := FromKubeconfig(filepath.Join(dir, "none")); err == nil {
		t.Error("no kubeconfig: accepted")
	}
}

func TestInPod(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, _, err := InPod(); err == nil || !strings.Contains(err.Error(), "no pod") {
		t.Errorf("outside of a pod: %v", err)
	}
}

func FuzzKubeconfig(f *testing.F) {
	f.Add("current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {server: 'https://x'}}]\nusers: [{name: u, user: {token: x}}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "kubeconfig")
		write(t, path, text)
		base, client, err := FromKubeconfig(path)
		if err == nil && (!strings.HasPrefix(base, "https://") || client == nil) {
			t.Fatalf("%q reaches %q", text, base)
		}
	})
}
