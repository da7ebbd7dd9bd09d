package authz

import "strconv"

// Effect is what a decision says. The zero value is no opinion, which every
// door treats as a refusal unless another authorizer allows.
type Effect uint8

// The effects.
const (
	NoOpinion Effect = iota
	Allow
	Deny
)

// String returns "no opinion", "allow" or "deny".
func (e Effect) String() string {
	switch e {
	case Allow:
		return "allow"
	case Deny:
		return "deny"
	default:
		return "no opinion"
	}
}

// Grant says which binding gives which role to which subject.
type Grant struct {
	// Namespace and Name are the binding's; Namespace "" is a cluster binding.
	Namespace, Name string
	// RoleKind and RoleName are the role that the binding names.
	RoleKind, RoleName string
	// Subject is the subject of the binding that matched, with the namespace
	// of a service account filled in.
	Subject Subject
}

// BindingKind is "ClusterRoleBinding" or "RoleBinding".
func (g *Grant) BindingKind() string {
	if g.Namespace == "" {
		return "ClusterRoleBinding"
	}
	return "RoleBinding"
}

// String renders the grant as upstream does in its reasons:
//
//	RoleBinding "name/namespace" of Role "r" to User "u"
func (g *Grant) String() string {
	b := make([]byte, 0, 128)
	b = append(b, g.BindingKind()...)
	b = append(b, ' ')
	if g.Namespace == "" {
		b = strconv.AppendQuote(b, g.Name)
	} else {
		b = strconv.AppendQuote(b, g.Name+"/"+g.Namespace)
	}
	b = append(b, " of "...)
	b = append(b, g.RoleKind...)
	b = append(b, ' ')
	b = strconv.AppendQuote(b, g.RoleName)
	b = append(b, " to "...)
	b = append(b, g.Subject.Kind...)
	b = append(b, ' ')
	if g.Subject.Kind == ServiceAccount {
		b = strconv.AppendQuote(b, g.Subject.Name+"/"+g.Subject.Namespace)
	} else {
		b = strconv.AppendQuote(b, g.Subject.Name)
	}
	return string(b)
}

// Decision is the answer to a [Request]. The zero Decision is a refusal.
//
// It is small and made without allocation; what it says in detail is looked
// up in the snapshot it came from, which it therefore keeps alive. Do not
// store decisions: store what they say.
type Decision struct {
	snap      *Snapshot
	binding   uint32
	principal uint32 // that the binding names and the caller is
	rule      uint32
	policy    uint32 // number of a policy or ban plus one
	// handed is the number plus one of the delegation by which the caller has
	// what the binding or policy gives to somebody else.
	handed uint32
	effect Effect
}

// Effect returns what was decided.
func (d Decision) Effect() Effect { return d.effect }

// Allowed reports whether the effect is [Allow].
func (d Decision) Allowed() bool { return d.effect == Allow }

// Reason renders the decision; where a binding allowed, in upstream's words:
//
//	RBAC: allowed by RoleBinding "x/ns" of Role "y" to User "z"
//	access: denied by Ban "b": reason
//	access: denied by AccessPolicy "p": message
//	access: allowed by Delegation "d" from "giver": RBAC: allowed by …
//
// It is empty when there is no opinion. It allocates; call it only when the
// text is wanted.
func (d Decision) Reason() string {
	if d.effect == NoOpinion {
		return ""
	}
	return d.chain() + d.ground()
}

// chain renders the delegations, the caller's own first.
func (d Decision) chain() string {
	list := d.Delegations()
	if len(list) == 0 {
		return ""
	}
	var b []byte
	for i := range list {
		if i == 0 {
			b = append(b, "access: allowed"...)
		} else {
			b = append(b, ", who has it"...)
		}
		b = append(b, " by Delegation "...)
		b = strconv.AppendQuote(b, list[i].Name)
		b = append(b, " from "...)
		b = strconv.AppendQuote(b, list[i].Giver.User)
	}
	return string(append(b, ": "...))
}

// ground renders the binding, policy or ban that the decision rests on.
func (d Decision) ground() string {
	if g, ok := d.Grant(); ok {
		return "RBAC: allowed by " + g.String()
	}
	if d.policy == 0 {
		return "the giver is a superuser"
	}
	verb := "allowed"
	if d.effect == Deny {
		verb = "denied"
	}
	if b, ok := d.Ban(); ok {
		return "access: " + verb + " by Ban " + strconv.Quote(b.Name) + ": " + b.Reason
	}
	p, _ := d.Policy()
	text := "access: " + verb + " by AccessPolicy " + strconv.Quote(p.Name)
	if d.effect == Deny && p.Message != "" {
		text += ": " + p.Message
	}
	return text
}

// Delegations returns the chain by which the caller has what it was allowed:
// the delegation to the caller, then the one to its giver and so on. It is empty
// when the caller holds it itself. The binding or policy of the decision is then
// that of the last giver.
func (d Decision) Delegations() []Delegation {
	if d.handed == 0 {
		return nil
	}
	var out []Delegation
	for id := d.handed - 1; id != none && len(out) < MaxChain; {
		x := (*d.snap.policies.at(id)).delegation
		out = append(out, x.Delegation)
		if id = none; x.Parent != "" {
			id = d.snap.findPolicy(x.Parent, aDelegation)
		}
	}
	return out
}

// Grant returns the binding, role and subject that allowed; ok is false when
// no binding did.
func (d Decision) Grant() (g Grant, ok bool) {
	if d.effect != Allow || d.policy != 0 || d.binding == none {
		return Grant{}, false
	}
	return d.snap.grantTo(d.binding, d.principal), true
}

// Rule returns the position, in the granting role, of the first rule that
// permits the request, and -1 when no binding allowed.
func (d Decision) Rule() int {
	if d.effect != Allow || d.policy != 0 || d.binding == none {
		return -1
	}
	return int(d.rule)
}

// Policy returns the access policy that decided; ok is false when none did. Its
// lists are the engine's and must not be changed.
func (d Decision) Policy() (p Policy, ok bool) {
	x := d.decider()
	if x == nil || x.ban != nil {
		return Policy{}, false
	}
	return x.Policy, true
}

// Ban returns the ban that decided; ok is false when none did. Its lists are
// the engine's and must not be changed.
func (d Decision) Ban() (b Ban, ok bool) {
	x := d.decider()
	if x == nil || x.ban == nil {
		return Ban{}, false
	}
	return *x.ban, true
}

func (d Decision) decider() *policy {
	if d.policy == 0 {
		return nil
	}
	return *d.snap.policies.at(d.policy - 1)
}
