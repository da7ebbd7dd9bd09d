package authz

import (
	"cmp"
	"maps"
)

// Tx is a change in progress. Puts replace what has the same namespace and
// name; deletes of what is absent do nothing. Roles and bindings may come in
// any order. A Tx belongs to one goroutine.
type Tx struct {
	s       *Snapshot
	w       *writer
	v       version
	changed bool
}

// start makes the records that every snapshot has.
func (t *Tx) start() {
	t.intern(&t.s.verbs, &t.w.verbs, Wildcard)
	t.intern(&t.s.resources, &t.w.resources, Wildcard)
	t.intern(&t.s.texts, &t.w.texts, Wildcard)
	for range 2 {
		take(&t.w.scopes, &t.s.scopes, t.v) // clusterScope and voidScope; no index finds them
	}
}

// Clear removes all policy, for a writer that starts over from a full list.
func (t *Tx) Clear() {
	t.flush()
	t.w.grants, t.w.items = t.w.grants[:0], t.w.items[:0]
	*t.s = Snapshot{seed: t.s.seed, salt: t.s.salt}
	for _, p := range t.w.pools() {
		// Numbers start over; should the transaction be abandoned, the pools
		// are restored.
		p.taken, p.given = len(p.free), p.given[:0]
	}
	t.start()
	t.changed = true
}

// PutRole adds or replaces a role. Every binding that names it uses the new
// rules.
func (t *Tx) PutRole(r Role) {
	t.flush()
	kind, sc := ClusterRoleKind, uint32(clusterScope)
	if r.Namespace != "" {
		kind, sc = RoleKind, t.useScope(r.Namespace)
	}
	boot := r.Bootstrap || isBootstrapName(r.Name)
	id := t.useRole(sc, kind, r.Name)
	if sc != clusterScope {
		t.leaveScope(sc) // useRole holds it
	}
	old := t.s.roles.at(id)
	if t.s.is(old.rules, r.Rules) && old.bootstrap == boot {
		return
	}
	t.changed = true
	if old.rules != nil {
		t.unindex(id, old.rules)
	} else {
		t.s.count.Roles++
		if old.refs > 0 {
			t.s.count.Unresolved--
		}
	}
	before := old.rules
	x := t.s.roles.edit(t.v, id)
	rs, sig := t.compile(r.Rules)
	x.rules, x.bootstrap = rs, boot
	*t.s.signatures.edit(t.v, id) = sig
	t.index(id, rs)
	if before != nil {
		t.discard(before)
	}
}

// DeleteRole removes a role; bindings that name it grant nothing from then on.
func (t *Tx) DeleteRole(namespace, name string) {
	t.flush()
	kind, sc := ClusterRoleKind, uint32(clusterScope)
	if namespace != "" {
		kind, sc = RoleKind, t.s.findScope(namespace)
	}
	if sc == none {
		return
	}
	id := t.s.findRole(sc, kind, name)
	if id == none || t.s.roles.at(id).rules == nil {
		return
	}
	t.changed = true
	x := t.s.roles.edit(t.v, id)
	t.unindex(id, x.rules)
	t.discard(x.rules)
	x.rules, x.bootstrap = nil, isBootstrapName(name)
	*t.s.signatures.edit(t.v, id) = signature{}
	t.s.count.Roles--
	if x.refs > 0 {
		t.s.count.Unresolved++
	}
	t.settleRole(id)
}

// PutBinding adds or replaces a binding.
func (t *Tx) PutBinding(b Binding) {
	t.w.queue = append(t.w.queue, queuedBinding{Binding: b})
	if len(t.w.queue) == cap(t.w.queue) {
		t.flush()
	}
}

func (t *Tx) putBinding(b *queuedBinding) {
	sc := uint32(clusterScope)
	if b.Namespace != "" {
		sc = t.useScopeBy(b.space, b.Namespace)
	}
	h := mix(b.name, sc)
	id := t.s.findBinding(h, sc, b.Name)
	if id != none {
		if t.s.isBinding(id, &b.Binding) {
			t.leaveScope(sc)
			return
		}
		t.unlink(id)
	} else {
		id = take(&t.w.bindings, &t.s.bindings, t.v)
		t.s.bindingIndex.insert(t.v, h, id)
		t.s.count.Bindings++
	}
	t.changed = true
	x := t.s.bindings.edit(t.v, id)
	x.name = b.Name
	x.scopeBit = sc << 1
	if b.Bootstrap || isBootstrapName(b.Name) {
		x.scopeBit |= 1
	}
	rsc := roleScope(b.RoleKind, sc)
	x.role = t.useRoleBy(mix(b.role, rsc), rsc, b.RoleKind, b.RoleName)
	r := t.s.roles.edit(t.v, x.role)
	if r.refs++; r.refs == 1 && r.rules == nil {
		t.s.count.Unresolved++
	}
	x.first, x.more = subject{principal: none, form: formNone}, nil
	if n := len(b.Subjects); n > 1 {
		more := make([]subject, n-1)
		x.more = &more
	}
	for i := range b.Subjects {
		h := none
		if i < queuedSubjects {
			h = b.subjects[i]
		} else {
			h = t.hashSubject(&b.Subjects[i], b.Namespace)
		}
		sub := t.subject(h, &b.Subjects[i], b.Namespace)
		if i == 0 {
			x.first = sub
		} else {
			(*x.more)[i-1] = sub
		}
		if sub.principal != none {
			t.w.grants = append(t.w.grants, grantLink{sub.principal, entry{sc, x.role, id}})
		}
	}
	t.w.items = append(t.w.items, scopeLink{sc, x.item(id)})
}

// DeleteBinding removes a binding.
func (t *Tx) DeleteBinding(namespace, name string) {
	t.flush()
	sc := uint32(clusterScope)
	if namespace != "" {
		if sc = t.s.findScope(namespace); sc == none {
			return
		}
	}
	h := t.s.hash2(name, sc)
	id := t.s.findBinding(h, sc, name)
	if id == none {
		return
	}
	t.changed = true
	t.unlink(id)
	t.s.bindingIndex.remove(t.v, h, id)
	give(&t.w.bindings, &t.s.bindings, t.v, id)
	t.s.count.Bindings--
}

// unlink takes a binding out of everything but its own record and index.
func (t *Tx) unlink(id uint32) {
	t.link()
	b := t.s.bindings.at(id)
	sc, role := b.scope(), b.role
	for i := range b.subjects() {
		sub := b.subject(i)
		if sub.principal != none && t.s.principals.at(sub.principal).live {
			t.dropGrant(sub.principal, entry{scope: sc, role: role, binding: id})
			t.settle(sub.principal)
		}
	}
	y := t.s.scopes.edit(t.v, sc)
	y.bindings = y.bindings.edit(t.v)
	y.bindings.remove(t.v, b.item(id), cmp.Compare[scopeItem])
	r := t.s.roles.edit(t.v, role)
	if r.refs--; r.refs == 0 && r.rules == nil {
		t.s.count.Unresolved--
	}
	t.settleRole(role)
	t.leaveScope(sc)
}

// PutSite adds or replaces a site. RBAC objects answer no question of a site
// that was not put, or was put without SharedRBAC.
func (t *Tx) PutSite(s Site) {
	if old, ok := t.s.sites[s.Name]; ok && old == s {
		return
	}
	t.changed = true
	sites := maps.Clone(t.s.sites)
	if sites == nil {
		sites = map[string]Site{}
	}
	sites[s.Name] = s
	t.s.sites = sites
}

// DeleteSite removes a site.
func (t *Tx) DeleteSite(name string) {
	if _, ok := t.s.sites[name]; !ok {
		return
	}
	t.changed = true
	t.s.sites = maps.Clone(t.s.sites)
	delete(t.s.sites, name)
}

// subject numbers a binding's subject, whose principal has the hash h.
func (t *Tx) subject(h uint32, s *Subject, namespace string) subject {
	switch s.Kind {
	case User:
		return subject{t.usePrincipal(h, s.Name, false), formUser}
	case Group:
		return subject{t.usePrincipal(h, s.Name, true), formGroup}
	case ServiceAccount:
		if s.Namespace != "" {
			namespace = s.Namespace
		}
		if namespace == "" {
			break
		}
		t.w.scratch = appendServiceAccount(t.w.scratch[:0], s, namespace)
		id := t.s.findPrincipalBytes(h, t.w.scratch)
		if id == none {
			id = t.addPrincipal(h, string(t.w.scratch), false)
		}
		return subject{id, formServiceAccount | uint32(len(namespace))<<formBits}
	}
	return subject{principal: none}
}

func (t *Tx) usePrincipal(h uint32, name string, group bool) uint32 {
	id := t.s.findPrincipal(h, name, group)
	if id == none {
		id = t.addPrincipal(h, name, group)
	}
	return id
}

func (t *Tx) addPrincipal(h uint32, name string, group bool) uint32 {
	id := take(&t.w.principals, &t.s.principals, t.v)
	t.s.principalIndex.insert(t.v, h, id)
	*t.s.principals.edit(t.v, id) = principal{name: name, group: group, live: true}
	return id
}

// useScope numbers a namespace and counts one more user of it.
func (t *Tx) useScope(name string) uint32 { return t.useScopeBy(t.s.hash(name), name) }

func (t *Tx) useScopeBy(h uint32, name string) uint32 {
	id := t.s.findScopeBy(h, name)
	if id == none {
		id = take(&t.w.scopes, &t.s.scopes, t.v)
		t.s.scopes.edit(t.v, id).name = name
		t.s.scopeIndex.insert(t.v, h, id)
	}
	t.s.scopes.edit(t.v, id).refs++
	return id
}

func (t *Tx) leaveScope(id uint32) {
	if id == clusterScope || id == voidScope {
		return
	}
	x := t.s.scopes.edit(t.v, id)
	if x.refs--; x.refs > 0 {
		return
	}
	t.s.scopeIndex.remove(t.v, t.s.hash(x.name), id)
	give(&t.w.scopes, &t.s.scopes, t.v, id)
}

// roleScope returns where a binding of the scope finds its role.
func roleScope(kind string, sc uint32) uint32 {
	switch {
	case kind == ClusterRoleKind:
		return clusterScope
	case kind == RoleKind && sc != clusterScope:
		return sc
	default:
		return voidScope
	}
}

// useRole returns the record of a role, making it if need be. A record holds
// its scope.
func (t *Tx) useRole(sc uint32, kind, name string) uint32 {
	return t.useRoleBy(t.s.hash2(name, sc), sc, kind, name)
}

func (t *Tx) useRoleBy(h, sc uint32, kind, name string) uint32 {
	id := t.s.findRoleBy(h, sc, kind, name)
	if id != none {
		return id
	}
	id = take(&t.w.roles, &t.s.roles, t.v)
	for t.s.signatures.n <= id {
		t.s.signatures.add(t.v)
	}
	t.s.roleIndex.insert(t.v, h, id)
	*t.s.roles.edit(t.v, id) = role{kind: kind, name: name, scope: sc, bootstrap: isBootstrapName(name)}
	if sc > voidScope {
		t.s.scopes.edit(t.v, sc).refs++
	}
	return id
}

// settleRole forgets a role that neither exists nor is named.
func (t *Tx) settleRole(id uint32) {
	r := t.s.roles.at(id)
	if r.refs > 0 || r.rules != nil {
		return
	}
	sc := r.scope
	t.s.roleIndex.remove(t.v, t.s.hash2(r.name, sc), id)
	give(&t.w.roles, &t.s.roles, t.v, id)
	t.leaveScope(sc)
}

func (s *Snapshot) findRole(sc uint32, kind, name string) uint32 {
	return s.findRoleBy(s.hash2(name, sc), sc, kind, name)
}

func (s *Snapshot) findRoleBy(h, sc uint32, kind, name string) uint32 {
	for p := s.roleIndex.probe(h); ; {
		id, ok := p.next()
		if !ok {
			return none
		}
		if r := s.roles.at(id); r.scope == sc && r.name == name && r.kind == kind {
			return id
		}
	}
}

func (s *Snapshot) findBinding(hash, sc uint32, name string) uint32 {
	for p := s.bindingIndex.probe(hash); ; {
		id, ok := p.next()
		if !ok {
			return none
		}
		if b := s.bindings.at(id); b.scope() == sc && b.name == name {
			return id
		}
	}
}

// isBinding reports whether binding id already says what b says.
func (s *Snapshot) isBinding(id uint32, b *Binding) bool {
	x := s.bindings.at(id)
	r := s.roles.at(x.role)
	if r.kind != b.RoleKind || r.name != b.RoleName || x.subjects() != len(b.Subjects) ||
		x.bootstrap() != (b.Bootstrap || isBootstrapName(b.Name)) {
		return false
	}
	for i := range b.Subjects {
		want := b.Subjects[i]
		if want.Kind == ServiceAccount && want.Namespace == "" {
			want.Namespace = b.Namespace
		}
		if x.subject(i).principal == none || s.grant(id, uint32(i)).Subject != want {
			return false
		}
	}
	return true
}
