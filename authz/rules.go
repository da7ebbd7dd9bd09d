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
		g := s.grant(e.binding, e.subject)
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

// held returns the grants of q's caller in q's namespace, each binding once,
// in the order of preference.
func (s *Snapshot) held(q *Request) []entry {
	if !s.answers(q) {
		return nil
	}
	ns := none
	if q.Namespace != "" {
		ns = s.findScope(q.Namespace)
	}
	c := query{s: s, q: q}
	var out []entry
	collect := func(e entry) bool {
		if c.usable(&e) {
			out = append(out, e)
		}
		return true
	}
	for from := 0; from <= len(q.Groups); from += callers {
		var ps [callers]*principal
		for _, p := range ps[:s.callers(q, from, &ps)] {
			s.grants(p, clusterScope, collect)
			if ns != none {
				s.grants(p, ns, collect)
			}
		}
	}
	slices.SortFunc(out, func(a, b entry) int {
		if (a.scope == clusterScope) != (b.scope == clusterScope) {
			if a.scope == clusterScope {
				return -1
			}
			return 1
		}
		if a.binding == b.binding {
			return int(a.subject) - int(b.subject)
		}
		return strings.Compare(s.bindings.at(a.binding).name, s.bindings.at(b.binding).name)
	})
	return slices.CompactFunc(out, func(a, b entry) bool { return a.binding == b.binding })
}
