package authz

// Snapshot is one immutable state of the policy. It is safe for concurrent
// use and its answers never change.
type Snapshot struct {
	roles    map[objectKey]Role
	bindings map[objectKey]Binding
	ordered  []Binding
	sites    map[string]Site
}

// GrantedRule is one rule a caller holds and the grant that gives it.
type GrantedRule struct {
	Rule  Rule
	Index int // position of the rule in its role
	Grant Grant
}

// Holder is one subject that may do what was asked.
type Holder struct {
	Grant Grant // the grant; Grant.Subject is the holder
	// ResourceNames is not empty when the grant is limited to objects of
	// these names and the question named none.
	ResourceNames []string
}

// Decide answers q. The cluster bindings are asked before those of q's
// namespace; where several bindings allow, the one whose name sorts first is
// the reason, its first subject that matches the caller and its first rule
// that permits the action. The answer depends on the policy alone, not on the
// history of changes that led to it.
//
// For a question of a site (q.Site is set) RBAC answers only if the site was
// put with SharedRBAC, without the bootstrap roles and bindings. Names are
// taken as the site sent them: "gatehouse:system:serviceaccount:…" users and
// "gatehouse:system:serviceaccounts…" groups stand for the control plane's
// service accounts, every other name that begins with "system:", except the
// group system:authenticated, is the site's own and matches no binding.
func (s *Snapshot) Decide(q *Request) (d Decision) {
	s.visit(q, func(i, subject int, b *Binding, role *Role) bool {
		if role == nil {
			return true
		}
		for r := range role.Rules {
			if role.Rules[r].Allows(q) {
				d = Decision{snap: s, binding: uint32(i), subject: uint32(subject), rule: uint32(r), effect: Allow}
				return false
			}
		}
		return true
	})
	return d
}

// RulesFor returns every rule that the caller of q holds in q's namespace, in
// the order in which Decide considers them; an empty namespace asks for what
// holds everywhere. Of q only User, Groups, Namespace and Site are read.
// missing lists the grants whose role does not exist.
func (s *Snapshot) RulesFor(q *Request) (rules []GrantedRule, missing []Grant) {
	s.visit(q, func(i, subject int, b *Binding, role *Role) bool {
		g := s.grant(uint32(i), uint32(subject))
		if role == nil {
			missing = append(missing, g)
			return true
		}
		for r := range role.Rules {
			rules = append(rules, GrantedRule{role.Rules[r], r, g})
		}
		return true
	})
	return rules, missing
}

// WhoCan returns every subject that a binding allows to do what q asks, in
// the order of the bindings' names, cluster bindings first. Grants limited to
// object names are included: when q names an object, those that include it;
// when it names none, all of them, with their names. q's User and Groups are
// not read. Groups are not expanded: the engine does not know their members.
func (s *Snapshot) WhoCan(q *Request) []Holder {
	var out []Holder
	for i := range s.ordered {
		b := &s.ordered[i]
		names, ok := s.bindingAllows(b, q)
		for j := range b.Subjects {
			if g := s.grant(uint32(i), uint32(j)); ok && (g.Subject.Kind != ServiceAccount || g.Subject.Namespace != "") {
				out = append(out, Holder{g, names})
			}
		}
	}
	return out
}

// bindingAllows reports whether the binding's role permits q's action where q
// asks; names is set when it does so for some object names only.
func (s *Snapshot) bindingAllows(b *Binding, q *Request) (names []string, ok bool) {
	if b.Namespace != "" && b.Namespace != q.Namespace || b.RoleKind == RoleKind && b.Namespace == "" {
		return nil, false
	}
	key := objectKey{"", b.RoleName}
	if b.RoleKind == RoleKind {
		key.namespace = b.Namespace
	}
	role := s.roles[key]
	for i := range role.Rules {
		r := role.Rules[i]
		if r.Allows(q) {
			return nil, true
		}
		if limited := r.ResourceNames; len(limited) > 0 && q.Name == "" {
			r.ResourceNames = nil
			if r.Allows(q) {
				names = append(names, limited...)
			}
		}
	}
	return names, len(names) > 0
}

func (s *Snapshot) grant(binding, subject uint32) Grant {
	b := &s.ordered[binding]
	g := Grant{Namespace: b.Namespace, Name: b.Name, RoleKind: b.RoleKind, RoleName: b.RoleName, Subject: b.Subjects[subject]}
	if g.Subject.Kind == ServiceAccount && g.Subject.Namespace == "" {
		g.Subject.Namespace = b.Namespace
	}
	return g
}

func (s *Snapshot) visit(q *Request, f func(i, subject int, b *Binding, role *Role) bool) {
	if q.Site != "" && !s.sites[q.Site].SharedRBAC {
		return
	}
	for i := range s.ordered {
		b := &s.ordered[i]
		if b.Namespace != "" && b.Namespace != q.Namespace || q.Site != "" && (b.Bootstrap || isBootstrapName(b.Name)) {
			continue
		}
		for j := range b.Subjects {
			if !applies(&b.Subjects[j], b.Namespace, q) {
				continue
			}
			ns := ""
			if b.RoleKind == RoleKind {
				ns = b.Namespace
			}
			role, ok := s.roles[objectKey{ns, b.RoleName}]
			if b.RoleKind == RoleKind && ns == "" || b.RoleKind != RoleKind && b.RoleKind != ClusterRoleKind {
				ok = false
			}
			if ok && q.Site != "" && (role.Bootstrap || isBootstrapName(role.Name)) {
				break
			}
			p := &role
			if !ok {
				p = nil
			}
			if !f(i, j, b, p) {
				return
			}
			break
		}
	}
}

func applies(sub *Subject, namespace string, q *Request) bool {
	switch sub.Kind {
	case User, ServiceAccount:
		user := q.User
		if q.Site != "" {
			var ok bool
			if user, ok = controlPlaneUser(user); !ok {
				return false
			}
		}
		if sub.Kind == User {
			return sub.Name == user
		}
		if sub.Namespace != "" {
			namespace = sub.Namespace
		}
		return namespace != "" && user == serviceAccountPrefix+namespace+":"+sub.Name
	case Group:
		for _, g := range q.Groups {
			if q.Site != "" {
				var ok bool
				if g, ok = controlPlaneGroup(g); !ok {
					continue
				}
			}
			if g == sub.Name {
				return true
			}
		}
	}
	return false
}
