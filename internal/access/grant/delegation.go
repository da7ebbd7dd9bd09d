package grant

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
)

// Delegation returns what is wrong with a new delegation whose from has been
// filled in with its author.
func (v Validator) Delegation(d *accessv1alpha1.Delegation) field.ErrorList {
	s := &d.Spec
	var errs field.ErrorList
	if s.From.User == "" {
		errs = append(errs, field.Required(root.Child("from", "user"), "is filled in with the author"))
	}
	to := root.Child("to")
	errs = append(errs, exact(s.To.Kind, s.To.Namespace, s.To.Name, to)...)
	if s.To.Kind == accessv1alpha1.SubjectGroup || s.To.Kind == accessv1alpha1.SubjectSite {
		errs = append(errs, field.NotSupported(to.Child("kind"), s.To.Kind,
			[]accessv1alpha1.SubjectKind{accessv1alpha1.SubjectUser, accessv1alpha1.SubjectServiceAccount}))
	}
	if receiver(s.To) == s.From.User {
		errs = append(errs, field.Invalid(to.Child("name"), s.To.Name, "must be somebody other than the giver"))
	}
	errs = append(errs, v.scope(s.Roles, s.Rules, s.Sites, s.Namespaces)...)
	end, now := root.Child("notAfter"), v.Now()
	switch {
	case s.NotAfter.IsZero():
		errs = append(errs, field.Required(end, "a delegation must end"))
	case !s.NotAfter.After(now):
		errs = append(errs, field.Invalid(end, s.NotAfter.UTC().Format(time.RFC3339), "is already past"))
	case s.NotAfter.Sub(now) > maxDelegation:
		errs = append(errs, field.Invalid(end, s.NotAfter.UTC().Format(time.RFC3339), fmt.Sprintf("must be at most %d days ahead", int(maxDelegation.Hours()/24))))
	default:
		errs = append(errs, window(s.NotBefore, &s.NotAfter)...)
	}
	for i, g := range s.From.Groups {
		errs = append(errs, tooLong(root.Child("from", "groups").Index(i), g, maxName)...)
	}
	errs = append(errs, tooMany(root.Child("from", "groups"), len(s.From.Groups), maxSubjects)...)
	errs = append(errs, giverExtra(root.Child("from", "extra"), s.From.Extra)...)
	errs = append(errs, tooMany(root.Child("from", "origins"), len(s.From.Origins), origin.Max)...)
	if sitename.Reserved(s.From.User) || slices.ContainsFunc(s.From.Groups, sitename.Reserved) {
		errs = append(errs, field.Forbidden(root.Child("from"), "a site hands on nothing"))
	}
	if s.Parent != "" && len(errs) == 0 {
		errs = append(errs, v.chain(s)...)
	}
	return errs
}

// Bounds of what is kept of what was said of a giver, those of authentication.
const (
	maxExtraKeys  = 64
	maxExtraBytes = 16 << 10
)

// giverExtra holds what is said of a giver within bounds. What names the
// credential is no part of it: that has fields of its own.
func giverExtra(path *field.Path, extra map[string][]string) field.ErrorList {
	errs, size := tooMany(path, len(extra), maxExtraKeys), 0
	for key, values := range extra {
		size += len(key)
		for _, v := range values {
			size += len(v)
		}
		switch {
		case key == "" || key != strings.ToLower(key):
			errs = append(errs, field.Invalid(path, key, "must be in lower case and not empty"))
		case key == credentialExtra || key == origin.Extra:
			errs = append(errs, field.Forbidden(path.Key(key), "the credential is noted by the control plane"))
		}
	}
	if size > maxExtraBytes {
		errs = append(errs, field.TooLong(path, "", maxExtraBytes))
	}
	return errs
}

const credentialExtra = "authentication.kubernetes.io/credential-id"

// DelegationUpdate returns what is wrong with a change of a delegation: any
// change of what was handed on.
func (v Validator) DelegationUpdate(d, old *accessv1alpha1.Delegation) field.ErrorList {
	return unchanged(equality.Semantic.DeepEqual(d.Spec, old.Spec), root, "a delegation")
}

// chain holds a delegation against the one by which its giver received: it
// must lie inside in every respect, and nobody may stand in the chain twice.
func (v Validator) chain(s *accessv1alpha1.DelegationSpec) field.ErrorList {
	path := root.Child("parent")
	parent, ok := v.FindDelegation(s.Parent)
	if !ok {
		return field.ErrorList{field.NotFound(path, s.Parent)}
	}
	p := &parent.Spec
	var errs field.ErrorList
	if parent.UID != s.ParentUID {
		errs = append(errs, field.Invalid(path, s.Parent, "has just been replaced"))
	}
	if receiver(p.To) != s.From.User {
		errs = append(errs, field.Invalid(path, s.Parent, "was not given to the author"))
	}
	if !p.MayDelegate {
		errs = append(errs, field.Invalid(path, s.Parent, "may not be handed on"))
	}
	if s.NotAfter.After(p.NotAfter.Time) {
		errs = append(errs, field.Invalid(root.Child("notAfter"), s.NotAfter.UTC().Format(time.RFC3339), "must not be after the end of the parent"))
	}
	start := v.Now()
	if s.NotBefore != nil {
		start = s.NotBefore.Time
	}
	if p.NotBefore != nil && start.Before(p.NotBefore.Time) {
		errs = append(errs, field.Invalid(root.Child("notBefore"), start.UTC().Format(time.RFC3339), "must not be before the beginning of the parent"))
	}
	if !Within(s.Sites, p.Sites) {
		errs = append(errs, field.Invalid(root.Child("sites"), s.Sites, "must lie inside those of the parent"))
	}
	if !NamespacesWithin(s.Namespaces, p.Namespaces) {
		errs = append(errs, field.Invalid(root.Child("namespaces"), s.Namespaces, "must lie inside those of the parent"))
	}
	if asked := v.rules(s); rbac.TooWide(asked) {
		errs = append(errs, field.Invalid(root.Child("roles"), s.Roles, "spell out too many single actions to hold against the parent"))
	} else if ok, missing := authz.Covers(v.rules(p), asked); !ok {
		errs = append(errs, field.Forbidden(root.Child("rules"), "beyond the parent:\n"+rbac.DescribeAll(missing)))
	}
	return append(errs, v.circle(s, parent)...)
}

// circle walks up to the first giver.
func (v Validator) circle(s *accessv1alpha1.DelegationSpec, parent *accessv1alpha1.Delegation) field.ErrorList {
	to := receiver(s.To)
	for depth := 1; ; depth++ {
		if parent.Spec.From.User == to || receiver(parent.Spec.To) == to {
			return field.ErrorList{field.Invalid(root.Child("to", "name"), s.To.Name, fmt.Sprintf("already stands in the chain, at delegation %q", parent.Name))}
		}
		if parent.Spec.Parent == "" {
			return nil
		}
		if depth == authz.MaxChain-1 {
			return field.ErrorList{field.Invalid(root.Child("parent"), s.Parent, fmt.Sprintf("at most %d delegations may stand one behind the other", authz.MaxChain))}
		}
		next, ok := v.FindDelegation(parent.Spec.Parent)
		if !ok || next.UID != parent.Spec.ParentUID {
			// An ancestor that is gone gives nothing any more.
			return field.ErrorList{field.NotFound(root.Child("parent"), parent.Spec.Parent)}
		}
		parent = next
	}
}

// rules returns everything that a delegation is about.
func (v Validator) rules(s *accessv1alpha1.DelegationSpec) []authz.Rule {
	rules := rbac.Rules(s.Rules)
	for _, name := range s.Roles {
		role, _ := v.RoleRules(name)
		rules = append(rules[:len(rules):len(rules)], role...)
	}
	return rules
}

// receiver is the user name of the receiver.
func receiver(to accessv1alpha1.DelegationReceiver) string {
	if to.Kind == accessv1alpha1.SubjectServiceAccount {
		return "system:serviceaccount:" + to.Namespace + ":" + to.Name
	}
	return to.Name
}
