package access

import (
	"context"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// orNode adds to what the engine decided what the subject may do because it is
// a node. A deny stands; otherwise the rules of nodes come before bindings, as
// in --authorization-mode=Node,RBAC, so that the reason says by which of the two
// a node got at something.
func (a *Authorizer) orNode(d Decision, subject *Subject, q *authz.Request) Decision {
	if d.ruling != byEngine || d.Denied() {
		return d
	}
	if a.config.NodeRules != nil && !d.Allowed() {
		if rule, ok := a.config.NodeRules.Allows(subject.Name, subject.Extra, q); ok {
			return Decision{engine: d.engine, ruling: byNodeRule, node: rule}
		}
	}
	if a.config.Nodes == nil {
		return d
	}
	node, is := nodegraph.NodeOf(subject.Name, subject.Groups)
	if !is {
		return d
	}
	v := a.config.Nodes.Decide(node, q)
	if !v.Allowed() && d.Allowed() {
		return d
	}
	return Decision{engine: d.engine, ruling: byNode, node: node, verdict: v}
}

// OnNodeRule reports whether nothing but a NodeRule allows what q describes, so
// that admission has to hold the change to the rule. What nothing allows any more
// is an error of kind Denied: the rule may have gone while the change was on its
// way, and then nothing says what it may contain.
func (a *Authorizer) OnNodeRule(ctx context.Context, subject Subject, q authz.Request) (bool, error) {
	d, err := a.Decide(ctx, subject, q)
	if err == nil && !d.Allowed() {
		err = fault.New(fault.Denied, "nothing allows this change of a node any more")
	}
	return d.ruling == byNodeRule, err
}

// Node reports whether subject is a node that has rights of its own: they
// depend on objects and cannot be listed.
func (a *Authorizer) Node(subject Subject) bool {
	_, is := nodegraph.NodeOf(subject.Name, subject.Groups)
	return is && a.config.Nodes != nil
}
