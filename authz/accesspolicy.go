package authz

import (
	"strings"
	"time"
)

// ControlPlane is the site name by which policies and bans mean the control
// plane itself.
const ControlPlane = "gatehouse"

// Condition is a compiled expression over a request. It must be safe for
// concurrent use, bounded in time, and the same for the same request.
type Condition interface {
	// Holds evaluates the condition. On an error a denying policy denies and
	// an allowing policy grants nothing.
	Holds(q *Request) (bool, error)
	// ReadsObject reports whether the outcome may depend on the object of the
	// request. Such a condition is not evaluated without one; see
	// Request.ObjectLater.
	ReadsObject() bool
}

// NameMatch is how the name of a [PolicySubject] is compared.
type NameMatch uint8

// The ways to compare names. In a glob "*" stands for any run of characters
// and nothing else is special.
const (
	Exact NameMatch = iota
	Prefix
	Glob
)

// PolicySubject is one subject of a [Policy] or [Ban].
type PolicySubject struct {
	Subject
	Match NameMatch
	// SitesOwn makes the name one of the site that asks, not of the control
	// plane: it matches names that begin with "system:" as the site sent them,
	// in policies that name the site exactly. Without it such names of a site
	// match nothing, and "gatehouse:system:serviceaccount:…" stands for the
	// control plane's service account.
	SitesOwn bool
	// NamespaceLabels chooses service accounts by the labels of the namespace
	// they are in, such as the label of its domain, in place of
	// Subject.Namespace; an empty Name is then every one. The namespace is the
	// control plane's or, with SitesOwn, the site's. Of a namespace that is not
	// known, an allowing policy matches none and a denying one all.
	NamespaceLabels []Requirement
}

// Policy allows or denies beyond what RBAC can say. Each limit that is not
// empty narrows it. An allowing policy answers when the request lies wholly
// inside it, a denying one when the request could touch it: a list over all
// namespaces touches a policy for one of them, a request without selector
// touches one for some labels, a request without name touches one for some
// names.
type Policy struct {
	Name     string
	Effect   Effect // Allow or Deny; a policy with another effect does nothing
	Subjects []PolicySubject
	// Rules and the rules of the cluster roles named by Roles are what is
	// allowed or denied. A role that does not exist adds nothing.
	Rules []Rule
	Roles []string
	// Sites are globs of site names; [ControlPlane] is the control plane. An
	// empty list matches no question.
	Sites []string
	// Namespaces are globs of names. A policy with Namespaces or
	// NamespaceLabels is for requests inside such namespaces; with both, a
	// namespace must meet both.
	Namespaces      []string
	NamespaceLabels []Requirement
	// LabelSelector and FieldSelector limit the objects.
	LabelSelector, FieldSelector []Requirement
	// NotBefore and NotAfter limit the time; the policy holds from NotBefore
	// until just before NotAfter. Zero is no limit.
	NotBefore, NotAfter time.Time
	Condition           Condition
	// Message is for whoever is refused by the policy.
	Message string
}

// Ban refuses a subject or a credential everything, whatever else allows.
type Ban struct {
	Name string
	// Subjects and CredentialIDs are who is banned: any one is enough.
	Subjects      []PolicySubject
	CredentialIDs []string
	// KeepsMade leaves alone what was made with one of the credentials; see
	// [Request].Origins.
	KeepsMade bool
	// Sites are globs as in [Policy].
	Sites []string
	// NotAfter ends the ban; zero is never. With an unknown request time the
	// ban holds.
	NotAfter time.Time
	Reason   string
}

// globMatches reports whether the glob matches all of s, in time linear in
// their lengths for each star.
func globMatches(glob, s string) bool {
	first, rest, star := strings.Cut(glob, "*")
	if !star {
		return glob == s
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], after
	}
}

func anyGlob(globs []string, s string) bool {
	for _, g := range globs {
		if globMatches(g, s) {
			return true
		}
	}
	return false
}
