package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	access "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
)

// maxQuestions is how many questions the server answers in one request.
const maxQuestions = 10_000

func canICommand() *cobra.Command {
	var o askOptions
	var file string
	var some bool
	c := &cobra.Command{
		Use:   "can-i VERB RESOURCE [NAME]",
		Short: "Ask whether you, or somebody else, may do something",
		Long: `Asks whether you, or somebody else, may do something, with the same answer that
a request would get: bans, denials and conditions included.

` + questionHelp + `

With --file, every line of the file ("-" for standard input) is a question, and
the answer is yes when all of them are allowed, or with --any one of them.
Asking about others, or with --file, needs the permission to create
accessreviews.access.gatehouse.dev. The exit code is 0 for yes and 1 for no.`,
		Example: `  gatehouse can-i get secrets -n payments
  gatehouse can-i list secrets -l team=a -n payments --as ada --as-group developers
  printf 'get pods\ncreate deployments.apps\n' | gatehouse can-i --file - --output json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return canI(cmd, args, &o, file, some)
		},
	}
	o.questionFlags(c)
	o.subjectFlags(c)
	c.Flags().StringVarP(&file, "file", "f", "", "file with one question in each line")
	c.Flags().BoolVar(&some, "any", false, "with --file: yes when one of the questions is allowed")
	return c
}

func canI(cmd *cobra.Command, args []string, o *askOptions, file string, some bool) error {
	review := &access.AccessReview{TypeMeta: metav1.TypeMeta{APIVersion: access.GroupVersion.String(), Kind: "AccessReview"}}
	var err error
	if review.Spec.Subject, err = o.about(); err != nil {
		return &exit{exitUsage, err}
	}
	switch {
	case file != "" && len(args) > 0:
		err = errors.New("give a question or --file, not both")
	case file != "":
		review.Spec.Questions, err = readQuestions(file, cmd.InOrStdin(), o)
	default:
		var q access.Question
		q, err = o.question(args)
		review.Spec.Questions = []access.Question{q}
	}
	if err == nil && some && file == "" {
		err = errors.New("--any belongs to --file")
	}
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
	err = client.Post().Resource("accessreviews").Body(review).Do(cmd.Context()).Into(review)
	if apierrors.IsForbidden(err) && review.Spec.Subject == nil && len(review.Spec.Questions) == 1 {
		// Everybody may ask one thing about themselves.
		err = askSelf(cmd, o, review)
	}
	if err != nil {
		return clientError(err)
	}
	yes := review.Status.All
	if some {
		yes = review.Status.Any
	}
	if err := show(cmd.OutOrStdout(), o.output, review.Status, func(w io.Writer) { canITable(w, review, file != "") }); err != nil {
		return err
	}
	if !yes {
		return &exit{code: exitNo}
	}
	return nil
}

func canITable(w io.Writer, review *access.AccessReview, list bool) {
	if !list {
		a := review.Status.Answers[0]
		fmt.Fprintln(w, strings.TrimSpace(yesNo(a.Allowed)+" "+bracketed(a.Reason)))
		return
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "ALLOWED\tQUESTION\tREASON")
	for i := range review.Status.Answers {
		a := &review.Status.Answers[i]
		fmt.Fprintf(t, "%s\t%s\t%s\n", yesNo(a.Allowed), words(&review.Spec.Questions[i]), a.Reason)
	}
	t.Flush()
}

func yesNo(allowed bool) string {
	if allowed {
		return "yes"
	}
	return "no"
}

func bracketed(reason string) string {
	if reason == "" {
		return ""
	}
	return "(" + reason + ")"
}

// askSelf asks through the review that every caller may create.
func askSelf(cmd *cobra.Command, o *askOptions, review *access.AccessReview) error {
	cfg, err := loadKubeconfig(o.kubeconfig)
	if err != nil {
		return err
	}
	client, err := groupClient(cfg, authorizationv1.SchemeGroupVersion, authorizationv1.AddToScheme)
	if err != nil {
		return &exit{exitUsage, err}
	}
	q := review.Spec.Questions[0]
	self := &authorizationv1.SelfSubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: authorizationv1.SchemeGroupVersion.String(), Kind: "SelfSubjectAccessReview"},
		Spec:     authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: q.ResourceAttributes, NonResourceAttributes: q.NonResourceAttributes},
	}
	if err := client.Post().Resource("selfsubjectaccessreviews").Body(self).Do(cmd.Context()).Into(self); err != nil {
		return err
	}
	review.Status = access.AccessReviewStatus{All: self.Status.Allowed, Any: self.Status.Allowed,
		Answers: []access.Answer{{Allowed: self.Status.Allowed, Denied: self.Status.Denied, Reason: self.Status.Reason}}}
	return nil
}

// readQuestions reads one question from each line that is not empty.
func readQuestions(file string, stdin io.Reader, o *askOptions) ([]access.Question, error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	var out []access.Question
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		q, err := o.question(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if len(out) == maxQuestions {
			return nil, fmt.Errorf("line %d: at most %d questions are answered at once", n, maxQuestions)
		}
		out = append(out, q)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read questions: %w", err)
	}
	if len(out) == 0 {
		return nil, errors.New("no questions")
	}
	return out, nil
}
