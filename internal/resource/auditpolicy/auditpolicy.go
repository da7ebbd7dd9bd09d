// Package auditpolicy describes audit policies: what is to be recorded beyond
// the static policy. What they mean is in internal/audit/declared. Start with
// [New].
package auditpolicy

import (
	"fmt"
	"slices"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit/declared"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Bounds: each request of the control plane is held against every rule.
const (
	maxRules = 100
	maxItems = 256
)

// New describes audit policies.
func New() resource.Kind {
	return resource.Definition[*auditapi.AuditPolicy]{
		Names: resource.Names{
			GroupVersion: auditapi.GroupVersion,
			Kind:         "AuditPolicy",
			Resource:     "auditpolicies",
			Singular:     "auditpolicy",
		},
		New:     func() *auditapi.AuditPolicy { return &auditapi.AuditPolicy{} },
		NewList: func() runtime.Object { return &auditapi.AuditPolicyList{} },
		PrepareCreate: func(_ resource.Caller, p *auditapi.AuditPolicy) {
			p.Generation = 1
		},
		PrepareUpdate: func(_ resource.Caller, p, old *auditapi.AuditPolicy) {
			p.Generation = old.Generation
			if !apiequality.Semantic.DeepEqual(p.Spec, old.Spec) {
				p.Generation++
			}
		},
		Validate: func(p *auditapi.AuditPolicy) field.ErrorList { return Validate(&p.Spec, field.NewPath("spec")) },
		Columns: []resource.Column[*auditapi.AuditPolicy]{
			{Name: "Levels", Description: "The levels that its rules ask for.", Value: func(p *auditapi.AuditPolicy) any { return levels(&p.Spec) }},
			{Name: "Rules", Description: "How many rules it has.", Value: func(p *auditapi.AuditPolicy) any { return int64(len(p.Spec.Rules)) }},
			resource.Age[*auditapi.AuditPolicy](),
		},
	}.Kind()
}

// Validate returns what is wrong with a policy at path.
func Validate(spec *auditapi.PolicySpec, path *field.Path) field.ErrorList {
	if len(spec.Rules) > maxRules {
		return field.ErrorList{field.TooMany(path.Child("rules"), len(spec.Rules), maxRules)}
	}
	var errs field.ErrorList
	for i := range spec.Rules {
		r, at := &spec.Rules[i], path.Child("rules").Index(i)
		bound := func(at *field.Path, n int) {
			if n > maxItems {
				errs = append(errs, field.TooMany(at, n, maxItems))
			}
		}
		bound(at.Child("users"), len(r.Users))
		bound(at.Child("userGroups"), len(r.UserGroups))
		bound(at.Child("verbs"), len(r.Verbs))
		bound(at.Child("namespaces"), len(r.Namespaces))
		bound(at.Child("nonResourceURLs"), len(r.NonResourceURLs))
		bound(at.Child("resources"), len(r.Resources))
		for j := range r.Resources {
			bound(at.Child("resources").Index(j).Child("resources"), len(r.Resources[j].Resources))
			bound(at.Child("resources").Index(j).Child("resourceNames"), len(r.Resources[j].ResourceNames))
		}
	}
	file := declared.File(spec)
	file.Check(func(name, format string, args ...any) {
		at := field.NewPath(path.String() + "." + name)
		detail := fmt.Sprintf(format, args...)
		if detail == "required" || name == "rules" {
			errs = append(errs, field.Required(at, detail))
			return
		}
		errs = append(errs, &field.Error{Type: field.ErrorTypeInvalid, Field: at.String(), BadValue: field.OmitValueType{}, Detail: detail})
	})
	return errs
}

// levels lists the levels in the order of the rules, each once.
func levels(spec *auditapi.PolicySpec) string {
	var seen []string
	for i := range spec.Rules {
		if l := spec.Rules[i].Level; !slices.Contains(seen, l) {
			seen = append(seen, l)
		}
	}
	return strings.Join(seen, ",")
}
