package access

import (
	"context"
	"fmt"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// AccessPolicy checks an AccessPolicy that allows: its author must hold every
// rule of it at each of its sites and in each of its namespaces, by whatever
// policy; or the verb escalate on the policy. What the author holds under a
// condition, for a time or by selectors counts only where the policy carries
// the same. A policy that denies gives nothing.
func (c Checks) AccessPolicy(ctx context.Context, author Subject, obj, old *accessv1alpha1.AccessPolicy) error {
	if obj.Spec.Effect == accessv1alpha1.EffectDeny || old != nil && onlyCollected(obj, old) {
		return nil
	}
	may, err := c.may(ctx, author, authz.Request{
		Verb:     "escalate",
		APIGroup: accessv1alpha1.GroupVersion.Group,
		Resource: "accesspolicies",
		Name:     nameForEscalate(obj, old != nil),
	})
	if err != nil || may {
		return err
	}
	return c.confirm(author, c.asked(obj))
}

// asked is what a policy grants. Whom it names does not matter.
func (c Checks) asked(obj *accessv1alpha1.AccessPolicy) *authz.Policy {
	nobody := obj.DeepCopy()
	nobody.Spec.Subjects = nil
	translator := grant.Translator{}
	if g := c.Access.config.Policy.grants; g != nil {
		translator = g.translator
	}
	asked := translator.AccessPolicy(nobody)
	if len(asked.Sites) == 0 {
		asked.Sites = []string{authz.ControlPlane}
	}
	return &asked
}

// narrow refuses a grant whose rules are too many to compare, or whose roles do
// not exist.
func (c Checks) narrow(roles []string, inline []authz.Rule) error {
	asked := inline
	for _, name := range roles {
		rules, ok := c.Access.config.Policy.roleRules("", name)
		if !ok {
			return fault.Newf(fault.Invalid, "cluster role %q does not exist", name)
		}
		asked = append(asked[:len(asked):len(asked)], rules...)
	}
	if rbac.TooWide(asked) {
		return fault.Newf(fault.Invalid, "the rules spell out more than %d single actions, too many to check against their author's", rbac.MaxActions)
	}
	return nil
}

// authorOf is an author as the engine asks for it.
func (c Checks) authorOf(author Subject) authz.Request {
	q := authz.Request{User: author.Name, UID: author.UID, Groups: author.Groups, Extra: author.Extra, Time: c.Access.config.Now(), Origins: originsOf(author.Extra)}
	if ids := author.Extra[CredentialIDExtra]; len(ids) > 0 {
		q.CredentialID = ids[0]
	}
	return q
}

// confirm refuses a grant of which author does not hold everything.
func (c Checks) confirm(author Subject, asked *authz.Policy) error {
	if err := c.narrow(asked.Roles, asked.Rules); err != nil {
		return err
	}
	q := c.authorOf(author)
	snapshot := c.Access.config.Policy.Snapshot()
	missing := snapshot.Shortfall(&q, asked, author.isSuperuser())
	if len(missing) == 0 {
		return nil
	}
	text := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s",
		author.Name, author.Groups, rbac.DescribeAll(missing))
	if len(asked.Namespaces) == 1 {
		q.Namespace = asked.Namespaces[0]
	}
	if _, unresolved := snapshot.RulesFor(&q); len(unresolved) > 0 {
		text += "; resolution errors: " + MissingRoles(unresolved)
	}
	return fault.New(fault.Denied, text)
}

// bound is a grant by RBAC objects in a namespace, or everywhere: it holds in
// the control plane and wherever else its RBAC objects do.
func (c Checks) bound(namespace string, rules []authz.Rule) *authz.Policy {
	p := &authz.Policy{Rules: rules, Sites: append([]string{authz.ControlPlane}, c.Access.config.Policy.Snapshot().SharedSites()...)}
	if namespace != "" {
		p.Namespaces = []string{namespace}
	}
	return p
}
