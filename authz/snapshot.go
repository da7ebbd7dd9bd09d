package authz

import "hash/maphash"

// Snapshot is one immutable state of the policy. It is safe for concurrent
// use and its answers never change.
type Snapshot struct {
	number version
	seed   maphash.Seed
	salt   uint64 // keys the hash of number tuples

	verbs, resources, texts interner // texts: API groups, object names, URLs

	scopeIndex table
	scopes     vec[scope]

	principalIndex table
	principals     vec[principal]
	wides          vec[wide]

	roleIndex  table
	roles      vec[role]
	signatures vec[signature] // by role, apart from it to stay in cache

	permissionIndex table
	permissions     vec[permission]
	broad, withURLs roleSet

	bindingIndex table
	bindings     vec[binding]

	keyIndex    table
	keys        vec[policyKey]
	prefixes    [prefixKey][]prefixLen // by kind, in the order of lengths
	policyIndex table
	policies    vec[*policy]
	ruled       [Deny + 1]tally // by effect, what its policies are about
	labelIndex  table
	labels      vec[namespaceLabels]

	sites map[string]Site
	count Counts
}

// Counts says how much policy a snapshot holds.
type Counts struct {
	Roles, Bindings int
	// Unresolved counts the roles that bindings name and that do not exist.
	Unresolved                  int
	Policies, Bans, Delegations int
	// Subjects counts the distinct users and groups that bindings name.
	Subjects int

	objectReaders int // policies whose condition reads the object
}

// Counts returns how much policy the snapshot holds.
func (s *Snapshot) Counts() Counts {
	c := s.count
	c.Subjects = int(s.principalIndex.n)
	return c
}

// ReadsObjects reports whether some policy's condition reads the object of a
// request, so that a change must be decided again with its object.
func (s *Snapshot) ReadsObjects() bool { return s.count.objectReaders > 0 }

// Number returns the sequence number of the transaction that made the
// snapshot. Within one engine, later snapshots have greater numbers.
func (s *Snapshot) Number() uint64 { return s.number }

// scope is a namespace that policy names, or one of the two below.
type scope struct {
	name     string
	bindings *seq[scopeItem]
	refs     uint32 // bindings and roles inside
}

const (
	// clusterScope holds cluster roles and cluster bindings.
	clusterScope = 0
	// voidScope holds the roles that cannot exist but that bindings name: a
	// cluster binding of a Role, or a kind that is neither.
	voidScope = 1
)

// role is a role that exists or that a binding names.
type role struct {
	kind, name string
	rules      *ruleset // nil while it does not exist
	scope      uint32
	refs       uint32 // bindings that name it
	bootstrap  bool
}

// binding is stored by value: it is most of what a snapshot holds.
type binding struct {
	name     string
	first    subject    // most bindings have one subject
	more     *[]subject // the others; nil when there are none
	role     uint32
	scopeBit uint32 // scope<<1, and 1 when bootstrap
}

// subjects returns how many subjects the binding has.
func (b *binding) subjects() int {
	switch {
	case b.first.form == formNone:
		return 0
	case b.more == nil:
		return 1
	default:
		return 1 + len(*b.more)
	}
}

// subject returns subject i.
func (b *binding) subject(i int) subject {
	if i == 0 {
		return b.first
	}
	return (*b.more)[i-1]
}

func (b *binding) scope() uint32   { return b.scopeBit >> 1 }
func (b *binding) bootstrap() bool { return b.scopeBit&1 != 0 }

// scopeItem is a binding among those of its scope: the role's number, the
// binding's, and how many subjects it has, so that holders are counted without
// looking at the binding. Numbers stay far below their 28 bits: as many
// bindings would fill 40 GB.
type scopeItem uint64

const (
	itemSubjectBits = 8
	itemRoleShift   = 36
	// itemLook in place of the number says: look at the binding.
	itemLook = 1<<itemSubjectBits - 1
)

func (b *binding) item(id uint32) scopeItem {
	n := b.subjects()
	if n >= itemLook || b.position(none) >= 0 {
		n = itemLook // many subjects, or some that match nobody
	}
	return scopeItem(b.role)<<itemRoleShift | scopeItem(id)<<itemSubjectBits | scopeItem(n)
}

func (i scopeItem) role() uint32 { return uint32(i >> itemRoleShift) }
func (i scopeItem) binding() uint32 {
	return uint32(i>>itemSubjectBits) & (1<<(itemRoleShift-itemSubjectBits) - 1)
}
func (i scopeItem) subjects() int { return int(i & itemLook) }

// subject is one subject of a binding.
type subject struct {
	principal uint32 // none when the subject can match nobody
	// form restores the subject as it was written: its kind in the lower two
	// bits and, for a service account, the length of its namespace above.
	form uint32
}

const (
	formUser = iota
	formGroup
	formServiceAccount
	formNone // in place of a first subject: there is none
	formBits = 2
)

// position returns the place of the principal among the binding's subjects.
func (b *binding) position(principal uint32) int {
	for i := range b.subjects() {
		if b.subject(i).principal == principal {
			return i
		}
	}
	return -1
}

// match is the best grant found so far.
type match struct {
	binding, principal, rule uint32
	found                    bool
}

// offer takes e, a grant of the principal, if it comes before the best so far:
// by the binding's name, then by the place of the subject in the binding.
func (m *match) offer(s *Snapshot, e *entry, principal, rule uint32) {
	if m.found {
		b := s.bindings.at(m.binding)
		if m.binding == e.binding {
			if b.position(principal) < b.position(m.principal) {
				m.principal = principal
			}
			return
		}
		if b.name < s.bindings.at(e.binding).name {
			return
		}
	}
	*m = match{e.binding, principal, rule, true}
}

// Decide answers q: no to a caller that is banned, then no where a policy
// denies, then yes where a binding or, failing that, a policy or, failing that,
// a delegation allows, else nothing. Where several bans or policies say so, the one whose name sorts
// first is the reason.
//
// Of the bindings, those of the cluster are asked before those of q's
// namespace; where several allow, the one whose name sorts first is the
// reason, with its first subject that matches the caller and its first rule
// that permits the action. The answer depends on the policy alone, not on the
// history of changes that led to it.
//
// For a question of a site (q.Site is set) RBAC answers only if the site was
// put with SharedRBAC, without the bootstrap roles and bindings. Names are
// taken as the site sent them: "gatehouse:system:serviceaccount:…" users and
// "gatehouse:system:serviceaccounts…" groups stand for the control plane's
// service accounts, every other name that begins with "system:", except the
// group system:authenticated, is the site's own and matches no binding.
//
// Decide does not allocate, unless the joined resource and subresource are
// longer than any real ones, a condition does, or a delegation is to be
// followed.
func (s *Snapshot) Decide(q *Request) Decision {
	if q.Site == ControlPlane {
		return Decision{} // no site may bear the control plane's name
	}
	c := newQuery(s, q)
	if s.policyIndex.n == 0 {
		return c.bound()
	}
	return c.decide()
}

// decide asks bans and policies around RBAC. The caller's names are looked up
// among those of policies only if some policy could be about the request.
func (c *query) decide() Decision {
	var usual [usualHits]keyHit
	hits, found := usual[:0], false
	if c.s.count.Bans > 0 || c.concerns(c.s.ruled[Deny].union, Deny) {
		hits, found = c.findKeys(hits), true
		id := c.banned(hits)
		if id == none {
			id = c.ruled(hits, Deny)
		}
		if id != none {
			return Decision{snap: c.s, effect: Deny, policy: id + 1}
		}
	}
	if d := c.bound(); d.effect != NoOpinion {
		return d
	}
	if c.s.count.Delegations == 0 && !c.concerns(c.s.ruled[Allow].union, Allow) {
		return Decision{}
	}
	if !found {
		hits = c.findKeys(hits)
	}
	if id := c.ruled(hits, Allow); id != none {
		return Decision{snap: c.s, effect: Allow, policy: id + 1}
	}
	if c.s.count.Delegations == 0 {
		return Decision{}
	}
	return c.handed(hits)
}

// bound decides by bindings alone.
func (c *query) bound() Decision {
	s, q := c.s, c.q
	if !s.answers(q) {
		return Decision{}
	}
	var cluster, local match
	ns := none
	for from := 0; from <= len(q.Groups); from += callers {
		var known callerSet
		c.callers(from, &known)
		for i := range known.n {
			c.scan(&known, i, clusterScope, &cluster)
		}
		if q.Namespace == "" || cluster.found {
			continue
		}
		if from == 0 {
			ns = s.findScopeBy(c.namespaceHash(), q.Namespace)
		}
		if ns == none {
			continue
		}
		for i := range known.n {
			c.scan(&known, i, ns, &local)
		}
	}
	if !cluster.found {
		cluster = local
	}
	if !cluster.found {
		return Decision{}
	}
	return Decision{snap: s, binding: cluster.binding, principal: cluster.principal, rule: cluster.rule, effect: Allow}
}

// scan offers best every grant of caller i in the scope that permits the
// action.
func (c *query) scan(known *callerSet, i int, scope uint32, best *match) {
	p := known.records[i]
	if p.tree != nil {
		c.scanTree(p, known.ids[i], scope, best)
		return
	}
	es := p.flat(scope)
	for j := range es {
		c.try(&es[j], known.ids[i], best)
	}
}

func (c *query) scanTree(p *principal, id, scope uint32, best *match) {
	p.tree.from(func(e entry) bool { return e.scope < scope }, func(e entry) bool {
		if e.scope != scope {
			return false
		}
		c.try(&e, id, best)
		return true
	})
}

func (c *query) try(e *entry, principal uint32, best *match) {
	if e.role == wideRole {
		c.scanWide(c.s.wides.at(e.binding), principal, best)
		return
	}
	if rule, ok := c.permits(e.role); ok && c.usable(e) {
		best.offer(c.s, e, principal, rule)
	}
}

// answers reports whether RBAC may answer the question at all.
func (s *Snapshot) answers(q *Request) bool { return q.Site == "" || s.sites[q.Site].SharedRBAC }

// callers is how many of the caller's names are looked up together, so that
// their cache misses overlap.
const callers = 16

// callerSet is those of the caller's names that policy knows.
type callerSet struct {
	records [callers]*principal
	ids     [callers]uint32
	n       int
}

// callers looks up the caller's names from the given one on, 0 being the user
// and i the group before i. It takes each step for all names before the next
// step: what the steps read is rarely in the cache, and is read side by side.
func (c *query) callers(from int, known *callerSet) {
	s, q := c.s, c.q
	if s.principalIndex.n == 0 {
		return
	}
	var (
		hashes, names [callers]uint32
		slots         [callers]uint64
		n             int
	)
	for i := from; i < min(len(q.Groups)+1, from+callers); i++ {
		name, ok := controlPlaneCaller(q, i)
		switch {
		case !ok:
			continue
		case q.Site == "" && from == 0:
			hashes[n] = mix(c.nameHash(i), salt(i > 0))
		default:
			hashes[n] = s.hash2(name, salt(i > 0))
		}
		names[n] = uint32(i)
		n++
	}
	for i := range n {
		slots[i] = s.principalIndex.peek(hashes[i])
	}
	m := 0
	for i := range n {
		id := uint32(slots[i]) - 1
		if slots[i] == 0 {
			continue
		}
		if uint32(slots[i]>>32) != hashes[i] {
			p := s.principalIndex.probe(hashes[i])
			var ok bool
			if id, ok = p.next(); !ok {
				continue
			}
		}
		known.records[m], known.ids[m], names[m], hashes[m] = s.principals.at(id), id, names[i], hashes[i]
		m++
	}
	for i := range m {
		slots[i] = known.records[i].peek()
	}
	for i := range m {
		name, _ := controlPlaneCaller(q, int(names[i]))
		group := names[i] > 0
		id := known.ids[i]
		p := known.records[i]
		if uint32(slots[i]) != uint32(len(name)) || p.name != name || p.group != group {
			// The hash is that of another name too, or of this one not at all.
			if id = s.findPrincipal(hashes[i], name, group); id == none {
				continue
			}
			p = s.principals.at(id)
		}
		known.records[known.n], known.ids[known.n] = p, id
		known.n++
	}
}

// peek reads what the comparison of the name and the walk of the grants are
// about to read, and returns the length of the name in its lower half.
func (p *principal) peek() uint64 {
	x := uint64(uint32(len(p.name)))
	if len(p.name) > 0 {
		x |= uint64(p.name[0]) << 40
	}
	if len(p.entries) > 0 {
		x |= uint64(p.entries[0].scope&0xff) << 32
	}
	return x
}

// controlPlaneCaller returns name i of the caller, 0 being the user and i the
// group before i, as the control plane's bindings know it.
func controlPlaneCaller(q *Request, i int) (string, bool) {
	switch {
	case q.Site == "":
		if i == 0 {
			return q.User, true
		}
		return q.Groups[i-1], true
	case i == 0:
		return controlPlaneUser(q.User)
	default:
		return controlPlaneGroup(q.Groups[i-1])
	}
}

// findScope returns the number of a namespace, or none.
func (s *Snapshot) findScope(name string) uint32 { return s.findScopeBy(s.hash(name), name) }

func (s *Snapshot) findScopeBy(hash uint32, name string) uint32 {
	for p := s.scopeIndex.probe(hash); ; {
		id, ok := p.next()
		if !ok {
			return none
		}
		if s.scopes.at(id).name == name {
			return id
		}
	}
}

// grantTo returns the binding in public form, with its first subject that
// stands for the principal.
func (s *Snapshot) grantTo(binding, principal uint32) Grant {
	return s.grant(binding, uint32(s.bindings.at(binding).position(principal)))
}

// grant returns the binding and its subject in public form.
func (s *Snapshot) grant(binding, subject uint32) Grant {
	b := s.bindings.at(binding)
	r := s.roles.at(b.role)
	g := Grant{Namespace: s.scopes.at(b.scope()).name, Name: b.name, RoleKind: r.kind, RoleName: r.name}
	sub := b.subject(int(subject))
	name := s.principals.at(sub.principal).name
	switch sub.form & (1<<formBits - 1) {
	case formUser:
		g.Subject = Subject{Kind: User, Name: name}
	case formGroup:
		g.Subject = Subject{Kind: Group, Name: name}
	case formServiceAccount:
		name = name[len(serviceAccountPrefix):]
		n := sub.form >> formBits
		g.Subject = Subject{Kind: ServiceAccount, Namespace: name[:n], Name: name[n+1:]}
	}
	return g
}
