package snapshot

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
)

// encoder writes the body. A text is the number of an earlier equal text, or 0
// and then its length and bytes; a list is its length and items.
type encoder struct {
	b     []byte
	texts map[string]uint64
	err   error
}

func encode(c *authz.Content) ([]byte, error) {
	e := &encoder{texts: map[string]uint64{}}
	list(e, c.Sites, func(s authz.Site) {
		e.text(s.Name)
		e.flag(s.SharedRBAC)
	})
	list(e, c.Namespaces, func(n authz.Namespace) {
		e.text(n.Site)
		e.text(n.Name)
		list(e, slices.Sorted(maps.Keys(n.Labels)), func(k string) {
			e.text(k)
			e.text(n.Labels[k])
		})
	})
	list(e, c.Roles, func(r authz.Role) {
		e.text(r.Namespace)
		e.text(r.Name)
		e.flag(r.Bootstrap)
		list(e, r.Rules, e.rule)
	})
	list(e, c.Bindings, func(b authz.Binding) {
		e.text(b.Namespace)
		e.text(b.Name)
		e.flag(b.Bootstrap)
		e.text(b.RoleKind)
		e.text(b.RoleName)
		list(e, b.Subjects, e.subject)
	})
	list(e, c.Policies, e.policy)
	list(e, c.Bans, func(b authz.Ban) {
		e.text(b.Name)
		list(e, b.Subjects, e.policySubject)
		list(e, b.CredentialIDs, e.text)
		e.flag(b.KeepsMade)
		list(e, b.Sites, e.text)
		e.time(b.NotAfter)
		e.text(b.Reason)
	})
	list(e, c.Delegations, e.delegation)
	return e.b, e.err
}

func list[T any](e *encoder, items []T, item func(T)) {
	e.number(uint64(len(items)))
	for _, x := range items {
		item(x)
	}
}

func (e *encoder) number(n uint64) { e.b = binary.AppendUvarint(e.b, n) }

func (e *encoder) flag(f bool) {
	if f {
		e.b = append(e.b, 1)
	} else {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) text(s string) {
	if n, ok := e.texts[s]; ok {
		e.number(n)
		return
	}
	e.texts[s] = uint64(len(e.texts) + 1)
	e.number(0)
	e.number(uint64(len(s)))
	e.b = append(e.b, s...)
}

// time writes seconds and nanoseconds, and whether there is a time at all.
func (e *encoder) time(t time.Time) {
	e.flag(!t.IsZero())
	if !t.IsZero() {
		e.b = binary.AppendVarint(e.b, t.Unix())
		e.number(uint64(t.Nanosecond()))
	}
}

func (e *encoder) rule(r authz.Rule) {
	for _, words := range [][]string{r.Verbs, r.APIGroups, r.Resources, r.ResourceNames, r.NonResourceURLs} {
		list(e, words, e.text)
	}
}

func (e *encoder) subject(s authz.Subject) {
	e.text(string(s.Kind))
	e.text(s.Namespace)
	e.text(s.Name)
}

func (e *encoder) policySubject(s authz.PolicySubject) {
	e.subject(s.Subject)
	e.b = append(e.b, byte(s.Match))
	e.flag(s.SitesOwn)
	list(e, s.NamespaceLabels, e.requirement)
}

func (e *encoder) requirement(r authz.Requirement) {
	e.text(r.Key)
	e.b = append(e.b, byte(r.Operator))
	list(e, r.Values, e.text)
}

func (e *encoder) delegation(d authz.Delegation) {
	for _, s := range [...]string{d.Name, d.ID, d.Parent, d.ParentID, d.Giver.User, d.Giver.UID, d.Giver.CredentialID} {
		e.text(s)
	}
	list(e, d.Giver.Groups, e.text)
	list(e, d.Giver.Origins, e.text)
	list(e, slices.Sorted(maps.Keys(d.Giver.Extra)), func(key string) {
		e.text(key)
		list(e, d.Giver.Extra[key], e.text)
	})
	e.flag(d.Giver.Superuser)
	e.subject(d.To)
	list(e, d.Rules, e.rule)
	list(e, d.Roles, e.text)
	list(e, d.Sites, e.text)
	list(e, d.Namespaces, e.text)
	list(e, d.NamespaceLabels, e.requirement)
	e.time(d.NotBefore)
	e.time(d.NotAfter)
	e.flag(d.MayDelegate)
}

func (e *encoder) policy(p authz.Policy) {
	e.text(p.Name)
	e.b = append(e.b, byte(p.Effect))
	list(e, p.Subjects, e.policySubject)
	list(e, p.Rules, e.rule)
	list(e, p.Roles, e.text)
	list(e, p.Sites, e.text)
	list(e, p.Namespaces, e.text)
	list(e, p.NamespaceLabels, e.requirement)
	list(e, p.LabelSelector, e.requirement)
	list(e, p.FieldSelector, e.requirement)
	e.time(p.NotBefore)
	e.time(p.NotAfter)
	e.text(p.Message)
	e.flag(p.Condition != nil)
	if p.Condition == nil {
		return
	}
	text, ok := p.Condition.(fmt.Stringer)
	if !ok {
		e.err = fmt.Errorf("policy %q: its condition has no text", p.Name)
		return
	}
	e.text(text.String())
}
