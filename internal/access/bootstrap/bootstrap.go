// Package bootstrap holds the RBAC objects that a control plane starts with
// and the reconciliation that adds what is missing of them.
//
// The names, labels and rules are those that Kubernetes clients, operators and
// documentation rely on, with three deliberate differences:
//
//   - Roles of components that do not run here (controller manager, scheduler,
//     proxy, volume controllers) are absent, as are rules of system: roles for
//     kinds that are not served.
//   - admin, edit and view carry the rules of the workload kinds as well.
//     The control plane does not serve those kinds, but a site that shares
//     the control plane's RBAC asks about them by the same roles.
//   - No namespaced role reaches our own groups. Sites are registered and read
//     by cluster-admin and by holders of gatehouse:site-operator only: to
//     register a site is to create a trust relation, and to list them is to
//     learn where the fleet is.
//
// The package refuses to take anything away: an object that an operator has
// widened stays widened, and an object annotated with
// rbac.authorization.kubernetes.io/autoupdate: "false" is not touched at all.
// Start at [Default] and [Reconcile].
package bootstrap

import (
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

// SiteOperator is the ClusterRole that registers and manages sites.
const SiteOperator = "gatehouse:site-operator"

// Objects is a set of RBAC objects of cluster scope.
type Objects struct {
	ClusterRoles        []*rbacv1.ClusterRole
	ClusterRoleBindings []*rbacv1.ClusterRoleBinding
}

// Default returns a fresh copy of the objects to start with. Aggregated roles
// have no rules of their own here.
func Default() Objects {
	return Objects{
		ClusterRoles: append(append(systemRoles(), userRoles()...),
			clusterRole(SiteOperator, nil,
				resources(readWrite, []string{"federation.gatehouse.dev"}, "sites"),
				resources([]string{"get", "update", "patch"}, []string{"federation.gatehouse.dev"}, "sites/status"))),
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{
			bindGroups(rbac.ClusterAdmin, "system:masters"),
			bindGroups("system:monitoring", "system:monitoring"),
			bindGroups("system:discovery", "system:authenticated"),
			bindGroups("system:basic-user", "system:authenticated"),
			bindGroups("system:public-info-viewer", "system:authenticated", "system:unauthenticated"),
			// Without subjects: what a node may do depends on its pods, which
			// no role can say. The binding stands so that operators find it.
			bindGroups("system:node"),
			bindGroups("system:service-account-issuer-discovery", "system:serviceaccounts"),
		},
	}
}

func metadata(name string, labels map[string]string) metav1.ObjectMeta {
	all := map[string]string{rbac.BootstrapLabel: rbac.BootstrapValue}
	for k, v := range labels {
		all[k] = v
	}
	return metav1.ObjectMeta{
		Name:        name,
		Labels:      all,
		Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"},
	}
}

func clusterRole(name string, labels map[string]string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: metadata(name, labels), Rules: rules}
}

// bindGroups returns the binding that gives groups the role of its own name.
func bindGroups(name string, groups ...string) *rbacv1.ClusterRoleBinding {
	b := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metadata(name, nil),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
	}
	for _, g := range groups {
		b.Subjects = append(b.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: g})
	}
	return b
}

func resources(verbs, groups []string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: slices.Clone(verbs), APIGroups: slices.Clone(groups), Resources: names}
}

func urls(verb string, paths ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: paths}
}
