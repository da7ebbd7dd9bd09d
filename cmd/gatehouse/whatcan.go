package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	access "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
)

func whatCanCommand() *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "what-can [USER]",
		Short: "List what you, or somebody else, may do and is denied",
		Long: `Lists everything that a subject may do in a namespace, and everything that it is
denied there, in the order in which a decision asks: the first line that a
request meets decides it. With --all-namespaces it lists what is allowed
everywhere, outside of namespaces too, and what is denied anywhere.

USER is a user, or serviceaccount/NAMESPACE/NAME; without it, and without --as
and --as-group, the list is about you. It needs the permission to create
whatcanreviews.access.gatehouse.dev.

The exit code is 0 when something is allowed and 1 when nothing is.`,
		Example: `  gatehouse what-can ada --as-group developers -n payments
  gatehouse what-can serviceaccount/ci/deploy -A --output json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && (args[0] == "" || o.subject != "") {
				return &exit{exitUsage, fmt.Errorf("at most one user is expected")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.subject = args[0]
			}
			return whatCan(cmd, &o)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "default", "namespace of the question")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "ask what is allowed everywhere, and denied anywhere")
	outputFlag(c, &o.output)
	kubeconfigFlag(c, &o.kubeconfig)
	o.subjectFlags(c)
	return c
}

func whatCan(cmd *cobra.Command, o *askOptions) error {
	review := &access.WhatCanReview{TypeMeta: metav1.TypeMeta{APIVersion: access.GroupVersion.String(), Kind: "WhatCanReview"}}
	var err error
	if review.Spec.Subject, err = o.about(); err != nil {
		return &exit{exitUsage, err}
	}
	if !o.allNamespaces {
		review.Spec.Namespace = o.namespace
	}
	if err := checkOutput(o.output); err != nil {
		return err
	}
	client, err := accessClient(o.kubeconfig)
	if err != nil {
		return err
	}
	if err := client.Post().Resource("whatcanreviews").Body(review).Do(cmd.Context()).Into(review); err != nil {
		return clientError(err)
	}
	if err := show(cmd.OutOrStdout(), o.output, review.Status, func(w io.Writer) { whatCanTable(w, &review.Status) }); err != nil {
		return err
	}
	for i := range review.Status.Entitlements {
		if review.Status.Entitlements[i].Effect == access.EffectAllow {
			return nil
		}
	}
	return &exit{code: exitNo}
}

func whatCanTable(w io.Writer, s *access.WhatCanReviewStatus) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "EFFECT\tACTIONS\tBY\tLIMITS")
	for i := range s.Entitlements {
		e := &s.Entitlements[i]
		for j := range e.Rules {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", e.Effect, ruleWords(&e.Rules[j]), deciderWords(&e.By), limitWords(e.Limits))
		}
	}
	t.Flush()
	for _, role := range s.MissingRoles {
		fmt.Fprintf(w, "%s is named and does not exist\n", role)
	}
}

// deciderWords names an object, and the role that it gives.
func deciderWords(d *access.Decider) string {
	text := d.Kind + "/" + d.Name
	if d.Namespace != "" {
		text = d.Kind + "/" + d.Namespace + "/" + d.Name
	}
	if d.Role != "" {
		text += " (" + d.Role + ")"
	}
	return text
}

// limitWords renders limits in one line.
func limitWords(l *access.Limits) string {
	if l == nil {
		return ""
	}
	var parts []string
	if n := l.Namespaces; n != nil {
		text := "namespaces " + strings.Join(n.Names, ",")
		if n.Selector != nil {
			text += " with labels " + metav1.FormatLabelSelector(n.Selector)
		}
		parts = append(parts, text)
	}
	if len(l.LabelSelector) > 0 {
		parts = append(parts, "labels "+metav1.FormatLabelSelector(&metav1.LabelSelector{MatchExpressions: l.LabelSelector}))
	}
	for _, f := range l.FieldSelector {
		parts = append(parts, fmt.Sprintf("field %s %s %s", f.Key, f.Operator, strings.Join(f.Values, ",")))
	}
	if l.NotBefore != nil {
		parts = append(parts, "from "+l.NotBefore.UTC().Format(time.RFC3339))
	}
	if l.NotAfter != nil {
		parts = append(parts, "until "+l.NotAfter.UTC().Format(time.RFC3339))
	}
	if l.Condition != "" {
		parts = append(parts, "if "+strings.Join(strings.Fields(l.Condition), " "))
	}
	return strings.Join(parts, "; ")
}
