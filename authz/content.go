package authz

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Content is policy spelt out. In the answer of [Snapshot.Content] every list
// is in the order of names, so that equal policy gives equal content.
type Content struct {
	Roles       []Role
	Bindings    []Binding
	Policies    []Policy
	Bans        []Ban
	Delegations []Delegation
	Sites       []Site
	Namespaces  []Namespace
}

// Namespace is the labels of a namespace of a site; see [Tx.PutNamespace].
type Namespace struct {
	Site, Name string
	Labels     map[string]string
}

// PutContent puts everything in c.
func (t *Tx) PutContent(c *Content) {
	for _, s := range c.Sites {
		t.PutSite(s)
	}
	for i := range c.Namespaces {
		t.PutNamespace(c.Namespaces[i].Site, c.Namespaces[i].Name, c.Namespaces[i].Labels)
	}
	for i := range c.Roles {
		t.PutRole(c.Roles[i])
	}
	for i := range c.Bindings {
		t.PutBinding(c.Bindings[i])
	}
	for i := range c.Policies {
		t.PutPolicy(c.Policies[i])
	}
	for i := range c.Bans {
		t.PutBan(c.Bans[i])
	}
	for i := range c.Delegations {
		t.PutDelegation(c.Delegations[i])
	}
}

// Content returns the policy of the snapshot. A service account that a binding
// names without a namespace is given that of the binding; a subject that can
// match nobody is left out. Lists of policies, bans and labels are the
// engine's and must not be changed.
func (s *Snapshot) Content() Content {
	var c Content
	for id := range s.roles.n {
		if r := s.roles.at(id); r.rules != nil {
			c.Roles = append(c.Roles, s.roleContent(r))
		}
	}
	for id := range s.bindings.n {
		// A number that was given back has no role and no name of its own.
		if b := s.bindings.at(id); s.holds(id) {
			c.Bindings = append(c.Bindings, s.bindingContent(b, id))
		}
	}
	for id := range s.policies.n {
		switch p := *s.policies.at(id); {
		case p == nil:
		case p.ban != nil:
			c.Bans = append(c.Bans, *p.ban)
		case p.delegation != nil:
			c.Delegations = append(c.Delegations, p.delegation.Delegation)
		default:
			c.Policies = append(c.Policies, p.Policy)
		}
	}
	for id := range s.labels.n {
		if l := s.labels.at(id); l.site != "" {
			c.Namespaces = append(c.Namespaces, Namespace{l.site, l.name, l.labels})
		}
	}
	c.Sites = slices.Collect(maps.Values(s.sites))
	c.sort()
	return c
}

// holds reports whether the number of a binding is in use.
func (s *Snapshot) holds(id uint32) bool {
	b := s.bindings.at(id)
	return s.findBinding(s.hash2(b.name, b.scope()), b.scope(), b.name) == id
}

func (s *Snapshot) roleContent(r *role) Role {
	out := Role{Namespace: s.scopes.at(r.scope).name, Name: r.name, Bootstrap: r.bootstrap}
	for i := range r.rules.rules {
		out.Rules = append(out.Rules, s.rule(r.rules, i))
	}
	return out
}

func (s *Snapshot) bindingContent(b *binding, id uint32) Binding {
	r := s.roles.at(b.role)
	out := Binding{Namespace: s.scopes.at(b.scope()).name, Name: b.name, RoleKind: r.kind, RoleName: r.name, Bootstrap: b.bootstrap()}
	for i := range b.subjects() {
		if b.subject(i).principal != none {
			out.Subjects = append(out.Subjects, s.grant(id, uint32(i)).Subject)
		}
	}
	return out
}

func (c *Content) sort() {
	slices.SortFunc(c.Roles, func(a, b Role) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(c.Bindings, func(a, b Binding) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(c.Policies, func(a, b Policy) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(c.Bans, func(a, b Ban) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(c.Delegations, func(a, b Delegation) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(c.Sites, func(a, b Site) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(c.Namespaces, func(a, b Namespace) int {
		return cmp.Or(strings.Compare(a.Site, b.Site), strings.Compare(a.Name, b.Name))
	})
}
