package authz

import (
	"slices"
	"strings"
)

// Operator is how a [Requirement] compares.
type Operator uint8

// The operators of label and field selectors. In with one value is "=" and
// NotIn with one value is "!=".
const (
	In Operator = iota + 1
	NotIn
	Exists
	DoesNotExist
)

// Requirement is one term of a selector. NotIn holds for objects without the
// key, as upstream.
type Requirement struct {
	Key      string
	Operator Operator
	Values   []string // of In and NotIn
}

// Holds reports whether an object with the given labels meets the requirement.
func (r *Requirement) Holds(labels map[string]string) bool {
	v, ok := labels[r.Key]
	switch r.Operator {
	case In:
		return ok && slices.Contains(r.Values, v)
	case NotIn:
		return !ok || !slices.Contains(r.Values, v)
	case Exists:
		return ok
	case DoesNotExist:
		return !ok
	}
	return false
}

// String renders the requirement as clients write it: "a in (b,c)".
func (r Requirement) String() string {
	list := "(" + strings.Join(r.Values, ",") + ")"
	switch r.Operator {
	case In:
		return r.Key + " in " + list
	case NotIn:
		return r.Key + " notin " + list
	case Exists:
		return r.Key
	case DoesNotExist:
		return "!" + r.Key
	}
	return r.Key + " unknown operator"
}

// implies reports whether every object that meets r meets p. It may miss an
// implication, which refuses, but never claims one that does not hold.
func (r *Requirement) implies(p *Requirement) bool {
	if r.Key != p.Key {
		return false
	}
	switch p.Operator {
	case In:
		return r.Operator == In && subset(r.Values, p.Values)
	case NotIn:
		return r.Operator == DoesNotExist ||
			r.Operator == In && apart(r.Values, p.Values) ||
			r.Operator == NotIn && subset(p.Values, r.Values)
	case Exists:
		return r.Operator == Exists || r.Operator == In
	case DoesNotExist:
		return r.Operator == DoesNotExist
	}
	return false
}

// excludes reports whether no object can meet both. It may miss one, which
// denies, but never claims one that does not hold.
func (r *Requirement) excludes(p *Requirement) bool {
	if r.Key != p.Key {
		return false
	}
	a, b := r, p
	if a.Operator > b.Operator {
		a, b = b, a
	}
	switch {
	case a.Operator == In && b.Operator == In:
		return apart(a.Values, b.Values)
	case a.Operator == In && b.Operator == NotIn:
		return subset(a.Values, b.Values)
	case a.Operator == In && b.Operator == DoesNotExist, a.Operator == Exists && b.Operator == DoesNotExist:
		return true
	}
	return false
}

// inside reports whether every object that the request's selector picks meets
// the policy's; name is the object's, where the request names one.
func inside(policy, request []Requirement, name string) bool {
	for i := range policy {
		p := &policy[i]
		ok := name != "" && p.Key == nameField && p.acceptsName(name)
		for j := range request {
			ok = ok || request[j].implies(p)
		}
		if !ok {
			return false
		}
	}
	return true
}

// touches reports whether the request could pick an object that meets the
// policy's selector.
func touches(policy, request []Requirement, name string) bool {
	for i := range policy {
		p := &policy[i]
		if name != "" && p.Key == nameField && !p.acceptsName(name) {
			return false
		}
		for j := range request {
			if request[j].excludes(p) {
				return false
			}
		}
	}
	return true
}

// nameField is the one field that a request without selector may settle.
const nameField = "metadata.name"

func (r *Requirement) acceptsName(name string) bool {
	switch r.Operator {
	case In:
		return slices.Contains(r.Values, name)
	case NotIn:
		return !slices.Contains(r.Values, name)
	default:
		return r.Operator == Exists
	}
}

func subset(a, b []string) bool {
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}

func apart(a, b []string) bool {
	for _, x := range a {
		if slices.Contains(b, x) {
			return false
		}
	}
	return true
}
