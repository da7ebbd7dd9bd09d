package kubeapi

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	"k8s.io/apiserver/pkg/cel/environment"
)

// CompileExpressions returns an error, with its path, for every expression of
// an admission policy that does not compile. Expressions that old already had
// are compiled as leniently as stored ones are.
func CompileExpressions(p, old *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
	stored := expressionsOf(old)
	mode := func(expression string) environment.Type {
		if stored[expression] {
			return environment.StoredExpressions
		}
		return environment.NewExpressions
	}
	base, err := plugincel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		return field.ErrorList{field.InternalError(field.NewPath("spec"), err)}
	}
	spec := field.NewPath("spec")
	decls := plugincel.OptionalVariableDeclarations{HasParams: p.Spec.ParamKind != nil, HasAuthorizer: true}
	var errs field.ErrorList
	check := func(path *field.Path, expression string, r plugincel.CompilationResult) {
		if r.Error != nil {
			errs = append(errs, field.Invalid(path, expression, r.Error.Error()))
		}
	}
	for i, v := range p.Spec.Variables {
		r := base.CompileAndStoreVariable(&validating.Variable{Name: v.Name, Expression: v.Expression}, decls, mode(v.Expression))
		check(spec.Child("variables").Index(i).Child("expression"), v.Expression, r)
	}
	for i := range p.Spec.MatchConditions {
		m := (*matchconditions.MatchCondition)(&p.Spec.MatchConditions[i])
		check(spec.Child("matchConditions").Index(i).Child("expression"), m.Expression, base.CompileCELExpression(m, decls, mode(m.Expression)))
	}
	for i, v := range p.Spec.Validations {
		at := spec.Child("validations").Index(i)
		check(at.Child("expression"), v.Expression, base.CompileCELExpression(&validating.ValidationCondition{Expression: v.Expression}, decls, mode(v.Expression)))
		if v.MessageExpression != "" {
			noAuthorizer := decls
			noAuthorizer.HasAuthorizer = false
			check(at.Child("messageExpression"), v.MessageExpression, base.CompileCELExpression(&validating.MessageExpressionCondition{MessageExpression: v.MessageExpression}, noAuthorizer, mode(v.MessageExpression)))
		}
	}
	for i, a := range p.Spec.AuditAnnotations {
		check(spec.Child("auditAnnotations").Index(i).Child("valueExpression"), a.ValueExpression,
			base.CompileCELExpression(&validating.AuditAnnotationCondition{Key: a.Key, ValueExpression: a.ValueExpression}, decls, mode(a.ValueExpression)))
	}
	return errs
}

// expressionsOf lists every expression of a policy, which may be nil.
func expressionsOf(p *admissionregistrationv1.ValidatingAdmissionPolicy) map[string]bool {
	out := map[string]bool{}
	if p == nil {
		return out
	}
	for _, v := range p.Spec.Variables {
		out[v.Expression] = true
	}
	for _, m := range p.Spec.MatchConditions {
		out[m.Expression] = true
	}
	for _, v := range p.Spec.Validations {
		out[v.Expression], out[v.MessageExpression] = true, true
	}
	for _, a := range p.Spec.AuditAnnotations {
		out[a.ValueExpression] = true
	}
	return out
}
