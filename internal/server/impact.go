package server

import (
	"context"
	"errors"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	accessapi "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/question"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/impactreview"
)

// whatCan answers what somebody may do.
func (q questions) whatCan(_ context.Context, caller resource.Caller, spec *accessapi.WhatCanReviewSpec) (accessapi.WhatCanReviewStatus, error) {
	has, err := q.WhatCan(aboutWhom(caller, spec.Subject), spec.Namespace)
	if err != nil {
		return accessapi.WhatCanReviewStatus{}, err
	}
	status := accessapi.WhatCanReviewStatus{MissingRoles: has.MissingRoles}
	for i := range has.Entitlements {
		e := &has.Entitlements[i]
		out := accessapi.Entitlement{Effect: accessapi.EffectAllow, Rules: rbac.PolicyRules(e.Rules)}
		if e.Effect == authz.Deny {
			out.Effect = accessapi.EffectDeny
		}
		switch {
		case e.Ban != nil:
			out.By = accessapi.Decider{Kind: "Ban", Name: e.Ban.Name}
			if !e.Ban.NotAfter.IsZero() {
				out.Limits = &accessapi.Limits{NotAfter: &metav1.Time{Time: e.Ban.NotAfter}}
			}
		case e.Policy != nil:
			out.By = accessapi.Decider{Kind: "AccessPolicy", Name: e.Policy.Name}
			out.Limits = q.limits(e.Policy)
		case e.Delegation != nil:
			out.By = accessapi.Decider{Kind: "Delegation", Name: e.Delegation.Name, Subject: "User/" + e.Delegation.Giver.User}
			out.Limits = &accessapi.Limits{NotAfter: &metav1.Time{Time: e.Delegation.NotAfter}}
		case e.Grant != nil:
			out.By = *binding(e.Grant)
		default:
			out.By = accessapi.Decider{Kind: "Group", Name: access.SuperuserGroup}
		}
		status.Entitlements = append(status.Entitlements, out)
	}
	return status, nil
}

// limits spells out what narrows a policy, as its object has it.
func (q questions) limits(p *authz.Policy) *accessapi.Limits {
	if obj, ok := q.AccessPolicy(p.Name); ok {
		return limitsOf(&obj.Spec)
	}
	return nil
}

func limitsOf(s *accessapi.AccessPolicySpec) *accessapi.Limits {
	if s.Namespaces == nil && len(s.LabelSelector)+len(s.FieldSelector) == 0 && s.Condition == "" && s.NotBefore == nil && s.NotAfter == nil {
		return nil
	}
	return &accessapi.Limits{Namespaces: s.Namespaces, LabelSelector: s.LabelSelector, FieldSelector: s.FieldSelector,
		Condition: s.Condition, NotBefore: s.NotBefore, NotAfter: s.NotAfter}
}

// revealed is what the answer to an impact review tells about: whoever may read
// it all learns nothing new.
var revealed = []authz.Request{
	{APIGroup: rbacv1.GroupName, Resource: "roles"},
	{APIGroup: rbacv1.GroupName, Resource: "clusterroles"},
	{APIGroup: rbacv1.GroupName, Resource: "rolebindings"},
	{APIGroup: rbacv1.GroupName, Resource: "clusterrolebindings"},
	{APIGroup: accessapi.GroupVersion.Group, Resource: "accesspolicies"},
	{APIGroup: accessapi.GroupVersion.Group, Resource: "bans"},
	{APIGroup: accessapi.GroupVersion.Group, Resource: "delegations"},
	{Resource: "namespaces"},
	{Resource: "serviceaccounts"},
}

// maxImpacts is how many impact reviews are answered at once: each looks at all
// of policy.
const maxImpacts = 2

// impacts answers what would change.
type impacts struct {
	questions
	validate func(*accessapi.AccessPolicy) field.ErrorList
	slots    chan struct{}
}

func (q questions) impacts(validate func(*accessapi.AccessPolicy) field.ErrorList) impacts {
	return impacts{q, validate, make(chan struct{}, maxImpacts)}
}

func (i impacts) answer(ctx context.Context, caller resource.Caller, changes impactreview.Changes) (accessapi.ImpactReviewStatus, error) {
	for _, req := range revealed {
		req.ResourceRequest, req.Verb = true, "list"
		d, err := i.Access.Decide(ctx, subject(caller), req)
		if err != nil {
			return accessapi.ImpactReviewStatus{}, err
		}
		if !d.Allowed() {
			return accessapi.ImpactReviewStatus{}, fault.Newf(fault.Denied, "user %q may not see who holds what: it cannot list %s in all namespaces", caller.Name, req.Resource)
		}
	}
	select {
	case i.slots <- struct{}{}:
		defer func() { <-i.slots }()
	default:
		return accessapi.ImpactReviewStatus{}, fault.New(fault.Exhausted, "other impact reviews are being answered; try again")
	}
	list, policies, err := i.changes(caller, changes)
	if err != nil {
		return accessapi.ImpactReviewStatus{}, err
	}
	impact, err := i.Impact(ctx, list)
	if err != nil {
		return accessapi.ImpactReviewStatus{}, err
	}
	status := accessapi.ImpactReviewStatus{Notes: impact.Notes}
	for _, s := range impact.Subjects {
		status.Subjects = append(status.Subjects, accessapi.SubjectImpact{
			Subject: subjectOf(s.Subject, s.Prefix), MemberOf: s.MemberOf,
			Gains: i.rules(s.Gains, policies), Loses: i.rules(s.Loses, policies),
		})
	}
	return status, nil
}

// changes checks what the API would check, and returns the policies by name.
func (i impacts) changes(caller resource.Caller, in impactreview.Changes) ([]access.Change, map[string]*accessapi.AccessPolicy, error) {
	var out []access.Change
	policies := map[string]*accessapi.AccessPolicy{}
	for _, o := range in.Apply {
		if p, ok := o.(*accessapi.AccessPolicy); ok {
			policies[p.Name] = p
			for _, err := range i.validate(p) {
				// Its role may be applied with it.
				if err.Type != field.ErrorTypeNotFound {
					return nil, nil, fault.Wrap(fault.Invalid, "AccessPolicy/"+p.Name+": "+err.Error(), errors.New("the API would refuse it"))
				}
			}
		}
		if d, ok := o.(*accessapi.Delegation); ok && d.Spec.From.User == "" {
			d.Spec.From = access.Giver(subject(caller)) // as the API would fill it in
		}
		out = append(out, access.Change{Object: o})
	}
	for _, o := range in.Delete {
		out = append(out, access.Change{Object: o, Delete: true})
	}
	return out, policies, nil
}

func (i impacts) rules(list []question.ImpactRule, changed map[string]*accessapi.AccessPolicy) []accessapi.ImpactRule {
	var out []accessapi.ImpactRule
	for _, r := range list {
		x := accessapi.ImpactRule{Site: r.Site, Namespace: r.Namespace, Rules: rbac.PolicyRules(r.Rules), Except: r.Except, By: r.By}
		if r.Limits != nil {
			if obj, ok := changed[r.Limits.Name]; ok {
				x.Limits = limitsOf(&obj.Spec)
			} else {
				x.Limits = i.limits(r.Limits)
			}
		}
		out = append(out, x)
	}
	return out
}
