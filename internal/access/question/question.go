// Package question answers what administrators and programs ask about policy
// beyond a single decision: many decisions at once, who may do something, why
// and why not, and which objects and actions a subject may reach.
//
// It owns the search for candidates and the form of the answers. It refuses to
// decide: every candidate is put to [access.Authorizer], so that no answer can
// differ from the decision that the same question gets at any other door. It
// does not check whether the caller may ask. Start at [Asker].
package question

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

// Asker answers questions. It is safe for concurrent use.
type Asker struct {
	Access *access.Authorizer
	Policy *access.Policy
	// Policies are the access policies, for candidates beyond RBAC.
	Policies *Policies
}

// Policies holds the access policies by name, as a feed of the watch. It is
// safe for concurrent use.
type Policies struct {
	mu   sync.RWMutex // guards held
	held map[string]*accessv1alpha1.AccessPolicy
}

// NewPolicies returns an empty list.
func NewPolicies() *Policies { return &Policies{held: map[string]*accessv1alpha1.AccessPolicy{}} }

// Replace sets all policies.
func (p *Policies) Replace(all []*accessv1alpha1.AccessPolicy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.held)
	for _, one := range all {
		p.held[one.Name] = one
	}
}

// Put adds or changes a policy.
func (p *Policies) Put(one *accessv1alpha1.AccessPolicy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held[one.Name] = one
}

// Delete removes a policy.
func (p *Policies) Delete(one *accessv1alpha1.AccessPolicy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.held, one.Name)
}

// allowing returns the policies that allow, by name.
func (p *Policies) allowing() []*accessv1alpha1.AccessPolicy {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var out []*accessv1alpha1.AccessPolicy
	for _, name := range slices.Sorted(maps.Keys(p.held)) {
		if p.held[name].Spec.Effect == accessv1alpha1.EffectAllow {
			out = append(out, p.held[name])
		}
	}
	return out
}

// Holder is a subject with a grant.
type Holder struct {
	Subject authz.Subject
	// Prefix is set when the subject is every name that begins with
	// Subject.Name.
	Prefix bool
	// ResourceNames is set when the question named no object and the grant is
	// for these only.
	ResourceNames []string
	// Reason names the grant, or what overrules it.
	Reason string
}

// WhoCan returns who may do what q describes in the control plane, superusers
// first, and who holds a grant that a ban or a deny overrules. Of a question
// with an object, holders whose grant is a condition on it are found only if q
// carries the object. Groups are not expanded, and what a prefix stands for is
// not enumerated.
func (a Asker) WhoCan(ctx context.Context, q authz.Request) (holders, refused []Holder, err error) {
	bound, err := a.Access.WhoCan(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	for _, h := range bound {
		reason := `allowed to members of group "` + access.SuperuserGroup + `"`
		if h.Grant.Name != "" {
			reason = "RBAC: allowed by " + h.Grant.String()
		}
		holder := Holder{Subject: h.Subject, ResourceNames: h.ResourceNames, Reason: reason}
		d, err := a.Access.Decide(ctx, as(h.Subject), q)
		switch {
		case err != nil:
			return nil, nil, err
		case d.Denied():
			holder.Reason = d.Reason()
			refused = append(refused, holder)
		case d.Allowed(), len(h.ResourceNames) > 0:
			holders = append(holders, holder)
		}
	}
	for _, policy := range a.Policies.allowing() {
		for _, candidate := range candidates(policy) {
			d, err := a.Access.Decide(ctx, as(candidate.Subject), q)
			if err != nil {
				return nil, nil, err
			}
			// A binding that allows too stands in the list already.
			if by, ok := d.AccessPolicy(); ok && d.Allowed() && by.Name == policy.Name {
				candidate.Reason = d.Reason()
				holders = append(holders, candidate)
			}
		}
	}
	return holders, refused, nil
}

// candidates are the subjects that a policy names. One given by domain names
// nobody, and sites are no callers.
func candidates(policy *accessv1alpha1.AccessPolicy) []Holder {
	var out []Holder
	for i := range policy.Spec.Subjects {
		s := &policy.Spec.Subjects[i]
		h := Holder{Subject: authz.Subject{Name: s.Name, Namespace: s.Namespace}, Prefix: s.NamePrefix != ""}
		if h.Prefix {
			h.Subject.Name = s.NamePrefix
		}
		switch s.Kind {
		case accessv1alpha1.SubjectUser:
			h.Subject.Kind = authz.User
		case accessv1alpha1.SubjectGroup:
			h.Subject.Kind = authz.Group
		case accessv1alpha1.SubjectServiceAccount:
			h.Subject.Kind = authz.ServiceAccount
		}
		if h.Subject.Kind != "" && h.Subject.Name != "" {
			out = append(out, h)
		}
	}
	return out
}

// as is a caller of whom nothing is known but what a grant says.
func as(s authz.Subject) access.Subject {
	switch s.Kind {
	case authz.Group:
		return access.Subject{Groups: []string{s.Name}}
	case authz.ServiceAccount:
		return access.Subject{
			Name:   "system:serviceaccount:" + s.Namespace + ":" + s.Name,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + s.Namespace, "system:authenticated"},
		}
	default:
		return access.Subject{Name: s.Name}
	}
}

// Explanation says why a decision is as it is.
type Explanation struct {
	Decision access.Decision
	// Rule is the rule that allowed, if a binding did.
	Rule *authz.Rule
	// Nearest are the rules that lack the least, when nothing decided.
	Nearest []Near
	// MissingRoles are roles that bindings name and that do not exist.
	MissingRoles []string
}

// Near is a rule that almost allows.
type Near struct {
	authz.GrantedRule
	Lacks []string
}

// maxNearest is how many rules an explanation names.
const maxNearest = 5

// Explain decides and says why.
func (a Asker) Explain(ctx context.Context, subject access.Subject, q authz.Request) (Explanation, error) {
	d, err := a.Access.Decide(ctx, subject, q)
	if err != nil {
		return Explanation{}, err
	}
	e := Explanation{Decision: d}
	if rule, ok := a.Access.Rule(d); ok {
		e.Rule = &rule
	}
	if d.Effect() != authz.NoOpinion {
		return e, nil
	}
	granted, missing, err := a.Access.Granted(subject, q.Namespace)
	if err != nil {
		return Explanation{}, err
	}
	for _, g := range granted {
		if lacks := lacking(g.Rule, &q); len(lacks) > 0 {
			e.Nearest = append(e.Nearest, Near{g, lacks})
		}
	}
	slices.SortStableFunc(e.Nearest, func(x, y Near) int { return len(x.Lacks) - len(y.Lacks) })
	// What lacks nearly everything is not near.
	e.Nearest = slices.DeleteFunc(e.Nearest, func(n Near) bool { return len(n.Lacks) > 2 || len(n.Lacks) == 2 && !slices.Contains(n.Lacks, "name") })
	if len(e.Nearest) > maxNearest {
		e.Nearest = e.Nearest[:maxNearest]
	}
	for i := range missing {
		kind := "ClusterRole/"
		if missing[i].RoleKind == authz.RoleKind {
			kind = "Role/"
		}
		e.MissingRoles = append(e.MissingRoles, kind+missing[i].RoleName)
	}
	slices.Sort(e.MissingRoles)
	e.MissingRoles = slices.Compact(e.MissingRoles)
	return e, nil
}

// lacking names the parts of a rule that do not include the request; a rule of
// the other half (URLs for a resource) lacks everything and is nil.
func lacking(rule authz.Rule, q *authz.Request) []string {
	if q.ResourceRequest != (len(rule.Resources) > 0) {
		return nil
	}
	any := []string{authz.Wildcard}
	var lacks []string
	for _, part := range []struct {
		name string
		only authz.Rule // the rule, all other parts opened
	}{
		{"verb", authz.Rule{Verbs: rule.Verbs, APIGroups: any, Resources: any, NonResourceURLs: any}},
		{"resource", authz.Rule{Verbs: any, APIGroups: rule.APIGroups, Resources: rule.Resources, NonResourceURLs: any}},
		{"name", authz.Rule{Verbs: any, APIGroups: any, Resources: any, ResourceNames: rule.ResourceNames, NonResourceURLs: any}},
		{"url", authz.Rule{Verbs: any, APIGroups: any, Resources: any, NonResourceURLs: rule.NonResourceURLs}},
	} {
		if !part.only.Allows(q) {
			lacks = append(lacks, part.name)
		}
	}
	return lacks
}

// Reach is what policy says about one type of resource: the names and the
// verbs that any rule mentions.
type Reach struct {
	Names, Verbs []string
}

// Mentioned collects the names and verbs by which rules mention a resource,
// written as in rules, of a group. Names outside of policy are not known here.
func (a Asker) Mentioned(group, resource string) Reach {
	names, verbs := map[string]bool{}, map[string]bool{}
	visit := func(rule authz.Rule) {
		exact := slices.Contains(rule.Resources, resource) && slices.Contains(rule.APIGroups, group)
		if exact {
			for _, verb := range rule.Verbs {
				if verb != authz.Wildcard {
					verbs[verb] = true
				}
			}
		}
		if exact || slices.Contains(rule.Resources, authz.Wildcard) {
			for _, name := range rule.ResourceNames {
				names[name] = true
			}
		}
	}
	a.Policy.EachRule(func(_ string, rule authz.Rule) { visit(rule) })
	for _, policy := range a.Policies.allowing() {
		for _, rule := range rbac.Rules(policy.Spec.Rules) {
			visit(rule)
		}
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
	for _, policy := range a.Policies.allowing() {
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
