// Package rbac translates objects of rbac.authorization.k8s.io/v1 into the
// values of package authz, and rules back into API types for people to read.
//
// It owns the correspondence and nothing else: what a rule means is said in
// authz, which objects exist is said by the caller. Translation never fails.
// What has no meaning (a subject of an unknown kind, a role of an unknown
// group) becomes something that grants nothing.
package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/gatehouse-dev/gatehouse/authz"
)

const (
	// BootstrapLabel with BootstrapValue marks the objects that a control
	// plane starts with.
	BootstrapLabel = "kubernetes.io/bootstrapping"
	BootstrapValue = "rbac-defaults"

	// ClusterAdmin is the ClusterRole of everything, and the name of the
	// ClusterRoleBinding that gives it to the group system:masters.
	ClusterAdmin = "cluster-admin"
)

// Role translates a Role. Slices are shared with the object, which must not
// change afterwards; the same holds for every function of this package.
func Role(r *rbacv1.Role) authz.Role {
	return authz.Role{Namespace: r.Namespace, Name: r.Name, Rules: Rules(r.Rules)}
}

// ClusterRole translates a ClusterRole. No role is marked as bootstrap: the
// engine leaves out those named system:, and the others (admin, edit, view,
// cluster-admin) exist to be bound by people, at sites as well.
func ClusterRole(r *rbacv1.ClusterRole) authz.Role {
	return authz.Role{Name: r.Name, Rules: Rules(r.Rules)}
}

// RoleBinding translates a RoleBinding.
func RoleBinding(b *rbacv1.RoleBinding) authz.Binding {
	return binding(b.Namespace, b.Name, b.Labels, b.RoleRef, b.Subjects)
}

// ClusterRoleBinding translates a ClusterRoleBinding.
func ClusterRoleBinding(b *rbacv1.ClusterRoleBinding) authz.Binding {
	return binding("", b.Name, b.Labels, b.RoleRef, b.Subjects)
}

// binding marks as bootstrap what the control plane binds for itself, so that
// it never answers a site. The name decides for cluster-admin, because a
// label can be taken off; the label decides for the rest, because adding it
// can only withhold a grant.
func binding(namespace, name string, labels map[string]string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) authz.Binding {
	out := authz.Binding{
		Namespace: namespace,
		Name:      name,
		RoleName:  ref.Name,
		Subjects:  make([]authz.Subject, 0, len(subjects)),
		Bootstrap: namespace == "" && name == ClusterAdmin || labels[BootstrapLabel] == BootstrapValue,
	}
	// Only the two known kinds reach the engine, so that a later kind does
	// not become a grant by the accident of its name.
	switch {
	case ref.APIGroup != "" && ref.APIGroup != rbacv1.GroupName:
	case ref.Kind == authz.RoleKind, ref.Kind == authz.ClusterRoleKind:
		out.RoleKind = ref.Kind
	}
	for _, s := range subjects {
		if kind, ok := subjectKinds[s.Kind]; ok && s.Name != "" {
			subject := authz.Subject{Kind: kind, Name: s.Name}
			if kind == authz.ServiceAccount {
				subject.Namespace = s.Namespace
			}
			out.Subjects = append(out.Subjects, subject)
		}
	}
	return out
}

var subjectKinds = map[string]authz.SubjectKind{
	rbacv1.UserKind:           authz.User,
	rbacv1.GroupKind:          authz.Group,
	rbacv1.ServiceAccountKind: authz.ServiceAccount,
}

// Rules translates rules in order.
func Rules(rules []rbacv1.PolicyRule) []authz.Rule {
	if rules == nil {
		return nil
	}
	out := make([]authz.Rule, len(rules))
	for i, r := range rules {
		out[i] = authz.Rule(r)
	}
	return out
}

// PolicyRules translates rules back, in order.
func PolicyRules(rules []authz.Rule) []rbacv1.PolicyRule {
	if rules == nil {
		return nil
	}
	out := make([]rbacv1.PolicyRule, len(rules))
	for i, r := range rules {
		out[i] = rbacv1.PolicyRule(r)
	}
	return out
}

// Missing returns what of asked owner does not cover, one action a rule.
func Missing(owner, asked []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	_, missing := authz.Covers(Rules(owner), Rules(asked))
	return PolicyRules(missing)
}
