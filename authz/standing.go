package authz

import (
	"slices"
	"strings"
)

// Standing is everything said of one caller in one namespace, in the order in
// which [Snapshot.Decide] asks: the bans, what is denied, what bindings grant,
// what else is allowed. Lists are in the order of names; grants in that of
// [Snapshot.RulesFor].
type Standing struct {
	Bans    []Ban
	Denies  []PolicyRules
	Granted []GrantedRule
	Missing []Grant // whose role does not exist
	Allows  []PolicyRules
	// Handed are the delegations to the caller, whether or not their givers
	// still hold what they gave.
	Handed []DelegatedRules
}

// DelegatedRules is a delegation with all its rules spelt out. What it gives of
// them is what its giver holds.
type DelegatedRules struct {
	Delegation Delegation
	Rules      []Rule
	Missing    []string // roles it names that do not exist
}

// PolicyRules is an access policy with all its rules spelt out. Its selectors
// and its condition, where it has them, limit it further: they are for single
// questions to meet. The lists of Policy are the engine's and must not be
// changed.
type PolicyRules struct {
	Policy  Policy
	Rules   []Rule   // its own, then those of its roles
	Missing []string // roles it names that do not exist
}

// StandingOf returns what is said of the caller of q in q's namespace at q's
// time; an empty namespace asks for what is allowed everywhere and denied
// anywhere. Of q only User, Groups, CredentialID, Origins, Namespace, Site and
// Time are read.
func (s *Snapshot) StandingOf(q *Request) Standing {
	var out Standing
	if q.Site == ControlPlane {
		return out
	}
	who := Request{User: q.User, Groups: q.Groups, CredentialID: q.CredentialID, Origins: q.Origins, Namespace: q.Namespace, Site: q.Site, Time: q.Time, ResourceRequest: true}
	c := newQuery(s, &who)
	hits := c.findKeys(nil)
	bans, denies, allows, handed := map[uint32]bool{}, map[uint32]bool{}, map[uint32]bool{}, map[uint32]bool{}
	for _, hit := range hits {
		k := s.keys.at(hit.key)
		holds := func(id uint32) bool {
			p := *s.policies.at(id)
			return c.appliesTo(p, k, hit.name) && c.atSite(p, k) && c.inPeriod(p) && (p.ban != nil || c.inSpace(p, p.Effect == Deny))
		}
		for _, id := range k.bans {
			if holds(id) {
				bans[id] = true
			}
		}
		k.denies.all(func(e policyEntry) bool {
			if !denies[e.policy] && holds(e.policy) {
				denies[e.policy] = true
			}
			return true
		})
		k.allows.all(func(e policyEntry) bool {
			if !allows[e.policy] && holds(e.policy) {
				allows[e.policy] = true
			}
			return true
		})
		k.handed.all(func(e policyEntry) bool {
			if !handed[e.policy] && holds(e.policy) {
				handed[e.policy] = true
			}
			return true
		})
	}
	for _, p := range s.byName(bans) {
		out.Bans = append(out.Bans, *p.ban)
	}
	out.Denies, out.Allows = s.spellOut(denies), s.spellOut(allows)
	rules := s.spellOut(handed)
	for i, p := range s.byName(handed) {
		out.Handed = append(out.Handed, DelegatedRules{p.delegation.Delegation, rules[i].Rules, rules[i].Missing})
	}
	out.Granted, out.Missing = s.RulesFor(&who)
	return out
}

func (s *Snapshot) byName(ids map[uint32]bool) []*policy {
	out := make([]*policy, 0, len(ids))
	for id := range ids {
		out = append(out, *s.policies.at(id))
	}
	slices.SortFunc(out, func(a, b *policy) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (s *Snapshot) spellOut(ids map[uint32]bool) []PolicyRules {
	var out []PolicyRules
	for _, p := range s.byName(ids) {
		x := PolicyRules{Policy: p.Policy, Rules: slices.Clip(p.Policy.Rules)}
		for i, r := range p.roles {
			rs := s.roles.at(r).rules
			if rs == nil {
				x.Missing = append(x.Missing, p.Roles[i])
				continue
			}
			for j := range rs.rules {
				x.Rules = append(x.Rules, s.rule(rs, j))
			}
		}
		out = append(out, x)
	}
	return out
}

// Refusal is a ban or a denying policy; one of the two is nil. Their lists are
// the engine's and must not be changed.
type Refusal struct {
	Ban    *Ban
	Policy *Policy
}

// Policies returns the allowing policies that the question meets but for its
// caller, in the order of names: their subjects may do what was asked, where
// the condition, if there is one, holds for them too.
func (h *Holders) Policies() []Policy {
	var out []Policy
	for _, p := range h.matching(Allow) {
		out = append(out, p.Policy)
	}
	return out
}

// Refusals returns the bans in force at the site and time of the question, and
// then the denying policies that the question could touch, each in the order of
// names. Whom they name may not do what was asked, whatever grants it.
func (h *Holders) Refusals() []Refusal {
	var out []Refusal
	for _, p := range h.matching(Deny) {
		if p.ban != nil {
			out = append(out, Refusal{Ban: p.ban})
		} else {
			out = append(out, Refusal{Policy: &p.Policy})
		}
	}
	return out
}

// Refused returns the refusal of a holder that Decide would name when the
// holder, a member of the given groups, asked; ok is false when there is none.
func (h *Holders) Refused(subject Subject, groups []string) (r Refusal, ok bool) {
	q := h.q
	q.User, q.Groups, q.CredentialID, q.Origins = subject.Name, groups, "", nil
	switch subject.Kind {
	case Group:
		q.User, q.Groups = "", append([]string{subject.Name}, groups...)
	case ServiceAccount:
		q.User = string(appendServiceAccount(nil, &subject, ""))
		if q.Site != "" {
			q.User = sitePrefix + q.User
		}
	}
	d := h.s.Decide(&q)
	if d.Effect() != Deny {
		return Refusal{}, false
	}
	if b, is := d.Ban(); is {
		return Refusal{Ban: &b}, true
	}
	p, _ := d.Policy()
	return Refusal{Policy: &p}, true
}

// matching returns the policies of one effect that the question meets whoever
// asks, bans first. It looks at every policy.
func (h *Holders) matching(effect Effect) []*policy {
	c := newQuery(h.s, &h.q)
	deny := effect == Deny
	var out []*policy
	for id := range h.s.policies.n {
		p := *h.s.policies.at(id)
		if p == nil || p.delegation != nil || p.Effect != effect || !c.inPeriod(p) || !c.siteAmong(p) {
			continue
		}
		if p.ban != nil || c.action(p, deny) && c.inSpace(p, deny) && c.selects(p, deny) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *policy) int {
		if (a.ban != nil) != (b.ban != nil) {
			if a.ban != nil {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

// siteAmong reports whether the policy is for the site that asks, for any of
// its subjects.
func (c *query) siteAmong(p *policy) bool {
	site := c.q.Site
	if site == "" {
		site = ControlPlane
	}
	return anyGlob(p.Sites, site)
}
