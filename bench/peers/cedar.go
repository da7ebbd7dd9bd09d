package main

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go"

	"github.com/gatehouse-dev/gatehouse/bench/peers/world"
)

// cedarEngine keeps the policies by the subject they are for, so that a question
// is put to those of the caller and its groups only.
type cedarEngine struct {
	policies map[string][]*cedar.Policy
	entities cedar.EntityMap
}

func newCedar(_ context.Context, w *world.World) (engine, error) {
	e := cedarEngine{map[string][]*cedar.Policy{}, cedar.EntityMap{}}
	for user, groups := range w.Members {
		var parents []cedar.EntityUID
		for _, g := range groups {
			parents = append(parents, cedar.NewEntityUID("Group", cedar.String(g)))
		}
		uid := cedar.NewEntityUID("User", cedar.String(user))
		e.entities[uid] = cedar.Entity{UID: uid, Parents: cedar.NewEntityUIDSet(parents...)}
	}
	for _, b := range w.Bindings {
		who := fmt.Sprintf("principal == User::%q", b.Subject)
		k := "user:" + b.Subject
		if b.Group {
			who, k = fmt.Sprintf("principal in Group::%q", b.Subject), "group:"+b.Subject
		}
		var text strings.Builder
		for _, r := range w.Roles[b.Role] {
			var actions []string
			for _, v := range r.Verbs {
				actions = append(actions, fmt.Sprintf("Action::%q", v))
			}
			fmt.Fprintf(&text, "permit(%s, action in [%s], resource == Resource::%q)", who, strings.Join(actions, ","), r.Resource)
			var when []string
			if b.Namespace != "" {
				when = append(when, fmt.Sprintf("context.namespace == %q", b.Namespace))
			}
			if len(r.Names) > 0 {
				var names []string
				for _, n := range r.Names {
					names = append(names, strconv.Quote(n))
				}
				when = append(when, "["+strings.Join(names, ",")+"].contains(context.name)")
			}
			if len(when) > 0 {
				fmt.Fprintf(&text, " when { %s }", strings.Join(when, " && "))
			}
			text.WriteString(";\n")
		}
		list, err := cedar.NewPolicyListFromBytes(b.Name, []byte(text.String()))
		if err != nil {
			return nil, err
		}
		e.policies[k] = append(e.policies[k], list...)
	}
	return e, nil
}

// slice is the policies of one caller.
type slice struct {
	e cedarEngine
	q *world.Question
}

func (s slice) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, p := range s.e.policies["user:"+s.q.User] {
			if !yield("", p) {
				return
			}
		}
		for _, g := range s.q.Groups {
			for _, p := range s.e.policies["group:"+g] {
				if !yield("", p) {
					return
				}
			}
		}
	}
}

func (e cedarEngine) allowed(_ context.Context, q *world.Question) (bool, error) {
	d, _ := cedar.Authorize(slice{e, q}, e.entities, cedar.Request{
		Principal: cedar.NewEntityUID("User", cedar.String(q.User)),
		Action:    cedar.NewEntityUID("Action", cedar.String(q.Verb)),
		Resource:  cedar.NewEntityUID("Resource", cedar.String(q.Resource)),
		Context:   cedar.NewRecord(cedar.RecordMap{"namespace": cedar.String(q.Namespace), "name": cedar.String(q.Name)}),
	})
	return d == cedar.Allow, nil
}
