package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// driftOf runs the command, without a kubeconfig on dumps only, and returns what was found, "KIND OBJECT DETAIL".
func driftOf(t *testing.T, kubeconfig string, code int, args ...string) (found, missing []string) {
	t.Helper()
	args = append([]string{"conformance", "kubernetes-drift", "--output", "json"}, args...)
	if kubeconfig != "" {
		args = append(args, "--kubeconfig", kubeconfig)
	}
	got, err := harness.RunGatehouse(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	if got.Code != code {
		t.Fatalf("kubernetes-drift %s: %v", strings.Join(args, " "), got)
	}
	var report struct {
		Baseline string
		Findings []struct{ Kind, Object, Detail string }
		Missing  []string
		Repaired []struct{ Error string }
	}
	if err := json.Unmarshal([]byte(got.Stdout), &report); err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		found = append(found, strings.TrimSpace(f.Kind+" "+f.Object+" "+f.Detail))
	}
	for _, r := range report.Repaired {
		if r.Error != "" {
			t.Errorf("not repaired: %s", r.Error)
		}
	}
	return found, report.Missing
}

// A new cluster has no drift; one that was widened has just that, and none once
// it is repaired.
func TestDriftOfAStockCluster(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	k := as(t, cluster)
	flags := write(t, "flags.txt", "kube-apiserver\n--authorization-mode=Node,RBAC\n--enable-admission-plugins=NodeRestriction\n")
	// The server makes its roles and bindings after it is ready.
	var missing []string
	eventually(t, commandWithin, "everything that a cluster starts with is there", func() bool {
		var found []string
		found, missing = driftOf(t, cluster.Kubeconfig, 0, "--from", flags)
		return len(found) == 0 && len(missing) == 0
	})

	k.run("patch", "clusterrolebinding", "system:node", "--type=merge", "-p", `{"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"Group","name":"system:nodes"}]}`)
	k.run("patch", "clusterrole", "system:basic-user", "--type=json", "-p", `[{"op":"add","path":"/rules/-","value":{"apiGroups":[""],"resources":["secrets"],"verbs":["get"]}}]`)
	k.run("create", "clusterrolebinding", "permissive-binding", "--clusterrole=cluster-admin", "--user=kubelet", "--group=system:serviceaccounts")
	k.run("create", "clusterrolebinding", "staff", "--clusterrole=cluster-admin", "--group=staff")
	want := []string{
		"ExtraRule ClusterRole/system:basic-user get secrets",
		"LegacyBinding ClusterRoleBinding/permissive-binding Group/system:serviceaccounts",
		"LegacyBinding ClusterRoleBinding/permissive-binding User/kubelet",
		"ExtraSubject ClusterRoleBinding/system:node Group/system:nodes",
	}
	if found, _ := driftOf(t, cluster.Kubeconfig, 1, "--from", flags); !slices.Equal(found, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(found, "\n"), strings.Join(want, "\n"))
	}
	// The same from a dump.
	dump := write(t, "dump.yaml", k.run("get", "clusterroles,clusterrolebindings,roles,rolebindings", "-A", "-o", "yaml"))
	if found, _ := driftOf(t, "", 1, "--from", dump, "--from", flags, "--kubernetes-version", "v1.36.3"); !slices.Equal(found, want) {
		t.Errorf("from a dump: %v", found)
	}
	// Without consent nothing happens; with it, only that.
	declined := command(t, cluster.Kubeconfig, "conformance", "kubernetes-drift", "--fix")
	if declined.Code != 1 || !strings.Contains(declined.Stderr, "nothing was changed") {
		t.Errorf("declined: %v", declined)
	}
	if found, _ := driftOf(t, cluster.Kubeconfig, 0, "--from", flags, "--fix", "--yes"); len(found) != len(want) {
		t.Errorf("repaired: %v", found)
	}
	if found, missing := driftOf(t, cluster.Kubeconfig, 0, "--from", flags); len(found)+len(missing) != 0 {
		t.Errorf("after the repair: %v, missing %v", found, missing)
	}
	k.run("get", "clusterrolebinding", "staff")
}
