package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// delegatesAtSite has somebody hand on "get one ConfigMap at this site", where
// both are service accounts of the control plane, in namespace lab. The site
// shares RBAC, and has the ConfigMap plans. found says whether an event of the
// decision has both names.
func delegatesAtSite(t *testing.T, g *harness.Gatehouse, cluster hasKubectl, site string, found func(e event, giver, receiver string) bool) {
	t.Helper()
	here := as(t, g)
	giver, receiver := "giver-"+site, "receiver-"+site
	user := func(name string) string { return "system:serviceaccount:lab:" + name }
	here.feed(strings.NewReplacer("GIVER", giver, "RECEIVER", receiver).Replace(`
{apiVersion: v1, kind: ServiceAccount, metadata: {name: GIVER, namespace: lab}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: RECEIVER, namespace: lab}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: GIVER-delegates}
rules: [{apiGroups: [access.gatehouse.dev], resources: [delegations], verbs: [create, get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: GIVER-delegates}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: GIVER-delegates}
subjects: [{kind: ServiceAccount, name: GIVER, namespace: lab}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: GIVER-reads, namespace: lab}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: GIVER-reads, namespace: lab}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: GIVER-reads}
subjects: [{kind: ServiceAccount, name: GIVER, namespace: lab}]
`), "create", "-f", "-")
	deputy := tokenClient(t, cluster, strings.TrimSpace(here.run("create", "token", receiver, "-n", "lab", "--audience", "gatehouse:site:"+site)))
	read := func(path string) int {
		code, _ := deputy.send(http.MethodGet, "/api/v1/namespaces/lab/"+path, deputy.header, nil)
		return code
	}
	if code := read("configmaps/plans"); code != http.StatusForbidden {
		t.Errorf("before anything was handed on: %d", code)
	}
	giving := withToken(t, g, strings.TrimSpace(here.run("create", "token", giver, "-n", "lab")))
	handOn := func(name, at string) string {
		return fmt.Sprintf(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: Delegation
metadata: {name: %s}
spec:
  to: {kind: ServiceAccount, namespace: lab, name: %s}
  rules: [{apiGroups: [""], resources: [configmaps], resourceNames: [plans], verbs: [get]}]
  sites: [%q]
  namespaces: {names: [lab]}
  notAfter: %q
`, name, receiver, at, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}
	// It may be written as soon as the giver's binding counts.
	eventually(t, commandWithin, "the giver hands it on", func() bool {
		return giving.exec(handOn("at-"+site, site), "create", "-f", "-").Code == 0
	})
	eventually(t, commandWithin, "the receiver reads at the site", func() bool { return read("configmaps/plans") == http.StatusOK })
	for _, path := range []string{"configmaps", "configmaps/other", "secrets/plans"} {
		if code := read(path); code != http.StatusForbidden {
			t.Errorf("the receiver gets %s: %d", path, code)
		}
	}
	// Nowhere else.
	home := tokenClient(t, g, strings.TrimSpace(here.run("create", "token", receiver, "-n", "lab")))
	if code, _ := home.send(http.MethodGet, "/api/v1/namespaces/lab/configmaps/plans", home.header, nil); code != http.StatusForbidden {
		t.Errorf("in the control plane: %d", code)
	}
	eventually(t, commandWithin, "both names are on record", func() bool {
		return record(t, g).has(func(e event) bool { return found(e, user(giver), user(receiver)) })
	})
	here.run("delete", "rolebinding", giver+"-reads", "-n", "lab")
	eventually(t, commandWithin, "the giver lost it, and the receiver", func() bool { return read("configmaps/plans") == http.StatusForbidden })
}
