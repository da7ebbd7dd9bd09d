package question

import (
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
)

// Held holds the objects of one kind of cluster scope by name, as a feed of the
// watch. It is safe for concurrent use; objects are shared and must not change.
type Held[T metav1.Object] struct {
	mu   sync.RWMutex // guards held
	held map[string]T
}

// NewHeld returns an empty list.
func NewHeld[T metav1.Object]() *Held[T] { return &Held[T]{held: map[string]T{}} }

// Replace sets all objects.
func (h *Held[T]) Replace(all []T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.held)
	for _, one := range all {
		h.held[one.GetName()] = one
	}
}

// Put adds or changes an object.
func (h *Held[T]) Put(one T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held[one.GetName()] = one
}

// Delete removes an object.
func (h *Held[T]) Delete(one T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.held, one.GetName())
}

// all returns a copy of the list.
func (h *Held[T]) all() map[string]T {
	if h == nil {
		return map[string]T{}
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	return maps.Clone(h.held)
}

func (h *Held[T]) get(name string) (T, bool) {
	if h == nil {
		var none T
		return none, false
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	one, ok := h.held[name]
	return one, ok
}

// Policies are the access policies.
type Policies = Held[*accessv1alpha1.AccessPolicy]

// NewPolicies returns an empty list.
func NewPolicies() *Policies { return NewHeld[*accessv1alpha1.AccessPolicy]() }

// allowing returns the policies that allow, by name.
func allowing(p *Policies) []*accessv1alpha1.AccessPolicy {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var out []*accessv1alpha1.AccessPolicy
	for _, name := range slices.Sorted(maps.Keys(p.held)) {
		if p.held[name].Spec.Effect == accessv1alpha1.EffectAllow {
			out = append(out, p.held[name])
		}
	}
	return out
}

// Accounts holds the names of the service accounts, as a feed of the watch. It
// is safe for concurrent use.
type Accounts struct {
	mu    sync.RWMutex // guards names
	names map[string]map[string]bool
}

// NewAccounts returns an empty list.
func NewAccounts() *Accounts { return &Accounts{names: map[string]map[string]bool{}} }

// Replace sets all accounts.
func (a *Accounts) Replace(all []*corev1.ServiceAccount) {
	a.mu.Lock()
	clear(a.names)
	a.mu.Unlock()
	for _, one := range all {
		a.Put(one)
	}
}

// Put adds an account.
func (a *Accounts) Put(one *corev1.ServiceAccount) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.names[one.Namespace] == nil {
		a.names[one.Namespace] = map[string]bool{}
	}
	a.names[one.Namespace][one.Name] = true
}

// Delete removes an account.
func (a *Accounts) Delete(one *corev1.ServiceAccount) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.names[one.Namespace], one.Name)
	if len(a.names[one.Namespace]) == 0 {
		delete(a.names, one.Namespace)
	}
}

// MaxMembers is how many members of a group are spelt out.
const MaxMembers = 1000

// members returns the members of a group in order, as far as the control plane
// knows them: service accounts. known is false for every other group, and for
// one of more than [MaxMembers].
func (a *Accounts) members(group string) (list []authz.Subject, known bool) {
	rest, ok := strings.CutPrefix(group, "system:serviceaccounts")
	if a == nil || !ok || rest != "" && rest[0] != ':' {
		return nil, false
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	spaces := []string{strings.TrimPrefix(rest, ":")}
	if rest == "" {
		spaces = slices.Sorted(maps.Keys(a.names))
	}
	for _, space := range spaces {
		if len(list)+len(a.names[space]) > MaxMembers {
			return nil, false
		}
		for _, name := range slices.Sorted(maps.Keys(a.names[space])) {
			list = append(list, authz.Subject{Kind: authz.ServiceAccount, Namespace: space, Name: name})
		}
	}
	return list, true
}

// AccessPolicy returns a policy as it is written.
func (a Asker) AccessPolicy(name string) (*accessv1alpha1.AccessPolicy, bool) {
	return a.Policies.get(name)
}
