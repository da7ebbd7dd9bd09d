package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"

	access "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
)

// maxManifest bounds what is read from one file: the server takes no more.
const maxManifest = 3 << 20

// whatIfOptions are the flags of what-if.
type whatIfOptions struct {
	kubeconfig, output, namespace string
	files                         []string
	remove                        bool
}

func whatIfCommand() *cobra.Command {
	var o whatIfOptions
	c := &cobra.Command{
		Use:   "what-if -f FILE",
		Short: "Say who would gain or lose what, if a manifest were applied",
		Long: `Says who would gain or lose what, if the objects of a manifest were applied, or
with --delete if they were deleted. Nothing is changed: the answer is computed on
a copy of the policy.

The objects are Roles, ClusterRoles, RoleBindings, ClusterRoleBindings,
AccessPolicies, Bans, Delegations and Namespaces (whose labels choose domains
and scopes). What a giver loses, its receivers lose.
Service accounts are listed one by one; of groups that come from elsewhere the
members are not known, so the group stands for them, and the notes say so.

It needs the permission to create impactreviews.access.gatehouse.dev, and to list
everything that the answer is made of: roles, bindings, policies, bans,
namespaces and service accounts. The exit code is 0 when nobody gains or loses
anything and 1 when somebody does.`,
		Example: `  gatehouse what-if -f rolebinding.yaml
  kubectl get clusterrolebinding legacy -o yaml | gatehouse what-if --delete -f - --output json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &exit{exitUsage, errors.New("manifests are given with --filename")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return whatIf(cmd, &o) },
	}
	f := c.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, `manifest, YAML or JSON, "-" for standard input (required)`)
	f.BoolVar(&o.remove, "delete", false, "the objects would be deleted instead")
	f.StringVarP(&o.namespace, "namespace", "n", "default", "namespace of objects that name none")
	outputFlag(c, &o.output)
	kubeconfigFlag(c, &o.kubeconfig)
	return c
}

func whatIf(cmd *cobra.Command, o *whatIfOptions) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	if len(o.files) == 0 {
		return &exit{exitUsage, errors.New("--filename is required")}
	}
	review := &access.ImpactReview{TypeMeta: metav1.TypeMeta{APIVersion: access.GroupVersion.String(), Kind: "ImpactReview"}}
	for _, file := range o.files {
		objects, err := readObjects(file, cmd.InOrStdin(), o.namespace)
		if err != nil {
			return &exit{exitUsage, fmt.Errorf("%s: %w", file, err)}
		}
		if o.remove {
			review.Spec.Delete = append(review.Spec.Delete, objects...)
		} else {
			review.Spec.Apply = append(review.Spec.Apply, objects...)
		}
	}
	client, err := accessClient(o.kubeconfig)
	if err != nil {
		return err
	}
	if err := client.Post().Resource("impactreviews").Body(review).Do(cmd.Context()).Into(review); err != nil {
		return clientError(err)
	}
	if err := show(cmd.OutOrStdout(), o.output, review.Status, func(w io.Writer) { whatIfTable(w, &review.Status) }); err != nil {
		return err
	}
	if len(review.Status.Subjects) > 0 {
		return &exit{code: exitNo}
	}
	return nil
}

// readObjects reads the documents of a manifest. Objects of a kind that lives
// in namespaces get the given one where they name none.
func readObjects(file string, stdin io.Reader, namespace string) ([]runtime.RawExtension, error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxManifest+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read manifest: %w", err)
	case len(data) > maxManifest:
		return nil, fmt.Errorf("is larger than %d bytes", maxManifest)
	}
	var out []runtime.RawExtension
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		var obj map[string]any
		if err := decoder.Decode(&obj); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		if len(obj) == 0 {
			continue
		}
		fillNamespace(obj, namespace)
		raw, err := json.Marshal(obj)
		if err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		out = append(out, runtime.RawExtension{Raw: raw})
	}
	if len(out) == 0 {
		return nil, errors.New("holds no objects")
	}
	return out, nil
}

func fillNamespace(obj map[string]any, namespace string) {
	if items, ok := obj["items"].([]any); ok {
		for _, item := range items {
			if one, ok := item.(map[string]any); ok {
				fillNamespace(one, namespace)
			}
		}
		return
	}
	meta, ok := obj["metadata"].(map[string]any)
	if kind := obj["kind"]; !ok || meta["namespace"] != nil || kind != "Role" && kind != "RoleBinding" {
		return
	}
	meta["namespace"] = namespace
}

func whatIfTable(w io.Writer, s *access.ImpactReviewStatus) {
	if len(s.Subjects) == 0 {
		fmt.Fprintln(w, "nobody gains or loses anything")
	} else {
		t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		fmt.Fprintln(t, "SUBJECT\tCHANGE\tACTIONS\tWHERE\tBY\tLIMITS")
		for i := range s.Subjects {
			x := &s.Subjects[i]
			who := shown(&x.Subject)
			if x.MemberOf != "" {
				who += " (of " + x.MemberOf + ")"
			}
			for _, part := range []struct {
				word string
				list []access.ImpactRule
			}{{"gains", x.Gains}, {"loses", x.Loses}} {
				for j := range part.list {
					impactRows(t, who, part.word, &part.list[j])
				}
			}
		}
		t.Flush()
	}
	for _, note := range s.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
}

func impactRows(w io.Writer, who, word string, r *access.ImpactRule) {
	where := "everywhere"
	if r.Namespace != "" {
		where = r.Namespace
	}
	if r.Site != "" {
		where += " at site " + r.Site
	}
	limits := limitWords(r.Limits)
	for _, e := range r.Except {
		if limits != "" {
			limits += "; "
		}
		limits += "except what " + e + " denies"
	}
	for i := range r.Rules {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", who, word, ruleWords(&r.Rules[i]), where, strings.Join(r.By, ","), limits)
	}
}
