// Package policy decides which requests are recorded, at which stages and with
// how much of them: audit.k8s.io/v1 Policy files, understood as kube-apiserver
// understands them.
//
// It owns: the file format and its validation, the evaluation, raising a base
// by further policies that can never lower it ([Chain]), and the policy that
// holds when none is configured ([Default]). It refuses: unknown fields, where
// upstream warns and reads on with the field ignored, so that a misspelt
// condition is not silently a wider rule.
//
// Start at [Parse] and [Chain.Evaluate].
package policy

import (
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
)

// File is a Policy file.
type File struct {
	Kind       string         `json:"kind"`
	APIVersion string         `json:"apiVersion"`
	Metadata   map[string]any `json:"metadata,omitempty"`
	// Rules are tried in order, the first that matches decides. Without a
	// match nothing is recorded.
	Rules []Rule `json:"rules"`
	// OmitStages are not recorded whatever rule matches.
	OmitStages []audit.Stage `json:"omitStages,omitempty"`
	// OmitManagedFields leaves managedFields out of recorded bodies, unless
	// the rule says otherwise.
	OmitManagedFields bool `json:"omitManagedFields,omitempty"`
}

// Rule matches a request when every field that is set matches.
type Rule struct {
	Level      audit.Level      `json:"level"`
	Users      []string         `json:"users,omitempty"`
	UserGroups []string         `json:"userGroups,omitempty"`
	Verbs      []string         `json:"verbs,omitempty"`
	Resources  []GroupResources `json:"resources,omitempty"`
	// Namespaces matches resource requests only; "" is a cluster-wide one.
	Namespaces []string `json:"namespaces,omitempty"`
	// NonResourceURLs matches paths, with a "*" at the end as wildcard.
	NonResourceURLs   []string      `json:"nonResourceURLs,omitempty"`
	OmitStages        []audit.Stage `json:"omitStages,omitempty"`
	OmitManagedFields *bool         `json:"omitManagedFields,omitempty"`
}

// GroupResources matches resources of one API group, or with "*" of all. A
// resource is "pods", "pods/log", "pods/*", "*/log" or "*".
type GroupResources struct {
	Group         string   `json:"group,omitempty"`
	Resources     []string `json:"resources,omitempty"`
	ResourceNames []string `json:"resourceNames,omitempty"`
}

// Request is what rules look at.
type Request struct {
	// HasUser is false when authentication failed: then no rule that names
	// users or groups matches.
	HasUser bool
	User    string
	Groups  []string
	Verb    string

	Resource    bool // whether it is a request for a resource
	APIGroup    string
	Plural      string
	Subresource string
	Namespace   string
	Name        string

	Path string // of a request for none
}

// Decision says what to record of a request. The zero Decision records nothing.
type Decision struct {
	Level             audit.Level
	OmitStages        []audit.Stage
	OmitManagedFields bool
}

// Records says whether an event is made at the stage.
func (d Decision) Records(stage audit.Stage) bool {
	return d.Level.Rank() > 0 && !slices.Contains(d.OmitStages, stage)
}

// Policy is a validated policy. It is immutable and safe for concurrent use.
type Policy struct {
	file File
	omit [][]audit.Stage // of each rule, the file's included
}

// Evaluate returns the decision of the first rule that matches.
func (p *Policy) Evaluate(r *Request) Decision {
	for i := range p.file.Rules {
		rule := &p.file.Rules[i]
		if !rule.matches(r) {
			continue
		}
		return p.decision(i)
	}
	return p.none()
}

// decision is that of the rule i.
func (p *Policy) decision(i int) Decision {
	rule := &p.file.Rules[i]
	d := Decision{Level: rule.Level, OmitStages: p.omit[i], OmitManagedFields: p.file.OmitManagedFields}
	if rule.OmitManagedFields != nil {
		d.OmitManagedFields = *rule.OmitManagedFields
	}
	return d
}

// none is the decision when no rule matches.
func (p *Policy) none() Decision {
	return Decision{Level: audit.LevelNone, OmitStages: p.file.OmitStages, OmitManagedFields: p.file.OmitManagedFields}
}

func (r *Rule) matches(q *Request) bool {
	if len(r.Users) > 0 && (!q.HasUser || !slices.Contains(r.Users, q.User)) {
		return false
	}
	if len(r.UserGroups) > 0 && (!q.HasUser || !slices.ContainsFunc(q.Groups, func(g string) bool { return slices.Contains(r.UserGroups, g) })) {
		return false
	}
	if len(r.Verbs) > 0 && !slices.Contains(r.Verbs, q.Verb) {
		return false
	}
	switch {
	case len(r.Namespaces) > 0 || len(r.Resources) > 0:
		return q.Resource && r.matchesResource(q)
	case len(r.NonResourceURLs) > 0:
		return !q.Resource && slices.ContainsFunc(r.NonResourceURLs, func(spec string) bool { return matchesPath(spec, q.Path) })
	}
	return true
}

func (r *Rule) matchesResource(q *Request) bool {
	if len(r.Namespaces) > 0 && !slices.Contains(r.Namespaces, q.Namespace) {
		return false
	}
	return len(r.Resources) == 0 || slices.ContainsFunc(r.Resources, func(g GroupResources) bool { return g.matches(q) })
}

func (g GroupResources) matches(q *Request) bool {
	if g.Group != "*" && g.Group != q.APIGroup {
		return false
	}
	if len(g.Resources) == 0 {
		return true
	}
	if len(g.ResourceNames) > 0 && !slices.Contains(g.ResourceNames, q.Name) {
		return false
	}
	full := q.Plural
	if q.Subresource != "" {
		full += "/" + q.Subresource
	}
	return slices.ContainsFunc(g.Resources, func(want string) bool {
		if want == "*" || want == full {
			return true
		}
		plural, sub, ok := strings.Cut(want, "/")
		// "pods/*" matches pods themselves too, as upstream has it.
		return ok && ((plural == "*" && q.Subresource != "" && sub == q.Subresource) || (strings.HasSuffix(want, "/*") && strings.TrimSuffix(want, "/*") == q.Plural))
	})
}

func matchesPath(spec, path string) bool {
	if spec == "*" || spec == path {
		return true
	}
	return strings.HasSuffix(spec, "*") && strings.HasPrefix(path, strings.TrimRight(spec, "*"))
}

// Chain is a base policy and others that add to it. It is immutable.
type Chain struct {
	base  *Policy
	raise []*Policy
}

// NewChain returns a chain. The raising policies can record what base does
// not, and never keep out what base records.
func NewChain(base *Policy, raise ...*Policy) *Chain {
	return &Chain{base: base, raise: slices.Clone(raise)}
}

// Evaluate returns the highest level that any policy asks for. A stage is left
// out only if every policy that records the request leaves it out, and
// managedFields only if all of those do.
func (c *Chain) Evaluate(r *Request) Decision {
	d := c.base.Evaluate(r)
	for _, p := range c.raise {
		d = join(d, p.Evaluate(r))
	}
	return d
}

func join(a, b Decision) Decision {
	if b.Level.Rank() <= 0 {
		return a
	}
	if a.Level.Rank() <= 0 {
		return b
	}
	if b.Level.Rank() > a.Level.Rank() {
		a.Level = b.Level
	}
	var omit []audit.Stage
	for _, s := range a.OmitStages {
		if slices.Contains(b.OmitStages, s) {
			omit = append(omit, s)
		}
	}
	a.OmitStages = omit
	a.OmitManagedFields = a.OmitManagedFields && b.OmitManagedFields
	return a
}
