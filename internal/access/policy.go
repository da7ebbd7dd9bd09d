package access

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	federationv1alpha1 "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Policy is the engine with everything that feeds it. Each kind has a [Feed];
// feeds may be used from different goroutines.
type Policy struct {
	Roles               *Feed[*rbacv1.Role]
	ClusterRoles        *Feed[*rbacv1.ClusterRole]
	RoleBindings        *Feed[*rbacv1.RoleBinding]
	ClusterRoleBindings *Feed[*rbacv1.ClusterRoleBinding]
	Sites               *Feed[*federationv1alpha1.Site]

	engine *authz.Engine
	ready  atomic.Bool // set once unlisted is empty, so that decisions wait for no writer

	mu       sync.RWMutex
	rules    map[key][]authz.Rule // guarded by mu; of every role, for checks on bindings
	unlisted []string             // guarded by mu; kinds without a first Replace, sorted
	grants   *Grants              // nil without WithGrants
}

type key struct{ namespace, name string }

// NewPolicy returns a policy that is not ready.
func NewPolicy() *Policy {
	p := &Policy{engine: authz.New(), rules: map[key][]authz.Rule{}}
	p.Roles = newFeed(p, "roles",
		func(tx *authz.Tx, r *rbacv1.Role) {
			role := rbac.Role(r)
			p.rules[key{role.Namespace, role.Name}] = role.Rules
			tx.PutRole(role)
		}, p.deleteRole)
	p.ClusterRoles = newFeed(p, "clusterroles",
		func(tx *authz.Tx, r *rbacv1.ClusterRole) {
			role := rbac.ClusterRole(r)
			p.rules[key{name: role.Name}] = role.Rules
			tx.PutRole(role)
		}, p.deleteRole)
	p.RoleBindings = newFeed(p, "rolebindings",
		func(tx *authz.Tx, b *rbacv1.RoleBinding) { tx.PutBinding(rbac.RoleBinding(b)) }, deleteBinding)
	p.ClusterRoleBindings = newFeed(p, "clusterrolebindings",
		func(tx *authz.Tx, b *rbacv1.ClusterRoleBinding) { tx.PutBinding(rbac.ClusterRoleBinding(b)) }, deleteBinding)
	p.Sites = newFeed(p, "sites",
		func(tx *authz.Tx, s *federationv1alpha1.Site) {
			if p.grants != nil {
				p.grants.site(s.Name, s)
			}
			tx.PutSite(site(s))
		},
		func(tx *authz.Tx, k key) {
			if p.grants != nil {
				p.grants.site(k.name, nil)
			}
			tx.DeleteSite(k.name)
		})
	slices.Sort(p.unlisted)
	return p
}

func (p *Policy) deleteRole(tx *authz.Tx, k key) {
	delete(p.rules, k)
	tx.DeleteRole(k.namespace, k.name)
}

func deleteBinding(tx *authz.Tx, k key) { tx.DeleteBinding(k.namespace, k.name) }

// site keeps RBAC out of the answers to sites in any mode but Full: in the
// others the control plane may refuse for the site, and grants nothing.
func site(s *federationv1alpha1.Site) authz.Site {
	return authz.Site{
		Name:       s.Name,
		SharedRBAC: s.Spec.Mode == federationv1alpha1.SiteFull && s.Spec.Authorization.RBAC == federationv1alpha1.SiteRBACShared,
	}
}

// Ready returns an error of kind Unavailable, which names what is missing,
// until every kind has been listed once.
func (p *Policy) Ready() error {
	if p.ready.Load() {
		return nil
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return fault.New(fault.Unavailable, "access policy is not loaded yet: waiting for "+strings.Join(p.unlisted, ", "))
}

// Snapshot returns the current policy, complete or not.
func (p *Policy) Snapshot() *authz.Snapshot { return p.engine.Snapshot() }

// roleRules returns the rules of a role, namespace "" meaning a cluster role.
func (p *Policy) roleRules(namespace, name string) ([]authz.Rule, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	rules, ok := p.rules[key{namespace, name}]
	return rules, ok
}

// Feed takes the objects of one kind in the order of their changes. Objects
// are shared with the policy and must not change after they were passed.
// Every call is visible to decisions, as a whole, when it returns.
type Feed[T metav1.Object] struct {
	policy *Policy
	kind   string
	put    func(*authz.Tx, T)
	delete func(*authz.Tx, key)
	held   map[key]struct{} // guarded by policy.mu
}

func newFeed[T metav1.Object](p *Policy, kind string, put func(*authz.Tx, T), del func(*authz.Tx, key)) *Feed[T] {
	p.unlisted = append(p.unlisted, kind)
	return &Feed[T]{policy: p, kind: kind, put: put, delete: del, held: map[key]struct{}{}}
}

// Replace makes objs all that there is of the kind. It comes first, and again
// after a gap in the events.
func (f *Feed[T]) Replace(objs []T) {
	f.policy.mu.Lock()
	defer f.policy.mu.Unlock()
	f.policy.update(func(tx *authz.Tx) {
		gone := f.held
		f.held = make(map[key]struct{}, len(objs))
		for _, obj := range objs {
			k := keyOf(obj)
			delete(gone, k)
			f.held[k] = struct{}{}
			f.put(tx, obj)
		}
		for k := range gone {
			f.delete(tx, k)
		}
	})
	f.policy.unlisted = slices.DeleteFunc(f.policy.unlisted, func(kind string) bool { return kind == f.kind })
	if len(f.policy.unlisted) == 0 {
		f.policy.ready.Store(true)
	}
}

// Put adds an object or a new state of it.
func (f *Feed[T]) Put(obj T) {
	f.change(func(tx *authz.Tx) {
		f.held[keyOf(obj)] = struct{}{}
		f.put(tx, obj)
	})
}

// Delete removes an object, given in any state. One that is not there is not
// missed.
func (f *Feed[T]) Delete(obj T) {
	f.change(func(tx *authz.Tx) {
		delete(f.held, keyOf(obj))
		f.delete(tx, keyOf(obj))
	})
}

func (f *Feed[T]) change(apply func(*authz.Tx)) {
	f.policy.mu.Lock()
	defer f.policy.mu.Unlock()
	f.policy.update(apply)
}

// update applies a change and what follows from it as one. The caller holds mu.
func (p *Policy) update(apply func(*authz.Tx)) {
	p.engine.Update(func(tx *authz.Tx) {
		apply(tx)
		if p.grants != nil {
			p.grants.settle(tx)
		}
	})
}

func keyOf(obj metav1.Object) key { return key{obj.GetNamespace(), obj.GetName()} }
