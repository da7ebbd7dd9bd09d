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
	labelIndex  table
	labels      vec[namespaceLabels]

	sites map[string]Site
	count Counts
}

// Counts says how much policy a snapshot holds.
type Counts struct {
	Roles, Bindings int
	// Unresolved counts the roles that bindings name and that do not exist.
	Unresolved     int
	Policies, Bans int
	// Subjects counts the distinct users and groups that bindings name.
	Subjects int
}

// Counts returns how much policy the snapshot holds.
func (s *Snapshot) Counts() Counts {
	c := s.count
	c.Subjects = int(s.principalIndex.n)
	return c
}

// Number returns the sequence number of the transaction that made the
// snapshot. Within one engine, later snapshots have greater numbers.
func (s *Snapshot) Number() uint64 { return s.number }

// scope is a namespace that policy names, or one of the two below.
type scope struct {
	name     string
	bindings *seq[uint64] // role<<32|binding
	refs     uint32       // bindings and roles inside
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

// match is the best grant found so far.
type match struct {
	binding, subject, rule uint32
	found                  bool
}

// offer takes e if it comes before the best so far: by the binding's name,
// then by the place of the subject in the binding.
func (m *match) offer(s *Snapshot, e *entry, rule uint32) {
	if m.found {
		if m.binding == e.binding {
			m.subject = min(m.subject, e.subject)
			return
		}
		if s.bindings.at(m.binding).name < s.bindings.at(e.binding).name {
			return
		}
	}
	*m = match{e.binding, e.subject, rule, true}
}

// Decide answers q: no to a caller that is banned, then no where a policy
// denies, then yes where a binding or, failing that, a policy allows, else
// nothing. Where several bans or policies say so, the one whose name sorts
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
// longer than any real ones or a condition does.
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

// decide asks bans and policies around RBAC.
func (c *query) decide() Decision {
	var usual [usualHits]keyHit
	hits := c.findKeys(usual[:0])
	if len(hits) == 0 {
		return c.bound()
	}
	id := c.banned(hits)
	if id == none {
		id = c.ruled(hits, Deny)
	}
	if id != none {
		return Decision{snap: c.s, effect: Deny, policy: id + 1}
	}
	if d := c.bound(); d.effect != NoOpinion {
		return d
	}
	if id = c.ruled(hits, Allow); id != none {
		return Decision{snap: c.s, effect: Allow, policy: id + 1}
	}
	return Decision{}
}

// bound decides by bindings alone.
func (c *query) bound() Decision {
	s, q := c.s, c.q
	if !s.answers(q) {
		return Decision{}
	}
	ns := none
	if q.Namespace != "" {
		ns = s.findScope(q.Namespace)
	}
	var cluster, local match
	for from := 0; from <= len(q.Groups); from += callers {
		var ps [callers]*principal
		n := s.callers(q, from, &ps)
		for _, p := range ps[:n] {
			c.scan(p, clusterScope, &cluster)
		}
		if ns == none || cluster.found {
			continue
		}
		for _, p := range ps[:n] {
			c.scan(p, ns, &local)
		}
	}
	if !cluster.found {
		cluster = local
	}
	if !cluster.found {
		return Decision{}
	}
	return Decision{snap: s, binding: cluster.binding, subject: cluster.subject, rule: cluster.rule, effect: Allow}
}

// scan offers best every grant of p in the scope that permits the action.
func (c *query) scan(p *principal, scope uint32, best *match) {
	if p.tree != nil {
		c.scanTree(p, scope, best)
		return
	}
	es := p.flat(scope)
	for i := range es {
		c.try(&es[i], best)
	}
}

func (c *query) scanTree(p *principal, scope uint32, best *match) {
	p.tree.from(func(e entry) bool { return e.scope < scope }, func(e entry) bool {
		if e.scope != scope {
			return false
		}
		c.try(&e, best)
		return true
	})
}

func (c *query) try(e *entry, best *match) {
	if e.role == wideRole {
		c.scanWide(c.s.wides.at(e.binding), best)
		return
	}
	if rule, ok := c.permits(e.role); ok && c.usable(e) {
		best.offer(c.s, e, rule)
	}
}

// answers reports whether RBAC may answer the question at all.
func (s *Snapshot) answers(q *Request) bool { return q.Site == "" || s.sites[q.Site].SharedRBAC }

// callers is how many of the caller's names are looked up together, so that
// their cache misses overlap.
const callers = 16

// callers looks up the caller's names from the given one on, 0 being the user
// and i the group before i, and returns how many of them policy knows.
func (s *Snapshot) callers(q *Request, from int, ps *[callers]*principal) int {
	if s.principalIndex.n == 0 {
		return 0
	}
	var (
		ids [callers]uint32
		n   int
	)
	// The hashes first, so that the lookups do not wait for one another.
	last := min(len(q.Groups)+1, from+callers)
	for i := from; i < last; i++ {
		if name, ok := controlPlaneCaller(q, i); ok {
			ids[n] = s.hash2(name, salt(i > 0))
		}
		n++
	}
	for i := range ids[:n] {
		name, ok := controlPlaneCaller(q, from+i)
		if !ok {
			ids[i] = none
			continue
		}
		ids[i] = s.findPrincipal(ids[i], name, from+i > 0)
	}
	found := 0
	for _, id := range ids[:n] {
		if id != none {
			ps[found] = s.principals.at(id)
			found++
		}
	}
	return found
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
func (s *Snapshot) findScope(name string) uint32 {
	for p := s.scopeIndex.probe(s.hash(name)); ; {
		id, ok := p.next()
		if !ok {
			return none
		}
		if s.scopes.at(id).name == name {
			return id
		}
	}
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
