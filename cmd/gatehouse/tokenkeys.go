package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	identity "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
)

func rotateTokenKeysCommand() *cobra.Command {
	var kubeconfig, output string
	var lead time.Duration
	var legacy bool
	c := &cobra.Command{
		Use:   "rotate-keys",
		Short: "Make a new key for the tokens of service accounts",
		Long: `Makes the next key that signs the tokens of the control plane, which otherwise
happens every 90 days. The new key is published at once and signs after --lead; the
old one verifies until nothing valid can need it any more and is then removed.

Verifiers elsewhere may keep the keys for an hour. With a shorter lead they refuse
new tokens until they look again. After a theft, "gatehouse revoke key ID" ends what
the stolen key signed.

With --legacy the key of tokens in Secrets is replaced. Those tokens never expire, so
that their old keys stay until they are revoked.`,
		Example: `  gatehouse tokens rotate-keys
  gatehouse tokens rotate-keys --lead 0s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if lead < 0 {
				return &exit{exitUsage, errors.New("--lead must not be negative")}
			}
			client, err := keysClient(kubeconfig)
			if err != nil {
				return err
			}
			seconds := int64(lead / time.Second)
			rotation := &identity.TokenKeyRotation{
				TypeMeta: metav1.TypeMeta{APIVersion: identity.GroupVersion.String(), Kind: "TokenKeyRotation"},
				Spec:     identity.TokenKeyRotationSpec{LeadSeconds: &seconds, Use: identity.UseTokens},
			}
			if legacy {
				rotation.Spec.Use = identity.UseLegacyTokens
			}
			if err := client.Post().Resource("tokenkeyrotations").Body(rotation).Do(cmd.Context()).Into(rotation); err != nil {
				return clientError(err)
			}
			return show(cmd.OutOrStdout(), output, rotation.Status, func(w io.Writer) { printTokenKeys(w, rotation.Status.Keys) })
		},
	}
	c.Flags().DurationVar(&lead, "lead", 2*time.Hour, "how long the new key is published before it signs")
	c.Flags().BoolVar(&legacy, "legacy", false, "the key of tokens in Secrets")
	outputFlag(c, &output)
	kubeconfigFlag(c, &kubeconfig)
	return c
}

func printTokenKeys(out io.Writer, keys []identity.TokenKey) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "KEY\tSIGNS FROM\tVERIFIES UNTIL")
	for _, k := range keys {
		until := "-"
		if k.VerifiesUntil != nil {
			until = k.VerifiesUntil.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", k.KeyID, k.SignsFrom.UTC().Format(time.RFC3339), until)
	}
	_ = w.Flush()
}
