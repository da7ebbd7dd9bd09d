// Package action takes rules apart into single actions, which can be compared,
// cut with one another and put together again.
//
// It owns that arithmetic: whether one action includes another, and what two
// have in common. It refuses to know who may do what. Wildcards stay what they
// are: an action with one stands for everything that it could mean. Start at
// [Of].
package action

import (
	"strings"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

// Action is one verb on one resource of one API group, or on one URL. Each may
// be a wildcard as in rules. Name is empty for objects of any name.
type Action struct {
	Verb, Group, Resource, Name string
	// URL is set, and Group, Resource and Name are not, for URLs.
	URL string
}

// Limit bounds the actions that rules are taken apart into.
const Limit = 20_000

// Of returns the actions of rules in their order; ok is false when there are
// more than [Limit], of which the first are returned.
func Of(rules []authz.Rule) (out []Action, ok bool) {
	for i := range rules {
		r := &rules[i]
		names := r.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, verb := range r.Verbs {
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					for _, name := range names {
						if len(out) == Limit {
							return out, false
						}
						out = append(out, Action{Verb: verb, Group: group, Resource: resource, Name: name})
					}
				}
			}
			for _, url := range r.NonResourceURLs {
				if len(out) == Limit {
					return out, false
				}
				out = append(out, Action{Verb: verb, URL: url})
			}
		}
	}
	return out, true
}

// All stands for every action on resources and for every action on URLs.
func All() []Action {
	return []Action{{Verb: authz.Wildcard, Group: authz.Wildcard, Resource: authz.Wildcard}, {Verb: authz.Wildcard, URL: authz.Wildcard}}
}

// Rule returns the action as a rule.
func (a Action) Rule() authz.Rule {
	r := authz.Rule{Verbs: []string{a.Verb}}
	if a.URL != "" {
		r.NonResourceURLs = []string{a.URL}
		return r
	}
	r.APIGroups, r.Resources = []string{a.Group}, []string{a.Resource}
	if a.Name != "" {
		r.ResourceNames = []string{a.Name}
	}
	return r
}

// Rules puts actions together again: what differs in its verb only becomes one
// rule.
func Rules(list []Action) []authz.Rule {
	var out []authz.Rule
	for _, a := range list {
		out = append(out, a.Rule())
	}
	return rbac.Compact(out)
}

// Includes reports whether everything that b means is meant by a.
func (a Action) Includes(b Action) bool {
	m, ok := Meet(a, b)
	return ok && m == b
}

// Meet returns what both actions mean; ok is false when that is nothing.
func Meet(a, b Action) (m Action, ok bool) {
	if (a.URL != "") != (b.URL != "") {
		return Action{}, false
	}
	if m.Verb, ok = word(a.Verb, b.Verb); !ok {
		return Action{}, false
	}
	if a.URL != "" {
		m.URL, ok = url(a.URL, b.URL)
		return m, ok
	}
	if m.Group, ok = word(a.Group, b.Group); !ok {
		return Action{}, false
	}
	if m.Resource, ok = resource(a.Resource, b.Resource); !ok {
		return Action{}, false
	}
	switch {
	case a.Name == "":
		m.Name = b.Name
	case b.Name == "" || a.Name == b.Name:
		m.Name = a.Name
	default:
		return Action{}, false
	}
	return m, true
}

func word(a, b string) (string, bool) {
	switch {
	case a == b || b == authz.Wildcard:
		return a, true
	case a == authz.Wildcard:
		return b, true
	}
	return "", false
}

// resource knows "*/scale", which means that subresource of everything.
func resource(a, b string) (string, bool) {
	if m, ok := word(a, b); ok {
		return m, true
	}
	if sub, ok := strings.CutPrefix(a, "*/"); ok && strings.HasSuffix(b, "/"+sub) {
		return b, true
	}
	if sub, ok := strings.CutPrefix(b, "*/"); ok && strings.HasSuffix(a, "/"+sub) {
		return a, true
	}
	return "", false
}

// url knows beginnings, which end in "*".
func url(a, b string) (string, bool) {
	begin, open := strings.CutSuffix(a, "*")
	other, also := strings.CutSuffix(b, "*")
	switch {
	case a == b:
		return a, true
	case open && strings.HasPrefix(other, begin):
		return b, true
	case also && strings.HasPrefix(begin, other):
		return a, true
	}
	return "", false
}
