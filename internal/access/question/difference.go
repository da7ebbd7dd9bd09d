package question

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/action"
)

// claim is one action that an object allows or denies.
type claim struct {
	action.Action
	by     string
	limits string        // the same for the same limits, "" for none
	policy *authz.Policy // whose limits they are
}

// side is what is said of a subject in one place, taken apart.
type side struct{ allow, deny []claim }

// maxClaims bounds the actions of one side; what is beyond is not compared, and
// the answer says so.
const maxClaims = 5_000

func (c *comparison) side(s *authz.Snapshot, w who, at place) side {
	var out side
	put := func(to *[]claim, rules []authz.Rule, by string, p *authz.Policy) {
		list, ok := action.Of(rules)
		if !ok || len(*to)+len(list) > maxClaims {
			c.note("%s spells out too many actions to compare them all", by)
			list = list[:min(len(list), max(0, maxClaims-len(*to)))]
		}
		limits := ""
		if p != nil {
			limits = limitsKey(p)
		}
		for _, x := range list {
			if x.URL != "" && (at.namespace != "" || p != nil && len(p.Namespaces)+len(p.NamespaceLabels) > 0) {
				continue // URLs are in no namespace: they are compared outside
			}
			one := claim{Action: x, by: by, limits: limits}
			if limits != "" {
				one.policy = p
			}
			*to = append(*to, one)
		}
	}
	standing := c.Access.StandingAt(s, w.caller(at.site), at.site, at.namespace)
	for i := range standing.Bans {
		put(&out.deny, access.Everything(), "Ban/"+standing.Bans[i].Name, nil)
	}
	for i := range standing.Denies {
		p := &standing.Denies[i]
		if at.namespace == "" && len(p.Policy.Namespaces)+len(p.Policy.NamespaceLabels) > 0 {
			continue // compared where it holds
		}
		put(&out.deny, p.Rules, "AccessPolicy/"+p.Policy.Name, &p.Policy)
	}
	if standing.Superuser && at.site == "" {
		put(&out.allow, access.Everything(), "Group/"+access.SuperuserGroup, nil)
	}
	for i := range standing.Granted {
		g := &standing.Granted[i]
		by := g.Grant.BindingKind() + "/" + g.Grant.Name
		if g.Grant.Namespace != "" {
			by = g.Grant.BindingKind() + "/" + g.Grant.Namespace + "/" + g.Grant.Name
		}
		put(&out.allow, []authz.Rule{g.Rule}, by, nil)
	}
	for i := range standing.Allows {
		p := &standing.Allows[i]
		put(&out.allow, p.Rules, "AccessPolicy/"+p.Policy.Name, &p.Policy)
	}
	for i := range standing.Handed {
		d := &standing.Handed[i]
		put(&out.allow, c.Access.Handed(s, d, at.site, at.namespace), "Delegation/"+d.Delegation.Name, nil)
		if at.site != "" {
			c.note("Delegation/%s: what it gives at site %s is not compared", d.Delegation.Name, at.site)
		}
	}
	return out
}

// limitsKey is the same for policies with the same selectors and condition, word
// for word: what conditions mean is not compared.
func limitsKey(p *authz.Policy) string {
	if len(p.LabelSelector)+len(p.FieldSelector) == 0 && p.Condition == nil {
		return ""
	}
	key := fmt.Sprint(p.LabelSelector, p.FieldSelector)
	if p.Condition != nil {
		if text, ok := p.Condition.(fmt.Stringer); ok {
			return key + " " + text.String()
		}
		key += fmt.Sprintf(" %p", p.Condition)
	}
	return key
}

// holds reports whether an action is allowed, by a claim without limits or with
// those given, and not denied altogether, or within the limits given.
func (s *side) holds(x action.Action, allowLimits, denyLimits string) bool {
	return slices.ContainsFunc(s.allow, func(a claim) bool { return (a.limits == "" || a.limits == allowLimits) && a.Includes(x) }) &&
		!slices.ContainsFunc(s.deny, func(d claim) bool { return (d.limits == "" || d.limits == denyLimits) && d.Includes(x) })
}

// finding is an action that is gained or lost.
type finding struct {
	action.Action
	limits string
	policy *authz.Policy
	except []string
	by     []string
}

// difference returns what a subject gains and loses in one place. Compared is
// what the two sides do not have in common: allowed actions, and what the
// denied have in common with any that is allowed.
func (c *comparison) difference(w who, at place) (gains, loses []ImpactRule) {
	before, after := c.side(c.before, w, at), c.side(c.after, w, at)
	allow, deny := apart(before.allow, after.allow), apart(before.deny, after.deny)
	if len(allow)+len(deny) == 0 {
		return nil, nil
	}
	var gained, lost []finding
	judge := func(x action.Action, allowLimits, denyLimits string, p *authz.Policy) {
		was, will := before.holds(x, allowLimits, denyLimits), after.holds(x, allowLimits, denyLimits)
		if was == will {
			return
		}
		f := finding{Action: x, limits: allowLimits + denyLimits, policy: p}
		if will {
			f.except, f.by = after.exceptions(x), union(after.granting(x, allowLimits), nil)
			gained = append(gained, f)
			return
		}
		f.except = before.exceptions(x)
		f.by = union(before.granting(x, allowLimits), after.denying(x, denyLimits))
		lost = append(lost, f)
	}
	for _, a := range allow {
		judge(a.Action, a.limits, "", a.policy)
	}
	// With as many actions on either side as there may be, a denial is compared
	// with what it includes whole instead.
	held := slices.Concat(before.allow, after.allow)
	if len(held)*len(deny) > 1<<21 {
		c.note("too many actions are denied to compare each: some of what is denied is not listed")
		deny = deny[:(1<<21)/len(held)]
	}
	seen := map[claim]bool{}
	for _, d := range deny {
		for _, a := range held {
			x, ok := action.Meet(a.Action, d.Action)
			k := claim{Action: x, by: a.limits, limits: d.limits}
			if !ok || seen[k] {
				continue
			}
			seen[k] = true
			p := a.policy
			if d.policy != nil {
				p = d.policy
			}
			judge(x, a.limits, d.limits, p)
		}
	}
	return joined(gained, at), joined(lost, at)
}

// apart returns the claims that only one of the lists has.
func apart(x, y []claim) []claim {
	count := map[claim]int{}
	key := func(c claim) claim { return claim{Action: c.Action, limits: c.limits} }
	for _, c := range x {
		count[key(c)] |= 1
	}
	for _, c := range y {
		count[key(c)] |= 2
	}
	var out []claim
	for _, c := range slices.Concat(x, y) {
		if n := count[key(c)]; n == 1 || n == 2 {
			out = append(out, c)
			count[key(c)] = 0
		}
	}
	return out
}

// exceptions names what denies a part of an action.
func (s *side) exceptions(x action.Action) []string {
	var out []string
	for _, d := range s.deny {
		if _, ok := action.Meet(d.Action, x); ok {
			out = append(out, d.by)
		}
	}
	return union(out, nil)
}

func (s *side) granting(x action.Action, limits string) []string {
	var out []string
	for _, a := range s.allow {
		if (a.limits == "" || a.limits == limits) && a.Includes(x) {
			out = append(out, a.by)
		}
	}
	return out
}

func (s *side) denying(x action.Action, limits string) []string {
	var out []string
	for _, d := range s.deny {
		if (d.limits == "" || d.limits == limits) && d.Includes(x) {
			out = append(out, d.by)
		}
	}
	return out
}

func union(x, y []string) []string {
	out := slices.Concat(x, y)
	slices.Sort(out)
	return slices.Compact(out)
}

// joined puts findings together that differ in their actions only, and leaves
// out those that another one includes.
func joined(list []finding, at place) []ImpactRule {
	var out []ImpactRule
	index := map[string]int{}
	var actions [][]action.Action
	for i, f := range list {
		if slices.ContainsFunc(list[:i], func(o finding) bool { return o.limits == f.limits && o.Includes(f.Action) }) ||
			slices.ContainsFunc(list[i+1:], func(o finding) bool {
				return o.limits == f.limits && o.Action != f.Action && o.Includes(f.Action)
			}) {
			continue
		}
		k := f.limits + "\x00" + strings.Join(f.except, "\x00") + "\x01" + strings.Join(f.by, "\x00")
		n, ok := index[k]
		if !ok {
			n = len(out)
			index[k] = n
			out = append(out, ImpactRule{Site: at.site, Namespace: at.namespace, Limits: f.policy, Except: f.except, By: f.by})
			actions = append(actions, nil)
		}
		actions[n] = append(actions[n], f.Action)
	}
	for i := range out {
		out[i].Rules = action.Rules(actions[i])
	}
	return out
}

// addRules appends what is not said already of everywhere at the same site.
func addRules(to, more []ImpactRule) []ImpactRule {
	for _, r := range more {
		said := slices.ContainsFunc(to, func(x ImpactRule) bool {
			if x.Site != r.Site || x.Namespace != "" || (x.Limits == nil) != (r.Limits == nil) || r.Limits != nil && limitsKey(x.Limits) != limitsKey(r.Limits) {
				return false
			}
			all, _ := action.Of(x.Rules)
			some, _ := action.Of(r.Rules)
			return !slices.ContainsFunc(some, func(s action.Action) bool {
				return !slices.ContainsFunc(all, func(a action.Action) bool { return a.Includes(s) })
			})
		})
		if !said {
			to = append(to, r)
		}
	}
	return to
}
