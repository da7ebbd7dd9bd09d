package bootstrap

import (
	"errors"
	"maps"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access/aggregate"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

// Plan is what must be written so that nothing wanted is missing. Updates keep
// the resourceVersion of the object they change, so that a write of an old
// version fails and the reconciliation is simply computed again.
type Plan struct {
	Create Objects
	Update Objects
	// Replace holds bindings that must be deleted and created again, because
	// the role of a binding cannot be changed.
	Replace []*rbacv1.ClusterRoleBinding
	// Protected names the objects that lack something and are left alone
	// because of their annotation, as "clusterrole NAME" and
	// "clusterrolebinding NAME".
	Protected []string
}

// Empty reports whether nothing needs to be written.
func (p Plan) Empty() bool {
	return len(p.Create.ClusterRoles)+len(p.Create.ClusterRoleBindings)+
		len(p.Update.ClusterRoles)+len(p.Update.ClusterRoleBindings)+len(p.Replace) == 0
}

// Reconcile compares what should be with what is. It adds rules, selectors,
// subjects, labels and annotations that are missing and removes nothing, but
// for an aggregation rule on a role that must not have one: that would let
// others decide on the rules of a bootstrap role.
//
// have need not be sorted and may hold any further objects. Neither argument
// is changed, and the plan shares nothing with them.
//
// Created aggregated roles already hold their rules, so that a new control
// plane serves admin, edit and view from its first moment. An error names
// aggregated roles of have with a malformed selector; the plan is complete
// nevertheless.
func Reconcile(want, have Objects) (Plan, error) {
	var plan Plan
	roles := map[string]*rbacv1.ClusterRole{}
	for _, r := range have.ClusterRoles {
		roles[r.Name] = r
	}
	bindings := map[string]*rbacv1.ClusterRoleBinding{}
	for _, b := range have.ClusterRoleBindings {
		bindings[b.Name] = b
	}

	for _, w := range want.ClusterRoles {
		h, ok := roles[w.Name]
		if !ok {
			plan.Create.ClusterRoles = append(plan.Create.ClusterRoles, w.DeepCopy())
			continue
		}
		switch merged := mergeRole(w, h); {
		case equality.Semantic.DeepEqual(merged, h):
		case isProtected(h):
			plan.Protected = append(plan.Protected, "clusterrole "+h.Name)
		default:
			plan.Update.ClusterRoles = append(plan.Update.ClusterRoles, merged)
		}
	}
	for _, w := range want.ClusterRoleBindings {
		h, ok := bindings[w.Name]
		if !ok {
			plan.Create.ClusterRoleBindings = append(plan.Create.ClusterRoleBindings, w.DeepCopy())
			continue
		}
		switch merged := mergeBinding(w, h); {
		case w.RoleRef == h.RoleRef && equality.Semantic.DeepEqual(merged, h):
		case isProtected(h):
			plan.Protected = append(plan.Protected, "clusterrolebinding "+h.Name)
		case w.RoleRef != h.RoleRef:
			plan.Replace = append(plan.Replace, w.DeepCopy())
		default:
			plan.Update.ClusterRoleBindings = append(plan.Update.ClusterRoleBindings, merged)
		}
	}
	return plan, fillAggregated(&plan, roles)
}

// fillAggregated gives the created roles the rules that they will have once
// the whole plan is written.
func fillAggregated(plan *Plan, have map[string]*rbacv1.ClusterRole) error {
	after := maps.Clone(have)
	for _, r := range slices.Concat(plan.Create.ClusterRoles, plan.Update.ClusterRoles) {
		after[r.Name] = r
	}
	stale, err := aggregate.Stale(slices.Collect(maps.Values(after)))
	for _, filled := range stale {
		for _, r := range plan.Create.ClusterRoles {
			if r.Name == filled.Name {
				r.Rules = filled.Rules
			}
		}
	}
	if err != nil {
		return errors.Join(errors.New("existing cluster roles cannot be aggregated"), err)
	}
	return nil
}

func isProtected(have metav1.Object) bool {
	return have.GetAnnotations()[rbacv1.AutoUpdateAnnotationKey] == "false"
}

func mergeRole(want, have *rbacv1.ClusterRole) *rbacv1.ClusterRole {
	merged := have.DeepCopy()
	mergeMetadata(merged, want)
	merged.Rules = append(merged.Rules, rbac.Missing(have.Rules, want.Rules)...)
	if want.AggregationRule == nil {
		merged.AggregationRule = nil
		return merged
	}
	for _, selector := range want.AggregationRule.ClusterRoleSelectors {
		if merged.AggregationRule == nil {
			merged.AggregationRule = &rbacv1.AggregationRule{}
		}
		if !slices.ContainsFunc(merged.AggregationRule.ClusterRoleSelectors, func(s metav1.LabelSelector) bool {
			return equality.Semantic.DeepEqual(s, selector)
		}) {
			merged.AggregationRule.ClusterRoleSelectors = append(merged.AggregationRule.ClusterRoleSelectors, *selector.DeepCopy())
		}
	}
	return merged
}

func mergeBinding(want, have *rbacv1.ClusterRoleBinding) *rbacv1.ClusterRoleBinding {
	merged := have.DeepCopy()
	mergeMetadata(merged, want)
	for _, s := range want.Subjects {
		if !slices.Contains(merged.Subjects, s) {
			merged.Subjects = append(merged.Subjects, s)
		}
	}
	return merged
}

// mergeMetadata adds labels and annotations; those that exist win.
func mergeMetadata(merged, want metav1.Object) {
	merged.SetLabels(union(want.GetLabels(), merged.GetLabels()))
	merged.SetAnnotations(union(want.GetAnnotations(), merged.GetAnnotations()))
}

func union(under, over map[string]string) map[string]string {
	out := maps.Clone(under)
	if out == nil {
		return over
	}
	maps.Copy(out, over)
	return out
}
