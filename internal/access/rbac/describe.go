package rbac

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-dev/gatehouse/authz"
)

// Compact joins rules about one resource of one API group and at most one
// name that differ in their verbs only. The other rules come first, all in
// the order of their first occurrence. It is meant for the list of single
// actions that [authz.Covers] returns and does not change rules.
func Compact(rules []authz.Rule) []authz.Rule {
	type resource struct {
		group, resource, name string
		named                 bool
	}
	var whole, joined []authz.Rule
	at := map[resource]int{}
	for _, r := range rules {
		if len(r.APIGroups) != 1 || len(r.Resources) != 1 || len(r.ResourceNames) > 1 || len(r.NonResourceURLs) > 0 {
			whole = append(whole, r)
			continue
		}
		k := resource{group: r.APIGroups[0], resource: r.Resources[0], named: len(r.ResourceNames) == 1}
		if k.named {
			k.name = r.ResourceNames[0]
		}
		i, ok := at[k]
		if !ok {
			at[k] = len(joined)
			r.Verbs = slices.Clone(r.Verbs)
			joined = append(joined, r)
			continue
		}
		joined[i].Verbs = append(joined[i].Verbs, r.Verbs...)
	}
	return append(whole, joined...)
}

// Key is the same for two rules exactly when they list the same things in the
// same order. An absent list is an empty one, as it is in storage.
func Key(r authz.Rule) string {
	var b []byte
	for _, list := range [...][]string{r.Verbs, r.APIGroups, r.Resources, r.ResourceNames, r.NonResourceURLs} {
		b = strconv.AppendInt(b, int64(len(list)), 10)
		for _, s := range list {
			b = strconv.AppendQuote(b, s)
		}
		b = append(b, ';')
	}
	return string(b)
}

// Describe renders a rule on one line, without its empty lists, in the form
// that operators know from refused grants:
//
//	{APIGroups:["apps"], Resources:["deployments"], Verbs:["get" "list"]}
func Describe(r authz.Rule) string {
	var parts []string
	for _, list := range [...]struct {
		name   string
		values []string
	}{
		{"APIGroups", r.APIGroups},
		{"Resources", r.Resources},
		{"NonResourceURLs", r.NonResourceURLs},
		{"ResourceNames", r.ResourceNames},
		{"Verbs", r.Verbs},
	} {
		if len(list.values) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", list.name, list.values))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// DescribeAll renders each rule once, compacted and sorted, one line each.
func DescribeAll(rules []authz.Rule) string {
	var lines []string
	for _, r := range Compact(rules) {
		lines = append(lines, Describe(r))
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}

// Words renders a rule for people, as "get,list secrets of apps named a,b".
func Words(r authz.Rule) string {
	verbs := strings.Join(r.Verbs, ",")
	var parts []string
	if len(r.NonResourceURLs) > 0 {
		parts = append(parts, verbs+" "+strings.Join(r.NonResourceURLs, ","))
	}
	if len(r.Resources) > 0 {
		text := verbs + " " + strings.Join(r.Resources, ",")
		if groups := strings.Join(r.APIGroups, ","); groups != "" {
			text += " of " + groups
		}
		if len(r.ResourceNames) > 0 {
			text += " named " + strings.Join(r.ResourceNames, ",")
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " and ")
}
