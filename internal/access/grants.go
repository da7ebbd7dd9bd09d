package access

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	federationv1alpha1 "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
)

const (
	// DomainLabel names the domain of a namespace of the control plane; one
	// without the label belongs to DefaultDomain.
	DomainLabel   = "gatehouse.dev/domain"
	DefaultDomain = "default"
)

// Grants feeds what decides beside RBAC. Get it from [Policy.WithGrants].
type Grants struct {
	AccessPolicies *Feed[*accessv1alpha1.AccessPolicy]
	Bans           *Feed[*accessv1alpha1.Ban]
	Delegations    *Feed[*accessv1alpha1.Delegation]
	// Accounts are the service accounts: what one of them gave away ends with
	// it.
	Accounts *Feed[*corev1.ServiceAccount]
	// Namespaces are those of the control plane, for policies that choose
	// namespaces by label or subjects by domain.
	Namespaces *Feed[*corev1.Namespace]

	translator grant.Translator

	// The rest is guarded by Policy.mu.

	domains map[string]string                       // of each namespace
	owners  map[string]string                       // owner namespace of each site
	members map[string]*accessv1alpha1.AccessPolicy // policies with a subject that is a domain
	moved   bool                                    // since members were last translated

	accounts map[string]types.UID                  // of each service account, by user name
	given    map[string]*accessv1alpha1.Delegation // by name
	givers   map[string]map[string]struct{}        // delegations of each service account
}

// WithGrants adds the feeds beyond RBAC. It must be called before any feed is
// used, and makes the policy wait for the new feeds too. compile compiles
// conditions; without it every condition fails.
func (p *Policy) WithGrants(compile func(accessv1alpha1.Effect, string) (authz.Condition, error)) *Grants {
	g := &Grants{
		domains: map[string]string{}, owners: map[string]string{}, members: map[string]*accessv1alpha1.AccessPolicy{},
		accounts: map[string]types.UID{}, given: map[string]*accessv1alpha1.Delegation{}, givers: map[string]map[string]struct{}{},
	}
	g.translator = grant.Translator{NamespacesOf: g.namespacesOf, SitesOf: g.sitesOf, Compile: compile}
	g.AccessPolicies = newFeed(p, "accesspolicies",
		func(tx *authz.Tx, a *accessv1alpha1.AccessPolicy) {
			delete(g.members, a.Name)
			if slices.ContainsFunc(a.Spec.Subjects, func(s accessv1alpha1.Subject) bool { return s.Domain != "" }) {
				g.members[a.Name] = a
			}
			tx.PutPolicy(g.translator.AccessPolicy(a))
		},
		func(tx *authz.Tx, k key) {
			delete(g.members, k.name)
			tx.DeletePolicy(k.name)
		})
	g.Bans = newFeed(p, "bans",
		func(tx *authz.Tx, b *accessv1alpha1.Ban) { tx.PutBan(g.translator.Ban(b)) },
		func(tx *authz.Tx, k key) { tx.DeleteBan(k.name) })
	g.Delegations = newFeed(p, "delegations", g.putDelegation, func(tx *authz.Tx, k key) {
		g.forgetDelegation(k.name)
		tx.DeleteDelegation(k.name)
	})
	g.Accounts = newFeed(p, "serviceaccounts",
		func(tx *authz.Tx, a *corev1.ServiceAccount) {
			g.account(tx, serviceAccountUser+a.Namespace+":"+a.Name, a.UID)
		},
		func(tx *authz.Tx, k key) { g.account(tx, serviceAccountUser+k.namespace+":"+k.name, "") })
	g.Namespaces = newFeed(p, "namespaces",
		func(tx *authz.Tx, n *corev1.Namespace) {
			g.move(g.domains, n.Name, domainOf(n))
			tx.PutNamespace(authz.ControlPlane, n.Name, n.Labels)
		},
		func(tx *authz.Tx, k key) {
			g.move(g.domains, k.name, "")
			tx.DeleteNamespace(authz.ControlPlane, k.name)
		})
	slices.Sort(p.unlisted)
	p.grants = g
	return g
}

func domainOf(n *corev1.Namespace) string {
	if domain := n.Labels[DomainLabel]; domain != "" {
		return domain
	}
	return DefaultDomain
}

// site notes the owner of a site; nil is a site that is gone.
func (g *Grants) site(name string, s *federationv1alpha1.Site) {
	owner := ""
	if s != nil {
		owner = s.Spec.OwnerNamespace
	}
	g.move(g.owners, name, owner)
}

// move changes where something belongs; to nowhere when to is empty.
func (g *Grants) move(where map[string]string, name, to string) {
	if where[name] == to {
		return
	}
	g.moved = true
	if to == "" {
		delete(where, name)
		return
	}
	where[name] = to
}

// settle translates the policies for domains again once members have moved.
// It runs at the end of each change, so that a list costs one round.
func (g *Grants) settle(tx *authz.Tx) {
	if !g.moved {
		return
	}
	g.moved = false
	for _, a := range g.members {
		tx.PutPolicy(g.translator.AccessPolicy(a))
	}
}

func (g *Grants) namespacesOf(domain string) []string {
	var out []string
	for namespace, of := range g.domains {
		if of == domain {
			out = append(out, namespace)
		}
	}
	slices.Sort(out)
	return out
}

func (g *Grants) sitesOf(domain string) []string {
	var out []string
	for site, owner := range g.owners {
		// An owner namespace that does not exist is in no domain.
		if g.domains[owner] == domain {
			out = append(out, site)
		}
	}
	slices.Sort(out)
	return out
}
