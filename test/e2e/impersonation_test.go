package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// Constrained impersonation (KEP-5284): somebody may act as one user, to list
// pods and nothing else, and one event names both.
func TestConstrainedImpersonation(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	const ns = "constrained"
	k.namespace(ns)
	k.run("create", "rolebinding", "ida", "-n", ns, "--clusterrole=edit", "--user=ida")
	k.run("create", "serviceaccount", "helper", "-n", ns)
	k.feed(`
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: as-ida}, rules: [
  {apiGroups: [authentication.k8s.io], resources: [users], resourceNames: [ida], verbs: ["impersonate:user-info"]},
  {nonResourceURLs: ["/api", "/api/*", "/apis", "/apis/*"], verbs: ["impersonate-on:user-info:get"]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: as-ida, namespace: constrained}, rules: [
  {apiGroups: [""], resources: [pods], verbs: ["impersonate-on:user-info:list"]}]}
`, "create", "-f", "-")
	k.run("create", "clusterrolebinding", "helper-as-ida", "--clusterrole=as-ida", "--serviceaccount="+ns+":helper")
	k.run("create", "rolebinding", "helper-as-ida", "-n", ns, "--role=as-ida", "--serviceaccount="+ns+":helper")
	helper := withToken(t, g, strings.TrimSpace(k.run("create", "token", "helper", "-n", ns)))
	works := func() bool { return helper.exec("", "get", "pods", "-n", ns, "--as=ida").Code == 0 }
	promptly(t, effectWithin, "helper lists pods as ida", works)
	for _, refused := range [][]string{
		{"get", "secrets", "-n", ns, "--as=ida"}, {"delete", "pod", "x", "-n", ns, "--as=ida"}, {"get", "pods", "-n", "default", "--as=ida"},
		{"get", "pods", "-n", ns, "--as=olga"}, {"get", "pods", "-n", ns, "--as=ida", "--as-group=system:masters"}, {"get", "pods", "-n", ns, "--as=system:site:edge"},
		{"get", "pods", "-n", ns},
	} {
		helper.fails(1, []string{"forbidden"}, refused...)
	}
	out := auditCommand(t, 0, "query", "--kubeconfig", g.Kubeconfig, "--user", "system:serviceaccount:"+ns+":helper", "--verb", "list", "--resource", "pods", "--output", "json").Stdout
	both := false
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var e struct {
			User, ImpersonatedUser struct{ Username string }
			AuthenticationMetadata struct{ ImpersonationConstraint string }
			ResponseStatus         struct{ Code int }
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.ResponseStatus.Code == 200 {
			both = both || e.User.Username == "system:serviceaccount:"+ns+":helper" && e.ImpersonatedUser.Username == "ida" && e.AuthenticationMetadata.ImpersonationConstraint == "impersonate:user-info"
		}
	}
	if !both {
		t.Errorf("no event names both and the constraint:\n%s", out)
	}
	// A ban of either ends it.
	for _, who := range []string{"user/ida", "serviceaccount/" + ns + "/helper"} {
		ban := revoke(t, g, "subject", who)
		promptly(t, effectWithin, who+" is banned", func() bool { return !works() })
		k.run("delete", "ban", ban)
		promptly(t, effectWithin, who+" is not banned any more", works)
	}
}
