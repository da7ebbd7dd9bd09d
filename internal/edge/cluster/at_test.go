package cluster

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
)

// One server of several is reached at its own address, with the credential, and
// must prove the name that the cluster has.
func TestAt(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1)
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- r.Host + " " + r.Header.Get("Authorization")
	}))
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	reach := func(name string) (*http.Client, string) {
		t.Helper()
		write(t, filepath.Join(filepath.Dir(path), "ca.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
		write(t, path, "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {server: 'https://"+name+":6443', certificate-authority: ca.crt}}]\nusers: [{name: u, user: {token: secret}}]\n")
		base, client, err := FromKubeconfig(path)
		if err != nil {
			t.Fatal(err)
		}
		if client, err = At(client, server.Listener.Addr().String()); err != nil {
			t.Fatal(err)
		}
		return client, base
	}
	client, base := reach("example.com") // a name in the test server's certificate
	response, err := client.Get(base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if got := <-seen; got != "example.com:6443 Bearer secret" {
		t.Errorf("asked as %q", got)
	}
	client, base = reach("another.test")
	if response, err := client.Get(base + "/metrics"); err == nil {
		_ = response.Body.Close()
		t.Error("a server that proves another name was asked, with the token")
	}
	if _, err := At(&http.Client{Transport: http.NewFileTransport(http.Dir("."))}, "x"); err == nil {
		t.Error("a client without connections is accepted")
	}
}
