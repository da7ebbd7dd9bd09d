package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
)

// unauthorized is how kubectl words a 401.
const unauthorized = "You must be logged in to the server"

// can waits until kubectl auth can-i says yes (or no).
func (k kube) can(want bool, args ...string) {
	k.t.Helper()
	answer, code := "no\n", 1
	if want {
		answer, code = "yes\n", 0
	}
	args = append([]string{"auth", "can-i"}, args...)
	eventually(k.t, commandWithin, fmt.Sprintf("kubectl %s answers %q", strings.Join(args, " "), answer), func() bool {
		got := k.exec("", args...)
		return got.Code == code && got.Stdout == answer
	})
}

func TestKubectlRoles(t *testing.T) {
	onBoth(t, func(t *testing.T, k kube) {
		k.namespace("roles")
		k.shows([]string{"Username", "Groups", "system:authenticated"}, "auth", "whoami")
		k.can(true, "*", "*", "--all-namespaces")
		k.can(false, "create", "configmaps", "-n", "roles", "--as=ada")

		// A role in the namespace, given to a user.
		k.run("create", "role", "writer", "-n", "roles", "--verb=create,get", "--resource=configmaps")
		k.run("create", "rolebinding", "ada-writes", "-n", "roles", "--role=writer", "--user=ada")
		k.can(true, "create", "configmaps", "-n", "roles", "--as=ada")
		k.can(false, "delete", "configmaps", "-n", "roles", "--as=ada")
		k.can(false, "create", "configmaps", "-n", "default", "--as=ada")
		k.run("create", "configmap", "by-ada", "-n", "roles", "--as=ada")
		k.fails(1, []string{"Forbidden", `User "ada" cannot delete resource "configmaps" in API group "" in the namespace "roles"`},
			"delete", "configmap", "by-ada", "-n", "roles", "--as=ada")
		k.shows([]string{"configmaps", "[create get]", "selfsubjectaccessreviews.authorization.k8s.io"},
			"auth", "can-i", "--list", "-n", "roles", "--as=ada")

		// A cluster role, given to a group, by name of the object and by URL.
		k.run("create", "clusterrole", "doors", "--verb=get", "--resource=nodes", "--resource-name=front")
		k.run("create", "clusterrole", "metrics", "--verb=get", "--non-resource-url=/metrics")
		k.run("create", "clusterrolebinding", "doors", "--clusterrole=doors", "--group=porters")
		k.run("create", "clusterrolebinding", "metrics", "--clusterrole=metrics", "--group=porters")
		porter := []string{"--as=pete", "--as-group=porters"}
		k.can(true, append([]string{"get", "nodes/front"}, porter...)...)
		k.can(false, append([]string{"get", "nodes/back"}, porter...)...)
		k.can(true, append([]string{"get", "/metrics"}, porter...)...)
		k.can(false, append([]string{"get", "/livez/ping/secret"}, porter...)...)

		// reconcile creates, completes and leaves alone.
		const file = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reconciled, namespace: roles}
rules: [{apiGroups: [""], resources: [%s], verbs: [get]}]
`
		k.feed(fmt.Sprintf(file, "pods"), "auth", "reconcile", "-f", "-")
		k.feed(fmt.Sprintf(file, "secrets"), "auth", "reconcile", "-f", "-")
		k.shows([]string{"pods", "secrets"}, "get", "role", "reconciled", "-n", "roles", "-o", "jsonpath={.rules}")
	})
}

// The bootstrap roles gather the rules of labelled roles. (Upstream leaves that
// to another program, so there is nothing to compare with here.)
func TestAggregatedRoles(t *testing.T) {
	t.Parallel()
	k := as(t, shared(t))
	k.namespace("aggregation")
	k.run("create", "rolebinding", "vera-views", "-n", "aggregation", "--clusterrole=view", "--user=vera")
	k.run("create", "rolebinding", "ed-edits", "-n", "aggregation", "--clusterrole=edit", "--user=ed")
	k.can(true, "get", "configmaps", "-n", "aggregation", "--as=vera")
	k.can(false, "get", "secrets", "-n", "aggregation", "--as=vera")
	k.can(true, "get", "secrets", "-n", "aggregation", "--as=ed")
	k.can(false, "create", "rolebindings.rbac.authorization.k8s.io", "-n", "aggregation", "--as=ed")
	k.can(false, "paint", "configmaps", "-n", "aggregation", "--as=ed")
	k.feed(`
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: view-paint, labels: {rbac.authorization.k8s.io/aggregate-to-view: "true"}}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [paint]}]
`, "apply", "-f", "-")
	k.can(true, "paint", "configmaps", "-n", "aggregation", "--as=vera")
	k.can(true, "paint", "configmaps", "-n", "aggregation", "--as=ed") // edit gathers view
	k.run("delete", "clusterrole", "view-paint")
	k.can(false, "paint", "configmaps", "-n", "aggregation", "--as=vera")
}

// Nobody hands on more than they hold, unless they may.
func TestEscalation(t *testing.T) {
	onBoth(t, func(t *testing.T, k kube) {
		k.namespace("escalation")
		k.run("create", "role", "binder", "-n", "escalation", "--verb=create,update,patch,get,list", "--resource=rolebindings.rbac.authorization.k8s.io,roles.rbac.authorization.k8s.io")
		k.run("create", "rolebinding", "bob", "-n", "escalation", "--role=binder", "--user=bob")
		k.can(true, "create", "rolebindings.rbac.authorization.k8s.io", "-n", "escalation", "--as=bob")
		k.fails(1, []string{"forbidden", "attempting to grant RBAC permissions not currently held"},
			"create", "rolebinding", "self", "-n", "escalation", "--clusterrole=cluster-admin", "--user=bob", "--as=bob")
		k.fails(1, []string{"forbidden", "attempting to grant RBAC permissions not currently held"},
			"create", "role", "more", "-n", "escalation", "--verb=get", "--resource=secrets", "--as=bob")
		k.run("create", "rolebinding", "same", "-n", "escalation", "--role=binder", "--user=carol", "--as=bob")
		k.run("create", "role", "may-bind", "-n", "escalation", "--verb=bind", "--resource=clusterroles.rbac.authorization.k8s.io", "--resource-name=view")
		k.run("create", "rolebinding", "may-bind", "-n", "escalation", "--role=may-bind", "--user=bob")
		k.can(true, "bind", "clusterroles.rbac.authorization.k8s.io/view", "-n", "escalation", "--as=bob")
		k.run("create", "rolebinding", "viewer", "-n", "escalation", "--clusterrole=view", "--user=carol", "--as=bob")
	})
}

// claims reads a token's payload without verifying it, as its bearer could.
func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(strings.TrimSpace(token), ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT: %d parts", len(parts))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(payload, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// onEither is onBoth for stories that log in with a token of the server.
func onEither(t *testing.T, story func(t *testing.T, server hasKubectl)) {
	t.Helper()
	t.Parallel()
	t.Run("gatehouse", func(t *testing.T) {
		t.Parallel()
		story(t, shared(t))
	})
	t.Run("stock", func(t *testing.T) {
		t.Parallel()
		story(t, stock(t))
	})
}

func TestServiceAccountTokens(t *testing.T) {
	onEither(t, func(t *testing.T, server hasKubectl) {
		k := as(t, server)
		k.namespace("tokens")
		in := func(args ...string) []string { return append(args, "-n", "tokens") }
		k.run(in("create", "serviceaccount", "robot")...)
		k.run(in("create", "serviceaccount", "runner")...)

		token := k.run(in("create", "token", "robot", "--duration=20m")...)
		c := claims(t, token)
		if c["sub"] != "system:serviceaccount:tokens:robot" || c["exp"].(float64)-c["iat"].(float64) != 20*60 || c["jti"] == "" {
			t.Errorf("claims %v", c)
		}
		robot := withToken(t, server, strings.TrimSpace(token))
		robot.shows([]string{"system:serviceaccount:tokens:robot", "system:serviceaccounts:tokens", "JTI="}, "auth", "whoami")
		robot.fails(1, []string{"Forbidden", `User "system:serviceaccount:tokens:robot" cannot list resource "configmaps"`}, in("get", "configmaps")...)
		k.run(in("create", "role", "reader", "--verb=get,list", "--resource=configmaps")...)
		k.run(in("create", "rolebinding", "robot", "--role=reader", "--serviceaccount=tokens:robot")...)
		eventually(t, commandWithin, "the binding counts", func() bool {
			return robot.exec("", in("get", "configmaps")...).Code == 0
		})
		robot.fails(1, []string{"Forbidden", "impersonate"}, in("get", "configmaps", "--as=ada")...)

		// A token for another place is worth nothing here.
		foreign := strings.TrimSpace(k.run(in("create", "token", "robot", "--audience=elsewhere.example")...))
		withToken(t, server, foreign).fails(1, []string{unauthorized}, in("get", "configmaps")...)
		withToken(t, server, token[:len(token)-8]+"AAAAAAA").fails(1, []string{unauthorized}, in("get", "configmaps")...)
		k.fails(1, []string{"Invalid", "expirationSeconds"}, in("create", "token", "robot", "--duration=1m")...)
		k.fails(1, []string{`serviceaccounts "gone" not found`}, in("create", "token", "gone")...)

		// A token bound to a pod ends with the pod.
		k.feed(pod("bound", "tokens"), "create", "-f", "-")
		bound := withToken(t, server, strings.TrimSpace(k.run(in("create", "token", "runner", "--bound-object-kind=Pod", "--bound-object-name=bound")...)))
		bound.shows([]string{"system:serviceaccount:tokens:runner", "authentication.kubernetes.io/pod-name"}, "auth", "whoami")
		k.fails(1, []string{`pods "gone" not found`}, in("create", "token", "runner", "--bound-object-kind=Pod", "--bound-object-name=gone")...)
		k.run(in("delete", "pod", "bound", "--grace-period=0", "--force")...)
		eventually(t, commandWithin, "the token of a deleted pod is refused", func() bool {
			got := bound.exec("", "auth", "whoami")
			return got.Code != 0 && strings.Contains(got.Stderr, unauthorized)
		})

		// And every token of an account ends with the account.
		k.run(in("delete", "serviceaccount", "robot")...)
		eventually(t, commandWithin, "the token of a deleted account is refused", func() bool {
			got := robot.exec("", "auth", "whoami")
			return got.Code != 0 && strings.Contains(got.Stderr, unauthorized)
		})
	})
}

func TestCertificateRequests(t *testing.T) {
	onBoth(t, func(t *testing.T, k kube) {
		for _, name := range []string{"wanted", "unwanted"} {
			k.feed(certificateRequest(t, name), "create", "-f", "-")
		}
		k.shows([]string{"wanted", "Pending", "kubernetes.io/kube-apiserver-client"}, "get", "csr", "wanted")
		k.shows([]string{"certificatesigningrequest.certificates.k8s.io/wanted approved"}, "certificate", "approve", "wanted")
		k.run("certificate", "deny", "unwanted")
		k.shows([]string{"Approved"}, "get", "csr", "wanted")
		k.shows([]string{"Denied"}, "get", "csr", "unwanted")
		k.run("wait", "--for=condition=Approved", "csr/wanted", "--timeout=60s")
		k.shows([]string{"Name:", "wanted", "Approved", "Common Name:", "ada"}, "describe", "csr", "wanted")
		// What was denied cannot be approved.
		k.fails(1, []string{"Invalid", "exclu"}, "patch", "csr", "unwanted", "--subresource=approval", "--type=json",
			"-p", `[{"op":"add","path":"/status/conditions/-","value":{"type":"Approved","status":"True"}}]`)
		k.run("delete", "csr", "wanted", "unwanted")
	})
}

func certificateRequest(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "ada"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return fmt.Sprintf(`
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: %s}
spec:
  signerName: kubernetes.io/kube-apiserver-client
  usages: [client auth]
  request: %s
`, name, base64.StdEncoding.EncodeToString(text))
}

const admissionPolicy = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-red}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}
  validations:
  - expression: "!has(object.data) || !('colour' in object.data) || object.data.colour != 'red' || authorizer.group('').resource('configmaps').namespace('admission').name('red').check('paint').allowed()"
    messageExpression: "'red is for painters, not for ' + request.userInfo.username"
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-red}
spec:
  policyName: no-red
  validationActions: [Deny]
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: admission}}}
`

// An admission policy in CEL is enforced, and its authorizer asks the engine.
func TestAdmissionPolicy(t *testing.T) {
	onBoth(t, func(t *testing.T, k kube) {
		k.namespace("admission")
		k.run("create", "role", "editor", "-n", "admission", "--verb=create,get,patch", "--resource=configmaps")
		k.run("create", "rolebinding", "edits", "-n", "admission", "--role=editor", "--user=ann", "--user=paul")
		k.run("create", "role", "painter", "-n", "admission", "--verb=paint", "--resource=configmaps", "--resource-name=red")
		k.run("create", "rolebinding", "paints", "-n", "admission", "--role=painter", "--user=paul")
		k.feed(admissionPolicy, "apply", "-f", "-")
		red := func(user string) []string {
			return []string{"create", "configmap", "red", "-n", "admission", "--from-literal=colour=red", "--dry-run=server", "--as=" + user}
		}
		eventually(t, commandWithin, "the policy is enforced", func() bool {
			return strings.Contains(k.exec("", red("ann")...).Stderr, "painters")
		})
		k.fails(1, []string{"ValidatingAdmissionPolicy 'no-red'", "denied request", "red is for painters, not for ann"}, red("ann")...)
		eventually(t, commandWithin, "the painter may", func() bool { return k.exec("", red("paul")...).Code == 0 })
		k.run("create", "configmap", "blue", "-n", "admission", "--from-literal=colour=blue", "--as=ann")
		k.fails(1, []string{"red is for painters"}, "patch", "configmap", "blue", "-n", "admission", "-p", `{"data":{"colour":"red"}}`, "--as=ann")
		k.failsFed(strings.ReplaceAll(strings.Split(admissionPolicy, "---")[0], "!has(object.data) ||", "nonsense((("), 1,
			[]string{"Invalid", "spec.validations[0].expression"}, "apply", "-f", "-")
	})
}
