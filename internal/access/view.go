package access

import (
	"maps"
	"slices"

	"github.com/gatehouse-dev/gatehouse/authz"
)

// Ban returns the ban that decided; ok is false when none did.
func (d Decision) Ban() (ban authz.Ban, ok bool) {
	if d.ruling != byEngine {
		return authz.Ban{}, false
	}
	return d.engine.Ban()
}

// AccessPolicy returns the access policy that decided; ok is false when none
// did.
func (d Decision) AccessPolicy() (policy authz.Policy, ok bool) {
	if d.ruling != byEngine {
		return authz.Policy{}, false
	}
	return d.engine.Policy()
}

// Rule returns the rule that allowed; ok is false when no binding did, or its
// role has changed since.
func (a *Authorizer) Rule(d Decision) (rule authz.Rule, ok bool) {
	grant, ok := d.Grant()
	if !ok {
		return authz.Rule{}, false
	}
	namespace := ""
	if grant.RoleKind == authz.RoleKind {
		namespace = grant.Namespace
	}
	rules, ok := a.config.Policy.roleRules(namespace, grant.RoleName)
	if i := d.engine.Rule(); ok && i >= 0 && i < len(rules) {
		return rules[i], true
	}
	return authz.Rule{}, false
}

// EachRule calls visit for every rule of every role, in no particular order.
// namespace is that of the role, empty for cluster roles. visit must not call
// the policy.
func (p *Policy) EachRule(visit func(namespace string, rule authz.Rule)) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for k, rules := range p.rules {
		for _, rule := range rules {
			visit(k.namespace, rule)
		}
	}
}

// Namespaces returns the namespaces of the control plane, in order.
func (p *Policy) Namespaces() []string {
	if p.grants == nil {
		return nil
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Sorted(maps.Keys(p.grants.domains))
}

// NamespacesOf returns the namespaces of a domain, in order.
func (p *Policy) NamespacesOf(domain string) []string {
	if p.grants == nil {
		return nil
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.grants.namespacesOf(domain)
}
