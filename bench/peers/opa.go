package main

import (
	"context"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/gatehouse-dev/gatehouse/bench/peers/world"
)

type opaEngine struct {
	query  rego.PreparedEvalQuery
	inputs map[*world.Question]ast.Value
}

func newOPA(ctx context.Context, w *world.World) (engine, error) {
	query, err := rego.New(rego.Query("data.rbac.allow"), rego.Module("rbac.rego", world.Rego),
		rego.Store(inmem.NewFromObjectWithOpts(w.Data(), inmem.OptReturnASTValuesOnRead(true)))).PrepareForEval(ctx)
	if err != nil {
		return nil, err
	}
	e := opaEngine{query, map[*world.Question]ast.Value{}}
	for i := range w.Questions {
		q := &w.Questions[i]
		groups := make([]any, len(q.Groups))
		for j, g := range q.Groups {
			groups[j] = g
		}
		v, err := ast.InterfaceToValue(map[string]any{"user": q.User, "groups": groups, "verb": q.Verb, "resource": q.Resource, "namespace": q.Namespace, "name": q.Name})
		if err != nil {
			return nil, err
		}
		e.inputs[q] = v
	}
	return e, nil
}

func (e opaEngine) allowed(ctx context.Context, q *world.Question) (bool, error) {
	rs, err := e.query.Eval(ctx, rego.EvalParsedInput(e.inputs[q]))
	if err != nil || len(rs) != 1 {
		return false, fmt.Errorf("%d results: %w", len(rs), err)
	}
	return rs.Allowed(), nil
}
