package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

func tokensCommand() *cobra.Command {
	c := &cobra.Command{Use: "tokens", Short: "Tokens that are in use, and the keys that sign them"}
	c.AddCommand(legacyTokensCommand(), rotateTokenKeysCommand(), keepTokenCommand())
	return c
}

// legacyOptions are the flags of tokens legacy.
type legacyOptions struct {
	kubeconfig, namespace, output string
	unusedFor                     time.Duration
	invalidate, restore           bool
	secrets                       []string
}

func legacyTokensCommand() *cobra.Command {
	var o legacyOptions
	c := &cobra.Command{
		Use:   "legacy [SECRET...]",
		Short: "List tokens in Secrets, which never expire, and end those that nobody uses",
		Long: `Lists the Secrets that hold a token of a service account, with the day of its last
use. Such tokens never expire; new clients use the TokenRequest API instead.

With --invalidate the tokens listed are refused from now on. Nothing is deleted:
--restore makes them valid again, deleting the Secret ends one for good. The tokens
themselves are never read. The exit code is 0 when something was found and 1 when
not.`,
		Example: `  gatehouse tokens legacy
  gatehouse tokens legacy --unused-for 2160h --invalidate
  gatehouse tokens legacy --namespace ci builder-token --restore`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.secrets = args
			return legacyTokens(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), o)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "", "namespace of the Secrets (default: all)")
	f.DurationVar(&o.unusedFor, "unused-for", 0, "only tokens not used for this long, counted from their creation if they never were")
	f.BoolVar(&o.invalidate, "invalidate", false, "refuse the tokens listed from now on")
	f.BoolVar(&o.restore, "restore", false, "accept the tokens listed again")
	outputFlag(c, &o.output)
	kubeconfigFlag(c, &o.kubeconfig)
	return c
}

// legacyToken is one row of the inventory.
type legacyToken struct {
	Namespace string `json:"namespace"`
	Secret    string `json:"secret"`
	Account   string `json:"serviceAccount"`
	Created   string `json:"created"`
	// LastUsed is a day, or empty for a token that was never used.
	LastUsed string `json:"lastUsed,omitempty"`
	// InvalidSince is a day, or empty for a token that is accepted.
	InvalidSince string `json:"invalidSince,omitempty"`
}

var secretsResource = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}

func legacyTokens(ctx context.Context, out, progress io.Writer, o legacyOptions) error {
	switch {
	case o.invalidate && o.restore:
		return &exit{exitUsage, errors.New("--invalidate and --restore exclude each other")}
	case len(o.secrets) > 0 && o.namespace == "":
		return &exit{exitUsage, errors.New("--namespace is required with names of Secrets")}
	case o.restore && len(o.secrets) == 0:
		return &exit{exitUsage, errors.New("--restore needs the names of Secrets")}
	case o.unusedFor < 0:
		return &exit{exitUsage, errors.New("--unused-for must not be negative")}
	}
	if err := checkOutput(o.output); err != nil {
		return err
	}
	cfg, err := loadKubeconfig(o.kubeconfig)
	if err != nil {
		return err
	}
	// Metadata alone is asked for, so that no token leaves the server.
	client, err := metadata.NewForConfig(cfg)
	if err != nil {
		return &exit{exitUsage, err}
	}
	secrets := client.Resource(secretsResource).Namespace(o.namespace)
	list, err := secrets.List(ctx, metav1.ListOptions{FieldSelector: "type=" + string(corev1.SecretTypeServiceAccountToken)})
	if err != nil {
		return clientError(err)
	}
	now := time.Now()
	rows := []legacyToken{}
	for _, s := range list.Items {
		row, ok := rowOf(&s, o, now)
		if !ok {
			continue
		}
		if o.invalidate || o.restore {
			if err := setInvalid(ctx, client, &s, &row, o.invalidate, now); err != nil {
				return clientError(err)
			}
			fmt.Fprintf(progress, "\r%d tokens changed", len(rows)+1)
		}
		rows = append(rows, row)
	}
	if o.invalidate || o.restore {
		fmt.Fprintln(progress)
	}
	if err := printLegacy(out, o.output, rows); err != nil {
		return err
	}
	if len(rows) == 0 {
		fmt.Fprintln(progress, "no tokens found")
		return &exit{code: exitNo}
	}
	return nil
}

// rowOf describes a Secret, if it is one of those asked for.
func rowOf(s *metav1.PartialObjectMetadata, o legacyOptions, now time.Time) (legacyToken, bool) {
	row := legacyToken{
		Namespace: s.Namespace, Secret: s.Name, Account: s.Annotations[corev1.ServiceAccountNameKey],
		Created:  s.CreationTimestamp.UTC().Format(time.DateOnly),
		LastUsed: s.Labels[authn.LabelLegacyLastUsed], InvalidSince: s.Labels[authn.LabelLegacyInvalidSince],
	}
	if len(o.secrets) > 0 {
		asked := false
		for _, name := range o.secrets {
			asked = asked || name == s.Name
		}
		if !asked {
			return row, false
		}
	}
	if o.unusedFor > 0 {
		since := s.CreationTimestamp.Time
		// A day counts to its end: the token may have been used in its last
		// minute.
		if day, err := time.Parse(time.DateOnly, row.LastUsed); err == nil {
			since = day.Add(24 * time.Hour)
		}
		return row, now.Sub(since) >= o.unusedFor
	}
	return row, true
}

// setInvalid sets or removes the label that ends a token, on the Secret that
// was listed and no other.
func setInvalid(ctx context.Context, client metadata.Interface, s *metav1.PartialObjectMetadata, row *legacyToken, invalid bool, now time.Time) error {
	value := "null"
	row.InvalidSince = ""
	if invalid {
		row.InvalidSince = now.UTC().Format(time.DateOnly)
		value = `"` + row.InvalidSince + `"`
	}
	patch := fmt.Sprintf(`{"metadata":{"uid":%q,"labels":{%q:%s}}}`, s.UID, authn.LabelLegacyInvalidSince, value)
	_, err := client.Resource(secretsResource).Namespace(s.Namespace).Patch(ctx, s.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

func printLegacy(out io.Writer, output string, rows []legacyToken) error {
	if output != "table" {
		return printData(out, output, rows)
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tSECRET\tSERVICEACCOUNT\tCREATED\tLAST USED\tINVALID SINCE")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Namespace, r.Secret, printable(r.Account), r.Created, orWord(r.LastUsed, "never"), orWord(r.InvalidSince, "-"))
	}
	return w.Flush()
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return printable(s)
}
