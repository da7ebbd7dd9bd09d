package main

import (
	"context"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/bench/peers/world"
)

type ours struct{ snapshot *authz.Snapshot }

func newOurs(_ context.Context, w *world.World) (engine, error) {
	e := authz.New()
	s := e.Update(func(tx *authz.Tx) {
		for name, rules := range w.Roles {
			r := authz.Role{Name: name}
			for _, x := range rules {
				r.Rules = append(r.Rules, authz.Rule{Verbs: x.Verbs, APIGroups: []string{""}, Resources: []string{x.Resource}, ResourceNames: x.Names})
			}
			tx.PutRole(r)
		}
		for _, b := range w.Bindings {
			kind := authz.User
			if b.Group {
				kind = authz.Group
			}
			tx.PutBinding(authz.Binding{Namespace: b.Namespace, Name: b.Name, RoleKind: authz.ClusterRoleKind, RoleName: b.Role,
				Subjects: []authz.Subject{{Kind: kind, Name: b.Subject}}})
		}
	})
	return ours{s}, nil
}

func (o ours) allowed(_ context.Context, q *world.Question) (bool, error) {
	return o.snapshot.Decide(&authz.Request{User: q.User, Groups: q.Groups, ResourceRequest: true, Verb: q.Verb, Resource: q.Resource, Namespace: q.Namespace, Name: q.Name}).Allowed(), nil
}
