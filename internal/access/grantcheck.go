package access

import (
	"context"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// AccessPolicy checks an AccessPolicy that allows: its author must hold every
// rule of it in the control plane, in each namespace that it names, or
// everywhere when it is not limited to exact names; or the verb escalate on
// the policy. Sites do not count: whoever may grant at a site could do the
// same in the control plane. A policy that denies gives nothing.
func (c Checks) AccessPolicy(ctx context.Context, author Subject, obj, old *accessv1alpha1.AccessPolicy) error {
	if obj.Spec.Effect == accessv1alpha1.EffectDeny || old != nil && onlyCollected(obj, old) {
		return nil
	}
	d, err := c.Access.Decide(ctx, author, authz.Request{
		ResourceRequest: true,
		Verb:            "escalate",
		APIGroup:        accessv1alpha1.GroupVersion.Group,
		Resource:        "accesspolicies",
		Name:            nameForEscalate(obj, old != nil),
	})
	if err != nil || d.Allowed() {
		return err
	}
	return c.confirmScope(author, obj.Spec.Roles, obj.Spec.Rules, obj.Spec.Namespaces)
}

// Delegation checks a new Delegation without a parent: its author must hold
// what it hands on, as for AccessPolicy, and nothing replaces that. One with
// a parent lies inside of that by its validation.
func (c Checks) Delegation(_ context.Context, author Subject, obj *accessv1alpha1.Delegation) error {
	if err := c.Access.Ready(); err != nil {
		return err
	}
	giver := Giver(author)
	if from := obj.Spec.From; from.User != giver.User || from.UID != giver.UID || !slices.Equal(from.Groups, giver.Groups) {
		return fault.New(fault.Denied, "only the giver itself may write a delegation")
	}
	if obj.Spec.Parent != "" {
		return nil
	}
	return c.confirmScope(author, obj.Spec.Roles, obj.Spec.Rules, obj.Spec.Namespaces)
}

// Giver is the author of a delegation as the object records it.
func Giver(author Subject) accessv1alpha1.DelegationGiver {
	return accessv1alpha1.DelegationGiver{User: author.Name, UID: author.UID, Groups: slices.Clone(author.Groups)}
}

func (c Checks) confirmScope(author Subject, roles []string, inline []rbacv1.PolicyRule, scope *accessv1alpha1.NamespaceScope) error {
	asked := rbac.Rules(inline)
	for _, name := range roles {
		rules, ok := c.Access.config.Policy.roleRules("", name)
		if !ok {
			return fault.Newf(fault.Invalid, "cluster role %q does not exist", name)
		}
		asked = append(asked[:len(asked):len(asked)], rules...)
	}
	for _, namespace := range namespacesToHold(scope) {
		if err := c.confirm(author, namespace, asked); err != nil {
			return err
		}
	}
	return nil
}

// namespacesToHold returns where an author must hold what it gives. Prefixes
// and labels take in namespaces that do not exist yet, so they ask for
// everywhere.
func namespacesToHold(scope *accessv1alpha1.NamespaceScope) []string {
	everywhere := []string{""}
	if scope == nil || scope.Selector != nil || len(scope.Names) == 0 {
		return everywhere
	}
	for _, name := range scope.Names {
		if name == "" || strings.Contains(name, "*") {
			return everywhere
		}
	}
	return scope.Names
}
