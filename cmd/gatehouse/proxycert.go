package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	identity "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
)

func proxyCertificateCommand() *cobra.Command {
	var kubeconfig, out string
	var validity time.Duration
	c := &cobra.Command{
		Use:   "proxy-certificate NAME --out DIR",
		Short: "Have a proxy certified that names its callers in headers",
		Long: `Writes proxy.crt and proxy.key, with which an authenticating proxy speaks to the
control plane for its callers: it names them in X-Remote-User, X-Remote-Uid,
X-Remote-Group and X-Remote-Extra-*. The private key is made here and never leaves
this machine.

Such a proxy can speak for anybody but a site, an administrator too, so that the
certificate takes the verb impersonate on all users and groups, beside create on
proxycertificates. "gatehouse revoke credential X509SHA256=…" turns it off.`,
		Example: `  gatehouse proxy-certificate front --out /etc/front-proxy`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return &exit{exitUsage, errors.New("one NAME is required")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return &exit{exitUsage, errors.New("--out is required")}
			}
			client, err := keysClient(kubeconfig)
			if err != nil {
				return err
			}
			key, request, err := newRequest()
			if err != nil {
				return err
			}
			seconds := int64(validity / time.Second)
			ask := &identity.ProxyCertificate{
				TypeMeta: metav1.TypeMeta{APIVersion: identity.GroupVersion.String(), Kind: "ProxyCertificate"},
				Spec:     identity.ProxyCertificateSpec{Request: request, CommonName: args[0], ExpirationSeconds: &seconds},
			}
			if err := client.Post().Resource("proxycertificates").Body(ask).Do(cmd.Context()).Into(ask); err != nil {
				return clientError(err)
			}
			if err := writeFile(out, "proxy.key", key, true); err != nil {
				return err
			}
			if err := writeFile(out, "proxy.crt", ask.Status.Certificate, false); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s is good until %s\n", ask.Status.CredentialID, ask.Status.ExpirationTimestamp.UTC().Format(time.RFC3339))
			return nil
		},
	}
	c.Flags().StringVar(&out, "out", "", "directory to write to (required); it is created")
	c.Flags().DurationVar(&validity, "validity", 365*24*time.Hour, "how long the certificate is good")
	kubeconfigFlag(c, &kubeconfig)
	return c
}
