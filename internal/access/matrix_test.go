package access_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access/bootstrap"
)

var update = flag.Bool("update", false, "rewrite the golden files of this package")

// matrixResources are the kinds that the control plane serves, with their
// subresources, and the names that grants of special verbs are about.
var matrixResources = []string{
	"core/bindings", "core/configmaps", "core/events", "core/groups", "core/namespaces", "core/namespaces/finalize", "core/namespaces/status",
	"core/nodes", "core/nodes/metrics", "core/nodes/proxy", "core/nodes/status", "core/pods", "core/pods/binding", "core/pods/eviction",
	"core/pods/exec", "core/pods/log", "core/pods/status", "core/secrets", "core/serviceaccounts", "core/serviceaccounts/token", "core/users",
	"access.gatehouse.dev/accesspolicies", "access.gatehouse.dev/bans", "access.gatehouse.dev/delegations",
	"admissionregistration.k8s.io/validatingadmissionpolicies", "admissionregistration.k8s.io/validatingadmissionpolicybindings",
	"apps/deployments",
	"authentication.k8s.io/selfsubjectreviews", "authentication.k8s.io/tokenreviews", "authentication.k8s.io/uids", "authentication.k8s.io/userextras",
	"authorization.k8s.io/localsubjectaccessreviews", "authorization.k8s.io/selfsubjectaccessreviews",
	"authorization.k8s.io/selfsubjectrulesreviews", "authorization.k8s.io/subjectaccessreviews",
	"certificates.k8s.io/certificatesigningrequests", "certificates.k8s.io/certificatesigningrequests/approval",
	"certificates.k8s.io/certificatesigningrequests/status", "certificates.k8s.io/signers",
	"certificates.k8s.io/signers /kubernetes.io/kube-apiserver-client", "certificates.k8s.io/signers /kubernetes.io/kube-apiserver-client-kubelet",
	"certificates.k8s.io/signers /kubernetes.io/kubelet-serving", "certificates.k8s.io/signers /kubernetes.io/legacy-unknown",
	"coordination.k8s.io/leases", "events.k8s.io/events",
	"federation.gatehouse.dev/sites", "federation.gatehouse.dev/sites/status",
	"rbac.authorization.k8s.io/clusterrolebindings", "rbac.authorization.k8s.io/clusterroles",
	"rbac.authorization.k8s.io/rolebindings", "rbac.authorization.k8s.io/roles",
}

var (
	matrixVerbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection",
		"impersonate", "bind", "escalate", "approve", "sign", "attest"}
	matrixPaths = []string{"/", "/api", "/apis", "/apis/rbac.authorization.k8s.io", "/openapi/v3", "/version", "/livez", "/livez/ping", "/readyz",
		"/readyz/etcd", "/healthz", "/healthz/etcd", "/metrics", "/metrics/slis", "/debug/pprof/heap", "/.well-known/openid-configuration", "/openid/v1/jwks",
		"/sites/berlin/authorize"}
)

// TestMatrix asks, for every role to start with, for every resource and verb,
// and compares the answers with testdata/matrix.txt. A change there is a
// change of who may do what: read it as such.
func TestMatrix(t *testing.T) {
	t.Parallel()
	plan, err := bootstrap.Reconcile(bootstrap.Default(), bootstrap.Objects{})
	if err != nil {
		t.Fatal(err)
	}
	w := world{clusterRoles: plan.Create.ClusterRoles, clusterRoleBindings: plan.Create.ClusterRoleBindings}
	for _, r := range w.clusterRoles {
		b := clusterBind(r.Name, "User:holder of "+r.Name)
		b.Name = "matrix:" + r.Name
		w.clusterRoleBindings = append(w.clusterRoleBindings, b)
	}
	a := w.authorizer(t)
	var out strings.Builder
	line := func(who, what string, verbs []string) {
		if len(verbs) > 0 {
			fmt.Fprintf(&out, "%-70s %-66s %s\n", who, what, strings.Join(verbs, " "))
		}
	}
	row := func(who string, groups ...string) {
		subject := user("holder of "+who, groups...)
		for _, r := range matrixResources {
			var allowed []string
			for _, v := range matrixVerbs {
				if mustDecide(t, a, subject, v+" "+matrixQuestion(r)).Allowed() {
					allowed = append(allowed, v)
				}
			}
			line(who, r, allowed)
		}
		for _, p := range matrixPaths {
			var allowed []string
			for _, v := range []string{"get", "post"} {
				if mustDecide(t, a, subject, v+" "+p).Allowed() {
					allowed = append(allowed, v)
				}
			}
			line(who, p, allowed)
		}
	}
	for _, r := range w.clusterRoles {
		row(r.Name)
	}
	for _, g := range []string{"system:authenticated", "system:unauthenticated", "system:serviceaccounts", "system:nodes", "system:monitoring", "system:sites"} {
		row("group "+g, g)
	}

	golden := filepath.Join("testdata", "matrix.txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	have, expected := strings.Split(out.String(), "\n"), strings.Split(string(want), "\n")
	for _, d := range difference(expected, have) {
		t.Errorf("no longer: %s", d)
	}
	for _, d := range difference(have, expected) {
		t.Errorf("new:       %s", d)
	}
}

// matrixQuestion names an object unless the resource already does.
func matrixQuestion(resource string) string {
	if strings.Contains(resource, " ") {
		return resource
	}
	return resource + " ns/name"
}

func difference(a, b []string) []string {
	in := map[string]bool{}
	for _, s := range b {
		in[s] = true
	}
	var out []string
	for _, s := range a {
		if !in[s] {
			out = append(out, s)
		}
	}
	return out
}

// A superuser needs no row: everything is allowed but the names of sites.
func TestMatrixOfSuperusers(t *testing.T) {
	t.Parallel()
	a := world{clusterRoles: []*rbacv1.ClusterRole{}}.authorizer(t)
	root := user("root", "system:masters")
	for _, r := range matrixResources {
		for _, v := range matrixVerbs {
			if !mustDecide(t, a, root, v+" "+matrixQuestion(r)).Allowed() {
				t.Errorf("%s %s is refused", v, r)
			}
		}
	}
}
