package main

import (
	"context"

	"github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/model"
	"github.com/casbin/casbin/v2/util"

	"github.com/gatehouse-dev/gatehouse/bench/peers/world"
)

// casbinModel has roles in domains: a namespace is one, "*" is all of them. A
// group is a role that its members have everywhere.
const casbinModel = `
[request_definition]
r = sub, dom, obj, act, name

[policy_definition]
p = role, obj, act, name

[role_definition]
g = _, _, _

[policy_effect]
e = some(where (p.eft == allow))

[matchers]
m = r.obj == p.obj && r.act == p.act && (p.name == "*" || p.name == r.name) && g(r.sub, p.role, r.dom)
`

type casbinEngine struct{ e *casbin.Enforcer }

func newCasbin(_ context.Context, w *world.World) (engine, error) {
	m, err := model.NewModelFromString(casbinModel)
	if err != nil {
		return nil, err
	}
	e, err := casbin.NewEnforcer(m)
	if err != nil {
		return nil, err
	}
	e.AddNamedDomainMatchingFunc("g", "keyMatch", util.KeyMatch)
	e.EnableAutoBuildRoleLinks(false)
	var p, g [][]string
	for role, rules := range w.Roles {
		seen := map[[3]string]bool{}
		for _, r := range rules {
			names := r.Names
			if len(names) == 0 {
				names = []string{"*"}
			}
			for _, v := range r.Verbs {
				for _, n := range names {
					if k := [3]string{r.Resource, v, n}; !seen[k] {
						seen[k] = true
						p = append(p, []string{"role:" + role, r.Resource, v, n})
					}
				}
			}
		}
	}
	seen := map[[3]string]bool{}
	add := func(sub, role, dom string) {
		if k := [3]string{sub, role, dom}; !seen[k] {
			seen[k] = true
			g = append(g, []string{sub, role, dom})
		}
	}
	for _, b := range w.Bindings {
		sub, dom := "user:"+b.Subject, b.Namespace
		if b.Group {
			sub = "group:" + b.Subject
		}
		if dom == "" {
			dom = "*"
		}
		add(sub, "role:"+b.Role, dom)
	}
	for user, groups := range w.Members {
		for _, x := range groups {
			add("user:"+user, "group:"+x, "*")
		}
	}
	if _, err := e.AddPolicies(p); err != nil {
		return nil, err
	}
	if _, err := e.AddGroupingPolicies(g); err != nil {
		return nil, err
	}
	return casbinEngine{e}, e.BuildRoleLinks()
}

func (c casbinEngine) allowed(_ context.Context, q *world.Question) (bool, error) {
	return c.e.Enforce("user:"+q.User, q.Namespace, q.Resource, q.Verb, q.Name)
}
