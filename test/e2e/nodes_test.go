package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// nodeRequest is what a kubelet asks for: its name, and its groups.
func nodeRequest(t *testing.T, request, signer, node string, groups ...string) (manifest string, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:" + node, Organization: groups}}, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	return fmt.Sprintf(`
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: %s}
spec:
  signerName: %s
  usages: [digital signature, client auth]
  request: %s
`, request, signer, text), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}

const kubeletSigner = "kubernetes.io/kube-apiserver-client-kubelet"

// certified waits for the certificate of a request.
func (k kube) certified(request string) []byte {
	k.t.Helper()
	var certificate []byte
	eventually(k.t, commandWithin, "the certificate of "+request+" is issued", func() bool {
		text := k.run("get", "csr", request, "-o", "jsonpath={.status.certificate}")
		certificate, _ = base64.StdEncoding.DecodeString(text)
		return len(certificate) > 0
	})
	return certificate
}

// withCertificate returns kubectl for the holder of a certificate.
func withCertificate(t *testing.T, server hasKubectl, certificate, key []byte) kube {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "kubeconfig")
	for name, data := range map[string][]byte{
		"kubeconfig": []byte(as(t, server).run("config", "view", "--raw", "--flatten")), "tls.crt": certificate, "tls.key": key,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k, err := harness.NewKubectl(path)
	if err != nil {
		t.Fatal(err)
	}
	holder := kube{t, k}
	holder.run("config", "set-credentials", "holder", "--client-certificate="+filepath.Join(dir, "tls.crt"), "--client-key="+filepath.Join(dir, "tls.key"))
	holder.run("config", "set-context", "--current", "--user=holder")
	return holder
}

// A node speaks to the control plane with the client certificate of a kubelet:
// through kubectl, and as a kubelet does, which asks before it reads.
type node struct {
	kube
	http client
}

// tries sends requests and compares the answers: each line is a method, a path,
// the code and, where it is refused, a part of the message.
func (n node) tries(t *testing.T, cases []attempt) {
	t.Helper()
	for _, c := range cases {
		header := http.Header{"Content-Type": {"application/json"}}
		switch {
		case strings.HasPrefix(c.body, "apiVersion"):
			header.Set("Content-Type", "application/yaml")
		case c.method == http.MethodPatch:
			header.Set("Content-Type", "application/merge-patch+json")
		}
		code, body := n.http.send(c.method, c.path, header, []byte(c.body))
		if code != c.code || !strings.Contains(string(body), c.says) {
			t.Errorf("%s %s %s: %d %.400s, want %d %q", c.method, c.path, c.body, code, body, c.code, c.says)
		}
	}
}

type attempt struct {
	method, path, body string
	code               int
	says               string
}

// kubelet is a node with a client certificate, asked for and approved as that
// of a kubelet, and an object that it registers itself. A pool has a signer of
// its own.
func kubelet(t *testing.T, g *harness.Gatehouse, name, pool string) node {
	t.Helper()
	admin := as(t, g)
	signer, groups := kubeletSigner, []string{"system:nodes"}
	if pool != "" {
		signer, groups = "node-pool.gatehouse.dev/"+pool, append(groups, "system:node-pool:"+pool)
	}
	manifest, key := nodeRequest(t, name, signer, name, groups...)
	admin.feed(manifest, "create", "-f", "-")
	admin.run("certificate", "approve", name)
	certificate := admin.certified(name)
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	n := node{withCertificate(t, g, certificate, key), bareClient(t, g, pair)}
	n.tries(t, []attempt{{"POST", "/api/v1/nodes", nodeObject(name, "{kubernetes.io/hostname: "+name+", example.com/rack: r1}"), 201, ""}})
	return n
}

func nodeObject(name, labels string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s, labels: %s}\n", name, labels)
}

// podOn is a pod that its scheduler put on a node, with one secret and a token
// for one audience.
func podOn(node, namespace, name, secret string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  nodeName: %s
  serviceAccountName: runner
  automountServiceAccountToken: false
  containers: [{name: main, image: "registry.example/x:1", envFrom: [{secretRef: {name: %s}}]}]
  volumes: [{name: token, projected: {sources: [{serviceAccountToken: {path: token, audience: vault}}]}}]
`, name, namespace, node, secret)
}

const forbidden = "(Forbidden)"

// A node, by the certificate of a kubelet, reads what its pods need and writes
// what is its own.
func TestNodes(t *testing.T) {
	t.Parallel()
	g := shared(t)
	admin := as(t, g)
	admin.namespace("nodes")
	in := func(args ...string) []string { return append(args, "-n", "nodes") }
	admin.run(in("create", "serviceaccount", "runner")...)
	admin.run(in("create", "serviceaccount", "bystander")...)
	for _, name := range []string{"mine", "theirs", "nobodys"} {
		admin.run(in("create", "secret", "generic", name, "--from-literal=key="+name)...)
	}
	one, two := kubelet(t, g, "worker-1", ""), kubelet(t, g, "worker-2", "")
	one.shows([]string{"system:node:worker-1", "system:nodes"}, "auth", "whoami")
	admin.feed(podOn("worker-1", "nodes", "web", "mine"), "create", "-f", "-")
	admin.feed(podOn("worker-2", "nodes", "db", "theirs"), "create", "-f", "-")
	eventually(t, commandWithin, "the pod opens its secret to its node", func() bool {
		code, _ := one.http.send(http.MethodGet, "/api/v1/namespaces/nodes/secrets/mine", nil, nil)
		other, _ := two.http.send(http.MethodGet, "/api/v1/namespaces/nodes/secrets/theirs", nil, nil)
		return code == 200 && other == 200
	})

	const core, mine = "/api/v1/", "/api/v1/namespaces/nodes/"
	t.Run("reads", func(t *testing.T) {
		k := kube{t, one.k}
		k.shows([]string{"bWluZQ=="}, in("get", "secret", "mine", "-o", "yaml")...)
		k.fails(1, []string{forbidden, `no relationship found between node "worker-1" and this object`}, in("get", "secret", "theirs")...)
		if out := k.run("get", "pods", "-A", "--field-selector", "spec.nodeName=worker-1"); !strings.Contains(out, "web") || strings.Contains(out, "db") {
			t.Errorf("pods of the node:\n%s", out)
		}
		k.fails(1, []string{forbidden, "only its own Node object"}, "get", "nodes")
		one.tries(t, []attempt{
			{"GET", mine + "secrets/nobodys", "", 403, "no relationship"},
			{"GET", mine + "secrets", "", 403, "must name the object"},
			{"GET", mine + "secrets?fieldSelector=metadata.name%3Dmine", "", 200, ""},
			{"GET", mine + "secrets?fieldSelector=metadata.name%3Dtheirs", "", 403, "no relationship"},
			{"GET", core + "secrets", "", 403, ""},
			{"GET", mine + "pods/web", "", 200, ""},
			{"GET", mine + "pods/db", "", 403, "no relationship"},
			{"GET", core + "pods", "", 403, "field selector spec.nodeName"},
			{"GET", core + "pods?fieldSelector=spec.nodeName%3Dworker-2", "", 403, "field selector spec.nodeName"},
			{"GET", core + "pods?fieldSelector=spec.nodeName%3Dworker-1", "", 200, ""},
			{"GET", core + "nodes/worker-1", "", 200, ""},
			{"GET", core + "nodes/worker-2", "", 403, "only read its own Node object"},
			{"GET", core + "nodes?fieldSelector=metadata.name%3Dworker-1", "", 200, ""},
			{"GET", mine + "serviceaccounts/runner", "", 200, ""},
			{"GET", mine + "serviceaccounts/bystander", "", 403, "no relationship"},
			{"DELETE", mine + "secrets/mine", "", 403, "can only read"},
		})
		k.shows([]string{"what a node may do follows from its pods"}, in("create", "--raw", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", "-f", rulesReview(t))...)
		// The name alone makes no node.
		admin.fails(1, []string{forbidden}, in("get", "secret", "mine", "--as=system:node:worker-1", "--as-group=people")...)
	})

	t.Run("its own object", func(t *testing.T) {
		k := kube{t, one.k}
		k.run("label", "node", "worker-1", "example.com/rack=r2", "--overwrite")
		k.fails(1, []string{"forbidden", "is not allowed to modify labels: node-restriction.kubernetes.io/pool"}, "label", "node", "worker-1", "node-restriction.kubernetes.io/pool=gpu")
		k.fails(1, []string{"forbidden", "is not allowed to modify taints"}, "taint", "node", "worker-1", "a=b:NoSchedule")
		k.fails(1, []string{forbidden}, "delete", "node", "worker-1")
		self, other := core+"nodes/worker-1", core+"nodes/worker-2"
		one.tries(t, []attempt{
			{"PATCH", self, `{"metadata":{"labels":{"topology.kubernetes.io/zone":"z1","kubelet.kubernetes.io/x":"y"}}}`, 200, ""},
			{"PATCH", self, `{"metadata":{"labels":{"other.kubernetes.io/x":"y"}}}`, 403, "is not allowed to modify labels"},
			{"PATCH", self, `{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}`, 403, "is not allowed to modify labels"},
			{"PATCH", self, `{"metadata":{"labels":{"a.k8s.io/x":"y"}}}`, 403, "is not allowed to modify labels"},
			{"PATCH", self + "/status", `{"metadata":{"labels":{"node-restriction.kubernetes.io/x":"y"}}}`, 403, "is not allowed to modify labels"},
			{"PATCH", self, `{"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}`, 403, "is not allowed to modify taints"},
			{"PATCH", self, `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"gone","uid":"1"}]}}`, 403, "ownerReferences"},
			{"PATCH", self + "/status", `{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`, 200, ""},
			{"PATCH", other, `{"spec":{"unschedulable":true}}`, 403, "is not allowed to modify node"},
			{"PATCH", other + "/status", `{"status":{"phase":"Pending"}}`, 403, "is not allowed to modify node"},
			{"POST", core + "nodes", nodeObject("worker-3", "{}"), 403, "is not allowed to modify node"},
			{"DELETE", self, "", 403, ""},
			{"DELETE", other, "", 403, ""},
		})
		// Whatever else grants it, a node does not delete itself.
		admin.feed(roleFor("system:node:worker-1", "node-deleter", `{verbs: [delete], apiGroups: [""], resources: [nodes]}`), "create", "-f", "-")
		eventually(t, commandWithin, "the binding counts", func() bool {
			code, body := one.http.send(http.MethodDelete, self, nil, nil)
			return code == 403 && strings.Contains(string(body), "is not allowed to delete its Node object")
		})
	})

	t.Run("pods", func(t *testing.T) {
		uid := admin.run("get", "node", "worker-1", "-o", "jsonpath={.metadata.uid}")
		mirror := func(name, more string) string {
			return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: %s
  namespace: nodes
  annotations: {kubernetes.io/config.mirror: x}
  ownerReferences: [{apiVersion: v1, kind: Node, name: worker-1, uid: %s, controller: true}]
spec:
  nodeName: worker-1
  containers: [{name: main, image: "registry.example/x:1"%s}]
`, name, uid, more)
		}
		one.tries(t, []attempt{
			{"DELETE", mine + "pods/db", "", 403, "spec.nodeName set to itself"},
			{"PATCH", mine + "pods/db/status", `{"status":{"phase":"Failed"}}`, 403, "spec.nodeName set to itself"},
			{"PATCH", mine + "pods/web/status", `{"status":{"phase":"Running"}}`, 200, ""},
			{"PATCH", mine + "pods/web/status", `{"metadata":{"labels":{"a":"b"}}}`, 403, "cannot update labels through pod status"},
			{"PATCH", mine + "pods/web", `{"metadata":{"labels":{"a":"b"}}}`, 403, ""},
			{"POST", mine + "pods", strings.TrimSpace(podOn("worker-1", "nodes", "sneaky", "nobodys")), 403, "can only create mirror pods"},
			{"POST", mine + "pods", mirror("static", ""), 201, ""},
			{"POST", mine + "pods", mirror("static-2", ", envFrom: [{secretRef: {name: nobodys}}]"), 422, "a mirror pod cannot have it"},
			{"GET", mine + "secrets/nobodys", "", 403, "no relationship"},
			{"DELETE", mine + "pods/static", "", 200, ""},
		})
	})

	t.Run("tokens", func(t *testing.T) {
		k := kube{t, one.k}
		uid := func(pod string) string { return admin.run(in("get", "pod", pod, "-o", "jsonpath={.metadata.uid}")...) }
		web, db := uid("web"), uid("db")
		token := strings.TrimSpace(k.run(in("create", "token", "runner", "--audience=vault", "--bound-object-kind=Pod", "--bound-object-name=web", "--bound-object-uid="+web)...))
		bound := claims(t, token)["kubernetes.io"].(map[string]any)
		if bound["node"].(map[string]any)["name"] != "worker-1" || bound["pod"].(map[string]any)["name"] != "web" {
			t.Errorf("the token says %v", bound)
		}
		ask := func(audiences, bound string) string {
			return `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":[` + audiences + `]` + bound + `}}`
		}
		to := func(kind, name, uid string) string {
			return fmt.Sprintf(`,"boundObjectRef":{"apiVersion":"v1","kind":%q,"name":%q,"uid":%q}`, kind, name, uid)
		}
		runner := mine + "serviceaccounts/runner/token"
		one.tries(t, []attempt{
			{"POST", runner, ask(`"vault"`, to("Pod", "web", web)), 201, ""},
			{"POST", runner, ask(`"bank"`, to("Pod", "web", web)), 403, "is not authorized to request tokens for this audience"},
			{"POST", runner, ask(``, to("Pod", "web", web)), 403, "is not authorized to request tokens for this audience"},
			{"POST", runner, ask(`"vault","bank"`, to("Pod", "web", web)), 403, "0 or 1 audiences"},
			{"POST", runner, ask(`"vault"`, to("Pod", "db", db)), 403, "scheduled on a different node"},
			{"POST", runner, ask(`"vault"`, to("Pod", "web", db)), 403, "does not match"},
			{"POST", runner, ask(`"vault"`, to("Node", "worker-1", "")), 403, "not bound to a pod"},
			{"POST", runner, ask(`"vault"`, ""), 403, "not bound to a pod"},
			{"POST", mine + "serviceaccounts/bystander/token", ask(`"vault"`, to("Pod", "web", web)), 403, "no relationship"},
		})
		// Policy may grant an audience that pods do not name.
		admin.feed(roleFor("system:node:worker-1", "bank-tokens", `{verbs: [request-serviceaccounts-token-audience], apiGroups: [""], resources: [bank], resourceNames: [runner]}`), "create", "-f", "-")
		eventually(t, commandWithin, "the granted audience counts", func() bool {
			code, _ := one.http.send(http.MethodPost, runner, mediaType("application/json"), []byte(ask(`"bank"`, to("Pod", "web", web))))
			return code == 201
		})
	})

	t.Run("lease", func(t *testing.T) {
		lease := func(name, namespace string) string {
			return fmt.Sprintf("apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: %s, namespace: %s}\nspec: {holderIdentity: %[1]s, leaseDurationSeconds: 40}\n", name, namespace)
		}
		const all = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
		one.tries(t, []attempt{
			{"POST", all, lease("worker-1", "kube-node-lease"), 201, ""},
			{"PATCH", all + "/worker-1", `{"spec":{"leaseDurationSeconds":50}}`, 200, ""},
			{"POST", all, lease("worker-2", "kube-node-lease"), 403, "same name"},
			{"GET", all + "/worker-2", "", 403, "lease of its own name"},
			{"POST", "/apis/coordination.k8s.io/v1/namespaces/nodes/leases", lease("worker-1", "nodes"), 403, "kube-node-lease"},
			{"GET", all, "", 403, ""},
		})
	})

	t.Run("certificates", func(t *testing.T) {
		// Renewal needs nobody where policy says so; the name of another is not
		// to be had.
		admin.feed(roleFor("system:node:worker-1", "node-renewal", `{verbs: [create], apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests/selfnodeclient]}`), "create", "-f", "-")
		eventually(t, commandWithin, "the permission counts", func() bool {
			return one.exec("", "auth", "can-i", "create", "certificatesigningrequests.certificates.k8s.io", "--subresource=selfnodeclient").Code == 0
		})
		manifest, key := nodeRequest(t, "worker-1-renewed", kubeletSigner, "worker-1", "system:nodes")
		one.feed(manifest, "create", "-f", "-")
		renewed := withCertificate(t, g, one.certified("worker-1-renewed"), key)
		renewed.run(in("get", "secret", "mine")...)
		stolen, _ := nodeRequest(t, "worker-2-stolen", kubeletSigner, "worker-2", "system:nodes")
		one.failsFed(stolen, 1, []string{"forbidden", "can only create a node CSR with CN=system:node:worker-1"}, "create", "-f", "-")
		// What is approved and cannot be is said to have failed.
		masters, _ := nodeRequest(t, "masters", kubeletSigner, "worker-1", "system:nodes", "system:masters")
		admin.feed(masters, "create", "-f", "-")
		admin.run("certificate", "approve", "masters")
		admin.run("wait", "--for=condition=Failed", "csr/masters", "--timeout=60s")
		admin.shows([]string{"organizations must be exactly"}, "get", "csr", "masters", "-o", "yaml")
	})

	t.Run("watch of one secret", func(t *testing.T) {
		w, err := one.k.Start(in("get", "secret", "mine", "-w", "-o", "name")...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Kill)
		if _, err := w.WaitLine(t.Context(), "secret/mine"); err != nil {
			t.Fatal(err)
		}
		// It ends with the pod that needed it.
		admin.run(in("delete", "pod", "web", "--wait=false")...)
		at := time.Now()
		select {
		case <-w.Done():
		case <-time.After(commandWithin):
			t.Fatal("the watch outlives the pod")
		}
		t.Logf("the watch ended %v after the pod", time.Since(at).Round(time.Millisecond))
		one.tries(t, []attempt{{"GET", mine + "secrets/mine", "", 403, "no relationship"}})
	})
}

// rulesReview is a file with the question what the caller may do.
func rulesReview(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "review.json")
	if err := os.WriteFile(path, []byte(`{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","spec":{"namespace":"nodes"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// roleFor gives a user one rule by a role and a binding of the same name.
func roleFor(user, name, rule string) string {
	return fmt.Sprintf(`apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: %s}
rules: [%s]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %[1]s}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: %[3]q}]
`, name, rule, user)
}

// The pool of a node stands in its certificate: labels say nothing about it.
func TestNodePools(t *testing.T) {
	t.Parallel()
	g := shared(t)
	admin := as(t, g)
	admin.namespace("pools")
	for _, name := range []string{"gpu", "web"} {
		admin.run("create", "secret", "generic", name+"-license", "--from-literal=key=x", "-n", "pools")
	}
	admin.feed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: gpu-license}
spec:
  effect: Allow
  subjects: [{kind: Group, name: "system:node-pool:gpu"}]
  sites: [gatehouse]
  namespaces: {names: [pools]}
  rules: [{verbs: [get], apiGroups: [""], resources: [secrets], resourceNames: [gpu-license]}]
`, "create", "-f", "-")
	gpu, web := kubelet(t, g, "gpu-1", "gpu"), kubelet(t, g, "web-1", "web")
	gpu.shows([]string{"system:node:gpu-1", "system:node-pool:gpu"}, "auth", "whoami")
	get := func(n node) int {
		code, _ := n.http.send(http.MethodGet, "/api/v1/namespaces/pools/secrets/gpu-license", nil, nil)
		return code
	}
	eventually(t, commandWithin, "the pool reads its secret", func() bool { return get(gpu) == 200 })
	gpu.fails(1, []string{forbidden}, "get", "secret", "web-license", "-n", "pools")
	web.fails(1, []string{forbidden}, "get", "secret", "gpu-license", "-n", "pools")
	// A label moves nobody, whoever sets it.
	web.run("label", "node", "web-1", "example.com/pool=gpu")
	admin.run("label", "node", "web-1", "node-restriction.kubernetes.io/pool=gpu")
	admin.run("label", "node", "gpu-1", "node-restriction.kubernetes.io/pool=web")
	web.fails(1, []string{forbidden}, "get", "secret", "gpu-license", "-n", "pools")
	if get(gpu) != 200 {
		t.Error("a label took the pool away")
	}
	// Nor does a node join a pool by asking, with or without approval rights
	// over other pools.
	manifest, _ := nodeRequest(t, "web-1-as-gpu", "node-pool.gatehouse.dev/gpu", "web-1", "system:nodes", "system:node-pool:gpu")
	web.feed(manifest, "create", "-f", "-")
	web.fails(1, []string{"orbidden"}, "certificate", "approve", "web-1-as-gpu")
	for name, rule := range map[string]string{
		"pool-approver": "{verbs: [approve], apiGroups: [certificates.k8s.io], resources: [signers], resourceNames: [node-pool.gatehouse.dev/web]}",
		"pool-approval": "{verbs: [update], apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests/approval]}",
		"pool-reader":   "{verbs: [get], apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests]}",
	} {
		admin.feed(roleFor("polly", name, rule), "create", "-f", "-")
	}
	eventually(t, commandWithin, "the approver's roles count", func() bool {
		return admin.exec("", "auth", "can-i", "update", "certificatesigningrequests.certificates.k8s.io", "--subresource=approval", "--as=polly").Code == 0
	})
	admin.fails(1, []string{"orbidden", "node-pool.gatehouse.dev/gpu"}, "certificate", "approve", "web-1-as-gpu", "--as=polly")
	// It does not leave its pool by asking either: what is denied to the pool
	// would not be denied then. Its renewal is approved, asked after the other.
	leaving, _ := nodeRequest(t, "web-1-leaves", kubeletSigner, "web-1", "system:nodes")
	renewal, _ := nodeRequest(t, "web-1-renews", "node-pool.gatehouse.dev/web", "web-1", "system:nodes", "system:node-pool:web")
	admin.run("create", "clusterrolebinding", "pools-renew", "--group=system:nodes", "--clusterrole=system:certificates.k8s.io:certificatesigningrequests:selfnodeclient")
	eventually(t, commandWithin, "nodes may renew", func() bool {
		return web.exec("", "auth", "can-i", "create", "certificatesigningrequests.certificates.k8s.io/selfnodeclient").Code == 0
	})
	web.feed(leaving, "create", "-f", "-")
	web.feed(renewal, "create", "-f", "-")
	admin.certified("web-1-renews")
	for _, name := range []string{"web-1-as-gpu", "web-1-leaves"} {
		if out := admin.run("get", "csr", name, "-o", "jsonpath={.status}"); strings.Contains(out, "certificate") || strings.Contains(out, "Approved") {
			t.Errorf("request %s was answered: %s", name, out)
		}
	}
	// A node has tokens of its pods' accounts, which end with the pods, and no
	// key that would not, whatever role gives it keys.
	admin.run("create", "serviceaccount", "runner", "-n", "pools")
	admin.feed(podOn("web-1", "pools", "keymaker", "web-license"), "create", "-f", "-")
	admin.run("create", "role", "keys", "-n", "pools", "--verb=create", "--resource=accesskeys.identity.gatehouse.dev")
	admin.run("create", "rolebinding", "keys", "-n", "pools", "--role=keys", "--group=system:nodes")
	eventually(t, commandWithin, "the key is refused for what it is", func() bool {
		got := web.exec("apiVersion: identity.gatehouse.dev/v1alpha1\nkind: AccessKey\nmetadata: {name: stolen, namespace: pools}\nspec: {audience: gatehouse, subject: {serviceAccount: runner}}\n", "create", "-f", "-")
		if got.Code == 0 {
			t.Fatal("a node made a key")
		}
		return strings.Contains(got.Stderr, "a node makes no access keys")
	})
}

// An agent marks its own node with what a rule names, and with nothing else.
func TestNodeRules(t *testing.T) {
	t.Parallel()
	g := shared(t)
	admin := as(t, g)
	admin.namespace("agents")
	admin.run("create", "serviceaccount", "handler", "-n", "agents")
	for _, node := range []string{"spot-1", "spot-2"} {
		admin.feed(nodeObject(node, "{pool: spot}"), "create", "-f", "-")
	}
	bound := func(args ...string) bearer {
		token := strings.TrimSpace(admin.run(append([]string{"create", "token", "handler", "-n", "agents"}, args...)...))
		return tokenClient(t, g, token)
	}
	agent, unbound := bound("--bound-object-kind=Node", "--bound-object-name=spot-1"), bound()
	const one, two = "/api/v1/nodes/spot-1", "/api/v1/nodes/spot-2"
	const mark = `{"spec":{"taints":[{"key":"example.com/terminating","effect":"NoSchedule"}]}}`
	patch := func(c bearer, path, kind, body string) (int, string) {
		header := c.header.Clone()
		header.Set("Content-Type", kind)
		code, answer := c.send(http.MethodPatch, path, header, []byte(body))
		return code, string(answer)
	}
	const merge = "application/merge-patch+json"
	if code, _ := patch(agent, one, merge, mark); code != http.StatusForbidden {
		t.Fatalf("without a rule: %d", code)
	}
	rule := `
apiVersion: access.gatehouse.dev/v1alpha1
kind: NodeRule
metadata: {name: termination}
spec:
  agents: [{namespace: agents, name: handler}]
  taint: {key: example.com/terminating}
`
	// Only who may change nodes hands it out.
	admin.feed(roleFor("rita", "node-rules", "{verbs: [create], apiGroups: [access.gatehouse.dev], resources: [noderules]}"), "create", "-f", "-")
	eventually(t, commandWithin, "the role counts", func() bool {
		return strings.Contains(admin.exec(rule, "create", "-f", "-", "--as=rita").Stderr, "may not let agents change nodes")
	})
	admin.feed(rule, "create", "-f", "-")
	admin.shows([]string{"termination", "taint example.com/terminating", "agents/handler"}, "get", "noderules")
	eventually(t, commandWithin, "the agent marks its node", func() bool {
		code, _ := patch(agent, one, merge, mark)
		return code == http.StatusOK
	})
	admin.shows([]string{"example.com/terminating"}, "get", "node", "spot-1", "-o", "yaml")
	for name, c := range map[string]struct {
		who        bearer
		path, body string
	}{
		"another node":             {agent, two, mark},
		"a token of no node":       {unbound, one, mark},
		"another taint":            {agent, one, `{"spec":{"taints":[{"key":"example.com/other","effect":"NoSchedule"}]}}`},
		"a label beside the taint": {agent, one, `{"metadata":{"labels":{"a":"b"}},"spec":{"taints":[{"key":"example.com/terminating","effect":"NoExecute"}]}}`},
		"a field":                  {agent, one, `{"spec":{"unschedulable":true}}`},
		"the status":               {agent, one + "/status", `{"status":{"phase":"Pending"}}`},
	} {
		if code, answer := patch(c.who, c.path, merge, c.body); code != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, code, answer)
		}
	}
	if code, answer := patch(agent, one, "application/apply-patch+yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: spot-1, labels: {a: b}}\n"); code == http.StatusOK {
		t.Errorf("server-side apply of a label: %d %s", code, answer)
	}
	if code, _ := agent.send(http.MethodDelete, one, agent.header, nil); code != http.StatusForbidden {
		t.Errorf("deletion: %d", code)
	}
	if code, answer := patch(agent, one, merge, `{"spec":{"taints":null}}`); code != http.StatusOK {
		t.Errorf("taking the mark away: %d %s", code, answer)
	}
	// A change that is allowed and then takes its time is not set free by the
	// end of the rule.
	body, send := io.Pipe()
	slow, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, agent.base+one, body)
	if err != nil {
		t.Fatal(err)
	}
	slow.Header = agent.header.Clone()
	slow.Header.Set("Content-Type", merge)
	answer := make(chan int, 1)
	go func() {
		resp, err := agent.http.Do(slow)
		if err != nil {
			answer <- 0
			return
		}
		_ = resp.Body.Close()
		answer <- resp.StatusCode
	}()
	// Written once the server has begun to read: it is allowed by then.
	if _, err := io.WriteString(send, `{"metadata":`); err != nil {
		t.Fatal(err)
	}
	admin.run("delete", "noderule", "termination")
	eventually(t, commandWithin, "the rule ends", func() bool {
		code, _ := patch(agent, one, merge, mark)
		return code == http.StatusForbidden
	})
	if _, err := io.WriteString(send, `{"labels":{"pool":"secrets"}}}`); err != nil {
		t.Fatal(err)
	}
	_ = send.Close()
	if code := <-answer; code != http.StatusForbidden {
		t.Errorf("a change begun under a rule that ended: %d", code)
	}
}
