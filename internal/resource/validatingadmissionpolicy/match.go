package validatingadmissionpolicy

import (
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

var (
	matchPolicies = []admissionregistrationv1.MatchPolicyType{admissionregistrationv1.Equivalent, admissionregistrationv1.Exact}
	operations    = []admissionregistrationv1.OperationType{
		admissionregistrationv1.OperationAll, admissionregistrationv1.Connect, admissionregistrationv1.Create,
		admissionregistrationv1.Delete, admissionregistrationv1.Update,
	}
	scopes = []admissionregistrationv1.ScopeType{
		admissionregistrationv1.AllScopes, admissionregistrationv1.ClusterScope, admissionregistrationv1.NamespacedScope,
	}
)

// ValidateMatch checks which requests a policy or a binding is for; match may
// be nil.
func ValidateMatch(match *admissionregistrationv1.MatchResources, path *field.Path) field.ErrorList {
	if match == nil {
		return nil
	}
	var errs field.ErrorList
	switch p := path.Child("matchPolicy"); {
	case match.MatchPolicy == nil:
		errs = append(errs, field.Required(p, ""))
	case !slices.Contains(matchPolicies, *match.MatchPolicy):
		errs = append(errs, field.NotSupported(p, *match.MatchPolicy, matchPolicies))
	}
	errs = append(errs, validateSelector(match.NamespaceSelector, path.Child("namespaceSelector"))...)
	errs = append(errs, validateSelector(match.ObjectSelector, path.Child("objectSelector"))...)
	for i := range match.ResourceRules {
		errs = append(errs, validateRule(&match.ResourceRules[i], path.Child("resourceRules").Index(i))...)
	}
	for i := range match.ExcludeResourceRules {
		errs = append(errs, validateRule(&match.ExcludeResourceRules[i], path.Child("excludeResourceRules").Index(i))...)
	}
	return errs
}

func validateSelector(selector *metav1.LabelSelector, path *field.Path) field.ErrorList {
	if selector == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	return metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, path)
}

func validateRule(rule *admissionregistrationv1.NamedRuleWithOperations, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := make(map[string]bool, len(rule.ResourceNames))
	for i, name := range rule.ResourceNames {
		at := path.Child("resourceNames").Index(i)
		for _, msg := range resource.PathSegment(name, false) {
			errs = append(errs, field.Invalid(at, name, msg))
		}
		if seen[name] {
			errs = append(errs, field.Duplicate(at, name))
		}
		seen[name] = true
	}
	errs = append(errs, validateList(rule.Operations, path.Child("operations"))...)
	for i, operation := range rule.Operations {
		if !slices.Contains(operations, operation) {
			errs = append(errs, field.NotSupported(path.Child("operations").Index(i), operation, operations))
		}
	}
	errs = append(errs, validateList(rule.APIGroups, path.Child("apiGroups"))...)
	errs = append(errs, validateList(rule.APIVersions, path.Child("apiVersions"))...)
	for i, version := range rule.APIVersions {
		if version == "" {
			errs = append(errs, field.Required(path.Child("apiVersions").Index(i), ""))
		}
	}
	errs = append(errs, validateResources(rule.Resources, path.Child("resources"))...)
	if rule.Scope != nil && !slices.Contains(scopes, *rule.Scope) {
		errs = append(errs, field.NotSupported(path.Child("scope"), *rule.Scope, scopes))
	}
	return errs
}

// validateList asks for one entry or more, with "*" alone if at all.
func validateList[T ~string](list []T, path *field.Path) field.ErrorList {
	switch {
	case len(list) == 0:
		return field.ErrorList{field.Required(path, "")}
	case len(list) > 1 && slices.Contains(list, "*"):
		return field.ErrorList{field.Invalid(path, list, "'*' must stand alone")}
	}
	return nil
}

// validateResources refuses entries that another entry with a wildcard
// already covers: "pods/*" before "pods/log", "*/scale" before "pods/scale".
func validateResources(resources []string, path *field.Path) field.ErrorList {
	if len(resources) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	allOf, everywhere := map[string]bool{}, map[string]bool{}
	plain := false
	for i, entry := range resources {
		if entry == "" {
			errs = append(errs, field.Required(path.Index(i), ""))
			continue
		}
		name, sub, ok := strings.Cut(entry, "/")
		if !ok {
			plain = plain || entry != "*"
			continue
		}
		if allOf[name] {
			errs = append(errs, field.Invalid(path.Index(i), entry, "is covered by '"+name+"/*'"))
		}
		if everywhere[sub] {
			errs = append(errs, field.Invalid(path.Index(i), entry, "is covered by '*/"+sub+"'"))
		}
		allOf[name] = allOf[name] || sub == "*"
		everywhere[sub] = everywhere[sub] || name == "*"
	}
	if len(resources) > 1 && slices.Contains(resources, "*/*") {
		errs = append(errs, field.Invalid(path, resources, "'*/*' must stand alone"))
	}
	if plain && slices.Contains(resources, "*") {
		errs = append(errs, field.Invalid(path, resources, "'*' covers all other resources without subresources"))
	}
	return errs
}
