package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
)

func rotateKeysCommand() *cobra.Command {
	var kubeconfig, output string
	var lead time.Duration
	c := &cobra.Command{
		Use:   "rotate-keys NAME",
		Short: "Make a new key for the service-account tokens of a site",
		Long: `Makes the next key that signs the service-account tokens of a site which has them
signed by "gatehouse-edge signer". The new key is published at once and signs after
--lead; what the old one signed stays valid to its end. Nothing at the site is
restarted.

Verifiers outside of the cluster may keep its keys for an hour. With a shorter lead
they refuse new tokens until they look again.`,
		Example: `  gatehouse site rotate-keys blue
  gatehouse site rotate-keys blue --lead 0s`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &exit{exitUsage, errors.New("one name of a site is required")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if lead < 0 {
				return &exit{exitUsage, errors.New("--lead must not be negative")}
			}
			cfg, err := loadKubeconfig(kubeconfig)
			if err != nil {
				return err
			}
			client, err := sitesClient(cfg)
			if err != nil {
				return &exit{exitUsage, err}
			}
			seconds := int64(lead / time.Second)
			rotation := &federation.SiteKeyRotation{
				TypeMeta: metav1.TypeMeta{APIVersion: federation.GroupVersion.String(), Kind: "SiteKeyRotation"},
				Spec:     federation.SiteKeyRotationSpec{LeadSeconds: &seconds},
			}
			if err := client.Post().Resource("sites").Name(args[0]).SubResource("keyrotation").Body(rotation).Do(cmd.Context()).Into(rotation); err != nil {
				return clientError(err)
			}
			if output != "table" {
				return printData(cmd.OutOrStdout(), output, rotation.Status)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "key %s signs from %s\n", rotation.Status.KeyID, rotation.Status.SignsFrom.UTC().Format(time.RFC3339))
			return nil
		},
	}
	c.Flags().DurationVar(&lead, "lead", 2*time.Hour, "how long the new key is published before it signs")
	outputFlag(c, &output)
	kubeconfigFlag(c, &kubeconfig)
	return c
}
