package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"github.com/gatehouse-dev/gatehouse/webhookauth"
)

func keepTokenCommand() *cobra.Command {
	var kubeconfig, file string
	var s webhookauth.Source
	c := &cobra.Command{
		Use:   "keep --namespace NS --service-account NAME --audience URL --file FILE",
		Short: "Keep a file with a token for the calls of a webhook",
		Long: `Has a token minted for one webhook, writes it to a file (mode 0600) and renews it in
time, until it is told to stop. The kubeconfig that a kube-apiserver is given for its
admission webhooks names the file as tokenFile, and reads it again by itself.

It needs the verb create on serviceaccounts/token of the account, and on the audience
what "gatehouse tokens" of the documentation says.`,
		Example: `  gatehouse tokens keep --namespace kube-system --service-account webhooks --audience https://hook.example/check --file /etc/kubernetes/hook.token`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.Namespace == "" || s.ServiceAccount == "" || s.Audience == "" || file == "" {
				return &exit{exitUsage, errors.New("--namespace, --service-account, --audience and --file are required")}
			}
			if s.Lifetime < 10*time.Minute {
				return &exit{exitUsage, errors.New("--duration must be at least 10m")}
			}
			cfg, err := loadKubeconfig(kubeconfig)
			if err != nil {
				return err
			}
			if s.Client, err = rest.HTTPClientFor(cfg); err != nil {
				return &exit{exitUsage, err}
			}
			s.Server = cfg.Host
			err = s.Keep(cmd.Context(), file, func(err error) { fmt.Fprintln(cmd.ErrOrStderr(), "gatehouse: not renewed:", err) })
			if err != nil {
				return clientError(err)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVarP(&s.Namespace, "namespace", "n", "", "namespace of the service account (required)")
	f.StringVar(&s.ServiceAccount, "service-account", "", "service account that the token speaks for (required)")
	f.StringVar(&s.Audience, "audience", "", "the webhook's URL (required)")
	f.StringVar(&s.AdmissionReviewAPIGroup, "admission-review-api-group", "", `API group about which the bearer may ask an admission webhook, "*" for all`)
	f.DurationVar(&s.Lifetime, "duration", time.Hour, "life of each token")
	f.StringVar(&file, "file", "", "the file to keep (required)")
	kubeconfigFlag(c, &kubeconfig)
	return c
}
