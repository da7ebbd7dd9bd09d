package access

import (
	"context"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Checks keeps authors of roles and bindings from granting more than they
// hold. Each method takes the new state of an object and the stored one, nil
// on creation, and returns nil, an error of kind Denied that lists what the
// author lacks, or another error of package fault or of the Kubernetes API.
//
// A check must see every update, those of metadata too: labels decide which
// roles an aggregated role collects. Only the fields that garbage collection
// writes (finalizers, ownerReferences, managedFields) may change unchecked.
type Checks struct{ Access *Authorizer }

// Role checks a Role: its author must hold every rule of it in its namespace,
// by whatever policy, or the verb escalate on it.
func (c Checks) Role(ctx context.Context, author Subject, obj, old *rbacv1.Role) error {
	if old != nil && onlyCollected(obj, old) {
		return nil
	}
	may, err := c.mayRBAC(ctx, author, "escalate", "roles", obj.Namespace, nameForEscalate(obj, old != nil))
	if err != nil || may {
		return err
	}
	return c.confirm(author, c.bound(obj.Namespace, rbac.Rules(obj.Rules)))
}

// ClusterRole checks a ClusterRole: its author must hold every rule of it
// everywhere, or the verb escalate on it. Where there is an aggregationRule,
// before or after the change, the author must hold everything: the rule can
// collect anything, and taking it away keeps the role from being narrowed.
func (c Checks) ClusterRole(ctx context.Context, author Subject, obj, old *rbacv1.ClusterRole) error {
	if old != nil && onlyCollected(obj, old) {
		return nil
	}
	may, err := c.mayRBAC(ctx, author, "escalate", "clusterroles", "", nameForEscalate(obj, old != nil))
	if err != nil || may {
		return err
	}
	if err := c.confirm(author, c.bound("", rbac.Rules(obj.Rules))); err != nil {
		return err
	}
	if aggregates(obj) || old != nil && aggregates(old) {
		if err := c.confirm(author, c.bound("", everything())); err != nil {
			return fault.Wrap(fault.Denied, "must have cluster-admin privileges to use the aggregationRule", err)
		}
	}
	return nil
}

// RoleBinding checks a RoleBinding: its author must hold every rule of the
// role it names in its namespace, or the verb bind on that role.
func (c Checks) RoleBinding(ctx context.Context, author Subject, obj, old *rbacv1.RoleBinding) error {
	if old != nil && onlyCollected(obj, old) {
		return nil
	}
	return c.bind(ctx, author, obj.Namespace, obj.RoleRef)
}

// ClusterRoleBinding is RoleBinding for everywhere.
func (c Checks) ClusterRoleBinding(ctx context.Context, author Subject, obj, old *rbacv1.ClusterRoleBinding) error {
	if old != nil && onlyCollected(obj, old) {
		return nil
	}
	return c.bind(ctx, author, "", obj.RoleRef)
}

func (c Checks) bind(ctx context.Context, author Subject, namespace string, ref rbacv1.RoleRef) error {
	resource, roleNamespace := "clusterroles", ""
	switch {
	case ref.Kind == authz.ClusterRoleKind:
	case ref.Kind == authz.RoleKind && namespace != "":
		resource, roleNamespace = "roles", namespace
	default:
		return fault.Newf(fault.Invalid, "unsupported role reference kind: %q", ref.Kind)
	}
	may, err := c.mayRBAC(ctx, author, "bind", resource, namespace, ref.Name)
	if err != nil || may {
		return err
	}
	rules, ok := c.Access.config.Policy.roleRules(roleNamespace, ref.Name)
	if !ok {
		// What a role that does not exist will grant once it does, nobody
		// can hold.
		return apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: resource}, ref.Name)
	}
	return c.confirm(author, c.bound(namespace, rules))
}

// mayRBAC is may for a verb on RBAC objects.
func (c Checks) mayRBAC(ctx context.Context, author Subject, verb, resource, namespace, name string) (bool, error) {
	return c.may(ctx, author, authz.Request{Verb: verb, APIGroup: rbacv1.GroupName, Resource: resource, Namespace: namespace, Name: name})
}

// may reports whether author holds one of the verbs that replace the check.
// Superusers hold them all. What was delegated does not count: a grant made by
// it would outlast it.
func (c Checks) may(ctx context.Context, author Subject, q authz.Request) (bool, error) {
	q.ResourceRequest = true
	d, err := c.Access.Decide(ctx, author, q)
	return d.Allowed() && len(d.Delegations()) == 0, err
}

// MissingRoles says of grants whose role does not exist which roles those
// are, each once and in order.
func MissingRoles(grants []authz.Grant) string {
	var texts []string
	for i := range grants {
		kind := "clusterroles"
		if grants[i].RoleKind == authz.RoleKind {
			kind = "roles"
		}
		texts = append(texts, fmt.Sprintf("%s.%s %q not found", kind, rbacv1.GroupName, grants[i].RoleName))
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	if len(texts) == 1 {
		return texts[0]
	}
	return fmt.Sprint(texts)
}

// nameForEscalate is the name that the verb escalate is asked for. A create
// has no name yet, so that a permission limited to names does not allow to
// create roles of those names.
func nameForEscalate(obj metav1.Object, exists bool) string {
	if !exists {
		return ""
	}
	return obj.GetName()
}

func aggregates(role *rbacv1.ClusterRole) bool {
	return role.AggregationRule != nil && len(role.AggregationRule.ClusterRoleSelectors) > 0
}

// onlyCollected reports whether two states differ in nothing but the fields
// that garbage collection has to write on behalf of everybody.
func onlyCollected[T interface {
	runtime.Object
	metav1.Object
}](obj, old T) bool {
	copied := obj.DeepCopyObject().(T)
	copied.SetOwnerReferences(old.GetOwnerReferences())
	copied.SetFinalizers(old.GetFinalizers())
	copied.SetSelfLink(old.GetSelfLink())
	copied.SetManagedFields(old.GetManagedFields())
	return equality.Semantic.DeepEqual(copied, old)
}
