package authz

import (
	"slices"
	"strings"
)

// GrantedRule is one rule a caller holds and the grant that gives it.
type GrantedRule struct {
	Rule  Rule
	Index int // position of the rule in its role
	Grant Grant
}

// RulesFor returns every rule that the caller of q holds in q's namespace, in
// the order in which [Snapshot.Decide] prefers them; an empty namespace asks
// for what holds everywhere. Of q only User, Groups, Namespace and Site are
// read. missing lists the grants whose role does not exist. Lists that a rule
// leaves empty are nil.
func (s *Snapshot) RulesFor(q *Request) (rules []GrantedRule, missing []Grant) {
	for _, e := range s.held(q) {
		g := s.grant(e.binding, uint32(e.subject))
		rs := s.roles.at(e.role).rules
		if rs == nil {
			missing = append(missing, g)
			continue
		}
		for i := range rs.rules {
			rules = append(rules, GrantedRule{s.rule(rs, i), i, g})
		}
	}
	return rules, missing
}

// heldGrant is a grant and which of the caller's names it is for.
type heldGrant struct {
	entry
	subject int // position among the binding's subjects
}

// held returns the grants of q's caller in q's namespace, each binding once,
// in the order of preference.
func (s *Snapshot) held(q *Request) []heldGrant {
	if !s.answers(q) {
		return nil
	}
	ns := none
	if q.Namespace != "" {
		ns = s.findScope(q.Namespace)
	}
	c := query{s: s, q: q}
	var out []heldGrant
	for from := 0; from <= len(q.Groups); from += callers {
		var known callerSet
		c.callers(from, &known)
		for i := range known.n {
			collect := func(e entry) bool {
				if c.usable(&e) {
					out = append(out, heldGrant{e, s.bindings.at(e.binding).position(known.ids[i])})
				}
				return true
			}
			s.grants(known.records[i], clusterScope, collect)
			if ns != none {
				s.grants(known.records[i], ns, collect)
			}
		}
	}
	slices.SortFunc(out, func(a, b heldGrant) int {
		if (a.scope == clusterScope) != (b.scope == clusterScope) {
			if a.scope == clusterScope {
				return -1
			}
			return 1
		}
		if a.binding == b.binding {
			return a.subject - b.subject
		}
		return strings.Compare(s.bindings.at(a.binding).name, s.bindings.at(b.binding).name)
	})
	return slices.CompactFunc(out, func(a, b heldGrant) bool { return a.binding == b.binding })
}
