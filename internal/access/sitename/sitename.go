// Package sitename translates the names of subjects between the control plane
// and a site, so that no name can cross over and mean somebody else.
//
// A site is a platform of its own: it has its own service accounts, nodes and
// privileged groups, and it says of itself who is asking. Three rules follow
// from the section "Trust" of the design:
//
//   - [Outgoing] is applied to whatever a site is told about a caller.
//     Service accounts of the control plane and their groups carry [Prefix]
//     there; of the other names that begin with "system:" only the group
//     system:authenticated is ever told.
//   - [Incoming] is applied to whatever a site asks. Only names that
//     Outgoing could have produced are read as subjects of the control plane.
//   - Every other "system:" name in a question is the site's own, and no
//     grant of the control plane may match it.
//
// The package refuses to repair: a name that is not exactly in the form that
// Outgoing produces is foreign, however close it looks.
package sitename

import (
	"errors"
	"strings"
)

const (
	// Prefix marks a service account of the control plane, and its groups,
	// wherever a site sees them.
	Prefix = "gatehouse:"

	// Authenticated is the one reserved group that crosses over in both
	// directions: every site puts its callers into it anyway.
	Authenticated = "system:authenticated"

	// SitesGroup is the group of every site, and SiteUserPrefix begins the
	// user name of each. A certificate of the site CA gives them; nothing
	// else does.
	SitesGroup     = "system:sites"
	SiteUserPrefix = "system:site:"

	// SourcesGroup and SourceUserPrefix are the same for the sources of the
	// record that have certificates of their own.
	SourcesGroup     = "system:audit-sources"
	SourceUserPrefix = "system:audit-source:"

	reserved           = "system:"
	serviceAccountUser = "system:serviceaccount:"
	serviceAccounts    = "system:serviceaccounts"
)

// ErrWithheld says that a caller has no name that a site may be told.
var ErrWithheld = errors.New("this identity has no name outside the control plane")

// Caller is a subject by the names that one side uses for it.
type Caller struct {
	User   string
	Groups []string
}

// Outgoing returns the names by which a site may know a caller of the control
// plane. It fails with [ErrWithheld] for the empty name, for system: users
// other than service accounts, and for names that already begin with Prefix:
// at the site those would be mistaken for a service account.
//
// The result shares no memory with groups.
func Outgoing(user string, groups []string) (Caller, error) {
	namespace, isServiceAccount := serviceAccountNamespace(user)
	switch {
	case user == "":
		return Caller{}, ErrWithheld
	case isServiceAccount:
		user = Prefix + user
	case strings.HasPrefix(user, reserved), strings.HasPrefix(user, Prefix):
		return Caller{}, ErrWithheld
	}
	out := Caller{User: user}
	for _, group := range groups {
		switch {
		case ordinaryGroup(group):
			out.Groups = append(out.Groups, group)
		case isServiceAccount && isGroupOf(group, namespace):
			out.Groups = append(out.Groups, Prefix+group)
		}
	}
	return out, nil
}

// Incoming reads the subject of a site's question. known is false when the
// user is the site's own system: user or carries a prefix that Outgoing never
// gives; the returned caller is then empty, because none of its groups may
// count either.
//
// A question may name groups and no user, as a SubjectAccessReview does; the
// groups are then filtered alone. Groups of service accounts count only
// beside a service account of the same namespace: Outgoing never tells them
// of anybody else, so elsewhere they are forged.
//
// When every group passes unchanged the result shares groups, so that the
// usual question costs no allocation. The caller must not write to it.
func Incoming(user string, groups []string) (caller Caller, known bool) {
	namespace, mapped := "", false
	switch {
	case strings.HasPrefix(user, Prefix):
		user = user[len(Prefix):]
		if namespace, mapped = serviceAccountNamespace(user); !mapped {
			return Caller{}, false
		}
	case strings.HasPrefix(user, reserved):
		return Caller{}, false
	}
	for i, group := range groups {
		if ordinaryGroup(group) {
			continue
		}
		return Caller{User: user, Groups: filter(groups, i, namespace, mapped)}, true
	}
	return Caller{User: user, Groups: groups}, true
}

// filter copies groups, of which the first ordinary ones are known to pass.
func filter(groups []string, ordinary int, namespace string, mapped bool) []string {
	out := make([]string, 0, len(groups))
	out = append(out, groups[:ordinary]...)
	for _, group := range groups[ordinary:] {
		if ordinaryGroup(group) {
			out = append(out, group)
			continue
		}
		inner, prefixed := strings.CutPrefix(group, Prefix)
		if prefixed && mapped && isGroupOf(inner, namespace) {
			out = append(out, inner)
		}
	}
	return out
}

// Forged reports whether a group of a site's question carries Prefix and is not
// what Outgoing tells of exactly this user.
func Forged(user, group string) bool {
	inner, prefixed := strings.CutPrefix(group, Prefix)
	if !prefixed {
		return false
	}
	name, prefixed := strings.CutPrefix(user, Prefix)
	namespace, ok := serviceAccountNamespace(name)
	return !prefixed || !ok || !isGroupOf(inner, namespace)
}

// Reserved reports whether a user or group name belongs to a site, or to a
// source of the record at one, and may therefore be given by the site CA only:
// no signer, identity provider, claim mapping or impersonation yields it.
func Reserved(name string) bool {
	return name == SitesGroup || strings.HasPrefix(name, SiteUserPrefix) ||
		name == SourcesGroup || strings.HasPrefix(name, SourceUserPrefix)
}

// IsServiceAccount reports whether a user name is that of a service account:
// system:serviceaccount:NAMESPACE:NAME with names that the API accepts.
func IsServiceAccount(user string) bool {
	_, ok := serviceAccountNamespace(user)
	return ok
}

func ordinaryGroup(group string) bool {
	return group == Authenticated ||
		group != "" && !strings.HasPrefix(group, reserved) && !strings.HasPrefix(group, Prefix)
}

func isGroupOf(group, namespace string) bool {
	rest, ok := strings.CutPrefix(group, serviceAccounts)
	return ok && (rest == "" || rest[0] == ':' && rest[1:] == namespace)
}

// serviceAccountNamespace returns the namespace of a service account's user
// name, and false for any other name. The grammar is that of the API: a DNS
// label, a colon, a DNS subdomain.
func serviceAccountNamespace(user string) (string, bool) {
	rest, ok := strings.CutPrefix(user, serviceAccountUser)
	if !ok {
		return "", false
	}
	namespace, name, ok := strings.Cut(rest, ":")
	if !ok || len(name) > 253 || !isLabel(namespace) {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if !isSubdomainPart(label) {
			return "", false
		}
	}
	return namespace, true
}

func isLabel(s string) bool { return len(s) <= 63 && isSubdomainPart(s) }

// isSubdomainPart leaves the length of a part open, as RFC 1123 subdomains in
// the API do.
func isSubdomainPart(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
