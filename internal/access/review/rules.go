package review

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/action"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// DenyVerb begins the verbs of a rules review that are denied: "deny:get". No
// request has such a verb, so that a program which knows nothing of denials
// reads no grant into it, and kubectl shows the row.
const DenyVerb = "deny:"

// maxErrorText bounds the evaluation error, in bytes.
const maxErrorText = 8 << 10

// nodeNote is said to nodes.
const nodeNote = "what a node may do follows from its pods and is not listed"

// SelfSubjectRulesReview lists what the caller may do in a namespace, and what
// it is denied there. Equal rules are listed once, otherwise as they stand in
// the roles: clients compact them.
//
// A rules review has no place for denials. What is denied altogether is left
// out of the rules, and each denial is a rule of its own with the verbs
// [DenyVerb]. Rules that hold within limits only (a selector, a condition) are
// not listed, because readers would take them for more than they are. Whenever
// denials or such rules exist the answer is marked incomplete and the
// evaluation error names them, which kubectl prints as a warning.
func (r Reviewer) SelfSubjectRulesReview(_ context.Context, caller access.Subject, review *authorizationv1.SelfSubjectRulesReview) error {
	if review.Spec.Namespace == "" {
		return fault.New(fault.Invalid, "no namespace on request")
	}
	standing, err := r.Access.Standing(caller, review.Spec.Namespace)
	if err != nil {
		return err
	}
	review.Status = rulesOf(&standing)
	if r.Access.Node(caller) {
		review.Status.Incomplete = true
		review.Status.EvaluationError = strings.TrimPrefix(review.Status.EvaluationError+"; "+nodeNote, "; ")
	}
	return nil
}

func rulesOf(s *access.Standing) authorizationv1.SubjectRulesReviewStatus {
	var rules []authz.Rule
	if s.Superuser {
		rules = access.Everything()
	}
	for i := range s.Granted {
		rules = append(rules, s.Granted[i].Rule)
	}
	var notes []string
	for i := range s.Allows {
		p := &s.Allows[i]
		if limits := limitsOf(&p.Policy); limits != "" {
			notes = append(notes, fmt.Sprintf("allowed by AccessPolicy %q %s: %s", p.Policy.Name, limits, words(p.Rules)))
			continue
		}
		rules = append(rules, p.Rules...)
	}
	denied, total, refusals := denials(s)
	rules = append(rules, s.Given...)
	status := RulesStatus(append(without(rules, total), denied...))
	notes = append(refusals, notes...)
	status.Incomplete = len(notes) > 0
	if len(s.Missing) > 0 {
		notes = append(notes, access.MissingRoles(s.Missing))
	}
	status.EvaluationError = strings.Join(notes, "; ")
	if len(status.EvaluationError) > maxErrorText {
		status.EvaluationError = strings.ToValidUTF8(status.EvaluationError[:maxErrorText], "") + " …"
	}
	return status
}

// denials returns the rows of what is denied, the actions that are denied
// whatever else a request says, and a note for each ban and policy.
func denials(s *access.Standing) (rows []authz.Rule, total []action.Action, notes []string) {
	row := func(rules []authz.Rule) {
		for _, rule := range rules {
			verbs := make([]string, len(rule.Verbs))
			for i, verb := range rule.Verbs {
				verbs[i] = DenyVerb + verb
			}
			rule.Verbs = verbs
			rows = append(rows, rule)
		}
	}
	for i := range s.Bans {
		row(access.Everything())
		total = append(total, action.All()...)
		notes = append(notes, fmt.Sprintf("everything is denied by Ban %q: %s", s.Bans[i].Name, s.Bans[i].Reason))
	}
	for i := range s.Denies {
		p := &s.Denies[i]
		row(p.Rules)
		note := fmt.Sprintf("denied by AccessPolicy %q: %s", p.Policy.Name, words(p.Rules))
		if limits := limitsOf(&p.Policy); limits != "" {
			note = fmt.Sprintf("denied by AccessPolicy %q %s: %s", p.Policy.Name, limits, words(p.Rules))
		} else if actions, ok := action.Of(p.Rules); ok {
			for _, a := range actions {
				// A URL is in no namespace, so a policy for namespaces does
				// not reach it.
				if a.URL == "" || len(p.Policy.Namespaces)+len(p.Policy.NamespaceLabels) == 0 {
					total = append(total, a)
				}
			}
		}
		notes = append(notes, note)
	}
	return rows, total, notes
}

// limitsOf says what narrows a policy beyond its rules and its namespaces, and
// is empty when nothing does.
func limitsOf(p *authz.Policy) string {
	var parts []string
	if len(p.LabelSelector) > 0 {
		parts = append(parts, "labels "+selectorWords(p.LabelSelector))
	}
	if len(p.FieldSelector) > 0 {
		parts = append(parts, "fields "+selectorWords(p.FieldSelector))
	}
	if p.Condition != nil {
		parts = append(parts, "under its condition")
	}
	if len(parts) == 0 {
		return ""
	}
	return "(" + strings.Join(parts, ", ") + ")"
}

func selectorWords(list []authz.Requirement) string {
	var out []string
	for i := range list {
		out = append(out, list[i].String())
	}
	return strings.Join(out, ",")
}

// without leaves out of rules what is denied. A rule that no denial touches
// stays as it stands in its role.
func without(rules []authz.Rule, denied []action.Action) []authz.Rule {
	if len(denied) == 0 {
		return rules
	}
	var out []authz.Rule
	for _, rule := range rules {
		single, ok := action.Of([]authz.Rule{rule})
		if !ok || len(single)*len(denied) > 1<<22 {
			out = append(out, rule) // the note says that it does not hold in full
			continue
		}
		left := slices.DeleteFunc(slices.Clone(single), func(a action.Action) bool {
			return slices.ContainsFunc(denied, func(d action.Action) bool { return d.Includes(a) })
		})
		if len(left) == len(single) {
			out = append(out, rule)
			continue
		}
		out = append(out, action.Rules(left)...)
	}
	return out
}

// words renders rules in one line.
func words(rules []authz.Rule) string {
	var out []string
	for _, rule := range rbac.Compact(rules) {
		out = append(out, rbac.Words(rule))
	}
	return strings.Join(out, ", ")
}
