package access

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Change is an object as it would be put, or one that would be deleted.
type Change struct {
	Object metav1.Object
	Delete bool
}

// WhatIf returns the policy as it is and as the changes would leave it, which
// are made in their order and published to nobody. Kinds that are no policy
// are an error of kind Invalid. Aggregated roles are taken as they are given.
func (p *Policy) WhatIf(changes []Change) (before, after *authz.Snapshot, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.grants == nil {
		return nil, nil, fault.New(fault.Internal, "no policy beyond RBAC is followed")
	}
	// What belongs to a domain is computed on copies.
	g := &Grants{
		domains: maps.Clone(p.grants.domains), owners: p.grants.owners, members: maps.Clone(p.grants.members),
		accounts: p.grants.accounts, given: maps.Clone(p.grants.given), givers: map[string]map[string]struct{}{},
	}
	g.translator = p.grants.translator
	g.translator.NamespacesOf, g.translator.SitesOf = g.namespacesOf, g.sitesOf
	before = p.engine.Snapshot()
	after = p.engine.WhatIf(func(tx *authz.Tx) {
		for _, c := range changes {
			if err = g.foresee(tx, c); err != nil {
				return
			}
		}
		g.settle(tx)
	})
	if err != nil {
		return nil, nil, err
	}
	return before, after, nil
}

// foresee makes one change. It does what the feed of the kind does.
func (g *Grants) foresee(tx *authz.Tx, c Change) error {
	name, namespace := c.Object.GetName(), c.Object.GetNamespace()
	switch o := c.Object.(type) {
	case *rbacv1.Role:
		if c.Delete {
			tx.DeleteRole(namespace, name)
		} else {
			tx.PutRole(rbac.Role(o))
		}
	case *rbacv1.ClusterRole:
		if c.Delete {
			tx.DeleteRole("", name)
		} else {
			tx.PutRole(rbac.ClusterRole(o))
		}
	case *rbacv1.RoleBinding:
		if c.Delete {
			tx.DeleteBinding(namespace, name)
		} else {
			tx.PutBinding(rbac.RoleBinding(o))
		}
	case *rbacv1.ClusterRoleBinding:
		if c.Delete {
			tx.DeleteBinding("", name)
		} else {
			tx.PutBinding(rbac.ClusterRoleBinding(o))
		}
	case *accessv1alpha1.AccessPolicy:
		delete(g.members, name)
		if c.Delete {
			tx.DeletePolicy(name)
			break
		}
		if slices.ContainsFunc(o.Spec.Subjects, func(s accessv1alpha1.Subject) bool { return s.Domain != "" }) {
			g.members[name] = o
		}
		tx.PutPolicy(g.translator.AccessPolicy(o))
	case *accessv1alpha1.Ban:
		if c.Delete {
			tx.DeleteBan(name)
		} else {
			tx.PutBan(g.translator.Ban(o))
		}
	case *accessv1alpha1.Delegation:
		if c.Delete {
			tx.DeleteDelegation(name)
		} else {
			g.putDelegation(tx, o)
		}
	case *corev1.Namespace:
		if c.Delete {
			g.move(g.domains, name, "")
			tx.DeleteNamespace(authz.ControlPlane, name)
		} else {
			g.move(g.domains, name, domainOf(o))
			tx.PutNamespace(authz.ControlPlane, name, o.Labels)
		}
	default:
		return fault.New(fault.Invalid, fmt.Sprintf("%T is no policy", c.Object))
	}
	return nil
}
