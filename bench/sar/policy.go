package main

import (
	"fmt"
	"math/rand/v2"
)

// A policy set of the benches: B bindings among B/5 users, B/50 groups and as
// many namespaces, and B/20 roles of one to twenty rules. One binding in ten
// holds everywhere, one rule in ten is for named objects only, and one subject
// in four is a group. It is made from a seed, so both servers get the same.
type policy struct {
	namespaces []string
	roles      []object
	bindings   []object
	queries    []query
}

// An object is what is posted, and where.
type object struct {
	path string
	body map[string]any
}

// A query asks about one user.
type query struct {
	user                      string
	groups                    []string
	verb, group, resource, in string
	name                      string
}

type rule struct {
	verbs, groups, resources, names []string
}

const rbacPath = "/apis/rbac.authorization.k8s.io/v1"

var (
	verbs     = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
	apiGroups = []string{"", "apps", "batch", "networking.k8s.io", "policy", "storage.k8s.io"}
	resources = []string{"pods", "services", "configmaps", "secrets", "deployments", "statefulsets", "daemonsets", "jobs", "cronjobs", "ingresses", "events", "endpoints"}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func some(r *rand.Rand, from []string, most int) []string {
	n := 1 + r.IntN(most)
	chosen := make([]string, 0, n)
	for _, i := range r.Perm(len(from))[:min(n, len(from))] {
		chosen = append(chosen, from[i])
	}
	return chosen
}

// generate makes a policy set of the given size and queries for it, of which
// half ask for what some binding grants.
func generate(bindings, queries int) *policy {
	r := rand.New(rand.NewPCG(1, uint64(bindings)))
	var p policy
	names := func(prefix string, n int) []string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf("%s-%d", prefix, i)
		}
		return all
	}
	users := names("user", max(1, bindings/5))
	groups := names("group", max(1, bindings/50))
	p.namespaces = names("ns", max(1, bindings/50))

	memberOf := make([][]string, len(users))
	for i := range memberOf {
		memberOf[i] = some(r, groups, 7)
	}

	rules := make([][]rule, max(1, bindings/20))
	for i := range rules {
		rules[i] = randomRules(r)
		p.roles = append(p.roles, roleObject(fmt.Sprintf("bench-role-%d", i), rules[i]))
	}

	type grant struct {
		user  int // -1 when the subject is a group
		group string
		role  int
		in    string
	}
	grants := make([]grant, bindings)
	for i := range grants {
		g := grant{user: -1, role: r.IntN(len(rules)), in: pick(r, p.namespaces)}
		if r.IntN(10) == 0 {
			g.in = ""
		}
		subject := map[string]any{"apiGroup": "rbac.authorization.k8s.io"}
		if r.IntN(4) == 0 {
			g.group = pick(r, groups)
			subject["kind"], subject["name"] = "Group", g.group
		} else {
			g.user = r.IntN(len(users))
			subject["kind"], subject["name"] = "User", users[g.user]
		}
		grants[i] = g
		p.bindings = append(p.bindings, bindingObject(fmt.Sprintf("bench-%d", i), g.in, fmt.Sprintf("bench-role-%d", g.role), subject))
	}

	for i := range queries {
		user := r.IntN(len(users))
		q := query{verb: pick(r, verbs), group: pick(r, apiGroups), resource: pick(r, resources), in: pick(r, p.namespaces)}
		if i%2 == 0 {
			g := pick(r, grants)
			given := pick(r, rules[g.role])
			q.verb, q.group, q.resource = pick(r, given.verbs), pick(r, given.groups), pick(r, given.resources)
			if len(given.names) > 0 {
				q.name = pick(r, given.names)
			}
			if g.in != "" {
				q.in = g.in
			}
			if g.user >= 0 {
				user = g.user
			} else {
				q.groups = append(q.groups, g.group)
			}
		}
		q.user = users[user]
		q.groups = append(q.groups, memberOf[user]...)
		p.queries = append(p.queries, q)
	}
	return &p
}

func randomRules(r *rand.Rand) []rule {
	rules := make([]rule, 1+r.IntN(20))
	for i := range rules {
		rules[i] = rule{verbs: some(r, verbs, 4), groups: some(r, apiGroups, 2), resources: some(r, resources, 3)}
		if r.IntN(10) == 0 {
			rules[i].names = []string{fmt.Sprintf("object-%d", r.IntN(100))}
		}
	}
	return rules
}

func roleObject(name string, rules []rule) object {
	wire := make([]map[string]any, len(rules))
	for i, rule := range rules {
		wire[i] = map[string]any{"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources}
		if rule.names != nil {
			wire[i]["resourceNames"] = rule.names
		}
	}
	return object{rbacPath + "/clusterroles", map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
		"metadata": map[string]any{"name": name}, "rules": wire,
	}}
}

func bindingObject(name, namespace, role string, subject map[string]any) object {
	kind, path := "ClusterRoleBinding", rbacPath+"/clusterrolebindings"
	metadata := map[string]any{"name": name}
	if namespace != "" {
		kind, path = "RoleBinding", rbacPath+"/namespaces/"+namespace+"/rolebindings"
		metadata["namespace"] = namespace
	}
	return object{path, map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata,
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
		"subjects": []any{subject},
	}}
}

// review is the SubjectAccessReview that asks the query.
func (q query) review() map[string]any {
	attributes := map[string]any{"verb": q.verb, "group": q.group, "resource": q.resource, "namespace": q.in}
	if q.name != "" {
		attributes["name"] = q.name
	}
	return map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
		"spec": map[string]any{"user": q.user, "groups": q.groups, "resourceAttributes": attributes},
	}
}
