// Package condition compiles the CEL expressions of access policies into
// conditions that package authz evaluates.
//
// It owns the environment: which names an expression may use, their types, and
// what an evaluation may cost. It refuses expressions that do not type-check,
// are not boolean, or could cost too much, when the policy is written; and it
// stops an evaluation that costs too much all the same. Expressions read no
// clock, no network and no state: the same request gives the same outcome.
//
// Start at [Environment.Compile].
package condition

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/ext"

	"github.com/gatehouse-dev/gatehouse/authz"
)

// Version names the environment. Names and functions are never removed from a
// version and never change their meaning.
const Version = "v1"

const (
	// maxLength bounds the text of an expression, in bytes.
	maxLength = 8 << 10
	// maxEstimate bounds the worst cost that the checker foresees, given the
	// sizes below, in CEL's abstract units.
	maxEstimate = 200_000
	// maxCost bounds the cost of one evaluation, in the same units.
	maxCost = 100_000
	// maxGroups, maxValues and maxText are the sizes of request data that the
	// estimate assumes; larger requests are refused before they get here.
	maxGroups, maxValues, maxText = 128, 64, 256
)

// variables are the names an expression may use.
var variables = map[string]*cel.Type{
	"request.user":         cel.StringType,
	"request.uid":          cel.StringType,
	"request.groups":       cel.ListType(cel.StringType),
	"request.extra":        cel.MapType(cel.StringType, cel.ListType(cel.StringType)),
	"request.credentialID": cel.StringType,
	"request.site":         cel.StringType,
	"request.verb":         cel.StringType,
	"request.isResource":   cel.BoolType,
	"request.apiGroup":     cel.StringType,
	"request.resource":     cel.StringType,
	"request.subresource":  cel.StringType,
	"request.namespace":    cel.StringType,
	"request.name":         cel.StringType,
	"request.path":         cel.StringType,
	"request.time":         cel.TimestampType,
	"object":               cel.DynType,
	"oldObject":            cel.DynType,
}

// Environment compiles expressions. It is safe for concurrent use; making one
// takes milliseconds, so programs make one.
type Environment struct{ env *cel.Env }

// New returns the environment of [Version].
func New() (*Environment, error) {
	opts := []cel.EnvOption{
		cel.ClearMacros(),
		cel.Macros(cel.StandardMacros...),
		cel.ExtendedValidations(),
		ext.Strings(ext.StringsVersion(2)),
		ext.Sets(),
	}
	for name, t := range variables {
		opts = append(opts, cel.Variable(name, t))
	}
	env, err := cel.NewEnv(opts...)
	if err != nil {
		return nil, fmt.Errorf("make condition environment: %w", err)
	}
	return &Environment{env}, nil
}

// Condition is a compiled expression; see [authz.Condition].
type Condition struct {
	text        string
	program     cel.Program
	readsObject bool
}

var _ authz.Condition = (*Condition)(nil)

// Compile type-checks the expression and bounds its cost. Its errors say what
// is wrong and where, in words fit for the author of the policy.
func (e *Environment) Compile(expression string) (*Condition, error) {
	if len(expression) > maxLength {
		return nil, fmt.Errorf("the expression has %d bytes, at most %d are allowed", len(expression), maxLength)
	}
	checked, issues := e.env.Compile(expression)
	if issues.Err() != nil {
		return nil, issues.Err()
	}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("the expression is of type %s, not bool", checked.OutputType())
	}
	cost, err := e.env.EstimateCost(checked, sizes{})
	if err != nil {
		return nil, fmt.Errorf("estimate cost: %w", err)
	}
	if cost.Max > maxEstimate {
		return nil, fmt.Errorf("the expression may cost %d units, at most %d are allowed", cost.Max, maxEstimate)
	}
	program, err := e.env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		return nil, fmt.Errorf("plan expression: %w", err)
	}
	return &Condition{text: expression, program: program, readsObject: readsObject(checked)}, nil
}

// String returns the expression.
func (c *Condition) String() string { return c.text }

// ReadsObject implements [authz.Condition].
func (c *Condition) ReadsObject() bool { return c.readsObject }

var errNotBool = errors.New("the condition gave no boolean")

// Holds implements [authz.Condition]. What the request does not have (a time,
// an object) is an error when the expression needs it.
func (c *Condition) Holds(q *authz.Request) (bool, error) {
	out, _, err := c.program.Eval((*activation)(q))
	if err != nil {
		return false, fmt.Errorf("evaluate condition: %w", err)
	}
	ok, is := out.Value().(bool)
	if !is {
		return false, errNotBool
	}
	return ok, nil
}

// activation gives the expression the request's fields under their names.
type activation authz.Request

// Parent implements the interpreter's interface.
func (a *activation) Parent() cel.Activation { return nil }

// ResolveName implements the interpreter's interface.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case "request.user":
		return a.User, true
	case "request.uid":
		return a.UID, true
	case "request.groups":
		return a.Groups, true
	case "request.extra":
		return a.Extra, true
	case "request.credentialID":
		return a.CredentialID, true
	case "request.site":
		return a.Site, true
	case "request.verb":
		return a.Verb, true
	case "request.isResource":
		return a.ResourceRequest, true
	case "request.apiGroup":
		return a.APIGroup, true
	case "request.resource":
		return a.Resource, true
	case "request.subresource":
		return a.Subresource, true
	case "request.namespace":
		return a.Namespace, true
	case "request.name":
		return a.Name, true
	case "request.path":
		return a.Path, true
	case "request.time":
		return a.Time, a.Time != (time.Time{})
	case "object":
		return a.object(a.Object)
	case "oldObject":
		return a.object(a.OldObject)
	}
	return nil, false
}

// object gives one of the two objects. Where only the other is there, as for a
// create or a delete, it is null; where neither is known it is an error.
func (a *activation) object(m map[string]any) (any, bool) {
	if m == nil {
		return nil, a.Object != nil || a.OldObject != nil
	}
	return m, true
}

func readsObject(checked *cel.Ast) bool {
	found := false
	ast.PreOrderVisit(checked.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.IdentKind && (e.AsIdent() == "object" || e.AsIdent() == "oldObject") {
			found = true
		}
	}))
	return found
}

// sizes tells the cost estimate how large request data can be.
type sizes struct{}

func (sizes) EstimateSize(node checker.AstNode) *checker.SizeEstimate {
	path := node.Path()
	if len(path) == 0 {
		return nil
	}
	most := uint64(maxText)
	switch path[0] {
	case "request.groups":
		if len(path) == 1 {
			most = maxGroups
		}
	case "request.extra", "object", "oldObject":
		most = maxValues
	}
	return &checker.SizeEstimate{Min: 0, Max: most}
}

func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
