package authz

import "strings"

// keyHit is a key that one of the caller's names matches.
type keyHit struct {
	key  uint32
	name int32 // below -2 an origin, -2 the credential, -1 the user, else the group
}

// usualHits is how many keys of a caller are found without allocating.
const usualHits = 64

func (c *query) callerName(i int32) string {
	switch {
	case i < -2:
		return c.q.Origins[-3-i]
	case i == -2:
		return c.q.CredentialID
	case i == -1:
		return c.q.User
	default:
		return c.q.Groups[i]
	}
}

// findKeys appends the keys that the names of the caller match.
func (c *query) findKeys(hits []keyHit) []keyHit {
	if id := c.q.CredentialID; id != "" {
		hits = c.findKey(hits, credentialKey, id, -2)
	}
	for i, id := range c.q.Origins {
		hits = c.findKey(hits, credentialKey, id, -3-int32(i))
	}
	if c.q.Site == "" {
		return c.findOwnKeys(hits)
	}
	for i := int32(-1); int(i) < len(c.q.Groups); i++ {
		kind, name := groupKey, c.callerName(i)
		if i < 0 {
			kind = userKey
		}
		if mapped, ok := controlPlaneName(kind, name); ok {
			hits = c.findKey(hits, kind, mapped, i)
		}
		if strings.HasPrefix(name, systemPrefix) {
			hits = c.findKey(hits, kind|ownKey, name, i)
		}
	}
	return hits
}

// findOwnKeys is findKeys for the names of a caller of the control plane
// itself. As in callers, what is rarely in the cache is read side by
// side.
func (c *query) findOwnKeys(hits []keyHit) []keyHit {
	s := c.s
	var hashes [callers]uint32
	sum := uint64(0)
	known := min(len(c.q.Groups)+1, callers)
	for i := range known {
		kind := groupKey
		if i == 0 {
			kind = userKey
		}
		hashes[i] = mix(c.nameHash(i), uint32(kind))
		sum += s.keyIndex.peek(hashes[i])
	}
	for i := range known {
		p := s.keyIndex.probe(hashes[i])
		if k, ok := p.next(); ok {
			sum += uint64(len(s.keys.at(k).name))
		}
	}
	c.peeked += sum
	for i := range len(c.q.Groups) + 1 {
		kind, name := groupKey, c.callerName(int32(i)-1)
		if i == 0 {
			kind = userKey
		}
		h := uint32(0)
		if i < callers {
			h = hashes[i]
		} else {
			h = s.hash2(name, uint32(kind))
		}
		if k := s.findKey(h, kind, name); k != none {
			hits = append(hits, keyHit{k, int32(i) - 1})
		}
		if len(s.prefixes[kind]) > 0 {
			hits = c.findPrefixes(hits, kind, name, int32(i)-1)
		}
	}
	return hits
}

func controlPlaneName(kind keyKind, name string) (string, bool) {
	if kind == userKey {
		return controlPlaneUser(name)
	}
	return controlPlaneGroup(name)
}

func (c *query) findKey(hits []keyHit, kind keyKind, name string, from int32) []keyHit {
	s := c.s
	if k := s.findKey(s.hash2(name, uint32(kind)), kind, name); k != none {
		hits = append(hits, keyHit{k, from})
	}
	if kind == credentialKey {
		return hits
	}
	return c.findPrefixes(hits, kind, name, from)
}

// findPrefixes appends the keys that are beginnings of the name, looking up as
// many lengths side by side as usual policy has.
func (c *query) findPrefixes(hits []keyHit, kind keyKind, name string, from int32) []keyHit {
	s := c.s
	list := s.prefixes[kind]
	kind |= prefixKey
	for len(list) > 0 {
		var hashes [8]uint32
		n := 0
		for n < min(len(list), len(hashes)) && list[n].length <= len(name) {
			hashes[n] = s.hash2(name[:list[n].length], uint32(kind))
			c.peeked += s.keyIndex.peek(hashes[n])
			n++
		}
		for i, p := range list[:n] {
			begin := name[:p.length]
			if k := s.findKey(hashes[i], kind, begin); k != none {
				hits = append(hits, keyHit{k, from})
			}
		}
		if n < len(hashes) {
			break
		}
		list = list[n:]
	}
	return hits
}

// banned returns the ban on the caller whose name sorts first, or none.
func (c *query) banned(hits []keyHit) uint32 {
	best := none
	for _, hit := range hits {
		k := c.s.keys.at(hit.key)
		for _, id := range k.bans {
			p := *c.s.policies.at(id)
			if c.before(p, best) && c.appliesTo(p, k, hit.name) && c.atSite(p, k) && c.inPeriod(p) {
				best = id
			}
		}
	}
	return best
}

// ruled returns the denying or allowing policy on the request whose name sorts
// first, or none.
func (c *query) ruled(hits []keyHit, effect Effect) uint32 {
	best := none
	for _, hit := range hits {
		k := c.s.keys.at(hit.key)
		list := &k.allows
		if effect == Deny {
			list = &k.denies
		}
		if list.n == 0 || !c.concerns(list.about, effect) {
			continue
		}
		try := func(e policyEntry) {
			if p := *c.s.policies.at(e.policy); c.before(p, best) && c.matches(p, k, hit.name, effect) {
				best = e.policy
			}
		}
		c.entries(list, effect, try)
	}
	return best
}

// concerns reports whether policies with this summary may be about the request.
// A wildcard in it touches the rules of any denial.
func (c *query) concerns(about mask, effect Effect) bool {
	return about.overlaps(c.want) || about != 0 && effect == Deny && c.q.ResourceRequest && c.open()
}

// entries visits the entries that may concern the request.
func (c *query) entries(list *entryList, effect Effect, visit func(policyEntry)) {
	if effect == Deny && c.q.ResourceRequest && c.q.Resource == Wildcard {
		list.all(func(e policyEntry) bool { visit(e); return true })
		return
	}
	resources := [3]uint32{star, c.resource, c.anySub}
	if !c.q.ResourceRequest {
		resources = [3]uint32{urlResource, urlResource, urlResource}
	}
	if list.n <= 8 {
		everywhere := c.q.Namespace == "" && effect == Deny && c.q.ResourceRequest
		list.all(func(e policyEntry) bool {
			if (e.resource == resources[0] || e.resource == resources[1] || e.resource == resources[2]) &&
				(everywhere || e.space == star || e.space == c.space()) {
				visit(e)
			}
			return true
		})
		return
	}
	spaces := [2]uint32{star, c.space()}
	for i, res := range resources {
		if i > 0 && (res == none || res == resources[i-1]) {
			continue
		}
		if c.q.Namespace == "" && effect == Deny && c.q.ResourceRequest {
			// Over all namespaces: every namespace's denials count.
			list.more.from(func(e policyEntry) bool { return e.resource < res }, func(e policyEntry) bool {
				if e.resource == res {
					visit(e)
				}
				return e.resource == res
			})
			continue
		}
		for _, sp := range spaces {
			if sp == none {
				continue
			}
			entriesAt(list.more, res, sp, visit)
		}
	}
}

// entriesAt visits the entries for one resource and one namespace.
func entriesAt(list *seq[policyEntry], res, space uint32, visit func(policyEntry)) {
	want := uint64(res)<<32 | uint64(space)
	lo, hi := 0, len(list.firsts)
	for lo < hi {
		if m := (lo + hi) / 2; list.firsts[m].place() < want {
			lo = m + 1
		} else {
			hi = m
		}
	}
	c := max(0, lo-1)
	items := list.chunks[c].items
	lo, hi = 0, len(items)
	for lo < hi {
		if m := (lo + hi) / 2; items[m].place() < want {
			lo = m + 1
		} else {
			hi = m
		}
	}
	for {
		for _, e := range items[lo:] {
			if e.place() != want {
				return
			}
			visit(e)
		}
		if c++; c == len(list.chunks) {
			return
		}
		items, lo = list.chunks[c].items, 0
	}
}

// before reports whether p comes before the best so far.
func (c *query) before(p *policy, best uint32) bool {
	return best == none || p.Name < (*c.s.policies.at(best)).Name
}

// matches reports whether the request lies wholly inside an allowing policy,
// or could touch a denying one. The cheap limits come first.
func (c *query) matches(p *policy, k *policyKey, name int32, effect Effect) bool {
	deny := effect == Deny
	if !c.action(p, deny) || !c.atSite(p, k) || !c.inSpace(p, deny) || !c.inPeriod(p) || !c.appliesTo(p, k, name) || !c.selects(p, deny) {
		return false
	}
	return p.Condition == nil || c.holds(p, deny)
}

// holds evaluates the condition on a copy, so that the request of the usual
// decision can stay on its caller's stack.
func (c *query) holds(p *policy, deny bool) bool {
	q := *c.q
	if p.Condition.ReadsObject() && q.Object == nil && q.OldObject == nil {
		return deny != q.ObjectLater
	}
	ok, err := p.Condition.Holds(&q)
	if err != nil {
		return deny
	}
	return ok
}

// atSite reports whether the policy is for the site that asks. A key of names
// that are the site's own counts only where the policy names just that site.
func (c *query) atSite(p *policy, k *policyKey) bool {
	if k.kind&ownKey != 0 {
		return p.site == c.q.Site
	}
	site := c.q.Site
	if site == "" {
		site = ControlPlane
	}
	return anyGlob(p.Sites, site)
}

// appliesTo completes the comparison of a name whose beginning matched.
func (c *query) appliesTo(p *policy, k *policyKey, i int32) bool {
	if i < -2 && p.ban != nil && p.ban.KeepsMade {
		return false
	}
	if k.kind&prefixKey == 0 {
		return true
	}
	name, group := c.callerName(i), k.kind&^(ownKey|prefixKey) == groupKey
	if c.q.Site != "" && k.kind&ownKey == 0 {
		name, _ = controlPlaneName(k.kind&^prefixKey, name)
	}
	for j := range p.Subjects {
		sub := &p.Subjects[j]
		if (sub.Kind == Group) != group || sub.SitesOwn != (k.kind&ownKey != 0) {
			continue
		}
		if len(sub.NamespaceLabels) > 0 {
			if c.inDomain(sub, name, p.Effect == Deny) {
				return true
			}
			continue
		}
		if sub.nameMatches(name) {
			return true
		}
	}
	return false
}

// inDomain reports whether name is that of a service account whose namespace
// has the labels that the subject asks for.
func (c *query) inDomain(sub *PolicySubject, name string, deny bool) bool {
	rest, ok := strings.CutPrefix(name, serviceAccountPrefix)
	if !ok || sub.Kind != ServiceAccount {
		return false
	}
	namespace, account, ok := strings.Cut(rest, ":")
	if !ok {
		return false
	}
	if sub.Name != "" && !sub.matchesName(account) {
		return false
	}
	site := ControlPlane
	if sub.SitesOwn {
		site = c.q.Site
	}
	id := c.s.findLabels(site, namespace)
	if id == none {
		return deny
	}
	labels := c.s.labels.at(id).labels
	for i := range sub.NamespaceLabels {
		if !sub.NamespaceLabels[i].Holds(labels) {
			return false
		}
	}
	return true
}

func (s *PolicySubject) nameMatches(name string) bool {
	if s.Kind == ServiceAccount {
		var ok bool
		if name, ok = strings.CutPrefix(name, serviceAccountPrefix); !ok || s.Namespace == "" {
			return false
		}
		if name, ok = strings.CutPrefix(name, s.Namespace); !ok {
			return false
		}
		if name, ok = strings.CutPrefix(name, ":"); !ok {
			return false
		}
	}
	return s.matchesName(name)
}

func (s *PolicySubject) matchesName(name string) bool {
	switch s.Match {
	case Exact:
		return name == s.Name
	case Prefix:
		return strings.HasPrefix(name, s.Name)
	case Glob:
		return globMatches(s.Name, name)
	}
	return false
}

func (c *query) inPeriod(p *policy) bool {
	now := c.q.Time
	if now.IsZero() {
		return p.Effect == Deny || p.NotBefore.IsZero() && p.NotAfter.IsZero()
	}
	return !now.Before(p.NotBefore) && (p.NotAfter.IsZero() || now.Before(p.NotAfter))
}

func (c *query) inSpace(p *policy, deny bool) bool {
	if len(p.Namespaces) == 0 && len(p.NamespaceLabels) == 0 {
		return true
	}
	if !c.q.ResourceRequest {
		return false // a URL is in no namespace
	}
	if c.q.Namespace == "" {
		return deny && !c.q.ClusterScoped
	}
	if len(p.Namespaces) > 0 && !anyGlob(p.Namespaces, c.q.Namespace) {
		return false
	}
	if len(p.NamespaceLabels) == 0 {
		return true
	}
	site := c.q.Site
	if site == "" {
		site = ControlPlane
	}
	id := c.s.findLabels(site, c.q.Namespace)
	if id == none {
		return deny
	}
	labels := c.s.labels.at(id).labels
	for i := range p.NamespaceLabels {
		if !p.NamespaceLabels[i].Holds(labels) {
			return false
		}
	}
	return true
}

func (c *query) selects(p *policy, deny bool) bool {
	if len(p.LabelSelector) == 0 && len(p.FieldSelector) == 0 {
		return true
	}
	if !c.q.ResourceRequest {
		return false // a URL has no objects
	}
	if deny {
		return touches(p.LabelSelector, c.q.LabelSelector, "") && touches(p.FieldSelector, c.q.FieldSelector, c.q.Name)
	}
	return inside(p.LabelSelector, c.q.LabelSelector, "") && inside(p.FieldSelector, c.q.FieldSelector, c.q.Name)
}

// action reports whether the policy's rules include the action or, to deny,
// could include it.
func (c *query) action(p *policy, deny bool) bool {
	if c.includes(&p.sig, p.rules, deny) {
		return true
	}
	for _, r := range p.roles {
		if rs := c.s.roles.at(r).rules; rs != nil && c.includes(c.s.signatures.at(r), rs, deny) {
			return true
		}
	}
	return false
}

func (c *query) includes(sig *signature, rs *ruleset, deny bool) bool {
	if deny && c.q.ResourceRequest && c.open() {
		return rs.touches(c)
	}
	if !sig.overlaps(c) {
		return false
	}
	if !deny || !c.q.ResourceRequest {
		_, ok := rs.match(c)
		return ok
	}
	return rs.touches(c)
}

// open reports whether the request itself has wildcards, which a denial must
// take for everything they could mean.
func (c *query) open() bool {
	return c.q.Verb == Wildcard || c.q.APIGroup == Wildcard || c.q.Resource == Wildcard
}

// touches reports whether some rule could include the request's action: a
// request without a name touches rules for names, and a wildcard in the request
// touches any word.
func (rs *ruleset) touches(c *query) bool {
	for i := range rs.rules {
		r := &rs.rules[i]
		if c.q.Verb != Wildcard && !rs.matchVerb(c, r) || c.q.Verb == Wildcard && len(rs.verbs(r)) == 0 {
			continue
		}
		if !rs.touchesGroup(c, r) || !rs.touchesResource(c, r) {
			continue
		}
		if names := rs.names(r); len(names) == 0 || c.q.Name != "" && has(names, c.name()) || c.q.Name == "" && c.picks(names) {
			return true
		}
	}
	return false
}

// picks reports whether the request's field selector leaves any of the names.
func (c *query) picks(names []uint32) bool {
	for _, w := range names {
		left := true
		for i := range c.q.FieldSelector {
			if f := &c.q.FieldSelector[i]; f.Key == nameField && !f.acceptsName(c.s.texts.word(w)) {
				left = false
			}
		}
		if left {
			return true
		}
	}
	return false
}

func (rs *ruleset) touchesGroup(c *query, r *crule) bool {
	for _, w := range rs.groups(r) {
		if w == star || w == c.group() || c.q.APIGroup == Wildcard {
			return true
		}
	}
	return false
}

func (rs *ruleset) touchesResource(c *query, r *crule) bool {
	for _, w := range rs.resources(r) {
		if w == star || w == c.resource || w == c.anySub && w != none {
			return true
		}
		if c.q.Resource != Wildcard {
			continue
		}
		if c.q.Subresource == "" {
			return true
		}
		if _, sub, ok := strings.Cut(c.s.resources.word(w), "/"); ok && sub == c.q.Subresource {
			return true
		}
	}
	return false
}
