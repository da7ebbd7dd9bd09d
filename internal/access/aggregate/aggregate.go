// Package aggregate fills in the rules of aggregated ClusterRoles: those whose
// aggregationRule selects other ClusterRoles by label.
//
// It owns the result ([Stale], a pure function) and the loop that writes it
// ([Controller]). It refuses to decide anything: the written rules reach the
// engine through the watch like any other change, so that what is listed,
// what is checked on a grant and what decides are one and the same object.
package aggregate

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

// Stale returns a changed copy of each aggregated role in all whose rules are
// not what its selectors give, sorted by name. It changes nothing in all.
//
// The rules of an aggregated role are the union, first occurrence first, over
// its selectors in order and the selected roles by name. An aggregated role
// may select aggregated roles. Only roles without an aggregationRule are a
// source: roles that select each other in a circle get what lies outside of
// it, so that a rule which has lost its last source is gone everywhere.
//
// A role with a malformed selector is left alone and named in the error; the
// other roles are still returned.
func Stale(all []*rbacv1.ClusterRole) ([]*rbacv1.ClusterRole, error) {
	roles := slices.Clone(all)
	slices.SortFunc(roles, func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) })

	var faults []error
	rules := make([][]rbacv1.PolicyRule, len(roles)) // by position in roles
	sources := make([][]int, len(roles))             // nil for a role that is not aggregated
	for i, role := range roles {
		if role.AggregationRule == nil {
			rules[i] = role.Rules
			continue
		}
		selected, err := selectRoles(i, roles)
		if err != nil {
			faults = append(faults, fmt.Errorf("aggregate cluster role %q: %w", role.Name, err))
			rules[i] = role.Rules
			continue
		}
		sources[i] = selected
	}

	// The sets only grow from round to round and are bounded by the rules that
	// exist, so this ends; without circles after as many rounds as the roles
	// are deep.
	for grown := true; grown; {
		grown = false
		for i, selected := range sources {
			if selected == nil {
				continue
			}
			if next := union(selected, rules); len(next) > len(rules[i]) {
				rules[i], grown = next, true
			}
		}
	}
	// A source may have grown after a role last did without adding to it, and
	// then the order is not yet the final one.
	for i, selected := range sources {
		if selected != nil {
			rules[i] = union(selected, rules)
		}
	}

	var stale []*rbacv1.ClusterRole
	for i, role := range roles {
		if sources[i] == nil || slices.EqualFunc(role.Rules, rules[i], equal) {
			continue
		}
		changed := role.DeepCopy()
		changed.Rules = nil
		for _, rule := range rules[i] {
			changed.Rules = append(changed.Rules, *rule.DeepCopy())
		}
		stale = append(stale, changed)
	}
	return stale, errors.Join(faults...)
}

// selectRoles returns the positions of the roles that roles[self] selects, in
// the order in which their rules are taken. The result is never nil.
func selectRoles(self int, roles []*rbacv1.ClusterRole) ([]int, error) {
	selected := []int{}
	for i := range roles[self].AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&roles[self].AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, fmt.Errorf("selector %d: %w", i, err)
		}
		for j, role := range roles {
			if j != self && selector.Matches(labels.Set(role.Labels)) {
				selected = append(selected, j)
			}
		}
	}
	return selected, nil
}

func union(selected []int, rules [][]rbacv1.PolicyRule) []rbacv1.PolicyRule {
	seen := map[string]bool{}
	var out []rbacv1.PolicyRule
	for _, i := range selected {
		for _, rule := range rules[i] {
			if k := rbac.Key(authz.Rule(rule)); !seen[k] {
				seen[k] = true
				out = append(out, rule)
			}
		}
	}
	return out
}

func equal(a, b rbacv1.PolicyRule) bool { return rbac.Key(authz.Rule(a)) == rbac.Key(authz.Rule(b)) }
