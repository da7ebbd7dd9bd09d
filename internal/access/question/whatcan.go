package question

import (
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
)

// Entitlement is what one object says of a subject. Exactly one of Ban, Policy,
// Grant and Delegation is set, or none for superusers.
type Entitlement struct {
	Effect authz.Effect
	// Rules are what is allowed or denied. Policy may narrow them further.
	Rules  []authz.Rule
	Ban    *authz.Ban
	Policy *authz.Policy
	Grant  *authz.Grant
	// Delegation gives of its rules what its giver holds; Rules are those.
	Delegation *authz.Delegation
}

// Has is everything that is said of a subject.
type Has struct {
	// Entitlements are in the order of a decision: the first that a request
	// meets decides it.
	Entitlements []Entitlement
	// MissingRoles are named and do not exist, as KIND/NAME.
	MissingRoles []string
}

// WhatCan returns everything that subject may do in a namespace of the control
// plane and everything that it is denied there. An empty namespace asks for
// what is allowed everywhere and denied anywhere.
func (a Asker) WhatCan(subject access.Subject, namespace string) (Has, error) {
	if err := a.Access.Ready(); err != nil {
		return Has{}, err
	}
	snapshot := a.Policy.Snapshot()
	s := a.Access.StandingIn(snapshot, subject, namespace)
	out := has(&s)
	for i := range s.Handed {
		d := &s.Handed[i]
		if rules := a.Access.Handed(snapshot, d, "", namespace); len(rules) > 0 {
			out.Entitlements = append(out.Entitlements, Entitlement{Effect: authz.Allow, Rules: rules, Delegation: &d.Delegation})
		}
	}
	return out, nil
}

func has(s *access.Standing) Has {
	out := Has{MissingRoles: missingRoles(s)}
	add := func(e Entitlement) { out.Entitlements = append(out.Entitlements, e) }
	for i := range s.Bans {
		add(Entitlement{Effect: authz.Deny, Rules: access.Everything(), Ban: &s.Bans[i]})
	}
	for i := range s.Denies {
		add(Entitlement{Effect: authz.Deny, Rules: s.Denies[i].Rules, Policy: &s.Denies[i].Policy})
	}
	if s.Superuser {
		add(Entitlement{Effect: authz.Allow, Rules: access.Everything()})
	}
	for i := 0; i < len(s.Granted); {
		g := &s.Granted[i]
		e := Entitlement{Effect: authz.Allow, Grant: &g.Grant}
		// The rules of one binding stand together.
		for ; i < len(s.Granted) && s.Granted[i].Grant == *e.Grant; i++ {
			e.Rules = append(e.Rules, s.Granted[i].Rule)
		}
		add(e)
	}
	for i := range s.Allows {
		add(Entitlement{Effect: authz.Allow, Rules: s.Allows[i].Rules, Policy: &s.Allows[i].Policy})
	}
	return out
}
