// Package world makes one policy set and questions about it from a seed, in a
// form that every engine of these benches can be given: users in groups, roles
// of rules, bindings of users and groups to roles in a namespace or everywhere.
//
// Its shape is that of large clusters: B bindings among B/5 users, B/50 groups
// and as many namespaces, and B/20 roles (20 to 5,000) of one to twenty rules;
// one rule in ten is limited to names of objects, and a user is in about four
// groups. Half of the questions are aimed at something that a binding grants.
// The answers come from reading all of it plainly. Start at [New].
package world

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Rule allows verbs on one resource, for some names or, without any, for all.
type Rule struct {
	Verbs    []string
	Resource string
	Names    []string
}

// Binding gives a role to a user or a group, in a namespace or, with "",
// everywhere.
type Binding struct {
	Name, Subject   string
	Group           bool
	Role, Namespace string
}

// Question is one question, and its answer.
type Question struct {
	User                            string
	Groups                          []string
	Verb, Resource, Namespace, Name string
	Allowed                         bool
}

// World is a policy set with questions.
type World struct {
	Roles     map[string][]Rule
	Bindings  []Binding
	Members   map[string][]string // groups of each user
	Questions []Question
}

var verbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}

const resources = 200

// New makes a world of so many bindings and questions.
func New(bindings, questions int, seed uint64) *World {
	r := rand.New(rand.NewPCG(seed, uint64(bindings)))
	w := &World{Roles: map[string][]Rule{}, Members: map[string][]string{}}
	users, groups := max(1, bindings/5), max(1, bindings/50)
	roles := min(5000, max(20, bindings/20))
	user := func() string { return fmt.Sprintf("user%d", r.IntN(users)) }
	for i := range users {
		name := fmt.Sprintf("user%d", i)
		for range 1 + r.IntN(7) {
			if g := fmt.Sprintf("group%d", r.IntN(groups)); !slices.Contains(w.Members[name], g) {
				w.Members[name] = append(w.Members[name], g)
			}
		}
	}
	for i := range roles {
		name := fmt.Sprintf("role%d", i)
		for range 1 + r.IntN(20) {
			rule := Rule{Resource: fmt.Sprintf("resource%d", r.IntN(resources))}
			for range 1 + r.IntN(4) {
				if v := verbs[r.IntN(len(verbs))]; !slices.Contains(rule.Verbs, v) {
					rule.Verbs = append(rule.Verbs, v)
				}
			}
			if r.IntN(10) == 0 {
				rule.Names = []string{fmt.Sprintf("object%d", r.IntN(20)), fmt.Sprintf("object%d", 20+r.IntN(20))}
			}
			w.Roles[name] = append(w.Roles[name], rule)
		}
	}
	for i := range bindings {
		b := Binding{Name: fmt.Sprintf("binding%d", i), Subject: user(), Role: fmt.Sprintf("role%d", r.IntN(roles)), Namespace: fmt.Sprintf("namespace%d", r.IntN(groups))}
		if r.IntN(2) == 0 {
			b.Subject, b.Group = fmt.Sprintf("group%d", r.IntN(groups)), true
		}
		if r.IntN(4) == 0 {
			b.Namespace = ""
		}
		w.Bindings = append(w.Bindings, b)
	}
	held := map[string][]int{} // bindings by subject
	for i, b := range w.Bindings {
		held[key(b.Subject, b.Group)] = append(held[key(b.Subject, b.Group)], i)
	}
	for i := range questions {
		q := Question{User: user(), Verb: verbs[r.IntN(len(verbs))], Resource: fmt.Sprintf("resource%d", r.IntN(resources)),
			Namespace: fmt.Sprintf("namespace%d", r.IntN(groups)), Name: fmt.Sprintf("object%d", r.IntN(40))}
		q.Groups = w.Members[q.User]
		if mine := w.of(held, &q); i%2 == 0 && len(mine) > 0 {
			b := w.Bindings[mine[r.IntN(len(mine))]]
			rule := w.Roles[b.Role][r.IntN(len(w.Roles[b.Role]))]
			q.Verb, q.Resource = rule.Verbs[r.IntN(len(rule.Verbs))], rule.Resource
			if b.Namespace != "" {
				q.Namespace = b.Namespace
			}
			if len(rule.Names) > 0 {
				q.Name = rule.Names[0]
			}
		}
		for _, i := range w.of(held, &q) {
			b := &w.Bindings[i]
			if b.Namespace != "" && b.Namespace != q.Namespace {
				continue
			}
			q.Allowed = q.Allowed || slices.ContainsFunc(w.Roles[b.Role], func(x Rule) bool {
				return x.Resource == q.Resource && slices.Contains(x.Verbs, q.Verb) && (len(x.Names) == 0 || slices.Contains(x.Names, q.Name))
			})
		}
		w.Questions = append(w.Questions, q)
	}
	return w
}

func (w *World) of(held map[string][]int, q *Question) []int {
	out := slices.Clone(held[key(q.User, false)])
	for _, g := range q.Groups {
		out = append(out, held[key(g, true)]...)
	}
	return out
}

func key(name string, group bool) string {
	if group {
		return "group:" + name
	}
	return "user:" + name
}

// Data is the world as OPA is given it: by subject and namespace ("*" is
// everywhere) the roles, and by role, resource and verb the names ("*" is all).
func (w *World) Data() map[string]any {
	bindings := map[string]any{}
	for _, b := range w.Bindings {
		k, ns := key(b.Subject, b.Group), b.Namespace
		if ns == "" {
			ns = "*"
		}
		if bindings[k] == nil {
			bindings[k] = map[string]any{}
		}
		by := bindings[k].(map[string]any)
		list, _ := by[ns].([]any)
		by[ns] = append(list, b.Role)
	}
	roles := map[string]any{}
	for name, rules := range w.Roles {
		by := map[string]any{}
		for _, r := range rules {
			if by[r.Resource] == nil {
				by[r.Resource] = map[string]any{}
			}
			verbs := by[r.Resource].(map[string]any)
			for _, v := range r.Verbs {
				names, _ := verbs[v].(map[string]any)
				if names == nil {
					names = map[string]any{}
					verbs[v] = names
				}
				if len(r.Names) == 0 {
					names["*"] = true
				}
				for _, n := range r.Names {
					names[n] = true
				}
			}
		}
		roles[name] = by
	}
	return map[string]any{"bindings": bindings, "roles": roles}
}

// Rego decides by that data: every step is a look-up by key.
const Rego = `package rbac

default allow := false

subjects contains concat(":", ["user", input.user])
subjects contains concat(":", ["group", g]) if some g in input.groups

places := {"*", input.namespace}

allow if {
	some s in subjects
	some p in places
	some role in data.bindings[s][p]
	names := data.roles[role][input.resource][input.verb]
	some n in {"*", input.name}
	names[n]
}
`
