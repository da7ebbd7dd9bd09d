package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	access "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

func explainCommand() *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "explain VERB RESOURCE [NAME]",
		Short: "Say why you, or somebody else, may do something, or why not",
		Long: `Says which binding and rule, which access policy or which ban decides; and where
nothing allows, which rules come nearest and what they lack.

` + questionHelp + `

It needs the permission to create explainreviews.access.gatehouse.dev. The exit
code is 0 when the request is allowed and 1 when it is not.`,
		Example: `  gatehouse explain delete pods -n payments --as ada --as-group developers`,
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := o.question(args)
			if err != nil {
				return &exit{exitUsage, err}
			}
			review := &access.ExplainReview{TypeMeta: metav1.TypeMeta{APIVersion: access.GroupVersion.String(), Kind: "ExplainReview"}}
			review.Spec.Question = q
			if review.Spec.Subject, err = o.about(); err != nil {
				return &exit{exitUsage, err}
			}
			if err := checkOutput(o.output); err != nil {
				return err
			}
			client, err := accessClient(o.kubeconfig)
			if err != nil {
				return err
			}
			if err := client.Post().Resource("explainreviews").Body(review).Do(cmd.Context()).Into(review); err != nil {
				return clientError(err)
			}
			if err := show(cmd.OutOrStdout(), o.output, review.Status, func(w io.Writer) { explainText(w, review) }); err != nil {
				return err
			}
			if !review.Status.Allowed {
				return &exit{code: exitNo}
			}
			return nil
		},
	}
	o.questionFlags(c)
	o.subjectFlags(c)
	return c
}

func explainText(w io.Writer, review *access.ExplainReview) {
	s := &review.Status
	verdict := "not allowed: nothing grants it"
	switch {
	case s.Allowed:
		verdict = "allowed"
	case s.Denied:
		verdict = "denied"
	}
	fmt.Fprintf(w, "%s: %s\n", words(&review.Spec.Question), verdict)
	if s.Reason != "" {
		fmt.Fprintf(w, "  %s\n", s.Reason)
	}
	if by := s.DecidedBy; by != nil && by.Rule != nil {
		fmt.Fprintf(w, "  rule: %s\n", ruleWords(by.Rule))
	}
	if len(s.Nearest) > 0 {
		fmt.Fprintln(w, "nearest rules:")
	}
	for i := range s.Nearest {
		n := &s.Nearest[i]
		by := n.By
		by.Role = ""
		text := deciderWords(&by)
		if n.By.Role != "" {
			text += " gives " + n.By.Role + " to " + n.By.Subject
		}
		fmt.Fprintf(w, "  %s: %s; %s\n", text, ruleWords(&n.Rule), lackWords(n.Lacks))
	}
	for _, role := range s.MissingRoles {
		fmt.Fprintf(w, "a binding names %s, which does not exist\n", role)
	}
}

// lackWords says what keeps a rule from allowing.
func lackWords(lacks []string) string {
	var out []string
	for _, lack := range lacks {
		switch lack {
		case "subject":
			out = append(out, "is for others")
		case "namespace", "site", "period":
			out = append(out, "is for another "+lack)
		case "selector":
			out = append(out, "allows fewer objects than the request selects")
		case "condition":
			out = append(out, "has a condition that does not hold")
		default:
			out = append(out, "lacks the "+lack)
		}
	}
	return strings.Join(out, ", ")
}

// ruleWords renders a rule in one line.
func ruleWords(r *rbacv1.PolicyRule) string { return rbac.Words(authz.Rule(*r)) }
