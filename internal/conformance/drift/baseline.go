package drift

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// Baseline is what a new installation of one version starts with, as
// kube-apiserver itself makes it with the default feature gates.
type Baseline struct {
	Version             string                      `json:"version"` // vMAJOR.MINOR
	ClusterRoles        []rbacv1.ClusterRole        `json:"clusterRoles"`
	ClusterRoleBindings []rbacv1.ClusterRoleBinding `json:"clusterRoleBindings"`
	Roles               []rbacv1.Role               `json:"roles"`
	RoleBindings        []rbacv1.RoleBinding        `json:"roleBindings"`
}

//go:embed baseline
var baselines embed.FS

// Versions returns the versions that have a baseline, in order.
func Versions() []string {
	entries, err := fs.ReadDir(baselines, "baseline")
	if err != nil { // the folder is compiled in
		return nil
	}
	var out []string
	for _, e := range entries {
		out = append(out, strings.TrimSuffix(e.Name(), ".json"))
	}
	slices.Sort(out)
	return out
}

var minor = regexp.MustCompile(`^v?(\d+\.\d+)(\.|$|\+)`)

// BaselineFor returns the baseline of a server's version, such as v1.36.3; ok
// is false when there is none.
func BaselineFor(version string) (base *Baseline, ok bool) {
	m := minor.FindStringSubmatch(version)
	if m == nil {
		return nil, false
	}
	data, err := baselines.ReadFile("baseline/v" + m[1] + ".json")
	if err != nil {
		return nil, false
	}
	base = &Baseline{}
	if err := json.Unmarshal(data, base); err != nil {
		return nil, false // the tests read every one
	}
	return base, true
}

// BaselineOf makes a baseline of the dump of a new installation: of its objects
// that carry the mark of what a cluster starts with.
func BaselineOf(c *Cluster) (*Baseline, error) {
	b := &Baseline{Version: c.Version}
	for _, o := range c.ClusterRoles {
		if marked(o.Labels) {
			b.ClusterRoles = append(b.ClusterRoles, o)
		}
	}
	for _, o := range c.ClusterRoleBindings {
		if marked(o.Labels) {
			b.ClusterRoleBindings = append(b.ClusterRoleBindings, o)
		}
	}
	for _, o := range c.Roles {
		if marked(o.Labels) {
			b.Roles = append(b.Roles, o)
		}
	}
	for _, o := range c.RoleBindings {
		if marked(o.Labels) {
			b.RoleBindings = append(b.RoleBindings, o)
		}
	}
	if len(b.ClusterRoles) == 0 || len(b.ClusterRoleBindings) == 0 {
		return nil, fmt.Errorf("holds no roles and bindings that a cluster starts with")
	}
	if b.Version == "" {
		b.Version = "given"
	}
	return b, nil
}

func marked(labels map[string]string) bool {
	return labels["kubernetes.io/bootstrapping"] == "rbac-defaults"
}
