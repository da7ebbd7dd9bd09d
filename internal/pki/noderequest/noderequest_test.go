package noderequest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/pki/noderequest"
)

func TestRead(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request := func(user string, groups []string, sans ...string) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: user, Organization: groups}, DNSNames: sans}, key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	}
	const kubelet, pool = certificatesv1.KubeAPIServerClientKubeletSignerName, "node-pool.gatehouse.dev/gpu"
	nodes, gpu := []string{"system:nodes"}, []string{"system:nodes", "system:node-pool:gpu"}
	usual := []certificatesv1.KeyUsage{"digital signature", "client auth"}
	for name, c := range map[string]struct {
		signer  string
		request []byte
		usages  []certificatesv1.KeyUsage
		want    string // fault, or empty
		pool    string
	}{
		"kubelet":                     {kubelet, request("system:node:a", nodes), usual, "", ""},
		"kubelet with RSA usage":      {kubelet, request("system:node:a", nodes), append(usual, "key encipherment"), "", ""},
		"pool":                        {pool, request("system:node:a", gpu), usual, "", "gpu"},
		"pool, groups in other order": {pool, request("system:node:a", []string{gpu[1], gpu[0]}), usual, "", "gpu"},
		"pool at the kubelet's":       {kubelet, request("system:node:a", gpu), usual, "organizations must be exactly", ""},
		"another pool":                {pool, request("system:node:a", []string{"system:nodes", "system:node-pool:web"}), usual, "organizations must be exactly", ""},
		"two pools":                   {pool, request("system:node:a", append(gpu, "system:node-pool:web")), usual, "organizations must be exactly", ""},
		"no pool at the pool's":       {pool, request("system:node:a", nodes), usual, "organizations must be exactly", ""},
		"masters":                     {kubelet, request("system:node:a", []string{"system:nodes", "system:masters"}), usual, "organizations must be exactly", ""},
		"nodes twice":                 {kubelet, request("system:node:a", []string{"system:nodes", "system:nodes"}), usual, "organizations must be exactly", ""},
		"no group":                    {kubelet, request("system:node:a", nil), usual, "organizations must be exactly", ""},
		"no node":                     {kubelet, request("ada", nodes), usual, "common name must be", ""},
		"a node without a name":       {kubelet, request("system:node:", nodes), usual, "common name must be", ""},
		"alternative names":           {kubelet, request("system:node:a", nodes, "a.example"), usual, "alternative names", ""},
		"server auth":                 {kubelet, request("system:node:a", nodes), append(usual, "server auth"), "spec.usages", ""},
		"no client auth":              {kubelet, request("system:node:a", nodes), usual[:1], "spec.usages", ""},
		"no PEM":                      {kubelet, []byte("x"), usual, "no PEM block", ""},
		"no request":                  {kubelet, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte{1}}), usual, "PKCS#10", ""},
	} {
		if !noderequest.Of(c.signer) {
			t.Errorf("%s: %s is no signer for nodes", name, c.signer)
		}
		got, err := noderequest.Read(&certificatesv1.CertificateSigningRequestSpec{SignerName: c.signer, Request: c.request, Usages: c.usages})
		if c.want != "" {
			if err == nil || fault.KindOf(err) != fault.Invalid || !strings.Contains(fault.Public(err), c.want) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || got.Node != "a" || got.Pool != c.pool || !key.PublicKey.Equal(got.Public) || len(got.Groups()) != 1+len(c.pool)/3 {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	if noderequest.Of("kubernetes.io/kube-apiserver-client") || noderequest.Of("kubernetes.io/kubelet-serving") || noderequest.Of("x-node-pool.gatehouse.dev/gpu") {
		t.Error("signers of others")
	}
	// The signature proves who has the key.
	forged := request("system:node:a", nodes)
	block, _ := pem.Decode(forged)
	block.Bytes[len(block.Bytes)-1] ^= 1
	if _, err := noderequest.Read(&certificatesv1.CertificateSigningRequestSpec{SignerName: kubelet, Request: pem.EncodeToMemory(block), Usages: usual}); err == nil {
		t.Error("a request that its key did not sign")
	}
}

// A node that could leave its pool would leave behind what is denied to it.
func TestRenews(t *testing.T) {
	t.Parallel()
	plain, gpu := noderequest.Request{Node: "a"}, noderequest.Request{Node: "a", Pool: "gpu"}
	inGPU := []string{"system:nodes", "system:node-pool:gpu", "system:authenticated"}
	for name, c := range map[string]struct {
		asked  noderequest.Request
		node   string
		groups []string
		want   bool
	}{
		"no pool":                  {plain, "a", []string{"system:nodes", "system:authenticated"}, true},
		"its pool":                 {gpu, "a", inGPU, true},
		"another node":             {plain, "b", []string{"system:nodes"}, false},
		"into a pool":              {gpu, "a", []string{"system:nodes"}, false},
		"out of its pool":          {plain, "a", inGPU, false},
		"into another pool":        {gpu, "a", []string{"system:nodes", "system:node-pool:web"}, false},
		"one pool of two":          {gpu, "a", append(inGPU, "system:node-pool:web"), false},
		"a pool but no other node": {gpu, "a", inGPU[1:], false},
	} {
		if got := c.asked.Renews(c.node, c.groups); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
