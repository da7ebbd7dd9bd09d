package authz

import (
	"slices"
	"strings"
	"time"
)

// MaxChain is how many delegations may stand one behind the other.
const MaxChain = 8

// Giver is who hands on, by the names under which its authority is looked up
// whenever the delegation is used.
type Giver struct {
	User, UID string
	Groups    []string
	// CredentialID is the credential that wrote the delegation: a ban of it
	// ends what it gave.
	CredentialID string
	// Origins are the credentials with which that one was made, and count as it
	// does. Extra is what authentication said of the giver beyond its names.
	Origins []string
	Extra   map[string][]string
	// Superuser holds everything in the control plane that is not denied.
	Superuser bool
}

// ask makes a question one of the giver.
func (g *Giver) ask(q *Request) {
	q.User, q.Groups, q.UID, q.Extra, q.CredentialID, q.Origins = g.User, g.Groups, g.UID, g.Extra, g.CredentialID, g.Origins
}

// Delegation lets its receiver do what its giver may do, as far as its rules
// and scope go and until its end. It is used only where nothing else allows,
// and gives nothing that the giver may not do at that moment: bans and denials
// of the giver count, and so does everything that its own right rests on.
type Delegation struct {
	// Name is unique among delegations; ID tells one from an earlier of the
	// same name.
	Name, ID string
	// Parent is the delegation, with its ID, by which the giver has what it
	// hands on; empty when the giver holds it itself. A giver never hands on by
	// one delegation what it has by another.
	Parent, ParentID string
	Giver            Giver
	// To is the receiver: a User, or a ServiceAccount with its namespace.
	To Subject
	// The rest is as in [Policy].
	Rules           []Rule
	Roles           []string
	Sites           []string
	Namespaces      []string
	NamespaceLabels []Requirement
	NotBefore       time.Time
	NotAfter        time.Time // one without an end gives nothing
	// MayDelegate lets the receiver hand on what it received.
	MayDelegate bool
}

// delegation is a compiled Delegation.
type delegation struct {
	Delegation
	to string // user name of the receiver
	// siteUser and siteGroups are the giver's names as a site would send them;
	// siteUser is empty where the giver has none.
	siteUser   string
	siteGroups []string
}

// PutDelegation adds or replaces a delegation.
func (t *Tx) PutDelegation(d Delegation) {
	x := &delegation{Delegation: d, to: d.To.Name}
	if d.To.Kind == ServiceAccount {
		x.to = string(appendServiceAccount(nil, &d.To, ""))
	}
	if name, ok := siteName(userKey, d.Giver.User); ok {
		x.siteUser = name
		for _, g := range d.Giver.Groups {
			if name, ok := siteName(groupKey, g); ok {
				x.siteGroups = append(x.siteGroups, name)
			}
		}
	}
	p := &policy{delegation: x, Policy: Policy{
		Name: d.Name, Effect: Allow, Rules: d.Rules, Roles: d.Roles, Sites: d.Sites,
		Namespaces: d.Namespaces, NamespaceLabels: d.NamespaceLabels, NotBefore: d.NotBefore, NotAfter: d.NotAfter,
	}}
	if to := d.To; to.Kind == User && to.Name != "" || to.Kind == ServiceAccount && to.Name != "" && to.Namespace != "" {
		p.Subjects = []PolicySubject{{Subject: to}}
	}
	t.putPolicy(p)
}

// DeleteDelegation removes a delegation, and with it what was handed on by it.
func (t *Tx) DeleteDelegation(name string) { t.deletePolicy(name, aDelegation) }

// siteName returns the name by which a site knows a subject of the control
// plane; ok is false for those that have no name there.
func siteName(kind keyKind, name string) (string, bool) {
	if name == "" || strings.HasPrefix(name, sitePrefix) {
		return "", false
	}
	if !strings.HasPrefix(name, systemPrefix) || kind == groupKey && name == authenticatedGroup {
		return name, true
	}
	back, ok := controlPlaneName(kind, sitePrefix+name)
	return sitePrefix + name, ok && back == name
}

// handed decides by what was handed to the caller: by the delegation whose name
// sorts first among those whose giver may do what is asked.
func (c *query) handed(hits []keyHit) Decision {
	var best Decision
	for _, hit := range hits {
		k := c.s.keys.at(hit.key)
		if k.handed.n == 0 {
			continue
		}
		c.entries(&k.handed, Allow, func(e policyEntry) {
			first := none
			if best.handed != 0 {
				first = best.handed - 1
			}
			p := *c.s.policies.at(e.policy)
			if p.NotAfter.IsZero() || !c.before(p, first) || !c.matches(p, k, hit.name, Allow) {
				return
			}
			if d := c.s.giver(c.q, p.delegation, 1); d.effect == Allow {
				d.handed = e.policy + 1
				best = d
			}
		})
	}
	return best
}

// giver decides what q asks for the giver of a delegation that stands at the
// given place of its chain: by the giver's own rights, or by the delegation from
// which it has them. It goes up at most [MaxChain] steps, so that nothing but
// work is lost on a circle.
func (s *Snapshot) giver(q *Request, d *delegation, depth int) Decision {
	r := *q
	d.Giver.ask(&r)
	if q.Site != "" {
		if d.siteUser == "" {
			return Decision{}
		}
		r.User, r.Groups = d.siteUser, d.siteGroups
	}
	c := newQuery(s, &r)
	hits := c.findKeys(nil)
	if c.banned(hits) != none || c.ruled(hits, Deny) != none {
		return Decision{}
	}
	if d.Parent != "" {
		parent := s.parent(d)
		if parent == nil || depth == MaxChain || !c.covers(parent) {
			return Decision{}
		}
		return s.giver(&r, parent.delegation, depth+1)
	}
	if found := c.bound(); found.effect == Allow {
		return found
	}
	if id := c.ruled(hits, Allow); id != none {
		return Decision{snap: s, effect: Allow, policy: id + 1}
	}
	if d.Giver.Superuser && q.Site == "" {
		return Decision{snap: s, effect: Allow, binding: none}
	}
	return Decision{}
}

// parent returns the delegation by which the giver of d has what it hands on,
// or nil where that is gone, is another one now, or does not allow it.
func (s *Snapshot) parent(d *delegation) *policy {
	id := s.findPolicy(d.Parent, aDelegation)
	if id == none {
		return nil
	}
	p := *s.policies.at(id)
	if x := p.delegation; x.ID != d.ParentID || !x.MayDelegate || x.to != d.Giver.User {
		return nil
	}
	return p
}

// covers reports whether the request lies inside what a delegation is about.
func (c *query) covers(p *policy) bool {
	return !p.NotAfter.IsZero() && c.action(p, false) && c.siteAmong(p) && c.inSpace(p, false) && c.inPeriod(p)
}

// Given returns what the receivers of delegations may do of what the question
// asks, in the order of names: the delegations by which they would be allowed.
func (h *Holders) Given() []Delegation {
	c := newQuery(h.s, &h.q)
	var out []Delegation
	for id := range h.s.policies.n {
		p := *h.s.policies.at(id)
		if p == nil || p.delegation == nil || !c.covers(p) || h.s.giver(&h.q, p.delegation, 1).effect != Allow {
			continue
		}
		if _, refused := h.Refused(p.delegation.To, nil); !refused {
			out = append(out, p.delegation.Delegation)
		}
	}
	slices.SortFunc(out, func(a, b Delegation) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Policy returns an access policy by its name, as the engine has it; its lists
// must not be changed.
func (s *Snapshot) Policy(name string) (Policy, bool) {
	id := s.findPolicy(name, aPolicy)
	if id == none {
		return Policy{}, false
	}
	return (*s.policies.at(id)).Policy, true
}

// Validity is what a delegation is worth at a time.
type Validity uint8

// What a delegation can be, in the order in which it is looked for.
const (
	Absent  Validity = iota // there is none, or its giver is gone
	NotYet                  // it has not begun
	Ended                   // it has ended
	Broken                  // a delegation that it rests on is gone or gives nothing
	Refused                 // a giver in the chain is banned
	Lacking                 // a giver does not hold everything that was handed on
	Held
)

// Inspect says what a delegation is worth, in the control plane or wherever else
// it is for, and who has it from whom: the receiver, its giver and so on.
// missing are the actions that a giver lacks; a delegation of which some are
// missing still gives the others.
func (s *Snapshot) Inspect(name string, now time.Time) (v Validity, chain []string, missing []Rule) {
	id := s.findPolicy(name, aDelegation)
	if id == none {
		return Absent, nil, nil
	}
	given := (*s.policies.at(id)).Policy
	d := (*s.policies.at(id)).delegation
	chain = []string{d.to}
	v = Held
	for range MaxChain {
		chain = append(chain, d.Giver.User)
		q := Request{Time: now}
		d.Giver.ask(&q)
		c := newQuery(s, &q)
		switch {
		case now.Before(d.NotBefore):
			return NotYet, chain, nil
		case !now.Before(d.NotAfter):
			return Ended, chain, nil
		case c.banned(c.findKeys(nil)) != none:
			return Refused, chain, nil
		}
		if d.Parent == "" {
			if missing = s.Shortfall(&q, &given, d.Giver.Superuser); len(missing) > 0 {
				v = Lacking
			}
			return v, chain, missing
		}
		if missing = s.Denied(&q, &given); len(missing) > 0 {
			return Lacking, chain, missing
		}
		p := s.parent(d)
		if p == nil {
			break
		}
		d = p.delegation
	}
	return Broken, chain, nil
}
