package authz

import (
	"slices"
	"strings"
)

// Lack is one thing that keeps a rule from allowing a request.
type Lack uint8

// What a rule or policy may lack, in the order of a decision.
const (
	LacksVerb      Lack = iota + 1
	LacksGroup          // the API group
	LacksResource       // the resource or subresource
	LacksName           // the rule is for other object names
	LacksPath           // the rule is for other URLs
	LacksNamespace      // the grant is for another namespace
	LacksSite
	LacksPeriod
	LacksSelector  // the request picks more objects than the policy allows
	LacksCondition // the condition does not hold, or could not be evaluated
	LacksSubject   // the grant is for others than the caller
)

var lackNames = [...]string{"", "verb", "apiGroup", "resource", "resourceName", "path", "namespace", "site", "period", "selector", "condition", "subject"}

// String names what is lacking: "verb", "apiGroup", "resource",
// "resourceName", "path", "namespace", "site", "period", "selector",
// "condition" or "subject".
func (l Lack) String() string {
	if int(l) < len(lackNames) {
		return lackNames[l]
	}
	return "unknown"
}

// NearMiss is a rule that would allow the request, were it not for what it
// lacks. Grant or Policy says where the rule is; the other is nil.
type NearMiss struct {
	Grant  *Grant
	Policy *Policy
	Rule   Rule
	Lacks  []Lack
}

const (
	// nearMisses is how many rules an explanation holds.
	nearMisses = 8
	// nearSearch bounds the grants looked at for each part of an explanation.
	nearSearch = 10_000
)

// WhyNot returns the rules nearest to allowing q, those that lack least first:
// rules of the caller's own grants, here and in other namespaces, rules of
// policies for the caller, and grants that allow it to others. Among equals
// the order is that of the decision. It is empty for a request that is allowed
// or denied: the decision itself says why.
func (s *Snapshot) WhyNot(q *Request) []NearMiss {
	if q.Site == ControlPlane || s.Decide(q).Effect() != NoOpinion {
		return nil
	}
	c := newQuery(s, q)
	var near []NearMiss
	keep := func(m NearMiss) {
		i, _ := slices.BinarySearchFunc(near, len(m.Lacks)+1, func(x NearMiss, n int) int { return len(x.Lacks) - n })
		if i < nearMisses {
			near = slices.Insert(near, i, m)
			near = near[:min(len(near), nearMisses)]
		}
	}
	for _, e := range s.held(q) {
		g := s.grant(e.binding, uint32(e.subject))
		c.nearRules(s.roles.at(e.role).rules, nil, func(r Rule, lacks []Lack) {
			keep(NearMiss{Grant: &g, Rule: r, Lacks: lacks})
		})
	}
	c.nearElsewhere(keep)
	c.nearPolicies(keep)
	if q.Namespace != "" || len(near) < nearMisses {
		c.nearOthers(keep)
	}
	return near
}

// nearRules visits the rules with what each lacks, beyond what is lacking
// already.
func (c *query) nearRules(rs *ruleset, lacking []Lack, visit func(Rule, []Lack)) {
	if rs == nil {
		return
	}
	for i := range rs.rules {
		r := c.s.rule(rs, i)
		if lacks, ok := r.lacks(c.q); ok {
			visit(r, append(lacks, lacking...))
		}
	}
}

// lacks returns what the rule lacks; ok is false for a rule of the other kind.
func (r *Rule) lacks(q *Request) (lacks []Lack, ok bool) {
	if !listed(r.Verbs, q.Verb) {
		lacks = append(lacks, LacksVerb)
	}
	if !q.ResourceRequest {
		if len(r.NonResourceURLs) == 0 {
			return nil, false
		}
		if !slices.ContainsFunc(r.NonResourceURLs, func(u string) bool { return urlMatches(u, q.Path) }) {
			lacks = append(lacks, LacksPath)
		}
		return lacks, true
	}
	if len(r.Resources) == 0 {
		return nil, false
	}
	if !listed(r.APIGroups, q.APIGroup) {
		lacks = append(lacks, LacksGroup)
	}
	if !r.hasResource(q) {
		lacks = append(lacks, LacksResource)
	}
	if len(r.ResourceNames) > 0 && !contains(r.ResourceNames, q.Name) {
		lacks = append(lacks, LacksName)
	}
	return lacks, true
}

// nearElsewhere visits grants of the caller in other namespaces that would
// allow the request there.
func (c *query) nearElsewhere(keep func(NearMiss)) {
	s := c.s
	if !s.answers(c.q) {
		return
	}
	left := nearSearch
	for from := 0; from <= len(c.q.Groups); from += callers {
		var known callerSet
		c.callers(from, &known)
		for i := range known.n {
			try := func(e entry) bool {
				left--
				if s.scopes.at(e.scope).name == c.q.Namespace || e.scope == clusterScope || !c.usable(&e) {
					return left > 0
				}
				if rule, ok := c.permits(e.role); ok {
					g := s.grantTo(e.binding, known.ids[i])
					keep(NearMiss{Grant: &g, Rule: s.rule(s.roles.at(e.role).rules, int(rule)), Lacks: []Lack{LacksNamespace}})
				}
				return left > 0
			}
			known.records[i].every(func(e entry) bool {
				if e.role == wideRole {
					s.wides.at(e.binding).byName.all(try)
					return left > 0
				}
				return try(e)
			})
		}
	}
}

// every visits the entries of all scopes.
func (p *principal) every(visit func(entry) bool) {
	if p.tree != nil {
		p.tree.all(visit)
		return
	}
	for _, e := range p.entries {
		if !visit(e) {
			return
		}
	}
}

// nearPolicies visits the allowing policies for the caller.
func (c *query) nearPolicies(keep func(NearMiss)) {
	left := nearSearch
	seen := map[uint32]bool{}
	for _, hit := range c.findKeys(nil) {
		k := c.s.keys.at(hit.key)
		k.allows.all(func(e policyEntry) bool {
			p := *c.s.policies.at(e.policy)
			if left--; seen[e.policy] || !c.appliesTo(p, k, hit.name) {
				return left > 0
			}
			seen[e.policy] = true
			lacking := c.policyLacks(p, k)
			visit := func(r Rule, lacks []Lack) { keep(NearMiss{Policy: &p.Policy, Rule: r, Lacks: lacks}) }
			c.nearRules(p.rules, lacking, visit)
			for _, r := range p.roles {
				c.nearRules(c.s.roles.at(r).rules, lacking, visit)
			}
			return left > 0
		})
	}
}

// policyLacks returns what an allowing policy lacks beyond its rules.
func (c *query) policyLacks(p *policy, k *policyKey) (lacks []Lack) {
	if !c.inSpace(p, false) {
		lacks = append(lacks, LacksNamespace)
	}
	if !c.atSite(p, k) {
		lacks = append(lacks, LacksSite)
	}
	if !c.inPeriod(p) {
		lacks = append(lacks, LacksPeriod)
	}
	if !c.selects(p, false) {
		lacks = append(lacks, LacksSelector)
	}
	if p.Condition != nil && !c.holds(p, false) {
		lacks = append(lacks, LacksCondition)
	}
	return lacks
}

// nearOthers visits grants that allow the request to others than the caller,
// one for each role and in the order of roles' names.
func (c *query) nearOthers(keep func(NearMiss)) {
	holders := c.s.WhoCan(c.q)
	first := map[uint32]holder{}
	for _, h := range holders.list[:min(len(holders.list), nearSearch)] {
		b := c.s.bindings.at(h.binding)
		x, ok := first[b.role]
		if !ok || b.name < c.s.bindings.at(x.binding).name {
			first[b.role] = h
		}
	}
	list := make([]holder, 0, len(first))
	for _, h := range first {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b holder) int {
		return strings.Compare(c.s.bindings.at(a.binding).name, c.s.bindings.at(b.binding).name)
	})
	for _, h := range list[:min(len(list), nearMisses)] {
		g := c.s.grant(h.binding, h.subject)
		rs := c.s.roles.at(c.s.bindings.at(h.binding).role).rules
		rule, ok := rs.match(c)
		lacks := []Lack{LacksSubject}
		if !ok { // limited to object names, and the request has none
			continue
		}
		keep(NearMiss{Grant: &g, Rule: c.s.rule(rs, int(rule)), Lacks: lacks})
	}
}
