// Package noderule lets agents on nodes mark their own node, within what a
// NodeRule names.
//
// It owns the two halves of such a right: whose request it opens
// ([Rules.Allows]), and what the request may change ([Rules.Admit]), which only
// admission sees. It refuses to open anything but the Node object that the
// agent's token is bound to, and to look at agents who need no rule. Start with
// [Rules].
package noderule

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// What a token says of the node that it is bound to.
const (
	nodeNameExtra = "authentication.kubernetes.io/node-name"
	nodeUIDExtra  = "authentication.kubernetes.io/node-uid"
)

// Rules are the node rules there are, by agent. The zero value has none. It is
// safe for concurrent use; a question takes no lock and no memory.
type Rules struct {
	mu      sync.Mutex // serialises writers, guards all
	all     map[string]*accessv1alpha1.NodeRule
	byAgent atomic.Pointer[map[string][]*accessv1alpha1.NodeRule]
}

// Replace, Put and Delete are the feed of node rules.
func (r *Rules) Replace(list []*accessv1alpha1.NodeRule) {
	r.change(func() {
		r.all = map[string]*accessv1alpha1.NodeRule{}
		for _, rule := range list {
			r.all[rule.Name] = rule
		}
	})
}

// Put adds or changes a rule.
func (r *Rules) Put(rule *accessv1alpha1.NodeRule) { r.change(func() { r.all[rule.Name] = rule }) }

// Delete removes a rule.
func (r *Rules) Delete(rule *accessv1alpha1.NodeRule) { r.change(func() { delete(r.all, rule.Name) }) }

func (r *Rules) change(apply func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[string]*accessv1alpha1.NodeRule{}
	}
	apply()
	next := map[string][]*accessv1alpha1.NodeRule{}
	for _, name := range slices.Sorted(maps.Keys(r.all)) {
		for _, a := range r.all[name].Spec.Agents {
			user := "system:serviceaccount:" + a.Namespace + ":" + a.Name
			next[user] = append(next[user], r.all[name])
		}
	}
	r.byAgent.Store(&next)
}

func (r *Rules) of(user string) []*accessv1alpha1.NodeRule {
	if m := r.byAgent.Load(); m != nil {
		return (*m)[user]
	}
	return nil
}

// Allows returns the first rule, by name, that opens q to a caller: reading and
// changing the Node object to which its token is bound. What is changed is for
// [Rules.Admit].
func (r *Rules) Allows(user string, extra map[string][]string, q *authz.Request) (rule string, ok bool) {
	rules := r.of(user)
	if len(rules) == 0 || !q.ResourceRequest || q.APIGroup != "" || q.Resource != "nodes" || q.Subresource != "" || q.Name == "" {
		return "", false
	}
	if q.Verb != "get" && q.Verb != "patch" && q.Verb != "update" {
		return "", false
	}
	if node := extra[nodeNameExtra]; len(node) != 1 || node[0] != q.Name {
		return "", false
	}
	return rules[0].Name, true
}

// Admit refuses, with an error of kind Denied, a change by an agent that goes
// beyond its rules. It must be asked about exactly the changes that nothing but
// a rule allowed.
func (r *Rules) Admit(c *resource.Change) error {
	node, ok := c.Object.(*corev1.Node)
	old, was := c.Old.(*corev1.Node)
	if c.Operation != resource.Update || !ok || !was || node == nil || old == nil {
		return fault.Newf(fault.Denied, "a NodeRule lets %q change its node, and nothing else", c.Caller.Name)
	}
	uid := c.Caller.Extra[nodeUIDExtra]
	if len(uid) != 1 || uid[0] != string(old.UID) {
		return fault.Newf(fault.Denied, "the token is bound to another node of the name %q", old.Name)
	}
	a, b := plain(node), plain(old)
	for _, rule := range r.of(c.Caller.Name) {
		strip(a, &rule.Spec)
		strip(b, &rule.Spec)
	}
	if !apiequality.Semantic.DeepEqual(a, b) {
		return fault.Newf(fault.Denied, "%q may change only what its NodeRule names: %s", c.Caller.Name, r.named(c.Caller.Name))
	}
	return nil
}

// plain is a copy of a node without what the server keeps.
func plain(n *corev1.Node) *corev1.Node {
	n = n.DeepCopy()
	n.ManagedFields, n.ResourceVersion, n.Generation = nil, "", 0
	return n
}

// strip takes away what a rule leaves to the agent.
func strip(n *corev1.Node, spec *accessv1alpha1.NodeRuleSpec) {
	if l := spec.Label; l != nil {
		delete(n.Labels, l.Key)
	}
	if t := spec.Taint; t != nil {
		n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(have corev1.Taint) bool {
			return have.Key == t.Key && (len(t.Effects) == 0 || slices.Contains(t.Effects, have.Effect))
		})
	}
}

// named lists what the rules of an agent name.
func (r *Rules) named(user string) string {
	var out []string
	for _, rule := range r.of(user) {
		if t := rule.Spec.Taint; t != nil {
			out = append(out, "taint "+t.Key)
		}
		if l := rule.Spec.Label; l != nil {
			out = append(out, "label "+l.Key)
		}
	}
	return strings.Join(out, ", ")
}
