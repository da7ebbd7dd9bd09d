package drift

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

// addOns are names below "system:" that add-ons of current installations use.
var addOns = []string{"system:coredns", "system:kube-dns", "system:metrics-server", "system:konnectivity-server", "system:cloud-controller-manager",
	"system:node-proxier", "system:openshift", "system:cloud-node-controller", "system:glbc-status", "system:persistent-volume-provisioner"}

func isAddOn(name string) bool {
	return slices.ContainsFunc(addOns, func(a string) bool { return name == a || strings.HasPrefix(name, a+":") })
}

// leftOvers reports objects that carry the mark or the name of what a cluster
// starts with, and that this version does not start with.
func (r *comparison) leftOvers(c *Cluster, base *Baseline) {
	if base == nil {
		return
	}
	look := func(o object) {
		marked := o.meta.Labels[rbac.BootstrapLabel] == rbac.BootstrapValue
		if r.handled[o.String()] || isAddOn(o.meta.Name) || !marked && !strings.HasPrefix(o.meta.Name, "system:") {
			return
		}
		r.add(LeftOver, o, "", "a new installation has no object of this name, which is reserved to what a cluster starts with", change{remove: true})
	}
	for i := range c.ClusterRoles {
		look(object{"ClusterRole", &c.ClusterRoles[i].ObjectMeta})
	}
	for i := range c.Roles {
		look(object{"Role", &c.Roles[i].ObjectMeta})
	}
	for i := range c.ClusterRoleBindings {
		b := &c.ClusterRoleBindings[i]
		if why, _ := legacyWhy(b.RoleRef, b.Subjects, ""); why == "" {
			look(object{"ClusterRoleBinding", &b.ObjectMeta})
		}
	}
	for i := range c.RoleBindings {
		look(object{"RoleBinding", &c.RoleBindings[i].ObjectMeta})
	}
}

// legacy reports bindings that earlier versions, or the instructions of their
// time, made. Those of the baseline are compared with it instead.
func (r *comparison) legacy(c *Cluster) {
	for i := range c.ClusterRoleBindings {
		b := &c.ClusterRoleBindings[i]
		r.binding(object{"ClusterRoleBinding", &b.ObjectMeta}, b.RoleRef, b.Subjects)
	}
	for i := range c.RoleBindings {
		b := &c.RoleBindings[i]
		r.binding(object{"RoleBinding", &b.ObjectMeta}, b.RoleRef, b.Subjects)
	}
}

func (r *comparison) binding(o object, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
	if r.handled[o.String()] {
		return
	}
	why, bad := legacyWhy(ref, subjects, o.meta.Namespace)
	if why == "" {
		return
	}
	for _, s := range bad {
		fix := change{subjects: without(subjects, bad), setSubjects: true}
		if len(bad) == len(subjects) {
			fix = change{remove: true}
		}
		r.add(LegacyBinding, o, subjectWords(s), why, fix)
	}
}

func without(list, bad []rbacv1.Subject) []rbacv1.Subject {
	return slices.DeleteFunc(slices.Clone(list), func(s rbacv1.Subject) bool { return slices.Contains(bad, s) })
}

// everybody are names that strangers or all workloads share.
var everybody = []string{"system:anonymous", "system:unauthenticated", "system:authenticated", "system:serviceaccounts"}

// nodeNames are those by which kubelets and proxies called before each node had
// its own identity, and the group that they are in since.
var nodeNames = []string{"system:nodes", "kubelet", "system:kubelet", "kubelets", "system:kubelets", "kube-proxy", "kubecfg", "kubelet-bootstrap"}

// legacyWhy says why a binding is one of before, and which of its subjects make
// it so; why is empty when it is not.
func legacyWhy(ref rbacv1.RoleRef, subjects []rbacv1.Subject, namespace string) (why string, bad []rbacv1.Subject) {
	among := func(names []string) []rbacv1.Subject {
		var out []rbacv1.Subject
		for _, s := range subjects {
			if s.Kind != rbacv1.ServiceAccountKind && slices.Contains(names, s.Name) {
				out = append(out, s)
			}
		}
		return out
	}
	whole := ref.Kind == "ClusterRole"
	switch {
	case whole && ref.Name == "system:node" && len(subjects) > 0:
		return "nodes are limited by the Node authorizer; this role gives its holder the Secrets of every node", subjects
	case whole && (ref.Name == rbac.ClusterAdmin || ref.Name == "admin" || ref.Name == "edit"):
		for _, s := range subjects {
			if s.Kind == rbacv1.ServiceAccountKind && ref.Name == rbac.ClusterAdmin && namespace == "" && (s.Name == "default" || s.Name == "tiller" || s.Name == "kubernetes-dashboard") {
				bad = append(bad, s)
			}
		}
		bad = append(bad, among(append(slices.Clone(everybody), nodeNames...))...)
		if len(bad) == 0 {
			return "", nil
		}
		return "instructions of before RBAC gave this role to whole groups of callers, or to accounts that many workloads share", bad
	}
	if bad := among([]string{"system:anonymous", "system:unauthenticated"}); len(bad) > 0 && !(whole && ref.Name == "system:public-info-viewer") &&
		!(namespace == "kube-public" && ref.Name == "kubeadm:bootstrap-signer-clusterinfo") {
		return "a new installation gives strangers nothing but version and health", bad
	}
	return "", nil
}
