package question

import (
	"context"
	"slices"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
)

// Explanation says why a decision is as it is.
type Explanation struct {
	Decision access.Decision
	// Rule is the rule that decided, of a binding's role or of a policy.
	Rule *authz.Rule
	// Nearest are the rules that lack the least, when nothing decided.
	Nearest []authz.NearMiss
	// MissingRoles are roles that bindings name and that do not exist.
	MissingRoles []string
}

// maxNearest is how many rules an explanation names.
const maxNearest = 5

// Explain decides and says why.
func (a Asker) Explain(_ context.Context, subject access.Subject, q authz.Request) (Explanation, error) {
	if err := a.Access.Ready(); err != nil {
		return Explanation{}, err
	}
	// Decision and reasons are of one state of the policy.
	snapshot := a.Policy.Snapshot()
	e := Explanation{Decision: a.Access.DecideIn(snapshot, subject, q)}
	if rule, ok := a.Access.Rule(e.Decision); ok {
		e.Rule = &rule
	}
	if policy, ok := e.Decision.AccessPolicy(); ok {
		e.Rule = policyRule(snapshot, &policy, &q)
	}
	if e.Decision.Effect() != authz.NoOpinion {
		return e, nil
	}
	standing := a.Access.StandingIn(snapshot, subject, q.Namespace)
	q.User, q.Groups, q.UID, q.Extra, q.Time = subject.Name, subject.Groups, subject.UID, subject.Extra, a.Access.Now()
	e.Nearest = snapshot.WhyNot(&q)
	e.Nearest = e.Nearest[:min(len(e.Nearest), maxNearest)]
	e.MissingRoles = missingRoles(&standing)
	return e, nil
}

// policyRule returns the rule of a policy that decided: the first that includes
// the request, or for a denial that could be touched the first at all.
func policyRule(snapshot *authz.Snapshot, p *authz.Policy, q *authz.Request) *authz.Rule {
	rules := slices.Clip(p.Rules)
	for _, name := range p.Roles {
		if r, ok := snapshot.RoleNamed("", name); ok {
			rules = append(rules, r.Rules...)
		}
	}
	for i := range rules {
		if rules[i].Allows(q) {
			return &rules[i]
		}
	}
	if p.Effect == authz.Deny && len(rules) == 1 {
		return &rules[0]
	}
	return nil
}

// missingRoles names the roles that do not exist, as KIND/NAME and in order.
func missingRoles(s *access.Standing) []string {
	var out []string
	for i := range s.Missing {
		out = append(out, s.Missing[i].RoleKind+"/"+s.Missing[i].RoleName)
	}
	for _, p := range slices.Concat(s.Denies, s.Allows) {
		for _, name := range p.Missing {
			out = append(out, authz.ClusterRoleKind+"/"+name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
