package authz

import "strings"

// Covers reports whether every action in asked is also in owner: the check
// that keeps authors of roles and bindings from granting what they do not
// hold. missing lists the uncovered actions one by one (one verb, one group,
// one resource, at most one name; or one verb and one URL), in the order of
// asked.
//
// Each single action must lie inside one rule of owner. As upstream, a
// wildcard is covered by the same wildcard only, never by an enumeration, and
// a resource rule without API groups or without verbs asks for nothing.
func Covers(owner, asked []Rule) (ok bool, missing []Rule) {
	for i := range asked {
		missing = uncovered(missing, owner, &asked[i])
	}
	return len(missing) == 0, missing
}

func uncovered(missing, owner []Rule, r *Rule) []Rule {
	names := r.ResourceNames
	anyName := len(names) == 0
	if anyName {
		names = []string{""}
	}
	for _, group := range r.APIGroups {
		for _, resource := range r.Resources {
			for _, verb := range r.Verbs {
				for _, name := range names {
					if coversResource(owner, verb, group, resource, name, anyName) {
						continue
					}
					m := Rule{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{resource}}
					if !anyName {
						m.ResourceNames = []string{name}
					}
					missing = append(missing, m)
				}
			}
		}
	}
	for _, url := range r.NonResourceURLs {
		for _, verb := range r.Verbs {
			if !coversURL(owner, verb, url) {
				missing = append(missing, Rule{Verbs: []string{verb}, NonResourceURLs: []string{url}})
			}
		}
	}
	return missing
}

func coversResource(owner []Rule, verb, group, resource, name string, anyName bool) bool {
	for i := range owner {
		o := &owner[i]
		if !listed(o.Verbs, verb) || !listed(o.APIGroups, group) {
			continue
		}
		if len(o.ResourceNames) > 0 && (anyName || !contains(o.ResourceNames, name)) {
			continue
		}
		if listed(o.Resources, resource) {
			return true
		}
		if _, sub, ok := strings.Cut(resource, "/"); ok {
			for _, have := range o.Resources {
				if rest, ok := strings.CutPrefix(have, "*/"); ok && rest == sub {
					return true
				}
			}
		}
	}
	return false
}

func coversURL(owner []Rule, verb, url string) bool {
	for i := range owner {
		o := &owner[i]
		// A rule limited to names covers no URL: upstream compares the names
		// of both halves alike.
		if len(o.ResourceNames) > 0 || !listed(o.Verbs, verb) {
			continue
		}
		for _, have := range o.NonResourceURLs {
			if urlMatches(have, url) {
				return true
			}
		}
	}
	return false
}
