// Package question answers what administrators and programs ask about policy
// beyond a single decision: many decisions at once, who may do something, what
// somebody may do, why and why not, who would gain or lose what by a change,
// and which objects and actions a subject may reach.
//
// It owns the search for candidates and the form of the answers. It refuses to
// decide: every candidate is put to [access.Authorizer], so that no answer can
// differ from the decision that the same question gets at any other door. It
// does not check whether the caller may ask. Start at [Asker]: whocan.go,
// whatcan.go, explain.go and impact.go each answer one question.
package question

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/held"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

// Asker answers questions. It is safe for concurrent use.
type Asker struct {
	Access *access.Authorizer
	Policy *access.Policy
	// Policies are the access policies, for candidates beyond RBAC.
	Policies *Policies
	// Accounts are the service accounts, the members of their groups. Nil
	// means that they are not known.
	Accounts *Accounts
	// ClusterRoles and Namespaces are what impact needs of the objects beyond
	// the compiled policy. Only [Asker.Impact] reads them.
	ClusterRoles *held.Objects[*rbacv1.ClusterRole]
	Namespaces   *held.Objects[*corev1.Namespace]
}

// Reach is what policy says about one type of resource: the names and the
// verbs that any rule mentions.
type Reach struct {
	Names, Verbs []string
}

// Mentioned collects the names and verbs by which rules mention a resource,
// written as in rules, of a group, and the names that their conditions spell
// out. Names outside of policy are not known here.
func (a Asker) Mentioned(group, resource string) Reach {
	names, verbs := map[string]bool{}, map[string]bool{}
	visit := func(rule authz.Rule) {
		// A rule for everything mentions this too.
		if !rule.Covers(group, resource) {
			return
		}
		for _, verb := range rule.Verbs {
			if verb != authz.Wildcard {
				verbs[verb] = true
			}
		}
		for _, name := range rule.ResourceNames {
			names[name] = true
		}
	}
	a.Policy.EachRule(func(_ string, rule authz.Rule) { visit(rule) })
	for _, policy := range allowing(a.Policies) {
		for _, rule := range rbac.Rules(policy.Spec.Rules) {
			visit(rule)
		}
	}
	for _, name := range a.mentionedIn(group, resource) {
		names[name] = true
	}
	return Reach{Names: slices.Sorted(maps.Keys(names)), Verbs: slices.Sorted(maps.Keys(verbs))}
}

// Allowing returns the names of the policies that allow something to subject
// by its user name, by a group, or by the domain of its service account's
// namespace, which is not looked up: those are named if they might.
func (a Asker) Allowing(subject access.Subject) []string {
	account, isAccount := strings.CutPrefix(subject.Name, "system:serviceaccount:")
	namespace, name, _ := strings.Cut(account, ":")
	matches := func(s *accessv1alpha1.Subject) bool {
		names := []string{subject.Name}
		switch s.Kind {
		case accessv1alpha1.SubjectGroup:
			names = subject.Groups
		case accessv1alpha1.SubjectServiceAccount:
			if !isAccount || s.Namespace != "" && s.Namespace != namespace {
				return false
			}
			names = []string{name}
		case accessv1alpha1.SubjectSite:
			return false
		}
		return s.Domain != "" && isAccount || slices.ContainsFunc(names, func(n string) bool {
			return s.Name != "" && n == s.Name || s.NamePrefix != "" && strings.HasPrefix(n, s.NamePrefix)
		})
	}
	var out []string
	for _, policy := range allowing(a.Policies) {
		for i := range policy.Spec.Subjects {
			if matches(&policy.Spec.Subjects[i]) {
				out = append(out, policy.Name)
				break
			}
		}
	}
	return out
}

// Resource is a resource as rules write it.
func Resource(q *authz.Request) string {
	return strings.TrimSuffix(q.Resource+"/"+q.Subresource, "/")
}
