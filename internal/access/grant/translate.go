package grant

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
)

// Translator turns valid objects into what the engine decides by. Slices are
// shared with the object, which must not change. NamespacesOf and SitesOf are
// read once: whoever calls translates again when their answers change.
type Translator struct {
	// NamespacesOf returns the namespaces of a domain.
	NamespacesOf func(domain string) []string
	// SitesOf returns the sites whose owner namespace is in a domain.
	SitesOf func(domain string) []string
	// Compile compiles a condition. Nil makes every condition fail.
	Compile func(effect accessv1alpha1.Effect, expression string) (authz.Condition, error)
}

// AccessPolicy translates a policy.
func (t Translator) AccessPolicy(p *accessv1alpha1.AccessPolicy) authz.Policy {
	s := &p.Spec
	out := authz.Policy{
		Name:          p.Name,
		Rules:         rbac.Rules(s.Rules),
		Roles:         s.Roles,
		Sites:         s.Sites,
		LabelSelector: requirements(nil, s.LabelSelector),
		FieldSelector: fieldSelector(s.FieldSelector),
		NotBefore:     instant(s.NotBefore),
		NotAfter:      instant(s.NotAfter),
		Message:       s.Message,
	}
	switch s.Effect {
	case accessv1alpha1.EffectAllow:
		out.Effect = authz.Allow
	case accessv1alpha1.EffectDeny:
		out.Effect = authz.Deny
	}
	for i := range s.Subjects {
		out.Subjects = t.subject(out.Subjects, &s.Subjects[i])
	}
	out.Namespaces, out.NamespaceLabels = scopeOf(s.Namespaces)
	if s.Condition != "" {
		out.Condition = t.compile(s.Effect, s.Condition)
	}
	return out
}

// scopeOf translates a scope; nil is everywhere.
func scopeOf(n *accessv1alpha1.NamespaceScope) (names []string, labels []authz.Requirement) {
	if n == nil {
		return nil, nil
	}
	if n.Selector != nil {
		labels = requirements(n.Selector.MatchLabels, n.Selector.MatchExpressions)
	}
	if len(n.Names) == 0 && len(labels) == 0 {
		// A scope without limits still means to be inside a namespace.
		return []string{"*"}, nil
	}
	return n.Names, labels
}

// Delegation translates a delegation. superuser says that its giver holds
// everything in the control plane.
func (t Translator) Delegation(d *accessv1alpha1.Delegation, superuser bool) authz.Delegation {
	s := &d.Spec
	out := authz.Delegation{
		Name: d.Name, ID: string(d.UID),
		Parent: s.Parent, ParentID: string(s.ParentUID),
		Giver:       authz.Giver{User: s.From.User, UID: s.From.UID, Groups: s.From.Groups, CredentialID: s.From.CredentialID, Origins: s.From.Origins, Extra: s.From.Extra, Superuser: superuser},
		Rules:       rbac.Rules(s.Rules),
		Roles:       s.Roles,
		Sites:       s.Sites,
		NotBefore:   instant(s.NotBefore),
		NotAfter:    s.NotAfter.Time,
		MayDelegate: s.MayDelegate,
	}
	out.Namespaces, out.NamespaceLabels = scopeOf(s.Namespaces)
	// A receiver of another kind receives nothing.
	switch s.To.Kind {
	case accessv1alpha1.SubjectUser:
		out.To = authz.Subject{Kind: authz.User, Name: s.To.Name}
	case accessv1alpha1.SubjectServiceAccount:
		out.To = authz.Subject{Kind: authz.ServiceAccount, Namespace: s.To.Namespace, Name: s.To.Name}
	}
	return out
}

// Ban translates a ban.
func (t Translator) Ban(b *accessv1alpha1.Ban) authz.Ban {
	s := &b.Spec
	out := authz.Ban{Name: b.Name, Sites: s.Sites, NotAfter: instant(s.NotAfter), Reason: s.Reason, KeepsMade: s.Made == accessv1alpha1.BanKeepsMade}
	if len(out.Sites) == 0 {
		out.Sites = []string{"*"}
	}
	if s.Subject != nil {
		out.Subjects = t.subject(nil, &accessv1alpha1.Subject{Kind: s.Subject.Kind, Name: s.Subject.Name, Namespace: s.Subject.Namespace})
	}
	if s.CredentialID != "" {
		out.CredentialIDs = []string{s.CredentialID}
	}
	return out
}

// subject appends what a subject stands for.
func (t Translator) subject(out []authz.PolicySubject, s *accessv1alpha1.Subject) []authz.PolicySubject {
	name, match := s.Name, authz.Exact
	if s.NamePrefix != "" {
		name, match = s.NamePrefix, authz.Prefix
	}
	switch s.Kind {
	case accessv1alpha1.SubjectUser:
		return named(out, authz.User, name, match)
	case accessv1alpha1.SubjectGroup:
		return named(out, authz.Group, name, match)
	case accessv1alpha1.SubjectServiceAccount:
		if s.Domain != "" {
			for _, namespace := range t.NamespacesOf(s.Domain) {
				out = append(out, plain(authz.Group, "system:serviceaccounts:"+namespace, authz.Exact))
			}
			return out
		}
		if name == "" || s.Namespace == "" {
			return out
		}
		return append(out, plain(authz.User, "system:serviceaccount:"+s.Namespace+":"+name, match))
	case accessv1alpha1.SubjectSite:
		if s.Domain != "" {
			for _, site := range t.SitesOf(s.Domain) {
				out = append(out, plain(authz.User, sitename.SiteUserPrefix+site, authz.Exact))
			}
			return out
		}
		if name == "" {
			return out
		}
		return append(out, plain(authz.User, sitename.SiteUserPrefix+name, match))
	}
	return out
}

// named appends a user or group. A reserved name means that of the control
// plane in its own questions, and that of the site in a site's.
func named(out []authz.PolicySubject, kind authz.SubjectKind, name string, match authz.NameMatch) []authz.PolicySubject {
	if name == "" {
		return out
	}
	out = append(out, plain(kind, name, match))
	if strings.HasPrefix(name, reserved) || match == authz.Prefix && strings.HasPrefix(reserved, name) {
		own := plain(kind, name, match)
		own.SitesOwn = true
		out = append(out, own)
	}
	return out
}

func plain(kind authz.SubjectKind, name string, match authz.NameMatch) authz.PolicySubject {
	return authz.PolicySubject{Subject: authz.Subject{Kind: kind, Name: name}, Match: match}
}

func requirements(equal map[string]string, list []metav1.LabelSelectorRequirement) []authz.Requirement {
	var out []authz.Requirement
	for _, k := range slices.Sorted(maps.Keys(equal)) {
		out = append(out, authz.Requirement{Key: k, Operator: authz.In, Values: []string{equal[k]}})
	}
	for _, r := range list {
		// An unknown operator becomes the zero one, which nothing meets.
		out = append(out, authz.Requirement{Key: r.Key, Operator: operators[string(r.Operator)], Values: r.Values})
	}
	return out
}

func fieldSelector(list []metav1.FieldSelectorRequirement) []authz.Requirement {
	var out []authz.Requirement
	for _, r := range list {
		out = append(out, authz.Requirement{Key: r.Key, Operator: operators[string(r.Operator)], Values: r.Values})
	}
	return out
}

var operators = map[string]authz.Operator{
	string(metav1.LabelSelectorOpIn):           authz.In,
	string(metav1.LabelSelectorOpNotIn):        authz.NotIn,
	string(metav1.LabelSelectorOpExists):       authz.Exists,
	string(metav1.LabelSelectorOpDoesNotExist): authz.DoesNotExist,
}

func instant(t *metav1.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.Time
}

// compile never fails: a condition that cannot be compiled is one that fails
// when it is asked, so that a deny denies and an allow grants nothing.
func (t Translator) compile(effect accessv1alpha1.Effect, expression string) authz.Condition {
	if t.Compile == nil {
		return broken{expression, errors.New("conditions are not evaluated here")}
	}
	condition, err := t.Compile(effect, expression)
	if err != nil {
		return broken{expression, fmt.Errorf("compile condition: %w", err)}
	}
	return condition
}

// broken is a condition that always fails.
type broken struct {
	expression string
	err        error
}

func (b broken) Holds(*authz.Request) (bool, error) { return false, b.err }

// ReadsObject is false: there is nothing to wait for.
func (broken) ReadsObject() bool { return false }

// String is the expression: policy that is decided elsewhere takes it along,
// and it fails there as it does here.
func (b broken) String() string { return b.expression }
