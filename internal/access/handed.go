package access

import (
	"maps"
	"slices"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/action"
)

// maxHanded bounds the actions that are compared to say what a delegation gives.
const maxHanded = 1 << 20

// Handed returns what a delegation gives in a namespace of a site ("" is the
// control plane) in one state of the policy: of its rules, those actions that
// its giver is allowed by itself, or by the delegation from which it has them.
// Grants of the giver that hold within a selector or under a condition are left
// out, and so is what is denied to it altogether; a denial of a part is for
// single questions to meet.
func (a *Authorizer) Handed(snapshot *authz.Snapshot, d *authz.DelegatedRules, site, namespace string) []authz.Rule {
	return action.Rules(a.handed(snapshot, &d.Delegation, d.Rules, site, namespace, 1))
}

func (a *Authorizer) handed(snapshot *authz.Snapshot, d *authz.Delegation, rules []authz.Rule, site, namespace string, depth int) []action.Action {
	if depth > authz.MaxChain {
		return nil
	}
	giver := Subject{Name: d.Giver.User, UID: d.Giver.UID, Groups: d.Giver.Groups, Extra: maps.Clone(d.Giver.Extra)}
	if site != "" {
		return nil // names of a site's question: single questions tell
	}
	giver.Extra = credentialExtra(giver.Extra, d.Giver.CredentialID, d.Giver.Origins)
	s := a.StandingAt(snapshot, giver, site, namespace)
	if len(s.Bans) > 0 {
		return nil
	}
	var held []action.Action
	switch {
	case d.Parent != "":
		for i := range s.Handed {
			if x := &s.Handed[i]; x.Delegation.Name == d.Parent && x.Delegation.ID == d.ParentID && x.Delegation.MayDelegate {
				held = a.handed(snapshot, &x.Delegation, x.Rules, site, namespace, depth+1)
			}
		}
	case s.Superuser || d.Giver.Superuser:
		held = action.All()
	default:
		for i := range s.Granted {
			held = appendActions(held, []authz.Rule{s.Granted[i].Rule})
		}
		for i := range s.Allows {
			if p := &s.Allows[i]; len(p.Policy.LabelSelector)+len(p.Policy.FieldSelector) == 0 && p.Policy.Condition == nil {
				held = appendActions(held, p.Rules)
			}
		}
	}
	var denied []action.Action
	for i := range s.Denies {
		if p := &s.Denies[i]; len(p.Policy.LabelSelector)+len(p.Policy.FieldSelector) == 0 && p.Policy.Condition == nil {
			denied = appendActions(denied, p.Rules)
		}
	}
	return common(appendActions(nil, rules), held, denied, namespace)
}

func appendActions(to []action.Action, rules []authz.Rule) []action.Action {
	list, _ := action.Of(rules)
	return append(to, list...)
}

// common returns what two lists have in common, without what is denied.
func common(x, y, denied []action.Action, namespace string) []action.Action {
	if len(x)*(len(y)+1) > maxHanded {
		return nil
	}
	var out []action.Action
	seen := map[action.Action]bool{}
	for _, a := range x {
		for _, b := range y {
			m, ok := action.Meet(a, b)
			if !ok || seen[m] || slices.ContainsFunc(denied, func(d action.Action) bool { return (d.URL == "" || namespace == "") && d.Includes(m) }) {
				continue
			}
			seen[m] = true
			out = append(out, m)
		}
	}
	// What another one includes need not be said.
	return slices.DeleteFunc(slices.Clone(out), func(a action.Action) bool {
		return slices.ContainsFunc(out, func(b action.Action) bool { return a != b && b.Includes(a) })
	})
}
