package question

import (
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/held"
)

// Policies are the access policies.
type Policies = held.Objects[*accessv1alpha1.AccessPolicy]

// NewPolicies returns an empty list.
func NewPolicies() *Policies { return held.New[*accessv1alpha1.AccessPolicy]() }

// allowing returns the policies that allow, by name.
func allowing(p *Policies) []*accessv1alpha1.AccessPolicy {
	var out []*accessv1alpha1.AccessPolicy
	for _, one := range p.Sorted() {
		if one.Spec.Effect == accessv1alpha1.EffectAllow {
			out = append(out, one)
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
	return a.Policies.Get(name)
}
