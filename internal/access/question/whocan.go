package question

import (
	"context"
	"slices"
	"strings"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
)

// Holder is a subject with a grant.
type Holder struct {
	Subject authz.Subject
	// Prefix is set when the subject is every name that begins with
	// Subject.Name.
	Prefix bool
	// Domain is set, and Subject.Name is not, when the subject is every service
	// account in the namespaces of a domain.
	Domain string
	// ResourceNames is set when the question named no object and the grant is
	// for these only.
	ResourceNames []string
	// Members are those of a group, or of a domain, that are known and that may
	// do it.
	Members []authz.Subject
	// Reason names the grant, or what overrules it.
	Reason string
}

// WhoCan returns who may do what q describes in the control plane, superusers
// first, and who holds a grant that a ban or a deny overrules. Of a question
// with an object, holders whose grant is a condition on it are found only if q
// carries the object. Members of groups are added where they are known; what a
// prefix stands for is not enumerated.
func (a Asker) WhoCan(ctx context.Context, q authz.Request) (holders, refused []Holder, err error) {
	bound, err := a.Access.WhoCan(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	for _, h := range bound {
		reason := `allowed to members of group "` + access.SuperuserGroup + `"`
		if h.Grant.Name != "" {
			reason = "RBAC: allowed by " + h.Grant.String()
		}
		holder := Holder{Subject: h.Subject, ResourceNames: h.ResourceNames, Reason: reason}
		d, err := a.Access.Decide(ctx, as(h.Subject), q)
		switch {
		case err != nil:
			return nil, nil, err
		case d.Denied():
			holder.Reason = d.Reason()
			refused = append(refused, holder)
		case d.Allowed(), len(h.ResourceNames) > 0:
			out, err := a.expand(ctx, &holder, q)
			if err != nil {
				return nil, nil, err
			}
			holders, refused = append(holders, holder), append(refused, out...)
		}
	}
	for _, policy := range allowing(a.Policies) {
		for _, candidate := range a.candidates(policy) {
			d, err := a.Access.Decide(ctx, as(candidate.probe), q)
			if err != nil {
				return nil, nil, err
			}
			// A binding that allows too stands in the list already.
			if by, ok := d.AccessPolicy(); ok && d.Allowed() && by.Name == policy.Name {
				candidate.Reason = d.Reason()
				out, err := a.expand(ctx, &candidate.Holder, q)
				if err != nil {
					return nil, nil, err
				}
				holders, refused = append(holders, candidate.Holder), append(refused, out...)
			}
		}
	}
	received, err := a.received(ctx, q)
	return append(holders, received...), refused, err
}

// received are those to whom the right was handed on, and who do not hold it
// otherwise.
func (a Asker) received(ctx context.Context, q authz.Request) ([]Holder, error) {
	var delegations []authz.Delegation
	a.Policy.Snapshot().EachDelegation(func(d *authz.Delegation) { delegations = append(delegations, *d) })
	slices.SortFunc(delegations, func(x, y authz.Delegation) int { return strings.Compare(x.Name, y.Name) })
	var out []Holder
	for _, one := range delegations {
		d, err := a.Access.Decide(ctx, as(one.To), q)
		if err != nil {
			return nil, err
		}
		if chain := d.Delegations(); d.Allowed() && len(chain) > 0 && chain[0].Name == one.Name {
			out = append(out, Holder{Subject: one.To, Reason: d.Reason()})
		}
	}
	return out, nil
}

// expand adds the members of a group that is a holder. Those that are denied
// come back: what denies them does not deny the group.
func (a Asker) expand(ctx context.Context, h *Holder, q authz.Request) (refused []Holder, err error) {
	if h.Prefix {
		return nil, nil
	}
	var members []authz.Subject
	switch {
	case h.Domain != "":
		for _, namespace := range a.Policy.NamespacesOf(h.Domain) {
			list, _ := a.Accounts.members("system:serviceaccounts:" + namespace)
			members = append(members, list...)
		}
	case h.Subject.Kind == authz.Group:
		members, _ = a.Accounts.members(h.Subject.Name)
	}
	for _, m := range members {
		d, err := a.Access.Decide(ctx, as(m), q)
		switch {
		case err != nil:
			return nil, err
		case d.Denied():
			refused = append(refused, Holder{Subject: m, Reason: d.Reason()})
		case d.Allowed(), len(h.ResourceNames) > 0:
			h.Members = append(h.Members, m)
		}
	}
	return refused, nil
}

// candidate is a subject that a policy names, and somebody to ask about in its
// place.
type candidate struct {
	Holder
	probe authz.Subject
}

// candidates are the subjects that a policy names. Sites are no callers, and a
// domain without namespaces is nobody.
func (a Asker) candidates(policy *accessv1alpha1.AccessPolicy) []candidate {
	var out []candidate
	for i := range policy.Spec.Subjects {
		s := &policy.Spec.Subjects[i]
		h := Holder{Subject: authz.Subject{Name: s.Name, Namespace: s.Namespace}, Prefix: s.NamePrefix != ""}
		if h.Prefix {
			h.Subject.Name = s.NamePrefix
		}
		switch s.Kind {
		case accessv1alpha1.SubjectUser:
			h.Subject.Kind = authz.User
		case accessv1alpha1.SubjectGroup:
			h.Subject.Kind = authz.Group
		case accessv1alpha1.SubjectServiceAccount:
			h.Subject.Kind = authz.ServiceAccount
		}
		switch {
		case h.Subject.Kind == authz.ServiceAccount && s.Domain != "":
			for _, namespace := range a.Policy.NamespacesOf(s.Domain) {
				// All of them stand in the policy alike: one is enough to ask.
				h.Domain = s.Domain
				out = append(out, candidate{h, authz.Subject{Kind: authz.Group, Name: "system:serviceaccounts:" + namespace}})
				break
			}
		case h.Subject.Kind != "" && h.Subject.Name != "":
			out = append(out, candidate{h, h.Subject})
		}
	}
	return out
}

// as is a caller of whom nothing is known but what a grant says.
func as(s authz.Subject) access.Subject {
	switch s.Kind {
	case authz.Group:
		return access.Subject{Groups: []string{s.Name}}
	case authz.ServiceAccount:
		return access.Subject{
			Name:   "system:serviceaccount:" + s.Namespace + ":" + s.Name,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + s.Namespace, authenticated},
		}
	default:
		return access.Subject{Name: s.Name}
	}
}

const authenticated = "system:authenticated"
