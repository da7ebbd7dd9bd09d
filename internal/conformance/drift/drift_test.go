package drift

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
)

func listed(r Report) []string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", f.Kind, f.Object, f.Detail)))
	}
	return out
}

// An upgraded cluster is reported as known, and nothing of its own is.
func TestOldCluster(t *testing.T) {
	t.Parallel()
	c, err := Read([]string{"testdata/old"})
	if err != nil {
		t.Fatal(err)
	}
	base, ok := BaselineFor(c.Version)
	if !ok || c.Version != "v1.36.3" {
		t.Fatalf("version %q", c.Version)
	}
	report := Compare(c, base)
	want := []string{
		"LeftOver ClusterRole/system:aws-cloud-provider",
		"ExtraRule ClusterRole/system:aggregate-to-edit create,update endpoints",
		"NotReconciled ClusterRole/system:aggregate-to-edit rbac.authorization.kubernetes.io/autoupdate=false",
		"LegacyBinding ClusterRoleBinding/add-on-cluster-admin ServiceAccount/kube-system/default",
		"LegacyBinding ClusterRoleBinding/kubelet-nodes User/kubelet",
		"LegacyBinding ClusterRoleBinding/permissive-binding Group/system:serviceaccounts",
		"LegacyBinding ClusterRoleBinding/permissive-binding User/kubelet",
		"LeftOver ClusterRoleBinding/system:aws-cloud-provider",
		"ExtraSubject ClusterRoleBinding/system:basic-user Group/system:unauthenticated",
		"ExtraSubject ClusterRoleBinding/system:discovery Group/system:unauthenticated",
		"ExtraSubject ClusterRoleBinding/system:node Group/system:nodes",
		"InsecureFlag Pod/kube-system/kube-apiserver --anonymous-auth=true",
		"InsecureFlag Pod/kube-system/kube-apiserver --authorization-mode=RBAC,ABAC",
		"InsecureFlag Pod/kube-system/kube-apiserver --authorization-policy-file=/etc/kubernetes/abac.jsonl",
		"InsecureFlag Pod/kube-system/kube-apiserver --enable-admission-plugins=AlwaysAdmit",
		"InsecureFlag Pod/kube-system/kube-apiserver --etcd-servers=http://127.0.0.1:2379",
		"InsecureFlag Pod/kube-system/kube-apiserver --insecure-port=8080",
		"InsecureFlag Pod/kube-system/kube-apiserver --token-auth-file=/etc/kubernetes/tokens.csv",
		"MissingDefence Pod/kube-system/kube-apiserver --authorization-mode=RBAC,ABAC",
		"MissingDefence Pod/kube-system/kube-apiserver --enable-admission-plugins",
		"LegacyBinding RoleBinding/kube-system/dashboard User/system:anonymous",
	}
	got := listed(report)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, f := range report.Findings {
		if f.Why == "" || len(f.Repair) == 0 || f.Manual != (f.Kind == InsecureFlag || f.Kind == MissingDefence) {
			t.Errorf("%+v", f)
		}
	}
	// Of what has no baseline only what is wrong in every version is known.
	c.Version = "v1.24.0"
	if _, ok := BaselineFor(c.Version); ok {
		t.Error("a baseline of v1.24")
	}
	for _, f := range Compare(c, nil).Findings {
		if f.Kind == ExtraRule || f.Kind == LeftOver || f.Kind == ExtraSubject {
			t.Errorf("without a baseline: %+v", f)
		}
	}
}

// fresh is a cluster as the baseline has it.
func fresh(t *testing.T, version string) (*Cluster, *Baseline) {
	t.Helper()
	base, ok := BaselineFor(version)
	if !ok {
		t.Fatalf("no baseline of %s", version)
	}
	again, _ := BaselineFor(version)
	return &Cluster{Version: version, ClusterRoles: again.ClusterRoles, ClusterRoleBindings: again.ClusterRoleBindings, Roles: again.Roles, RoleBindings: again.RoleBindings}, base
}

func TestBaselinesAreWithoutDrift(t *testing.T) {
	t.Parallel()
	for _, version := range Versions() {
		c, base := fresh(t, version+".0")
		report := Compare(c, base)
		if len(report.Findings)+len(report.Missing) > 0 || report.Baseline != version || len(base.ClusterRoles) < 50 {
			t.Errorf("%s: %v %v", version, listed(report), report.Missing)
		}
	}
	for _, wrong := range []string{"", "1", "v1.36x", "v11.36.1", "../v1.36", "v1.3"} {
		if _, ok := BaselineFor(wrong); ok {
			t.Errorf("a baseline of %q", wrong)
		}
	}
}

// Repairs make a cluster what it was, whatever was done to it.
func TestRepair(t *testing.T) {
	t.Parallel()
	c, base := fresh(t, "v1.36.3")
	group := func(name string) rbacv1.Subject {
		return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "Group", Name: name}
	}
	for i := range c.ClusterRoles {
		switch r := &c.ClusterRoles[i]; r.Name {
		case "system:basic-user":
			r.Rules = append(r.Rules, rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}})
		case "view":
			r.AggregationRule.ClusterRoleSelectors = append(r.AggregationRule.ClusterRoleSelectors, metav1.LabelSelector{MatchLabels: map[string]string{"x": "y"}})
		case "system:node":
			r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{}}}
		case "edit":
			r.AggregationRule, r.Rules = nil, []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}
		}
	}
	for i := range c.ClusterRoleBindings {
		switch b := &c.ClusterRoleBindings[i]; b.Name {
		case "cluster-admin":
			b.Subjects = append(b.Subjects, group("a"), group("it's b"))
			b.Annotations = map[string]string{rbacv1.AutoUpdateAnnotationKey: "false"}
		case "system:discovery":
			b.RoleRef.Name = "cluster-admin"
		}
	}
	c.ClusterRoleBindings = append(c.ClusterRoleBindings, rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "all"}, Subjects: []rbacv1.Subject{group("system:authenticated"), group("staff")},
		RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "cluster-admin"}})
	var objects []runtime.Object
	for i := range c.ClusterRoles {
		objects = append(objects, &c.ClusterRoles[i])
	}
	for i := range c.ClusterRoleBindings {
		objects = append(objects, &c.ClusterRoleBindings[i])
	}
	for i := range c.Roles {
		objects = append(objects, &c.Roles[i])
	}
	for i := range c.RoleBindings {
		objects = append(objects, &c.RoleBindings[i])
	}
	client := fake.NewClientset(objects...)
	report := Compare(c, base)
	if len(report.Findings) != 9 {
		t.Fatalf("%d findings:\n%s", len(report.Findings), strings.Join(listed(report), "\n"))
	}
	outcomes, ok := Repair(t.Context(), client, report.Findings)
	if !ok || len(outcomes) != 8 { // both subjects of cluster-admin go at once
		t.Errorf("%v %+v", ok, outcomes)
	}
	after, err := Live(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	after.Version = "v1.36.3"
	left := Compare(after, base)
	// The binding of another role is made anew by the server when it starts.
	if len(left.Findings) != 0 || !slices.Equal(left.Missing, []string{"ClusterRoleBinding/system:discovery"}) {
		t.Errorf("left: %v, missing %v", listed(left), left.Missing)
	}
	all := slices.IndexFunc(after.ClusterRoleBindings, func(b rbacv1.ClusterRoleBinding) bool { return b.Name == "all" })
	if all < 0 || len(after.ClusterRoleBindings[all].Subjects) != 1 || after.ClusterRoleBindings[all].Subjects[0].Name != "staff" {
		t.Errorf("the other subject of a binding: %+v", after.ClusterRoleBindings[all])
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.json":        `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleList","items":[{"metadata":{"name":"x"}}]}`,
		"sub/flags.txt": "kube-apiserver --authorization-mode=Node,RBAC\n--enable-admission-plugins=NodeRestriction\n",
		"version.yaml":  "clientVersion: {gitVersion: v1.30.0}\nserverVersion: {gitVersion: v1.36.1}\n",
		"other.yaml":    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r, namespace: ns}\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Read([]string{dir})
	if err != nil || c.Version != "v1.36.1" || len(c.ClusterRoles) != 1 || c.ClusterRoles[0].Name != "x" || len(c.Roles) != 1 || len(c.Flags) != 1 || len(c.Flags[0].Args) != 2 {
		t.Fatalf("%+v %v", c, err)
	}
	if report := Compare(c, nil); len(report.Findings) != 0 {
		t.Errorf("%v", listed(report))
	}
	for _, wrong := range []string{filepath.Join(dir, "no-such"), filepath.Join(dir, "version.yaml")} {
		if _, err := Read([]string{wrong}); err == nil {
			t.Errorf("%s is read", wrong)
		}
	}
}

func FuzzObjects(f *testing.F) {
	for _, name := range []string{"rbac.yaml", "kube-apiserver.yaml"} {
		data, err := os.ReadFile(filepath.Join("testdata/old", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"kind":"List","items":[{"kind":"List","items":[]}]}`))
	base, _ := BaselineFor("v1.36.0")
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &Cluster{}
		if err := c.Objects(data, "fuzz"); err != nil {
			return
		}
		for _, finding := range Compare(c, base).Findings {
			if finding.Why == "" || len(finding.Repair) == 0 {
				t.Errorf("%+v", finding)
			}
		}
		if args, ok := commandLine(string(data)); ok && len(args) == 0 {
			t.Error("a command line without flags")
		}
	})
}
