package authz

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Engine holds the current policy. Any number of goroutines may take
// snapshots while one changes policy; writers wait for one another.
type Engine struct {
	mu   sync.Mutex // serialises Update
	live atomic.Pointer[Snapshot]
}

// New returns an engine without any policy: every decision is no opinion.
func New() *Engine {
	e := new(Engine)
	e.live.Store(&Snapshot{})
	return e
}

// Snapshot returns the policy as the last completed Update left it. It never
// blocks.
func (e *Engine) Snapshot() *Snapshot { return e.live.Load() }

// Update runs change and publishes its effects as one new snapshot, which it
// returns. Readers see all of the change or nothing. If change panics nothing
// is published and the engine stays usable. The Tx must not be used after
// change returns.
//
// Strings and slices of the values passed to the Tx are retained and must not
// be changed afterwards.
func (e *Engine) Update(change func(*Tx)) *Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.live.Load()
	tx := &Tx{s: &Snapshot{roles: maps.Clone(old.roles), bindings: maps.Clone(old.bindings), sites: maps.Clone(old.sites)}}
	if tx.s.roles == nil {
		tx.s.roles, tx.s.bindings, tx.s.sites = map[objectKey]Role{}, map[objectKey]Binding{}, map[string]Site{}
	}
	change(tx)
	for _, b := range tx.s.bindings {
		tx.s.ordered = append(tx.s.ordered, b)
	}
	slices.SortFunc(tx.s.ordered, func(a, b Binding) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	e.live.Store(tx.s)
	return tx.s
}

// Tx is a change in progress. Puts replace what has the same namespace and
// name; deletes of what is absent do nothing. Roles and bindings may come in
// any order.
type Tx struct{ s *Snapshot }

// PutRole adds or replaces a role. Every binding that names it uses the new
// rules.
func (t *Tx) PutRole(r Role) { t.s.roles[objectKey{r.Namespace, r.Name}] = r }

// DeleteRole removes a role; bindings that name it grant nothing from then on.
func (t *Tx) DeleteRole(namespace, name string) { delete(t.s.roles, objectKey{namespace, name}) }

// PutBinding adds or replaces a binding.
func (t *Tx) PutBinding(b Binding) { t.s.bindings[objectKey{b.Namespace, b.Name}] = b }

// DeleteBinding removes a binding.
func (t *Tx) DeleteBinding(namespace, name string) {
	delete(t.s.bindings, objectKey{namespace, name})
}

// PutSite adds or replaces a site. RBAC objects answer no question of a site
// that was not put, or was put without SharedRBAC.
func (t *Tx) PutSite(s Site) { t.s.sites[s.Name] = s }

// DeleteSite removes a site.
func (t *Tx) DeleteSite(name string) { delete(t.s.sites, name) }

// Clear removes all policy, for a writer that starts over from a full list.
func (t *Tx) Clear() { clear(t.s.roles); clear(t.s.bindings); clear(t.s.sites) }

type objectKey struct{ namespace, name string }
