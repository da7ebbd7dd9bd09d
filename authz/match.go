package authz

import "strings"

// Allows reports whether the rule permits the request's action. It does not
// look at the caller, the namespace or the site.
//
// It is the definition that the compiled index must agree with; use
// [Snapshot.Decide] to decide.
func (r *Rule) Allows(q *Request) bool {
	if !listed(r.Verbs, q.Verb) {
		return false
	}
	if !q.ResourceRequest {
		for _, u := range r.NonResourceURLs {
			if urlMatches(u, q.Path) {
				return true
			}
		}
		return false
	}
	return listed(r.APIGroups, q.APIGroup) && r.hasResource(q) && (len(r.ResourceNames) == 0 || contains(r.ResourceNames, q.Name))
}

func (r *Rule) hasResource(q *Request) bool {
	for _, have := range r.Resources {
		if have == Wildcard || joined(have, q.Resource, q.Subresource) {
			return true
		}
		if q.Subresource != "" && len(have) == len(q.Subresource)+2 && have[:2] == "*/" && have[2:] == q.Subresource {
			return true
		}
	}
	return false
}

// joined reports have == resource, or resource + "/" + sub where there is a
// subresource, without building the string.
func joined(have, resource, sub string) bool {
	if sub == "" {
		return have == resource
	}
	n := len(resource)
	return len(have) == n+1+len(sub) && have[:n] == resource && have[n] == '/' && have[n+1:] == sub
}

// urlMatches reports whether the rule's URL, exact or a prefix ending in "*",
// includes path. Stars elsewhere are literal.
func urlMatches(url, path string) bool {
	return url == path || strings.HasSuffix(url, Wildcard) && strings.HasPrefix(path, strings.TrimRight(url, Wildcard))
}

func listed(set []string, want string) bool {
	for _, s := range set {
		if s == Wildcard || s == want {
			return true
		}
	}
	return false
}

func contains(set []string, want string) bool {
	for _, s := range set {
		if s == want {
			return true
		}
	}
	return false
}
