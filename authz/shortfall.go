package authz

import (
	"fmt"
	"slices"
	"strings"
)

// Shortfall returns what of a new grant its author, the caller of q, does not
// hold: the check that keeps people from granting what they do not have. Of q
// only the caller and Time are read. g is the grant; its subjects, effect and
// name do not count. Where superuser is set the author holds everything that is
// not denied.
//
// Held is what bindings and allowing policies give to the author now, at every
// site and in every namespace that the grant is for. A policy counts only where
// the grant carries its limits: lies inside its sites, namespaces, selectors and
// period, and has the very same condition. What a denying policy could touch is
// not held, whatever gives it. Delegations never count: what they give ends with
// the right of somebody else, which no grant can promise.
//
// The actions are listed as by [Covers], each once.
func (s *Snapshot) Shortfall(q *Request, g *Policy, superuser bool) []Rule {
	return s.shortfall(q, g, superuser, true)
}

// Denied is the part of Shortfall that is about denials alone: which of the
// grant's actions the author is denied.
func (s *Snapshot) Denied(q *Request, g *Policy) []Rule { return s.shortfall(q, g, false, false) }

func (s *Snapshot) shortfall(q *Request, g *Policy, superuser, held bool) []Rule {
	a := &author{s: s, g: g, who: Request{User: q.User, Groups: q.Groups, UID: q.UID, Extra: q.Extra, CredentialID: q.CredentialID, Origins: q.Origins, Time: q.Time, ResourceRequest: true}}
	a.find()
	asked := s.rulesOf(g)
	var missing []Rule
	for _, site := range g.Sites {
		for _, space := range g.spaces() {
			if held && !superuser {
				_, lacks := Covers(a.held(site, space), asked)
				missing = append(missing, lacks...)
			}
			missing = append(missing, a.denied(site, space, asked)...)
		}
	}
	slices.SortStableFunc(missing, func(a, b Rule) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return slices.CompactFunc(missing, func(a, b Rule) bool { return fmt.Sprint(a) == fmt.Sprint(b) })
}

// rulesOf spells out a policy's rules, those of its roles included.
func (s *Snapshot) rulesOf(p *Policy) []Rule {
	out := slices.Clip(p.Rules)
	for _, name := range p.Roles {
		id := s.findRole(clusterScope, ClusterRoleKind, name)
		if id == none || s.roles.at(id).rules == nil {
			continue
		}
		rs := s.roles.at(id).rules
		for i := range rs.rules {
			out = append(out, s.rule(rs, i))
		}
	}
	return out
}

// SharedSites returns the sites whose questions RBAC answers, in order.
func (s *Snapshot) SharedSites() []string {
	var out []string
	for _, site := range s.sites {
		if site.SharedRBAC {
			out = append(out, site.Name)
		}
	}
	slices.Sort(out)
	return out
}

// space is one of the namespaces, or patterns of them, that a grant is for; the
// zero space is everywhere.
type space struct {
	pattern string
	labels  []Requirement
}

func (p *Policy) spaces() []space {
	if len(p.Namespaces) == 0 {
		if len(p.NamespaceLabels) == 0 {
			return []space{{}}
		}
		return []space{{Wildcard, p.NamespaceLabels}}
	}
	var out []space
	for _, n := range p.Namespaces {
		out = append(out, space{n, p.NamespaceLabels})
	}
	return out
}

func exactGlob(g string) bool { return !strings.Contains(g, Wildcard) }

// author is somebody who writes a grant, with the policies about it.
type author struct {
	s      *Snapshot
	g      *Policy
	who    Request
	allows map[uint32]bool // and whether it holds at sites, too
	denies map[uint32]bool
}

func (a *author) find() {
	a.allows, a.denies = map[uint32]bool{}, map[uint32]bool{}
	c := newQuery(a.s, &a.who)
	for _, hit := range c.findKeys(nil) {
		k := a.s.keys.at(hit.key)
		_, crosses := siteName(k.kind&^prefixKey, c.callerName(hit.name))
		note := func(to map[uint32]bool) func(policyEntry) bool {
			return func(e policyEntry) bool {
				if p := *a.s.policies.at(e.policy); c.appliesTo(p, k, hit.name) && c.inPeriod(p) {
					to[e.policy] = to[e.policy] || crosses
				}
				return true
			}
		}
		k.allows.all(note(a.allows))
		k.denies.all(note(a.denies))
	}
}

// held returns the rules that the author holds at all of the sites and
// namespaces that the two patterns stand for, within the grant's limits.
func (a *author) held(site string, at space) []Rule {
	var out []Rule
	if site == ControlPlane {
		who := a.who
		if exactGlob(at.pattern) {
			who.Namespace = at.pattern
		}
		granted, _ := a.s.RulesFor(&who)
		for _, g := range granted {
			out = append(out, g.Rule)
		}
	} else if exactGlob(site) && a.s.sites[site].SharedRBAC {
		out = a.shared(site, at)
	}
	for id, crosses := range a.allows {
		if p := *a.s.policies.at(id); (site == ControlPlane || crosses) && a.g.carries(&p.Policy, site, at, &a.who) {
			out = append(out, a.s.rulesOf(&p.Policy)...)
		}
	}
	return out
}

// shared returns what bindings give the author at a site.
func (a *author) shared(site string, at space) []Rule {
	who := a.who
	who.Site, who.Groups = site, nil
	var ok bool
	if who.User, ok = siteName(userKey, a.who.User); !ok {
		return nil
	}
	for _, g := range a.who.Groups {
		if name, ok := siteName(groupKey, g); ok {
			who.Groups = append(who.Groups, name)
		}
	}
	if exactGlob(at.pattern) {
		who.Namespace = at.pattern
	}
	granted, _ := a.s.RulesFor(&who)
	out := make([]Rule, 0, len(granted))
	for _, g := range granted {
		out = append(out, g.Rule)
	}
	return out
}

// carries reports whether grant g, at the sites and namespaces given, has every
// limit that p has.
func (g *Policy) carries(p *Policy, site string, at space, who *Request) bool {
	if !slices.ContainsFunc(p.Sites, func(outer string) bool { return globIncludes(outer, site) }) {
		return false
	}
	if len(p.Namespaces) > 0 && (at.pattern == "" || !slices.ContainsFunc(p.Namespaces, func(outer string) bool { return globIncludes(outer, at.pattern) })) {
		return false
	}
	if len(p.NamespaceLabels) > 0 && (at.pattern == "" || !inside(p.NamespaceLabels, at.labels, "")) {
		return false
	}
	if !inside(p.LabelSelector, g.LabelSelector, "") || !inside(p.FieldSelector, g.FieldSelector, "") {
		return false
	}
	begin := g.NotBefore
	if begin.Before(who.Time) {
		begin = who.Time
	}
	if begin.Before(p.NotBefore) || !p.NotAfter.IsZero() && (g.NotAfter.IsZero() || g.NotAfter.After(p.NotAfter)) {
		return false
	}
	return p.Condition == nil || sameCondition(p.Condition, g.Condition)
}

// sameCondition reports whether two conditions have the same text; one without
// a text is like no other.
func sameCondition(a, b Condition) bool {
	x, ok := a.(fmt.Stringer)
	if !ok {
		return false
	}
	y, ok := b.(fmt.Stringer)
	return ok && x.String() == y.String()
}

// denied returns the asked actions that a policy on the author could deny at
// one of the sites and namespaces.
func (a *author) denied(site string, at space, asked []Rule) []Rule {
	var out []Rule
	for id := range a.denies {
		p := *a.s.policies.at(id)
		if !slices.ContainsFunc(p.Sites, func(g string) bool { return globsMeet(g, site) }) || !touches(p.LabelSelector, a.g.LabelSelector, "") {
			continue
		}
		inSpace := a.touchesSpace(p, site, at)
		for _, d := range a.s.rulesOf(&p.Policy) {
			for i := range asked {
				if r, ok := meet(&asked[i], &d); ok && (inSpace || len(r.NonResourceURLs) > 0 && len(p.Namespaces)+len(p.NamespaceLabels) == 0) && a.picks(p, &r) {
					out = append(out, r)
				}
			}
		}
	}
	return out
}

// touchesSpace reports whether the policy is about one of the namespaces.
func (a *author) touchesSpace(p *policy, site string, at space) bool {
	if at.pattern == "" || len(p.Namespaces) == 0 && len(p.NamespaceLabels) == 0 {
		return true
	}
	if len(p.Namespaces) > 0 && !slices.ContainsFunc(p.Namespaces, func(g string) bool { return globsMeet(g, at.pattern) }) {
		return false
	}
	if exactGlob(at.pattern) && exactGlob(site) && len(p.NamespaceLabels) > 0 {
		who := Request{ResourceRequest: true, Namespace: at.pattern, Site: site}
		if site == ControlPlane {
			who.Site = ""
		}
		c := newQuery(a.s, &who)
		return c.inSpace(p, true)
	}
	return touches(p.NamespaceLabels, at.labels, "")
}

// picks reports whether the policy's field selector leaves any object of the
// rule.
func (a *author) picks(p *policy, r *Rule) bool {
	if len(r.ResourceNames) == 0 {
		return touches(p.FieldSelector, a.g.FieldSelector, "")
	}
	return slices.ContainsFunc(r.ResourceNames, func(n string) bool { return touches(p.FieldSelector, a.g.FieldSelector, n) })
}

// meet returns the actions that two rules have in common; it may return more,
// never less.
func meet(a, b *Rule) (Rule, bool) {
	var r Rule
	if r.Verbs = wordsMeet(a.Verbs, b.Verbs); len(r.Verbs) == 0 {
		return Rule{}, false
	}
	r.APIGroups = wordsMeet(a.APIGroups, b.APIGroups)
	for _, x := range a.Resources {
		for _, y := range b.Resources {
			switch {
			case y == Wildcard || x == y || suffixed(y, x):
				r.Resources = append(r.Resources, x)
			case x == Wildcard || suffixed(x, y):
				r.Resources = append(r.Resources, y)
			}
		}
	}
	if len(r.APIGroups) > 0 && len(r.Resources) > 0 {
		switch {
		case len(a.ResourceNames) == 0:
			r.ResourceNames = b.ResourceNames
			return r, true
		case len(b.ResourceNames) == 0:
			r.ResourceNames = a.ResourceNames
			return r, true
		}
		r.ResourceNames = slices.DeleteFunc(slices.Clone(a.ResourceNames), func(n string) bool { return !contains(b.ResourceNames, n) })
		if len(r.ResourceNames) > 0 {
			return r, true
		}
	}
	r = Rule{Verbs: r.Verbs}
	for _, x := range a.NonResourceURLs {
		for _, y := range b.NonResourceURLs {
			if globsMeet(x, y) {
				r.NonResourceURLs = append(r.NonResourceURLs, x)
				break
			}
		}
	}
	return r, len(r.NonResourceURLs) > 0
}

// suffixed reports whether resource is a subresource that "*/sub" includes.
func suffixed(pattern, resource string) bool {
	rest, ok := strings.CutPrefix(pattern, "*/")
	if !ok {
		return false
	}
	_, sub, ok := strings.Cut(resource, "/")
	return ok && sub == rest
}

func wordsMeet(a, b []string) []string {
	switch {
	case contains(b, Wildcard):
		return a
	case contains(a, Wildcard):
		return b
	}
	return slices.DeleteFunc(slices.Clone(a), func(w string) bool { return !contains(b, w) })
}

// globIncludes reports whether everything that inner matches is matched by
// outer. It may miss that, never claim it wrongly.
func globIncludes(outer, inner string) bool {
	if exactGlob(inner) {
		return globMatches(outer, inner)
	}
	prefix, rest, _ := strings.Cut(outer, Wildcard)
	before, _, _ := strings.Cut(inner, Wildcard)
	return outer == inner || !exactGlob(outer) && rest == "" && strings.HasPrefix(before, prefix)
}

// globsMeet reports whether something may be matched by both.
func globsMeet(a, b string) bool {
	switch {
	case exactGlob(a):
		return globMatches(b, a)
	case exactGlob(b):
		return globMatches(a, b)
	}
	x, _, _ := strings.Cut(a, Wildcard)
	y, _, _ := strings.Cut(b, Wildcard)
	return strings.HasPrefix(x, y) || strings.HasPrefix(y, x)
}
