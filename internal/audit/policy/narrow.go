package policy

import "slices"

// Narrow is a chain for requests that differ only in who asks and, when they
// are for no resource, in their path: the rules that cannot match are gone, so
// that asking costs next to nothing. It is immutable.
type Narrow struct {
	lists []narrowed // the base first
}

// narrowed are the rules of one policy that may match, in order.
type narrowed struct {
	rules []narrowRule
	none  Decision // without a match
}

type narrowRule struct {
	*Rule
	decision Decision
}

// Narrow returns the chain for requests like r, of which user, groups and path
// are left open.
func (c *Chain) Narrow(r Request) *Narrow {
	n := &Narrow{}
	for _, p := range append([]*Policy{c.base}, c.raise...) {
		n.lists = append(n.lists, p.narrow(r))
	}
	return n
}

func (p *Policy) narrow(r Request) narrowed {
	n := narrowed{none: p.none()}
	for i := range p.file.Rules {
		rule := &p.file.Rules[i]
		// What is left open is taken out of the rule to see whether the rest
		// matches.
		fixed := *rule
		fixed.Users, fixed.UserGroups = nil, nil
		paths := len(fixed.NonResourceURLs) > 0 && !r.Resource
		if paths {
			fixed.NonResourceURLs = nil
		}
		if !fixed.matches(&r) {
			continue
		}
		n.rules = append(n.rules, narrowRule{rule, p.decision(i)})
		if len(rule.Users) == 0 && len(rule.UserGroups) == 0 && !paths {
			break // it matches every such request
		}
	}
	return n
}

// Evaluate returns what [Chain.Evaluate] would. path is ignored for requests
// for a resource.
func (n *Narrow) Evaluate(hasUser bool, user string, groups []string, path string) Decision {
	d := n.lists[0].evaluate(hasUser, user, groups, path)
	for i := range n.lists[1:] {
		d = join(d, n.lists[1+i].evaluate(hasUser, user, groups, path))
	}
	return d
}

func (n *narrowed) evaluate(hasUser bool, user string, groups []string, path string) Decision {
	for i := range n.rules {
		r := &n.rules[i]
		if len(r.Users) > 0 && (!hasUser || !slices.Contains(r.Users, user)) {
			continue
		}
		if len(r.UserGroups) > 0 && (!hasUser || !slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(r.UserGroups, g) })) {
			continue
		}
		if len(r.NonResourceURLs) > 0 && !slices.ContainsFunc(r.NonResourceURLs, func(spec string) bool { return matchesPath(spec, path) }) {
			continue
		}
		return r.decision
	}
	return n.none
}
