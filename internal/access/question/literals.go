package question

import (
	"slices"
	"strconv"
	"strings"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

const (
	// maxLiteral bounds the names taken from conditions, in bytes.
	maxLiteral = 253
	// maxLiterals bounds how many are taken in all.
	maxLiterals = 10_000
)

// literals returns the texts that an expression spells out, "a" or 'b': names
// that it may compare with. What is not one does no harm, because candidates
// are put to the decision.
func literals(expression string) []string {
	var out []string
	for i := 0; i < len(expression); i++ {
		quote := expression[i]
		if quote != '"' && quote != '\'' {
			continue
		}
		end := i + 1
		for end < len(expression) && expression[end] != quote {
			if expression[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(expression) {
			break
		}
		text := expression[i+1 : end]
		if strings.ContainsRune(text, '\\') {
			if plain, err := strconv.Unquote(`"` + text + `"`); err == nil {
				text = plain
			}
		}
		if text != "" && len(text) <= maxLiteral {
			out = append(out, text)
		}
		i = end
	}
	return out
}

// mentionedIn returns the names that conditions of policies which allow
// something on the resource spell out.
func (a Asker) mentionedIn(group, resource string) []string {
	var out []string
	for _, policy := range allowing(a.Policies) {
		if policy.Spec.Condition == "" || len(out) >= maxLiterals || !a.about(policy, group, resource) {
			continue
		}
		out = append(out, literals(policy.Spec.Condition)...)
	}
	return out[:min(len(out), maxLiterals)]
}

func (a Asker) about(policy *accessv1alpha1.AccessPolicy, group, resource string) bool {
	covers := func(r authz.Rule) bool { return r.Covers(group, resource) }
	if slices.ContainsFunc(rbac.Rules(policy.Spec.Rules), covers) {
		return true
	}
	snapshot := a.Policy.Snapshot()
	return slices.ContainsFunc(policy.Spec.Roles, func(name string) bool {
		r, ok := snapshot.RoleNamed("", name)
		return ok && slices.ContainsFunc(r.Rules, covers)
	})
}

// Users returns what may be names of users among the texts that conditions on a
// resource spell out.
func (a Asker) Users(group, resource string) []string { return a.mentionedIn(group, resource) }
