// Package policyset makes policy sets and questions from a seed, for the
// benches and comparisons that put two engines side by side.
//
// Its shape follows large clusters: B bindings among B/5 users, B/50 groups and
// as many namespaces, and B/20 roles (20 to 5,000) of one to twenty rules. One
// binding in four holds everywhere, one in four has two subjects; one rule in
// ten is limited to object names, one in twenty is about URLs, a few have
// wildcards; and a user is in about four groups, system:authenticated among them.
package policyset

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/gatehouse-dev/gatehouse/authz"
)

// Set is one policy set with questions about it.
type Set struct {
	Roles    []authz.Role
	Bindings []authz.Binding
	Queries  []authz.Request
}

var (
	verbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
	kinds = makeKinds()
	urls  = []string{"/healthz", "/livez", "/readyz/*", "/metrics", "/version", "/apis/*", "/api", "/openapi/*", "/logs/*"}
)

type kind struct{ group, resource string }

// makeKinds returns 200 resources of 20 API groups, some with subresources.
func makeKinds() []kind {
	core := strings.Fields("pods pods/log pods/exec pods/status services configmaps secrets endpoints events nodes " +
		"persistentvolumeclaims serviceaccounts serviceaccounts/token namespaces replicationcontrollers")
	out := make([]kind, 0, 200)
	for _, r := range core {
		out = append(out, kind{"", r})
	}
	for g := 1; len(out) < 200; g++ {
		group := fmt.Sprintf("group%d.example.com", g%19)
		name := fmt.Sprintf("things%d", len(out))
		out = append(out, kind{group, name}, kind{group, name + "/status"})
		if g%3 == 0 {
			out = append(out, kind{group, name + "/scale"})
		}
	}
	return out
}

type maker struct {
	*rand.Rand
	users, groups, namespaces []string
	memberOf                  [][]int // groups of each user
	members                   [][]int // users of each group
}

// New makes a policy set of so many bindings and so many questions, of which
// about half ask for something that a binding grants.
func New(bindings, queries int, seed uint64) *Set {
	m := &maker{Rand: rand.New(rand.NewPCG(seed, uint64(bindings)))}
	m.users = names("user-%d@example.com", max(1, bindings/5))
	m.groups = names("team-%d", max(1, bindings/50))
	m.namespaces = names("project-%d", max(1, bindings/50))
	m.memberOf = make([][]int, len(m.users))
	m.members = make([][]int, len(m.groups))
	for u := range m.users {
		for range 1 + m.IntN(5) {
			g := m.IntN(len(m.groups))
			m.memberOf[u] = append(m.memberOf[u], g)
			m.members[g] = append(m.members[g], u)
		}
	}
	s := &Set{}
	roles := min(5000, max(20, bindings/20))
	for i := range roles {
		s.Roles = append(s.Roles, authz.Role{Name: fmt.Sprintf("role-%d", i), Rules: m.rules()})
	}
	for i := range bindings {
		s.Bindings = append(s.Bindings, m.binding(i, roles))
	}
	for i := range queries {
		q := m.question()
		if i%2 == 0 {
			m.aim(&q, s)
		}
		s.Queries = append(s.Queries, q)
	}
	return s
}

func names(format string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(format, i)
	}
	return out
}

func (m *maker) rules() []authz.Rule {
	out := make([]authz.Rule, 1+m.IntN(20))
	for i := range out {
		r := &out[i]
		r.Verbs = m.verbs()
		if m.IntN(20) == 0 {
			r.NonResourceURLs = []string{urls[m.IntN(len(urls))]}
			continue
		}
		k := kinds[m.IntN(len(kinds))]
		r.APIGroups, r.Resources = []string{k.group}, []string{k.resource}
		if m.IntN(3) == 0 {
			r.Resources = append(r.Resources, kinds[m.IntN(15)].resource)
		}
		switch m.IntN(300) {
		case 0:
			r.Resources = []string{authz.Wildcard}
		case 1, 2, 3:
			r.Resources = []string{"*/status"}
		case 4, 5, 6:
			r.APIGroups = []string{authz.Wildcard}
		}
		if m.IntN(10) == 0 {
			for range 1 + m.IntN(3) {
				r.ResourceNames = append(r.ResourceNames, fmt.Sprintf("object-%d", m.IntN(500)))
			}
		}
	}
	return out
}

func (m *maker) verbs() []string {
	switch n := m.IntN(100); {
	case n < 2:
		return []string{authz.Wildcard}
	case n < 50:
		return verbs[:3]
	case n < 60:
		return verbs
	default:
		return []string{verbs[m.IntN(len(verbs))]}
	}
}

func (m *maker) binding(i, roles int) authz.Binding {
	b := authz.Binding{
		Name:     fmt.Sprintf("binding-%d", i),
		RoleKind: authz.ClusterRoleKind,
		RoleName: fmt.Sprintf("role-%d", m.IntN(roles)),
	}
	if m.IntN(4) > 0 {
		b.Namespace = m.namespaces[m.IntN(len(m.namespaces))]
	}
	subjects := 1
	if m.IntN(4) == 0 {
		subjects = 2
	}
	for range subjects {
		switch n := m.IntN(20); {
		case n < 4:
			b.Subjects = append(b.Subjects, authz.Subject{Kind: authz.Group, Name: m.groups[m.IntN(len(m.groups))]})
		case n < 6:
			b.Subjects = append(b.Subjects, authz.Subject{Kind: authz.ServiceAccount, Name: fmt.Sprintf("sa-%d", m.IntN(5)), Namespace: m.namespaces[m.IntN(len(m.namespaces))]})
		default:
			b.Subjects = append(b.Subjects, authz.Subject{Kind: authz.User, Name: m.users[m.IntN(len(m.users))]})
		}
	}
	return b
}

func (m *maker) caller(q *authz.Request, user int) {
	q.User = m.users[user]
	q.Groups = []string{"system:authenticated"}
	for _, g := range m.memberOf[user] {
		q.Groups = append(q.Groups, m.groups[g])
	}
}

// question asks whether someone may do something somewhere.
func (m *maker) question() authz.Request {
	q := authz.Request{Verb: verbs[m.IntN(len(verbs))], Namespace: m.namespaces[m.IntN(len(m.namespaces))]}
	m.caller(&q, m.IntN(len(m.users)))
	if m.IntN(20) == 0 {
		q.Namespace, q.Path = "", strings.TrimSuffix(urls[m.IntN(len(urls))], "*")
		return q
	}
	q.ResourceRequest = true
	k := kinds[m.IntN(len(kinds))]
	q.APIGroup = k.group
	q.Resource, q.Subresource, _ = strings.Cut(k.resource, "/")
	switch q.Verb {
	case "list", "watch", "create", "deletecollection":
	default:
		q.Name = fmt.Sprintf("object-%d", m.IntN(500))
	}
	return q
}

// aim turns the question to one that a binding grants.
func (m *maker) aim(q *authz.Request, s *Set) {
	b := &s.Bindings[m.IntN(len(s.Bindings))]
	var role int
	fmt.Sscanf(b.RoleName, "role-%d", &role)
	rule := &s.Roles[role].Rules[m.IntN(len(s.Roles[role].Rules))]
	if (len(rule.NonResourceURLs) > 0) == q.ResourceRequest {
		q.ResourceRequest, q.Path = !q.ResourceRequest, ""
	}
	switch sub := b.Subjects[m.IntN(len(b.Subjects))]; sub.Kind {
	case authz.Group:
		var g int
		fmt.Sscanf(sub.Name, "team-%d", &g)
		if len(m.members[g]) == 0 {
			return
		}
		m.caller(q, m.members[g][m.IntN(len(m.members[g]))])
	case authz.User:
		var u int
		fmt.Sscanf(sub.Name, "user-%d", &u)
		m.caller(q, u)
	default:
		q.User = "system:serviceaccount:" + sub.Namespace + ":" + sub.Name
		q.Groups = []string{"system:serviceaccounts", "system:serviceaccounts:" + sub.Namespace, "system:authenticated"}
	}
	if b.Namespace != "" {
		q.Namespace = b.Namespace
	}
	q.Verb = concrete(rule.Verbs[m.IntN(len(rule.Verbs))], "get")
	if !q.ResourceRequest {
		q.Namespace, q.APIGroup, q.Resource, q.Subresource, q.Name = "", "", "", "", ""
		q.Path = strings.ReplaceAll(rule.NonResourceURLs[0], "*", "x")
		return
	}
	q.APIGroup = concrete(rule.APIGroups[0], "")
	res := concrete(rule.Resources[m.IntN(len(rule.Resources))], "pods")
	q.Resource, q.Subresource, _ = strings.Cut(strings.ReplaceAll(res, "*", "pods"), "/")
	if len(rule.ResourceNames) > 0 {
		q.Name = rule.ResourceNames[m.IntN(len(rule.ResourceNames))]
	}
}

func concrete(word, instead string) string {
	if word == authz.Wildcard {
		return instead
	}
	return word
}
