package question

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/aggregate"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Impact is who gains or loses what.
type Impact struct {
	Subjects []SubjectImpact
	// Notes say what the answer cannot know.
	Notes []string
}

// SubjectImpact is what one subject gains and loses.
type SubjectImpact struct {
	Subject authz.Subject
	Prefix  bool
	// MemberOf is the group through which a member is affected.
	MemberOf     string
	Gains, Loses []ImpactRule
}

// ImpactRule is what is gained or lost in one place.
type ImpactRule struct {
	Site, Namespace string // "" is the control plane, and everywhere
	Rules           []authz.Rule
	// Limits is the policy whose selectors and condition narrow it, if any do.
	Limits *authz.Policy
	// Except and By are objects as KIND/[NAMESPACE/]NAME.
	Except, By []string
}

// maxStandings bounds the standings that one answer compares.
const maxStandings = 20_000

// Impact returns who would gain or lose what by the changes. It compares what
// is said of every subject that a changed object names, or that a changed role
// is bound to, before and after; on snapshots, so that nothing happens. Changes
// to Namespaces keep the labels that they do not name.
func (a Asker) Impact(ctx context.Context, changes []access.Change) (Impact, error) {
	if err := a.Access.Ready(); err != nil {
		return Impact{}, err
	}
	changes, err := a.complete(changes)
	if err != nil {
		return Impact{}, err
	}
	before, after, err := a.Policy.WhatIf(changes)
	if err != nil {
		return Impact{}, err
	}
	c := &comparison{Asker: a, ctx: ctx, before: before, after: after, affected: map[who]map[place]bool{}, notes: map[string]bool{}}
	c.namespaces = a.Policy.Namespaces()
	for _, one := range changes {
		if n, ok := one.Object.(*corev1.Namespace); ok && !slices.Contains(c.namespaces, n.Name) {
			c.namespaces = append(c.namespaces, n.Name)
		}
	}
	slices.Sort(c.namespaces)
	c.collect(changes)
	return c.compare()
}

// complete spells out what the server would make of the changes: labels that
// stay, and the rules of aggregated roles.
func (a Asker) complete(changes []access.Change) ([]access.Change, error) {
	out := slices.Clone(changes)
	roles := a.ClusterRoles.All()
	touched := false
	for i, c := range out {
		switch o := c.Object.(type) {
		case *corev1.Namespace:
			if old, ok := a.Namespaces.Get(o.Name); ok && !c.Delete {
				out[i].Object = withLabels(o.DeepCopy(), old.Labels)
			}
		case *rbacv1.ClusterRole:
			touched = true
			if c.Delete {
				delete(roles, o.Name)
				continue
			}
			role := o.DeepCopy()
			if old, ok := roles[o.Name]; ok {
				withLabels(role, old.Labels)
				if role.AggregationRule != nil && len(role.Rules) == 0 {
					role.Rules = old.Rules // the controller's, not the writer's
				}
			}
			roles[o.Name], out[i].Object = role, role
		}
	}
	if !touched {
		return out, nil
	}
	// A malformed selector leaves its role alone, as the controller does.
	filled, _ := aggregate.Stale(slices.Collect(maps.Values(roles)))
	for _, role := range filled {
		out = append(out, access.Change{Object: role})
	}
	return out, nil
}

func withLabels[T metav1.Object](o T, under map[string]string) T {
	labels := maps.Clone(under)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, o.GetLabels())
	o.SetLabels(labels)
	return o
}

// who is a subject that may be affected.
type who struct {
	authz.Subject
	prefix bool
	of     string // the group that it is a member of
}

// place is where: in the control plane or at a site, in a namespace or
// everywhere.
type place struct{ site, namespace string }

// everywhere in place of a namespace asks for every place where the subject
// holds anything.
const everywhere = "*"

// comparison is one answer in the making.
type comparison struct {
	Asker
	ctx           context.Context
	before, after *authz.Snapshot
	namespaces    []string
	affected      map[who]map[place]bool
	notes         map[string]bool
}

func (c *comparison) note(format string, args ...any) { c.notes[fmt.Sprintf(format, args...)] = true }

func (c *comparison) affects(w who, at place) {
	if rest, ok := strings.CutPrefix(w.Name, "system:serviceaccount:"); ok && w.Kind == authz.User && !w.prefix {
		// The account, with the groups that it is known to be in.
		if namespace, name, ok := strings.Cut(rest, ":"); ok {
			w.Subject = authz.Subject{Kind: authz.ServiceAccount, Namespace: namespace, Name: name}
		}
	}
	if c.affected[w] == nil {
		c.affected[w] = map[place]bool{}
	}
	c.affected[w][at] = true
}

// collect finds whom the changes could affect, and where.
func (c *comparison) collect(changes []access.Change) {
	roles := map[[2]string]bool{}
	policies := map[string]bool{}
	for _, change := range changes {
		name, namespace := change.Object.GetName(), change.Object.GetNamespace()
		switch o := change.Object.(type) {
		case *rbacv1.Role, *rbacv1.ClusterRole:
			roles[[2]string{namespace, name}] = true
		case *rbacv1.RoleBinding, *rbacv1.ClusterRoleBinding:
			for _, s := range []*authz.Snapshot{c.before, c.after} {
				if b, ok := s.BindingNamed(namespace, name); ok {
					c.binding(&b)
				}
			}
		case *accessv1alpha1.AccessPolicy:
			policies["AccessPolicy/"+name] = true
		case *accessv1alpha1.Ban:
			policies["Ban/"+name] = true
			if o.Spec.CredentialID != "" || o.Spec.IssuerKey != "" {
				c.note("Ban/%s is for one credential or key: whose it is, policy does not know", name)
			}
		case *accessv1alpha1.Delegation:
			for _, s := range []*authz.Snapshot{c.before, c.after} {
				if d, ok := s.DelegationNamed(name); ok {
					c.affects(who{Subject: d.To}, place{namespace: everywhere})
				}
			}
		case *corev1.Namespace:
			c.namespace(name)
		}
	}
	for _, s := range []*authz.Snapshot{c.before, c.after} {
		if len(roles) > 0 {
			for _, b := range s.BindingsOf(roles) {
				c.binding(&b)
			}
		}
		s.EachPolicy(func(p *authz.Policy, b *authz.Ban) {
			switch {
			case b != nil && policies["Ban/"+b.Name]:
				c.policy(s, b.Subjects, b.Sites, nil)
			case p != nil && (policies["AccessPolicy/"+p.Name] || slices.ContainsFunc(p.Roles, func(r string) bool { return roles[[2]string{"", r}] })):
				c.policy(s, p.Subjects, p.Sites, p)
			}
		})
	}
	c.receivers()
}

// receivers marks those to whom an affected subject has handed something, and
// those to whom they did.
func (c *comparison) receivers() {
	for range authz.MaxChain {
		n := len(c.affected)
		for _, s := range []*authz.Snapshot{c.before, c.after} {
			s.EachDelegation(func(d *authz.Delegation) {
				for w := range c.affected {
					if w.gives(d) {
						c.affects(who{Subject: d.To}, place{namespace: everywhere})
						return
					}
				}
			})
		}
		if len(c.affected) == n {
			return
		}
	}
}

// gives reports whether the giver of a delegation is the subject, or in it.
func (w who) gives(d *authz.Delegation) bool {
	if w.Kind == authz.Group {
		return slices.Contains(d.Giver.Groups, w.Name) || w.prefix && slices.ContainsFunc(d.Giver.Groups, func(g string) bool { return strings.HasPrefix(g, w.Name) })
	}
	user := as(w.Subject).Name
	return user == d.Giver.User || w.prefix && strings.HasPrefix(d.Giver.User, user)
}

// binding marks the subjects of a binding.
func (c *comparison) binding(b *authz.Binding) {
	at := place{namespace: b.Namespace}
	if b.Namespace == "" {
		at.namespace = everywhere
	}
	for _, s := range b.Subjects {
		if s.Kind == authz.ServiceAccount && s.Namespace == "" {
			s.Namespace = b.Namespace
		}
		c.affects(who{Subject: s}, at)
		if s.Kind == authz.Group {
			c.group(s.Name, at)
		}
	}
	for _, site := range c.after.Sites() {
		if site.SharedRBAC && !b.Bootstrap {
			c.note("site %s shares the control plane's RBAC: what bindings give or take here, they give or take there", site.Name)
		}
	}
}

// group marks the members of a group, or says that they are not known.
func (c *comparison) group(name string, at place) {
	members, known := c.Accounts.members(name)
	if !known {
		c.note("the members of group %s are not known here: the group stands for them", name)
	}
	for _, m := range members {
		c.affects(who{Subject: m, of: name}, at)
	}
}

// policy marks the subjects of a policy or, with p nil, of a ban.
func (c *comparison) policy(s *authz.Snapshot, subjects []authz.PolicySubject, sites []string, p *authz.Policy) {
	var at []place
	places := []string{authz.ControlPlane}
	for _, site := range s.Sites() {
		places = append(places, site.Name)
	}
	for _, site := range places {
		if !authz.AtSite(sites, site) {
			continue
		}
		where := site
		if site == authz.ControlPlane {
			where = ""
		}
		if p == nil || len(p.Namespaces)+len(p.NamespaceLabels) == 0 {
			at = append(at, place{where, everywhere})
			continue
		}
		names := map[string]bool{}
		for _, n := range c.namespaces {
			names[n] = true
		}
		for _, n := range p.Namespaces {
			if strings.Contains(n, "*") {
				c.note("AccessPolicy/%s reaches namespaces that do not exist yet, too", p.Name)
			} else {
				names[n] = true
			}
		}
		if len(p.NamespaceLabels) > 0 {
			c.note("AccessPolicy/%s reaches namespaces by their labels: those with other labels later, too", p.Name)
		}
		for n := range names {
			if s.InNamespace(p, site, n) {
				at = append(at, place{where, n})
			}
		}
	}
	if p != nil && p.Effect == authz.Deny {
		if len(p.Namespaces)+len(p.NamespaceLabels) > 0 {
			c.note("AccessPolicy/%s also refuses lists over all namespaces, which could reach those it is for", p.Name)
		}
		if slices.ContainsFunc(p.Rules, func(r authz.Rule) bool { return len(r.ResourceNames) > 0 }) {
			c.note("AccessPolicy/%s also refuses requests that name no object, such as a list, which could reach those it is for", p.Name)
		}
	}
	for i := range subjects {
		sub := &subjects[i]
		if len(sub.NamespaceLabels) > 0 {
			continue // grants made from objects do not use them
		}
		w := who{Subject: sub.Subject, prefix: sub.Match == authz.Prefix}
		for _, here := range at {
			if sub.SitesOwn != (here.site != "" && strings.HasPrefix(sub.Name, "system:")) {
				continue // the other reading of a reserved name
			}
			c.affects(w, here)
			if sub.Kind == authz.Group && !w.prefix && here.site == "" {
				c.group(sub.Name, here)
			}
		}
		if w.prefix {
			c.note("%s/%s* stands for every name that begins so", sub.Kind, sub.Name)
		}
	}
}

// namespace marks whom policies that read labels or domains reach through a
// namespace: those they name, in it, and the service accounts in it.
func (c *comparison) namespace(name string) {
	group := "system:serviceaccounts:" + name
	c.affects(who{Subject: authz.Subject{Kind: authz.Group, Name: group}}, place{namespace: everywhere})
	c.group(group, place{namespace: everywhere})
	for _, s := range []*authz.Snapshot{c.before, c.after} {
		s.EachPolicy(func(p *authz.Policy, _ *authz.Ban) {
			if p == nil || len(p.NamespaceLabels) == 0 || !authz.AtSite(p.Sites, authz.ControlPlane) {
				return
			}
			for i := range p.Subjects {
				sub := &p.Subjects[i]
				if sub.SitesOwn {
					continue
				}
				c.affects(who{Subject: sub.Subject, prefix: sub.Match == authz.Prefix}, place{namespace: name})
				if sub.Kind == authz.Group && sub.Match == authz.Exact {
					c.group(sub.Name, place{namespace: name})
				}
			}
		})
	}
}

// caller is a subject as it would call: as a member of what everybody is in.
func (w who) caller(site string) access.Subject {
	s := as(w.Subject)
	if w.Kind != authz.ServiceAccount {
		s.Groups = append(s.Groups, authenticated)
		return s
	}
	if site != "" {
		s.Name = "gatehouse:" + s.Name
		for i, g := range s.Groups {
			if g != authenticated {
				s.Groups[i] = "gatehouse:" + g
			}
		}
	}
	return s
}

// compare answers.
func (c *comparison) compare() (Impact, error) {
	var out Impact
	left := maxStandings
	for _, w := range slices.SortedFunc(maps.Keys(c.affected), compareWho) {
		one := SubjectImpact{Subject: w.Subject, Prefix: w.prefix, MemberOf: w.of}
		for _, at := range c.places(w) {
			if left--; left < 0 {
				return Impact{}, fault.New(fault.Exhausted, "the change affects too many subjects in too many namespaces to compare them at once; ask about a part of it")
			}
			if err := c.ctx.Err(); err != nil {
				return Impact{}, fault.Wrap(fault.Unavailable, "the question was given up", err)
			}
			gains, loses := c.difference(w, at)
			one.Gains, one.Loses = addRules(one.Gains, gains), addRules(one.Loses, loses)
		}
		if w.Kind == authz.User && w.of == "" && !w.prefix && len(one.Gains)+len(one.Loses) > 0 {
			c.note("groups of users are not known here: what a user holds through a group besides %s is not considered", authenticated)
		}
		if len(one.Gains)+len(one.Loses) > 0 {
			out.Subjects = append(out.Subjects, one)
		}
	}
	out.Notes = slices.Sorted(maps.Keys(c.notes))
	return out, nil
}

func compareWho(x, y who) int {
	return strings.Compare(string(x.Kind)+"\x00"+x.Namespace+"\x00"+x.Name+"\x00"+x.of, string(y.Kind)+"\x00"+y.Namespace+"\x00"+y.Name+"\x00"+y.of)
}

// handedIn returns the namespaces in which those hold something who handed
// something to a subject, up the chain.
func handedIn(s *authz.Snapshot, w who) []string {
	var out []string
	s.EachDelegation(func(d *authz.Delegation) {
		if d.To != w.Subject {
			return
		}
		for range authz.MaxChain {
			out = append(out, s.NamespacesOf(&authz.Request{User: d.Giver.User, Groups: d.Giver.Groups})...)
			parent, ok := s.DelegationNamed(d.Parent)
			if !ok {
				return
			}
			d = &parent
		}
	})
	return out
}

// places spells out where a subject is to be compared. Everywhere comes first:
// what is gained or lost there need not be said of a namespace again.
func (c *comparison) places(w who) []place {
	set := map[place]bool{}
	for at := range c.affected[w] {
		if at.namespace != everywhere {
			set[at] = true
			continue
		}
		set[place{at.site, ""}] = true
		caller := w.caller(at.site)
		for _, s := range []*authz.Snapshot{c.before, c.after} {
			for _, n := range s.NamespacesOf(&authz.Request{User: caller.Name, Groups: caller.Groups, Site: at.site}) {
				set[place{at.site, n}] = true
			}
			for _, n := range handedIn(s, w) {
				set[place{at.site, n}] = true
			}
			s.EachPolicy(func(p *authz.Policy, _ *authz.Ban) {
				if p == nil || p.Effect != authz.Allow || len(p.Namespaces)+len(p.NamespaceLabels) == 0 {
					return
				}
				site := at.site
				if site == "" {
					site = authz.ControlPlane
				}
				for _, n := range slices.Concat(c.namespaces, p.Namespaces) {
					if !strings.Contains(n, "*") && s.InNamespace(p, site, n) {
						set[place{at.site, n}] = true
					}
				}
			})
		}
	}
	return slices.SortedFunc(maps.Keys(set), func(x, y place) int {
		if n := strings.Compare(x.site, y.site); n != 0 {
			return n
		}
		return strings.Compare(x.namespace, y.namespace)
	})
}
