package authz

import (
	"cmp"
	"slices"
	"strings"
)

// policyKey is one name, or beginning of names, that policies and bans are
// for, with what is said of it.
type policyKey struct {
	name   string
	kind   keyKind
	live   bool
	bans   []uint32
	denies entryList
	allows entryList
	handed entryList // delegations to the name
}

// list is where the entries of a policy stand that is no ban.
func (k *policyKey) list(p *policy) *entryList {
	switch {
	case p.delegation != nil:
		return &k.handed
	case p.Effect == Deny:
		return &k.denies
	case p.Effect == Allow:
		return &k.allows
	}
	return nil
}

// entryList holds the entries of one key and effect: one in place, as most keys
// have, more in a sequence.
type entryList struct {
	more  *seq[policyEntry] // all of them; nil while there is at most one
	one   policyEntry
	n     uint32
	about mask // the union of all that were entered since the list was empty
}

func (l *entryList) all(visit func(policyEntry) bool) {
	if l.n == 1 {
		visit(l.one)
		return
	}
	l.more.all(visit)
}

func (l *entryList) insert(t version, e policyEntry, about mask) {
	l.n++
	l.about |= about
	switch {
	case l.n == 1:
		l.one = e
		return
	case l.n == 2:
		l.more = newSeq(t, []policyEntry{l.one})
	default:
		l.more = l.more.edit(t)
	}
	l.more.insert(t, e, compareEntry)
}

func (l *entryList) remove(t version, e policyEntry) {
	if l.n--; l.n == 0 {
		*l = entryList{}
		return
	}
	l.more = l.more.edit(t)
	l.more.remove(t, e, compareEntry)
	if l.n == 1 {
		l.one, l.more = l.more.firsts[0], nil
	}
}

// keyKind tells what a key's name is compared with.
type keyKind uint32

const (
	userKey keyKind = iota
	groupKey
	credentialKey
	ownKey    keyKind = 4 // added for names that are the site's own
	prefixKey keyKind = 8 // added for names compared by their beginning
)

// policyEntry places a policy under one of its keys by what it is about, so
// that a subject with thousands of policies is asked for the few that matter.
type policyEntry struct {
	resource uint32 // number of a resource; star for several, urlResource for URLs
	space    uint32 // number of a namespace's name; star for several
	policy   uint32
}

func (e policyEntry) place() uint64 { return uint64(e.resource)<<32 | uint64(e.space) }

const urlResource = none

func compareEntry(a, b policyEntry) int {
	return cmp.Or(cmp.Compare(a.resource, b.resource), cmp.Compare(a.space, b.space), cmp.Compare(a.policy, b.policy))
}

// maxPlaces bounds the entries of one policy under one key; a policy that
// needs more stands under several resources and namespaces.
const maxPlaces = 128

// policy is a compiled Policy, Ban or Delegation.
type policy struct {
	Policy
	ban        *Ban        // nil but for a ban
	delegation *delegation // nil but for a delegation

	rules  *ruleset
	sig    signature
	roles  []uint32
	keys   []uint32
	places []policyEntry
	site   string // the only site it names, without a star
}

func (s *Snapshot) findKey(hash uint32, kind keyKind, name string) uint32 {
	for p := s.keyIndex.probe(hash); ; {
		id, ok := p.next()
		if !ok {
			return none
		}
		if k := s.keys.at(id); k.kind == kind && k.name == name {
			return id
		}
	}
}

// PutPolicy adds or replaces an access policy.
func (t *Tx) PutPolicy(p Policy) { t.putPolicy(&policy{Policy: p}) }

// DeletePolicy removes an access policy.
func (t *Tx) DeletePolicy(name string) { t.deletePolicy(name, aPolicy) }

// PutBan adds or replaces a ban. Bans and policies have names of their own.
func (t *Tx) PutBan(b Ban) {
	p := &policy{Policy: Policy{Name: b.Name, Effect: Deny, Subjects: b.Subjects, Sites: b.Sites, NotAfter: b.NotAfter}, ban: &b}
	t.putPolicy(p)
}

// DeleteBan removes a ban.
func (t *Tx) DeleteBan(name string) { t.deletePolicy(name, aBan) }

// policyKind keeps the names of policies, bans and delegations apart.
type policyKind uint32

const (
	aPolicy policyKind = iota
	aBan
	aDelegation
)

func (p *policy) kind() policyKind {
	switch {
	case p.ban != nil:
		return aBan
	case p.delegation != nil:
		return aDelegation
	default:
		return aPolicy
	}
}

func (c *Counts) of(kind policyKind) *int {
	switch kind {
	case aBan:
		return &c.Bans
	case aDelegation:
		return &c.Delegations
	default:
		return &c.Policies
	}
}

func (s *Snapshot) findPolicy(name string, kind policyKind) uint32 {
	for p := s.policyIndex.probe(s.hash2(name, uint32(kind))); ; {
		id, ok := p.next()
		if !ok {
			return none
		}
		if x := *s.policies.at(id); x.Name == name && x.kind() == kind {
			return id
		}
	}
}

func (t *Tx) deletePolicy(name string, kind policyKind) {
	t.flush()
	id := t.s.findPolicy(name, kind)
	if id == none {
		return
	}
	t.changed = true
	p := *t.s.policies.at(id)
	for _, k := range p.keys {
		t.unlist(k, id, p)
	}
	t.discard(p.rules)
	for _, r := range p.roles {
		x := t.s.roles.edit(t.v, r)
		if x.refs--; x.refs == 0 && x.rules == nil {
			t.s.count.Unresolved--
		}
		t.settleRole(r)
	}
	for _, e := range p.places {
		if e.space != star {
			t.release(&t.s.texts, &t.w.texts, e.space)
		}
	}
	t.s.policyIndex.remove(t.v, t.s.hash2(name, uint32(kind)), id)
	give(&t.w.policies, &t.s.policies, t.v, id)
	if p.counted() {
		t.s.ruled[p.Effect].count(p.about(), false)
	}
	*t.s.count.of(kind)--
	t.s.count.objectReaders -= p.readsObject()
}

// about summarises what the policy is about. Rules of roles change without it.
func (p *policy) about() mask {
	if len(p.roles) > 0 {
		return ^mask(0)
	}
	return p.sig.mask
}

// counted reports whether the policy stands in the tally of its effect.
func (p *policy) counted() bool {
	return p.ban == nil && p.delegation == nil && (p.Effect == Deny || p.Effect == Allow)
}

// readsObject is 1 when the policy's condition reads the object of a request.
func (p *policy) readsObject() int {
	if p.Condition != nil && p.Condition.ReadsObject() {
		return 1
	}
	return 0
}

func (t *Tx) putPolicy(p *policy) {
	t.deletePolicy(p.Name, p.kind())
	t.changed = true
	p.rules, p.sig = t.compile(p.Rules)
	for _, name := range p.Roles {
		r := t.useRole(clusterScope, ClusterRoleKind, name)
		x := t.s.roles.edit(t.v, r)
		if x.refs++; x.refs == 1 && x.rules == nil {
			t.s.count.Unresolved++
		}
		p.roles = append(p.roles, r)
	}
	if len(p.Sites) == 1 && !strings.Contains(p.Sites[0], "*") {
		p.site = p.Sites[0]
	}
	t.place(p)
	id := take(&t.w.policies, &t.s.policies, t.v)
	if p.ban != nil || len(p.places) > 0 && (p.Effect == Deny || p.Effect == Allow) {
		for i := range p.Subjects {
			t.list(p, id, &p.Subjects[i])
		}
	}
	if p.ban != nil {
		for _, c := range p.ban.CredentialIDs {
			t.listUnder(p, id, credentialKey, c)
		}
	}
	if p.counted() {
		t.s.ruled[p.Effect].count(p.about(), true)
	}
	*t.s.count.of(p.kind())++
	t.s.count.objectReaders += p.readsObject()
	*t.s.policies.edit(t.v, id) = p
	t.s.policyIndex.insert(t.v, t.s.hash2(p.Name, uint32(p.kind())), id)
}

// place works out under which resources and namespaces the policy stands.
func (t *Tx) place(p *policy) {
	resources := []uint32{}
	for i := range p.rules.rules {
		r := &p.rules.rules[i]
		resources = append(resources, p.rules.resources(r)...)
		if len(p.rules.urlWords(r)) > 0 {
			resources = append(resources, urlResource)
		}
	}
	if len(p.roles) > 0 || slices.Contains(resources, star) || len(resources) > maxPlaces {
		resources = []uint32{star}
		if p.rules.urls || len(p.roles) > 0 {
			resources = append(resources, urlResource)
		}
	}
	names := p.Namespaces
	if len(names) == 0 || len(names)*len(resources) > maxPlaces || slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, "*") }) {
		names = []string{""}
	}
	slices.Sort(resources)
	for _, res := range slices.Compact(resources) {
		for _, n := range names {
			e := policyEntry{resource: res, space: star}
			if n != "" {
				e.space = t.intern(&t.s.texts, &t.w.texts, n)
			}
			if slices.Contains(p.places, e) {
				if n != "" {
					t.release(&t.s.texts, &t.w.texts, e.space)
				}
				continue
			}
			p.places = append(p.places, e)
		}
	}
}

// list enters the policy under the key of one subject.
func (t *Tx) list(p *policy, id uint32, sub *PolicySubject) {
	kind, name := userKey, sub.Name
	switch sub.Kind {
	case User:
	case Group:
		kind = groupKey
	case ServiceAccount:
		if len(sub.NamespaceLabels) > 0 {
			name = serviceAccountPrefix
			kind |= prefixKey
			break
		}
		if sub.Namespace == "" {
			return
		}
		name = string(appendServiceAccount(nil, &sub.Subject, ""))
	default:
		return
	}
	if sub.SitesOwn {
		kind |= ownKey
	}
	switch {
	case kind&prefixKey != 0:
	case sub.Match == Prefix:
		kind |= prefixKey
	case sub.Match == Glob:
		// Under what stands before the first star; matches compares the rest.
		if before, _, ok := strings.Cut(name, "*"); ok {
			kind, name = kind|prefixKey, before
		}
	}
	t.listUnder(p, id, kind, name)
}

func (t *Tx) listUnder(p *policy, id uint32, kind keyKind, name string) {
	h := t.s.hash2(name, uint32(kind))
	k := t.s.findKey(h, kind, name)
	if k == none {
		k = take(&t.w.keys, &t.s.keys, t.v)
		t.s.keyIndex.insert(t.v, h, k)
		*t.s.keys.edit(t.v, k) = policyKey{name: name, kind: kind, live: true}
		if kind&prefixKey != 0 {
			t.prefixLength(kind, len(name), 1)
		}
	}
	if slices.Contains(p.keys, k) {
		return
	}
	p.keys = append(p.keys, k)
	x := t.s.keys.edit(t.v, k)
	if p.ban != nil {
		x.bans = append(slices.Clip(x.bans), id)
		return
	}
	l := x.list(p)
	if l == nil {
		return
	}
	for _, e := range p.places {
		e.policy = id
		l.insert(t.v, e, p.about())
	}
}

// unlist takes the policy out of a key, and forgets a key without policies.
func (t *Tx) unlist(k, id uint32, p *policy) {
	x := t.s.keys.edit(t.v, k)
	if p.ban != nil {
		i := slices.Index(x.bans, id)
		x.bans = slices.Delete(slices.Clone(x.bans), i, i+1)
	} else if l := x.list(p); l != nil {
		for _, e := range p.places {
			e.policy = id
			l.remove(t.v, e)
		}
	}
	if len(x.bans) > 0 || x.denies.n > 0 || x.allows.n > 0 || x.handed.n > 0 {
		return
	}
	if x.kind&prefixKey != 0 {
		t.prefixLength(x.kind, len(x.name), -1)
	}
	t.s.keyIndex.remove(t.v, t.s.hash2(x.name, uint32(x.kind)), k)
	give(&t.w.keys, &t.s.keys, t.v, k)
}

// prefixLen counts the keys compared by a beginning of one length, so that a
// name is looked up once for each length in use.
type prefixLen struct{ length, keys int }

func (t *Tx) prefixLength(kind keyKind, n, delta int) {
	kind &^= prefixKey
	list := slices.Clone(t.s.prefixes[kind])
	i, ok := slices.BinarySearchFunc(list, n, func(p prefixLen, n int) int { return cmp.Compare(p.length, n) })
	if !ok {
		list = slices.Insert(list, i, prefixLen{length: n})
	}
	if list[i].keys += delta; list[i].keys == 0 {
		list = slices.Delete(list, i, i+1)
	}
	t.s.prefixes[kind] = list
}

// PutNamespace tells the engine the labels of a namespace of a site, for
// policies that choose namespaces by label; site is [ControlPlane] for the
// control plane's own.
func (t *Tx) PutNamespace(site, name string, labels map[string]string) {
	t.flush()
	id := t.s.findLabels(site, name)
	if id == none {
		id = take(&t.w.labels, &t.s.labels, t.v)
		t.s.labelIndex.insert(t.v, t.s.labelHash(site, name), id)
	}
	t.changed = true
	*t.s.labels.edit(t.v, id) = namespaceLabels{site, name, labels}
}

// DeleteNamespace forgets a namespace. An allowing policy that chooses by
// label then does not match it, a denying one does.
func (t *Tx) DeleteNamespace(site, name string) {
	t.flush()
	id := t.s.findLabels(site, name)
	if id == none {
		return
	}
	t.changed = true
	t.s.labelIndex.remove(t.v, t.s.labelHash(site, name), id)
	give(&t.w.labels, &t.s.labels, t.v, id)
}

type namespaceLabels struct {
	site, name string
	labels     map[string]string
}

func (s *Snapshot) labelHash(site, name string) uint32 { return s.hash2(name, s.hash(site)) }

func (s *Snapshot) findLabels(site, name string) uint32 {
	for p := s.labelIndex.probe(s.labelHash(site, name)); ; {
		id, ok := p.next()
		if !ok {
			return none
		}
		if x := s.labels.at(id); x.site == site && x.name == name {
			return id
		}
	}
}
