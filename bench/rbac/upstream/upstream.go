// Package upstream puts the Kubernetes RBAC authorizer behind the types of
// authz, so that both answer the same questions. It is the authorizer of
// kube-apiserver with the listers that kube-apiserver gives it, filled by hand
// instead of by watches.
package upstream

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	rbaclisters "k8s.io/client-go/listers/rbac/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"

	"github.com/gatehouse-dev/gatehouse/authz"
)

// Authorizer is the upstream authorizer over one policy set.
type Authorizer struct {
	rbac *rbac.RBACAuthorizer

	roles, roleBindings, clusterRoles, clusterRoleBindings cache.Indexer
}

// New returns an authorizer over the given policy.
func New(roles []authz.Role, bindings []authz.Binding) (*Authorizer, error) {
	a := &Authorizer{roles: indexer(), roleBindings: indexer(), clusterRoles: indexer(), clusterRoleBindings: indexer()}
	a.rbac = rbac.New(
		&rbac.RoleGetter{Lister: rbaclisters.NewRoleLister(a.roles)},
		&rbac.RoleBindingLister{Lister: rbaclisters.NewRoleBindingLister(a.roleBindings)},
		&rbac.ClusterRoleGetter{Lister: rbaclisters.NewClusterRoleLister(a.clusterRoles)},
		&rbac.ClusterRoleBindingLister{Lister: rbaclisters.NewClusterRoleBindingLister(a.clusterRoleBindings)},
	)
	for i := range roles {
		if err := a.addRole(&roles[i]); err != nil {
			return nil, fmt.Errorf("add role %s/%s: %w", roles[i].Namespace, roles[i].Name, err)
		}
	}
	for i := range bindings {
		if err := a.addBinding(&bindings[i]); err != nil {
			return nil, fmt.Errorf("add binding %s/%s: %w", bindings[i].Namespace, bindings[i].Name, err)
		}
	}
	return a, nil
}

func indexer() cache.Indexer {
	return cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
}

func (a *Authorizer) addRole(r *authz.Role) error {
	meta := metav1.ObjectMeta{Namespace: r.Namespace, Name: r.Name}
	if r.Namespace == "" {
		return a.clusterRoles.Add(&rbacv1.ClusterRole{ObjectMeta: meta, Rules: Rules(r.Rules)})
	}
	return a.roles.Add(&rbacv1.Role{ObjectMeta: meta, Rules: Rules(r.Rules)})
}

func (a *Authorizer) addBinding(b *authz.Binding) error {
	meta := metav1.ObjectMeta{Namespace: b.Namespace, Name: b.Name}
	if b.Namespace == "" {
		return a.clusterRoleBindings.Add(&rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: RoleRef(b), Subjects: Subjects(b)})
	}
	return a.roleBindings.Add(&rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: RoleRef(b), Subjects: Subjects(b)})
}

// Rules returns the rules as upstream has them.
func Rules(rules []authz.Rule) []rbacv1.PolicyRule {
	out := make([]rbacv1.PolicyRule, len(rules))
	for i, r := range rules {
		out[i] = rbacv1.PolicyRule{Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames, NonResourceURLs: r.NonResourceURLs}
	}
	return out
}

// RoleRef returns the binding's role as upstream names it.
func RoleRef(b *authz.Binding) rbacv1.RoleRef {
	return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: b.RoleKind, Name: b.RoleName}
}

// Subjects returns the binding's subjects as upstream has them.
func Subjects(b *authz.Binding) []rbacv1.Subject {
	out := make([]rbacv1.Subject, len(b.Subjects))
	for i, s := range b.Subjects {
		out[i] = rbacv1.Subject{Kind: string(s.Kind), Name: s.Name, Namespace: s.Namespace}
		if s.Kind != authz.ServiceAccount {
			out[i].APIGroup = rbacv1.GroupName
		}
	}
	return out
}

// Attributes returns the question as upstream takes it.
func Attributes(q *authz.Request) *authorizer.AttributesRecord {
	return &authorizer.AttributesRecord{
		User:            &user.DefaultInfo{Name: q.User, Groups: q.Groups},
		Verb:            q.Verb,
		Namespace:       q.Namespace,
		APIGroup:        q.APIGroup,
		Resource:        q.Resource,
		Subresource:     q.Subresource,
		Name:            q.Name,
		ResourceRequest: q.ResourceRequest,
		Path:            q.Path,
	}
}

// Allows asks the authorizer.
func (a *Authorizer) Allows(ctx context.Context, q *authorizer.AttributesRecord) bool {
	decision, _, _ := a.rbac.Authorize(ctx, q)
	return decision == authorizer.DecisionAllow
}
