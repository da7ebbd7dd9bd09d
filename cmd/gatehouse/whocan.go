package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	access "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
)

func whoCanCommand() *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "who-can VERB RESOURCE [NAME]",
		Short: "List who may do something",
		Long: `Lists who may do something in the control plane, once for each grant, and who
holds a grant that a ban or a denial overrules. Groups are named; service
accounts, whose groups are known here, are listed under them.

` + questionHelp + `

The exit code is 0 when somebody other than superusers may, and 1 when nobody.`,
		Example: `  gatehouse who-can get secrets -n payments
  gatehouse who-can delete nodes -A --output json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := o.question(args)
			if err != nil {
				return &exit{exitUsage, err}
			}
			if err := checkOutput(o.output); err != nil {
				return err
			}
			client, err := accessClient(o.kubeconfig)
			if err != nil {
				return err
			}
			review := &access.WhoCanReview{TypeMeta: metav1.TypeMeta{APIVersion: access.GroupVersion.String(), Kind: "WhoCanReview"}, Spec: q}
			if err := client.Post().Resource("whocanreviews").Body(review).Do(cmd.Context()).Into(review); err != nil {
				return clientError(err)
			}
			if err := show(cmd.OutOrStdout(), o.output, review.Status, func(w io.Writer) { whoCanTable(w, &review.Status) }); err != nil {
				return err
			}
			for i := range review.Status.Holders {
				if s := &review.Status.Holders[i].Subject; s.Kind != access.SubjectGroup || s.Name != superusers {
					return nil
				}
			}
			return &exit{code: exitNo}
		},
	}
	o.questionFlags(c)
	return c
}

// superusers is the group that may do everything that nothing denies.
const superusers = "system:masters"

func whoCanTable(w io.Writer, s *access.WhoCanReviewStatus) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "ALLOWED\tSUBJECT\tOBJECTS\tREASON")
	for _, part := range []struct {
		allowed string
		list    []access.Holder
	}{{"yes", s.Holders}, {"no", s.Refused}} {
		for i := range part.list {
			h := &part.list[i]
			objects := "*"
			if len(h.ResourceNames) > 0 {
				objects = strings.Join(h.ResourceNames, ",")
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", part.allowed, shown(&h.Subject), objects, h.Reason)
			for j := range h.Members {
				fmt.Fprintf(t, "%s\t  %s\t%s\tmember of %s\n", part.allowed, shown(&h.Members[j]), objects, shown(&h.Subject))
			}
		}
	}
	t.Flush()
}
