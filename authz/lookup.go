package authz

import (
	"maps"
	"slices"
	"strings"
)

// BindingNamed returns a binding; namespace "" is a cluster binding.
func (s *Snapshot) BindingNamed(namespace, name string) (Binding, bool) {
	sc := uint32(clusterScope)
	if namespace != "" {
		if sc = s.findScope(namespace); sc == none {
			return Binding{}, false
		}
	}
	id := s.findBinding(s.hash2(name, sc), sc, name)
	if id == none {
		return Binding{}, false
	}
	return s.bindingContent(s.bindings.at(id), id), true
}

// BindingsOf returns the bindings that name any of the roles, in the order of
// namespaces and names. A role is its namespace, "" for a cluster role, and its
// name. It looks at every binding.
func (s *Snapshot) BindingsOf(roles map[[2]string]bool) []Binding {
	ids := map[uint32]bool{}
	for id := range s.roles.n {
		r := s.roles.at(id)
		if r.scope != voidScope && r.kind != "" && roles[[2]string{s.scopes.at(r.scope).name, r.name}] {
			ids[id] = true
		}
	}
	var out []Binding
	for id := range s.bindings.n {
		if b := s.bindings.at(id); ids[b.role] && s.holds(id) {
			out = append(out, s.bindingContent(b, id))
		}
	}
	slices.SortFunc(out, func(a, b Binding) int {
		if n := strings.Compare(a.Namespace, b.Namespace); n != 0 {
			return n
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

// RoleNamed returns a role that exists; namespace "" is a cluster role.
func (s *Snapshot) RoleNamed(namespace, name string) (Role, bool) {
	kind, sc := ClusterRoleKind, uint32(clusterScope)
	if namespace != "" {
		if kind, sc = RoleKind, s.findScope(namespace); sc == none {
			return Role{}, false
		}
	}
	id := s.findRole(sc, kind, name)
	if id == none || s.roles.at(id).rules == nil {
		return Role{}, false
	}
	return s.roleContent(s.roles.at(id)), true
}

// EachPolicy calls visit for every access policy and ban, one of the two being
// nil, in no particular order. Their lists are the engine's and must not be
// changed.
func (s *Snapshot) EachPolicy(visit func(*Policy, *Ban)) {
	for id := range s.policies.n {
		switch p := *s.policies.at(id); {
		case p == nil, p.delegation != nil:
		case p.ban != nil:
			visit(nil, p.ban)
		default:
			visit(&p.Policy, nil)
		}
	}
}

// EachDelegation calls visit for every delegation, in no particular order. Its
// lists are the engine's and must not be changed.
func (s *Snapshot) EachDelegation(visit func(*Delegation)) {
	for id := range s.policies.n {
		if p := *s.policies.at(id); p != nil && p.delegation != nil {
			visit(&p.delegation.Delegation)
		}
	}
}

// DelegationNamed returns a delegation.
func (s *Snapshot) DelegationNamed(name string) (Delegation, bool) {
	id := s.findPolicy(name, aDelegation)
	if id == none {
		return Delegation{}, false
	}
	return (*s.policies.at(id)).delegation.Delegation, true
}

// NamespacesOf returns the namespaces in which bindings grant the caller of q
// something, in order. Of q only User, Groups and Site are read.
func (s *Snapshot) NamespacesOf(q *Request) []string {
	if !s.answers(q) {
		return nil
	}
	seen := map[uint32]bool{}
	c := query{s: s, q: q}
	for from := 0; from <= len(q.Groups); from += callers {
		var known callerSet
		c.callers(from, &known)
		for i := range known.n {
			known.records[i].every(func(e entry) bool {
				if e.scope != clusterScope {
					seen[e.scope] = true
				}
				return true
			})
		}
	}
	var out []string
	for sc := range seen {
		out = append(out, s.scopes.at(sc).name)
	}
	slices.Sort(out)
	return out
}

// InNamespace reports whether the policy reaches a namespace of a site,
// [ControlPlane] for the control plane itself: by its name, and by its labels
// as far as they are known.
func (s *Snapshot) InNamespace(p *Policy, site, namespace string) bool {
	q := Request{ResourceRequest: true, Namespace: namespace, Site: site}
	if site == ControlPlane {
		q.Site = ""
	}
	c := query{s: s, q: &q}
	return c.inSpace(&policy{Policy: *p}, p.Effect == Deny)
}

// Sites returns the sites, in the order of names.
func (s *Snapshot) Sites() []Site {
	return slices.SortedFunc(maps.Values(s.sites), func(a, b Site) int { return strings.Compare(a.Name, b.Name) })
}

// AtSite reports whether the policy or ban is for a site; [ControlPlane] is the
// control plane.
func AtSite(sites []string, site string) bool { return anyGlob(sites, site) }

// Covers reports whether the rule is for a resource, written as in rules, of an
// API group: for some names and verbs at least.
func (r *Rule) Covers(group, resource string) bool {
	name, sub, _ := strings.Cut(resource, "/")
	return listed(r.APIGroups, group) && r.hasResource(&Request{Resource: name, Subresource: sub})
}
