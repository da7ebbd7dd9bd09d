// Package grant says what a well-formed AccessPolicy, Ban and Delegation is.
//
// It owns their validation, with the path of each faulty field, and the order
// of scopes ([Pattern] and [Within]) on which the checks on delegations rest.
// It refuses to decide: a valid object may still be refused because its author
// does not hold what it gives, which is said by access.Checks. Start at
// [Validator].
package grant

import (
	"fmt"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
)

// Bounds on what one object may hold. They keep the compiled policy and the
// time to compile it in proportion to the number of objects.
const (
	maxSubjects     = 1000
	maxRoles        = 100
	maxRules        = 1000
	maxPatterns     = 1000
	maxRequirements = 64
	maxValues       = 256
	maxName         = 1024 // bytes of a user, group or prefix
	maxCondition    = 4096 // bytes
	maxText         = 1024 // bytes of a message or reason

	// maxDelegation is how far ahead a delegation may end: what is needed for
	// longer is a grant.
	maxDelegation = 90 * 24 * time.Hour
)

// ControlPlane is the name by which sites lists mean the control plane itself.
const ControlPlane = "gatehouse"

// Validator checks objects against what the control plane knows. All
// functions must be set but CheckCondition; they must be safe for concurrent
// use.
type Validator struct {
	// RoleRules returns the rules of a ClusterRole.
	RoleRules func(name string) ([]authz.Rule, bool)
	// FindDelegation returns a stored delegation.
	FindDelegation func(name string) (*accessv1alpha1.Delegation, bool)
	// CheckCondition says what is wrong with a CEL expression in a policy of
	// the given effect. Without it conditions are refused.
	CheckCondition func(effect accessv1alpha1.Effect, expression string) error
	Now            func() time.Time
}

var root = field.NewPath("spec")

func tooMany(path *field.Path, n, limit int) field.ErrorList {
	if n > limit {
		return field.ErrorList{field.TooMany(path, n, limit)}
	}
	return nil
}

func tooLong(path *field.Path, text string, limit int) field.ErrorList {
	if len(text) > limit {
		return field.ErrorList{field.TooLong(path, "", limit)}
	}
	return nil
}

// scope is what policies and delegations have in common: what they are about
// and where they hold.
func (v Validator) scope(roles []string, rules []rbacv1.PolicyRule, sites []string, namespaces *accessv1alpha1.NamespaceScope) field.ErrorList {
	var errs field.ErrorList
	if len(roles) == 0 && len(rules) == 0 {
		errs = append(errs, field.Required(root.Child("rules"), "at least one of roles and rules must be given"))
	}
	errs = append(errs, tooMany(root.Child("roles"), len(roles), maxRoles)...)
	errs = append(errs, tooMany(root.Child("rules"), len(rules), maxRules)...)
	for i, name := range roles {
		if _, ok := v.RoleRules(name); !ok {
			errs = append(errs, field.NotFound(root.Child("roles").Index(i), name))
		}
	}
	for i := range rules {
		errs = append(errs, rule(&rules[i], namespaces != nil, root.Child("rules").Index(i))...)
	}
	if rbac.TooWide(rbac.Rules(rules)) {
		errs = append(errs, field.Invalid(root.Child("rules"), len(rules), fmt.Sprintf("must spell out at most %d single actions", rbac.MaxActions)))
	}
	if len(sites) == 0 {
		errs = append(errs, field.Required(root.Child("sites"), `name sites, "gatehouse" for the control plane, or "*" for everything`))
	}
	errs = append(errs, siteList(sites, root.Child("sites"))...)
	if namespaces != nil {
		errs = append(errs, namespaceScope(namespaces, root.Child("namespaces"))...)
	}
	return errs
}

func rule(r *rbacv1.PolicyRule, namespaced bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(r.Verbs) == 0 {
		errs = append(errs, field.Required(path.Child("verbs"), "must hold at least one verb"))
	}
	if len(r.NonResourceURLs) > 0 {
		urls := path.Child("nonResourceURLs")
		if namespaced {
			errs = append(errs, field.Forbidden(urls, "a URL is in no namespace, so it cannot stand beside namespaces"))
		}
		if len(r.APIGroups) > 0 || len(r.Resources) > 0 || len(r.ResourceNames) > 0 {
			errs = append(errs, field.Forbidden(urls, "cannot stand in one rule with resources"))
		}
		return errs
	}
	if len(r.APIGroups) == 0 {
		errs = append(errs, field.Required(path.Child("apiGroups"), `must hold at least one group ("" is the core group)`))
	}
	if len(r.Resources) == 0 {
		errs = append(errs, field.Required(path.Child("resources"), "must hold at least one resource"))
	}
	return errs
}

// siteList checks sites; an empty list is for the caller to judge.
func siteList(sites []string, path *field.Path) field.ErrorList {
	errs := tooMany(path, len(sites), maxPatterns)
	for i, s := range sites {
		if s == "*" {
			if len(sites) > 1 {
				errs = append(errs, field.Invalid(path.Index(i), s, "already means every site, so it must stand alone"))
			}
			continue
		}
		errs = append(errs, pattern(s, path.Index(i))...)
	}
	return errs
}

func namespaceScope(n *accessv1alpha1.NamespaceScope, path *field.Path) field.ErrorList {
	errs := tooMany(path.Child("names"), len(n.Names), maxPatterns)
	if len(n.Names) == 0 && n.Selector == nil {
		errs = append(errs, field.Required(path, "names or selector must be given; without namespaces the object holds everywhere"))
	}
	if len(n.Names) > 0 && n.Selector != nil {
		errs = append(errs, field.Forbidden(path.Child("selector"), "cannot stand beside names"))
	}
	for i, name := range n.Names {
		at := path.Child("names").Index(i)
		if name == "*" {
			errs = append(errs, field.Invalid(at, name, "leave namespaces out to mean everywhere, or use an empty selector to mean every namespace"))
			continue
		}
		errs = append(errs, pattern(name, at)...)
	}
	if n.Selector != nil {
		errs = append(errs, metav1validation.ValidateLabelSelector(n.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	}
	return errs
}

// pattern accepts a DNS label, or the beginning of one with a star behind it.
// Stars elsewhere could not be looked up and are refused.
func pattern(s string, path *field.Path) field.ErrorList {
	prefix, open := strings.CutSuffix(s, "*")
	probe := prefix
	if open && strings.HasSuffix(probe, "-") {
		probe += "x" // "team-*" begins labels although "team-" is none
	}
	if msgs := validation.IsDNS1123Label(probe); len(msgs) > 0 {
		return field.ErrorList{field.Invalid(path, s, `must be a name, or the beginning of one followed by "*": `+strings.Join(msgs, "; "))}
	}
	return nil
}

// window checks a time in which something holds.
func window(notBefore, notAfter *metav1.Time) field.ErrorList {
	if notBefore != nil && notAfter != nil && !notAfter.After(notBefore.Time) {
		return field.ErrorList{field.Invalid(root.Child("notAfter"), notAfter.UTC().Format(time.RFC3339), "must be after notBefore")}
	}
	return nil
}

// exact checks a subject given by its exact name.
func exact(kind accessv1alpha1.SubjectKind, namespace, name string, path *field.Path) field.ErrorList {
	errs := subjectKind(kind, path)
	if name == "" {
		errs = append(errs, field.Required(path.Child("name"), "must be given"))
	}
	return append(append(errs, subjectName(kind, name, path.Child("name"))...), subjectNamespace(kind, namespace, true, path)...)
}

var subjectKinds = []accessv1alpha1.SubjectKind{accessv1alpha1.SubjectUser, accessv1alpha1.SubjectGroup,
	accessv1alpha1.SubjectServiceAccount, accessv1alpha1.SubjectSite}

func subjectKind(kind accessv1alpha1.SubjectKind, path *field.Path) field.ErrorList {
	for _, k := range subjectKinds {
		if kind == k {
			return nil
		}
	}
	return field.ErrorList{field.NotSupported(path.Child("kind"), kind, subjectKinds)}
}

func subjectName(kind accessv1alpha1.SubjectKind, name string, path *field.Path) field.ErrorList {
	if name == "" {
		return nil
	}
	errs := tooLong(path, name, maxName)
	var msgs []string
	switch kind {
	case accessv1alpha1.SubjectServiceAccount:
		msgs = validation.IsDNS1123Subdomain(name)
	case accessv1alpha1.SubjectSite:
		msgs = validation.IsDNS1123Label(name)
	default:
		if sitename.Reserved(name) {
			msgs = []string{"names of sites are given with kind Site"}
		}
	}
	for _, msg := range msgs {
		errs = append(errs, field.Invalid(path, name, msg))
	}
	return errs
}

func subjectNamespace(kind accessv1alpha1.SubjectKind, namespace string, needed bool, path *field.Path) field.ErrorList {
	at := path.Child("namespace")
	switch {
	case kind != accessv1alpha1.SubjectServiceAccount && namespace != "":
		return field.ErrorList{field.Forbidden(at, "belongs to service accounts only")}
	case kind == accessv1alpha1.SubjectServiceAccount && needed && namespace == "":
		return field.ErrorList{field.Required(at, "must be given for a service account")}
	case namespace != "":
		for _, msg := range validation.IsDNS1123Label(namespace) {
			return field.ErrorList{field.Invalid(at, namespace, msg)}
		}
	}
	return nil
}

func selectorRequirements[T any](list []T, path *field.Path, one func(T, *field.Path) field.ErrorList) field.ErrorList {
	errs := tooMany(path, len(list), maxRequirements)
	for i, r := range list {
		errs = append(errs, one(r, path.Index(i))...)
	}
	return errs
}

func unchanged(same bool, path *field.Path, what string) field.ErrorList {
	if same {
		return nil
	}
	return field.ErrorList{field.Forbidden(path, fmt.Sprintf("%s cannot be changed", what))}
}
