package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	access "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
)

// revokeOptions are the flags of revoke.
type revokeOptions struct {
	kubeconfig, reason, until, output string
	sites                             []string
	keepMade, dryRun                  bool
}

func revokeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke",
		Short: "Turn a credential, a subject, a signing key or a site off",
		Long: `Writes a Ban, which is in force on every replica and at every connected site
within one second, for administrators too. Delete the Ban to lift it.

The ban of a credential or of a key also ends the tokens, access keys and certificates
that were made with the credential, and what was made with those; the access keys and
certificate requests among them are listed on standard error. With --keep-made they go
on; --dry-run lists them and bans nothing.

"kubectl get ban NAME -o yaml" shows which site has asked since, and what the ban
cannot reach there.`,
	}
	c.AddCommand(
		revokeKind("credential ID", "Turn one credential off, and what was made with it; others of its holder keep working",
			`The id is in audit events and in "kubectl auth whoami": JTI=… for a token, or
JWTSHA256=… for one of a provider that numbers none; X509SHA256=… for a certificate,
KEY=… for an access key, SECRET=… and BOOTSTRAP=… for a token in a Secret.`,
			`  gatehouse revoke credential JTI=0d5b6c3a-8f0e-4f3b-9d0e-0a1b2c3d4e5f --reason "laptop stolen"
  gatehouse revoke credential X509SHA256=9f…e1 --reason "replaced" --dry-run
  gatehouse revoke credential X509SHA256=9f…e1 --reason "replaced" --keep-made`,
			func(arg string, b *access.BanSpec) error { b.CredentialID = arg; return nil }),
		revokeKind("subject KIND/NAME", "Turn a user, group or service account off",
			`The subject is user/NAME, group/NAME or serviceaccount/NAMESPACE/NAME.`,
			`  gatehouse revoke subject user/ada --reason "left the company"
  gatehouse revoke subject serviceaccount/ci/deploy --site blue --until 8h --reason "incident 12"`,
			func(arg string, b *access.BanSpec) error {
				kind, namespace, name, err := parseSubject(arg)
				b.Subject = &access.BanSubject{Kind: kind, Namespace: namespace, Name: name}
				return err
			}),
		revokeKind("key ID", "Turn every token off that a key signed",
			`The id is the kid in the header of a token and in the key set of its issuer.`,
			`  gatehouse revoke key 7ZvK2hN1 --reason "key leaked"`,
			func(arg string, b *access.BanSpec) error { b.IssuerKey = arg; return nil }),
		revokeKind("site NAME", "Close the doors of a site",
			`The site's certificates are struck off its list too, so that after the ban is
lifted it has to be connected again.`,
			`  gatehouse revoke site blue --reason "cluster given back"`,
			func(arg string, b *access.BanSpec) error {
				b.Subject = &access.BanSubject{Kind: access.SubjectSite, Name: arg}
				return nil
			}),
	)
	return c
}

func revokeKind(use, short, long, example string, set func(arg string, b *access.BanSpec) error) *cobra.Command {
	var o revokeOptions
	what, argument, _ := strings.Cut(use, " ")
	c := &cobra.Command{
		Use: use + " --reason TEXT", Short: short, Long: short + ".\n\n" + long, Example: example,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return &exit{exitUsage, fmt.Errorf("one %s is required", argument)}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			spec := access.BanSpec{Reason: o.reason, Sites: o.sites}
			if o.keepMade {
				spec.Made = access.BanKeepsMade
			}
			if err := set(args[0], &spec); err != nil {
				return &exit{exitUsage, err}
			}
			return revoke(cmd, what, spec, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.reason, "reason", "", "why; recorded with every refusal (required)")
	f.StringVar(&o.until, "until", "", "when the ban ends, as a time or a duration (default: when it is deleted)")
	if what == "credential" || what == "subject" {
		f.StringSliceVar(&o.sites, "site", nil, `sites where it holds, "gatehouse" for the control plane (default: everywhere)`)
	}
	if what == "credential" || what == "key" {
		f.BoolVar(&o.keepMade, "keep-made", false, "leave alone what was made with the credential, or with one that the key signed")
		f.BoolVar(&o.dryRun, "dry-run", false, "ban nothing; say what would end")
	}
	outputFlag(c, &o.output)
	kubeconfigFlag(c, &o.kubeconfig)
	return c
}

func revoke(cmd *cobra.Command, what string, spec access.BanSpec, o revokeOptions) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	if strings.TrimSpace(o.reason) == "" {
		return &exit{exitUsage, errors.New("--reason is required; it is recorded")}
	}
	if o.until != "" {
		end, err := parseUntil(o.until, time.Now())
		if err != nil {
			return &exit{exitUsage, fmt.Errorf("--until: %w", err)}
		}
		spec.NotAfter = &metav1.Time{Time: end.Truncate(time.Second)}
	}
	client, err := accessClient(o.kubeconfig)
	if err != nil {
		return err
	}
	ban := &access.Ban{
		TypeMeta:   metav1.TypeMeta{APIVersion: access.GroupVersion.String(), Kind: "Ban"},
		ObjectMeta: metav1.ObjectMeta{GenerateName: "revoked-" + what + "-"}, Spec: spec,
	}
	request := client.Post().Resource("bans").Body(ban)
	if o.dryRun {
		request = request.Param("dryRun", metav1.DryRunAll)
	}
	if err := request.Do(cmd.Context()).Into(ban); err != nil {
		return clientError(err)
	}
	sayReach(cmd.Context(), cmd.ErrOrStderr(), o.kubeconfig, &spec)
	if o.dryRun {
		return nil
	}
	ban.TypeMeta = metav1.TypeMeta{APIVersion: access.GroupVersion.String(), Kind: "Ban"}
	if what == "site" {
		// The ban closes the doors at once; what follows outlives the ban.
		if err := strikeCertificates(cmd.Context(), o.kubeconfig, spec.Subject.Name); err != nil {
			return clientError(fmt.Errorf("ban %s is in force, but the site's certificates are still listed: %w", ban.Name, err))
		}
	}
	return show(cmd.OutOrStdout(), o.output, ban, func(w io.Writer) { fmt.Fprintln(w, ban.Name) })
}

// strikeCertificates empties the list of certificates by which a site is
// recognised.
func strikeCertificates(ctx context.Context, kubeconfig, name string) error {
	cfg, err := loadKubeconfig(kubeconfig)
	if err != nil {
		return err
	}
	var client *rest.RESTClient
	if client, err = sitesClient(cfg); err != nil {
		return &exit{exitUsage, err}
	}
	err = client.Patch("application/merge-patch+json").Resource("sites").Name(name).Body([]byte(`{"spec":{"credentials":[]}}`)).Do(ctx).Error()
	if apierrors.IsNotFound(err) {
		return nil // a ban may come before the site
	}
	return err
}
