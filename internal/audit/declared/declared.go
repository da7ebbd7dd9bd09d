// Package declared reads what is declared about the record as objects of the
// API: AuditPolicies that raise the static policy, and what an AuditSink lets
// through.
//
// It owns: turning a declared policy into a [policy.Policy], the raised policy
// that is in force ([Raised]), to whom an event belongs ([Tenants]) and what a
// sink's scope lets through ([Scope]). It refuses: delivering anything.
//
// Start at [Raised] and [Tenants].
package declared

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
)

// File returns a declared policy in the form of a policy file.
func File(spec *auditapi.PolicySpec) policy.File {
	f := policy.File{
		APIVersion: audit.APIVersion, Kind: "Policy",
		OmitStages: stages(spec.OmitStages), OmitManagedFields: spec.OmitManagedFields,
	}
	for i := range spec.Rules {
		r := &spec.Rules[i]
		rule := policy.Rule{
			Level: audit.Level(r.Level), Users: r.Users, UserGroups: r.UserGroups, Verbs: r.Verbs, Namespaces: r.Namespaces,
			NonResourceURLs: r.NonResourceURLs, OmitStages: stages(r.OmitStages), OmitManagedFields: r.OmitManagedFields,
		}
		for _, g := range r.Resources {
			rule.Resources = append(rule.Resources, policy.GroupResources{Group: g.Group, Resources: g.Resources, ResourceNames: g.ResourceNames})
		}
		f.Rules = append(f.Rules, rule)
	}
	return f
}

func stages(in []string) []audit.Stage {
	var out []audit.Stage
	for _, s := range in {
		out = append(out, audit.Stage(s))
	}
	return out
}

// Policy compiles a declared policy; nil stands for none.
func Policy(spec *auditapi.PolicySpec) (*policy.Policy, error) {
	if spec == nil {
		return nil, nil
	}
	return policy.New(File(spec.DeepCopy()))
}

// Raised is the static policy and what AuditPolicies add to it. It is fed by a
// watch and takes effect with the next request. It is safe for concurrent use.
type Raised struct {
	base  *policy.Policy
	bad   func(name string, err error)
	chain atomic.Pointer[policy.Chain]

	mu   sync.Mutex // guards held
	held map[string]*policy.Policy
}

// NewRaised returns the static policy alone. bad is told of a policy that does
// not compile, which validation keeps out.
func NewRaised(base *policy.Policy, bad func(name string, err error)) *Raised {
	r := &Raised{base: base, bad: bad, held: map[string]*policy.Policy{}}
	r.chain.Store(policy.NewChain(base))
	return r
}

// Evaluate returns what to record of a request.
func (r *Raised) Evaluate(q *policy.Request) policy.Decision { return r.chain.Load().Evaluate(q) }

// Chain returns what is in force: another one after each change.
func (r *Raised) Chain() *policy.Chain { return r.chain.Load() }

// Replace sets all policies.
func (r *Raised) Replace(all []*auditapi.AuditPolicy) {
	r.change(func() {
		clear(r.held)
		for _, p := range all {
			r.put(p)
		}
	})
}

// Put adds or changes one policy.
func (r *Raised) Put(p *auditapi.AuditPolicy) { r.change(func() { r.put(p) }) }

// Delete removes one policy.
func (r *Raised) Delete(p *auditapi.AuditPolicy) { r.change(func() { delete(r.held, p.Name) }) }

func (r *Raised) put(p *auditapi.AuditPolicy) {
	compiled, err := Policy(&p.Spec)
	if err != nil {
		r.bad(p.Name, err)
		delete(r.held, p.Name)
		return
	}
	r.held[p.Name] = compiled
}

func (r *Raised) change(apply func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	apply()
	raise := make([]*policy.Policy, 0, len(r.held))
	for _, name := range slices.Sorted(maps.Keys(r.held)) {
		raise = append(raise, r.held[name])
	}
	r.chain.Store(policy.NewChain(r.base, raise...))
}
