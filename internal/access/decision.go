package access

import (
	"encoding/json"
	"slices"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
)

// Subject is somebody whose rights are asked about, as authentication (and
// impersonation) established them.
type Subject struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// SuperuserGroup may do everything in the control plane that is not denied.
// It means nothing in a site's question.
const SuperuserGroup = "system:masters"

func (s *Subject) isSuperuser() bool { return slices.Contains(s.Groups, SuperuserGroup) }

// Decision is the answer to a question. The zero Decision is a refusal.
type Decision struct {
	engine authz.Decision
	ruling ruling
	// node and verdict are set byNode; byNodeRule, node is the rule.
	node    string
	verdict nodegraph.Verdict
}

// ruling is what this package adds to the engine's answer.
type ruling uint8

const (
	byEngine ruling = iota
	bySuperuser
	byReservedName
	byLength
	byNode
	byNodeRule
)

const (
	superuserReason    = `allowed to members of group "` + SuperuserGroup + `"`
	reservedNameReason = "names of sites cannot be impersonated"
	lengthReason       = "an attribute of the request is too long"
)

// Effect returns what was decided.
func (d Decision) Effect() authz.Effect {
	switch d.ruling {
	case bySuperuser, byNodeRule:
		return authz.Allow
	case byReservedName, byLength:
		return authz.Deny
	case byNode:
		if d.verdict.Allowed() {
			return authz.Allow
		}
		return authz.NoOpinion
	default:
		return d.engine.Effect()
	}
}

// Allowed reports whether the effect is authz.Allow.
func (d Decision) Allowed() bool { return d.Effect() == authz.Allow }

// Denied reports whether the effect is authz.Deny, which no other authorizer
// may overrule.
func (d Decision) Denied() bool { return d.Effect() == authz.Deny }

// Reason says in words what decided, and is empty when nothing did.
func (d Decision) Reason() string {
	switch d.ruling {
	case bySuperuser:
		return superuserReason
	case byReservedName:
		return reservedNameReason
	case byLength:
		return lengthReason
	case byNode:
		return d.verdict.Reason(d.node)
	case byNodeRule:
		return `NodeRule "` + d.node + `" lets the agent mark its own node`
	default:
		return d.engine.Reason()
	}
}

// Delegations returns the chain by which the subject has what it was allowed,
// its own first; none when it holds it itself.
func (d Decision) Delegations() []authz.Delegation {
	if d.ruling != byEngine {
		return nil
	}
	return d.engine.Delegations()
}

// Handed says for the record by whom the subject has what it was allowed: the
// chain of delegations as JSON, the subject's own first, and the name of the
// first giver. Both are empty when the subject holds it itself.
func (d Decision) Handed() (chain, giver string) {
	delegations := d.Delegations()
	if len(delegations) == 0 {
		return "", ""
	}
	type link struct {
		Delegation string `json:"delegation"`
		From       string `json:"from"`
		To         string `json:"to"`
	}
	links := make([]link, len(delegations))
	for i := range delegations {
		links[i] = link{delegations[i].Name, delegations[i].Giver.User, ReceiverName(delegations[i].To)}
	}
	text, err := json.Marshal(links)
	if err != nil { // strings
		text = nil
	}
	return string(text), delegations[len(delegations)-1].Giver.User
}

// Grant returns the binding that allowed; ok is false when none did. Where the
// decision has delegations it is that of the first giver.
func (d Decision) Grant() (grant authz.Grant, ok bool) {
	if d.ruling != byEngine {
		return authz.Grant{}, false
	}
	return d.engine.Grant()
}

// Superuser reports whether the subject's group [SuperuserGroup] allowed.
func (d Decision) Superuser() bool { return d.ruling == bySuperuser }

// Decider returns the object beyond RBAC that decided: its kind, AccessPolicy or
// Ban, and its name. ok is false when none did.
func (d Decision) Decider() (kind, name string, ok bool) {
	if d.ruling != byEngine {
		return "", "", false
	}
	if b, ok := d.engine.Ban(); ok {
		return "Ban", b.Name, true
	}
	if p, ok := d.engine.Policy(); ok {
		return "AccessPolicy", p.Name, true
	}
	return "", "", false
}
