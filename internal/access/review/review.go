// Package review answers the reviews of authorization.k8s.io/v1: may somebody
// do something, and what may the caller do.
//
// It owns their validation, the translation into questions and the form of
// the answer, in agreement with what Kubernetes clients expect. It refuses to
// check whether the caller may ask: that is an ordinary decision about the
// verb create on the review, made before. Start at [Reviewer].
package review

import (
	"context"
	"slices"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/limit"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
	"github.com/gatehouse-dev/gatehouse/internal/access/selector"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Reviewer fills in the status of reviews. Its methods return a Kubernetes
// status error for a malformed review, one of kind Invalid (see package limit)
// for one that is too long, and an error of kind Unavailable while
// no decisions are made; the review is then unchanged.
type Reviewer struct{ Access *access.Authorizer }

// SubjectAccessReview answers a review of any subject.
func (r Reviewer) SubjectAccessReview(ctx context.Context, review *authorizationv1.SubjectAccessReview) error {
	if errs := ValidateSubjectAccessReview(review); len(errs) > 0 {
		return invalid("SubjectAccessReview", errs)
	}
	status, err := r.answer(ctx, SubjectOf(&review.Spec), review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes)
	if err == nil {
		review.Status = status
	}
	return err
}

// LocalSubjectAccessReview answers a review of any subject in the review's
// own namespace.
func (r Reviewer) LocalSubjectAccessReview(ctx context.Context, review *authorizationv1.LocalSubjectAccessReview) error {
	if errs := ValidateLocalSubjectAccessReview(review); len(errs) > 0 {
		return invalid("LocalSubjectAccessReview", errs)
	}
	if review.Namespace == "" {
		return fault.New(fault.Invalid, "namespace is required on this type")
	}
	status, err := r.answer(ctx, SubjectOf(&review.Spec), review.Spec.ResourceAttributes, nil)
	if err == nil {
		review.Status = status
	}
	return err
}

// SelfSubjectAccessReview answers the caller's question about itself.
func (r Reviewer) SelfSubjectAccessReview(ctx context.Context, caller access.Subject, review *authorizationv1.SelfSubjectAccessReview) error {
	if errs := ValidateSelfSubjectAccessReview(review); len(errs) > 0 {
		return invalid("SelfSubjectAccessReview", errs)
	}
	status, err := r.answer(ctx, caller, review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes)
	if err == nil {
		review.Status = status
	}
	return err
}

// RulesStatus translates rules into the two lists of a rules review.
func RulesStatus(rules []authz.Rule) authorizationv1.SubjectRulesReviewStatus {
	// Clients expect lists, not null.
	status := authorizationv1.SubjectRulesReviewStatus{
		ResourceRules:    []authorizationv1.ResourceRule{},
		NonResourceRules: []authorizationv1.NonResourceRule{},
	}
	seen := map[string]bool{}
	for _, rule := range rules {
		k := rbac.Key(rule)
		if seen[k] {
			continue
		}
		seen[k] = true
		// Cloned, because the engine's rules are shared by every answer.
		if len(rule.Resources) > 0 {
			status.ResourceRules = append(status.ResourceRules, authorizationv1.ResourceRule{
				Verbs:         slices.Clone(rule.Verbs),
				APIGroups:     slices.Clone(rule.APIGroups),
				Resources:     slices.Clone(rule.Resources),
				ResourceNames: slices.Clone(rule.ResourceNames),
			})
		}
		if len(rule.NonResourceURLs) > 0 {
			status.NonResourceRules = append(status.NonResourceRules, authorizationv1.NonResourceRule{
				Verbs:           slices.Clone(rule.Verbs),
				NonResourceURLs: slices.Clone(rule.NonResourceURLs),
			})
		}
	}
	return status
}

// answer decides one question whose form has been checked.
func (r Reviewer) answer(ctx context.Context, subject access.Subject, resource *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) (authorizationv1.SubjectAccessReviewStatus, error) {
	q, _ := access.RequestFrom(resource, path)
	asked := q
	asked.User, asked.UID, asked.Groups, asked.Extra = subject.Name, subject.UID, subject.Groups, subject.Extra
	if err := limit.Check(&asked); err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	d, err := r.Access.Decide(ctx, subject, q)
	if err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	status := Status(d)
	status.EvaluationError = selector.Parse(resource).Warning()
	if d.Effect() == authz.NoOpinion {
		// A binding of a role that is not there is the usual reason why a
		// right that was meant to be given is missing.
		missing, err := r.Access.Unresolved(ctx, subject, q.Namespace)
		if err != nil {
			return authorizationv1.SubjectAccessReviewStatus{}, err
		}
		if len(missing) > 0 {
			status.Reason = "RBAC: " + access.MissingRoles(missing)
		}
	}
	return status, nil
}

// Status renders a decision.
func Status(d access.Decision) authorizationv1.SubjectAccessReviewStatus {
	return authorizationv1.SubjectAccessReviewStatus{Allowed: d.Allowed(), Denied: d.Denied(), Reason: d.Reason()}
}

// SubjectOf returns whom a question is about.
func SubjectOf(spec *authorizationv1.SubjectAccessReviewSpec) access.Subject {
	subject := access.Subject{Name: spec.User, UID: spec.UID, Groups: spec.Groups}
	if spec.Extra != nil {
		subject.Extra = make(map[string][]string, len(spec.Extra))
		for k, v := range spec.Extra {
			subject.Extra[k] = v
		}
	}
	return subject
}

func invalid(kind string, errs field.ErrorList) error {
	return apierrors.NewInvalid(authorizationv1.SchemeGroupVersion.WithKind(kind).GroupKind(), "", errs)
}
