package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	identity "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
)

func keysCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "keys",
		Short: "Access keys: opaque secrets of doors that speak other protocols",
		Long: `An access key is a secret with which somebody opens one door that speaks another
protocol: a Keystone password, a salt-api login, an import token. The control plane
makes the secret, shows it once and keeps a hash of it.

A key speaks for one subject at one door (its audience), belongs to a namespace and
always expires. Keys of an encryption provider are another matter: "gatehouse key".`,
	}
	c.AddCommand(createKeyCommand(), listKeysCommand(), revokeKeyCommand(), reachCommand())
	return c
}

// keysClient speaks to identity.gatehouse.dev.
func keysClient(kubeconfig string) (*rest.RESTClient, error) {
	cfg, err := loadKubeconfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := groupClient(cfg, identity.GroupVersion, identity.AddToScheme)
	if err != nil {
		return nil, &exit{exitUsage, err}
	}
	return client, nil
}

// keyOptions are the flags of keys create.
type keyOptions struct {
	kubeconfig, namespace, output         string
	audience, subject, description, until string
	uid                                   string
	groups                                []string
}

func createKeyCommand() *cobra.Command {
	var o keyOptions
	c := &cobra.Command{
		Use:   "create [NAME] --audience DOOR",
		Short: "Make a key and show its secret, once",
		Long: `Makes an access key and prints its secret, which cannot be shown again.

Without --subject the key speaks for you, with those of your groups that a key can
carry. A key for a service account of the namespace needs what a token of it needs
(create on serviceaccounts/token, and the audience); one for anybody else the verb
impersonate on that user and each group. Who signed in with a key cannot make more.`,
		Example: `  gatehouse keys create --audience keystone --namespace payments
  gatehouse keys create nightly --audience defectdojo -n payments --subject serviceaccount/scanner --until 720h
  gatehouse keys create ada-salt --audience salt-api -n ops --subject user/ada --group operators`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &exit{exitUsage, errors.New("at most one NAME can be given")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return createKey(cmd, args, o) },
	}
	f := c.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "default", "namespace that the key belongs to")
	f.StringVar(&o.audience, "audience", "", "the one door that accepts the key (required)")
	f.StringVar(&o.subject, "subject", "", "who the key speaks for: user/NAME or serviceaccount/NAME (default: you)")
	f.StringVar(&o.uid, "uid", "", "uid of the subject")
	f.StringSliceVar(&o.groups, "group", nil, "groups of the user")
	f.StringVar(&o.until, "until", "", "when the key ends, as a time or a duration (default: in 90 days)")
	f.StringVar(&o.description, "description", "", "what the key is for")
	outputFlag(c, &o.output)
	kubeconfigFlag(c, &o.kubeconfig)
	return c
}

func createKey(cmd *cobra.Command, args []string, o keyOptions) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	key := &identity.AccessKey{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace},
		Spec:       identity.AccessKeySpec{Audience: o.audience, Description: o.description},
	}
	if o.audience == "" {
		return &exit{exitUsage, errors.New("--audience is required")}
	}
	if len(args) == 1 {
		key.Name = args[0]
	} else {
		// Every character of a generated name must be one of a name.
		key.GenerateName = strings.Trim(strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
				return r
			}
			return '-'
		}, strings.ToLower(o.audience)), "-") + "-"
	}
	if o.until != "" {
		now := time.Now()
		end, err := parseUntil(o.until, now)
		if err != nil {
			return &exit{exitUsage, fmt.Errorf("--until: %w", err)}
		}
		seconds := int64(end.Sub(now).Round(time.Second) / time.Second)
		key.Spec.ExpirationSeconds = &seconds
	}
	subject, err := keySubject(o)
	if err != nil {
		return &exit{exitUsage, err}
	}
	key.Spec.Subject = subject
	client, err := keysClient(o.kubeconfig)
	if err != nil {
		return err
	}
	out := &identity.AccessKey{}
	if err := client.Post().Resource("accesskeys").Namespace(o.namespace).Body(key).Do(cmd.Context()).Into(out); err != nil {
		return clientError(err)
	}
	out.TypeMeta = metav1.TypeMeta{APIVersion: identity.GroupVersion.String(), Kind: "AccessKey"}
	out.ManagedFields = nil
	fmt.Fprintf(cmd.ErrOrStderr(), "%s/%s is %s\n", out.Namespace, out.Name, out.Status.CredentialID)
	return show(cmd.OutOrStdout(), o.output, out, func(w io.Writer) { fmt.Fprintln(w, out.Status.Secret) })
}

// keySubject reads --subject; nil is the caller.
func keySubject(o keyOptions) (*identity.AccessKeySubject, error) {
	if o.subject == "" {
		if len(o.groups) > 0 || o.uid != "" {
			return nil, errors.New("--group and --uid need --subject")
		}
		return nil, nil
	}
	kind, name, _ := strings.Cut(o.subject, "/")
	switch {
	case name == "":
	case kind == "user":
		return &identity.AccessKeySubject{User: name, UID: o.uid, Groups: o.groups}, nil
	case kind == "serviceaccount":
		return &identity.AccessKeySubject{ServiceAccount: name, UID: o.uid, Groups: o.groups}, nil
	}
	return nil, fmt.Errorf("--subject: %q is not user/NAME or serviceaccount/NAME", o.subject)
}

// listKeyOptions are the flags of keys list and reach.
type listKeyOptions struct {
	kubeconfig, namespace, output, audience string
	unusedFor                               time.Duration
}

func (o *listKeyOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "", "namespace of the keys (default: all)")
	f.StringVar(&o.audience, "audience", "", "only keys of this door")
	outputFlag(c, &o.output)
	kubeconfigFlag(c, &o.kubeconfig)
}

func listKeysCommand() *cobra.Command {
	var o listKeyOptions
	c := &cobra.Command{
		Use:   "list",
		Short: "List the access keys",
		Long: `Lists the access keys with their subject, door, end and last use, the sessions of
doors among them. The exit code is 0 when there are any and 1 when there are none.`,
		Example: `  gatehouse keys list --namespace payments
  gatehouse keys list --audience keystone --unused-for 720h -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := o.find(cmd.Context(), nil)
			if err != nil {
				return err
			}
			return found(cmd, len(keys), show(cmd.OutOrStdout(), o.output, keys, func(w io.Writer) { printKeys(w, keys) }))
		},
	}
	o.flags(c)
	c.Flags().DurationVar(&o.unusedFor, "unused-for", 0, "only keys not used for this long, counted from their creation if they never were")
	return c
}

// found turns an empty answer into the exit code of "no".
func found(cmd *cobra.Command, n int, err error) error {
	if err != nil {
		return err
	}
	if n == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "no access keys found")
		return &exit{code: exitNo}
	}
	return nil
}

// find lists keys; names are those of objects or credential ids.
func (o *listKeyOptions) find(ctx context.Context, names []string) ([]identity.AccessKey, error) {
	if err := checkOutput(o.output); err != nil {
		return nil, err
	}
	if o.unusedFor < 0 {
		return nil, &exit{exitUsage, errors.New("--unused-for must not be negative")}
	}
	client, err := keysClient(o.kubeconfig)
	if err != nil {
		return nil, err
	}
	request := client.Get().Resource("accesskeys").Namespace(o.namespace)
	if o.audience != "" {
		request = request.Param("fieldSelector", "spec.audience="+o.audience)
	}
	var list identity.AccessKeyList
	if err := request.Do(ctx).Into(&list); err != nil {
		return nil, clientError(err)
	}
	now, out := time.Now(), []identity.AccessKey{}
	for _, key := range list.Items {
		asked := len(names) == 0
		for _, name := range names {
			asked = asked || name == key.Name || name == key.Status.CredentialID
		}
		since := key.CreationTimestamp.Time
		if key.Status.LastUsed != nil {
			since = key.Status.LastUsed.Time
		}
		if !asked || o.unusedFor > 0 && now.Sub(since) < o.unusedFor {
			continue
		}
		key.TypeMeta = metav1.TypeMeta{APIVersion: identity.GroupVersion.String(), Kind: "AccessKey"}
		key.ManagedFields = nil
		out = append(out, key)
	}
	return out, nil
}

func printKeys(out io.Writer, keys []identity.AccessKey) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tNAME\tSUBJECT\tAUDIENCE\tEXPIRES\tLAST USED\tCREDENTIAL")
	for i := range keys {
		k := &keys[i]
		used, end := "never", ""
		if k.Status.LastUsed != nil {
			used = k.Status.LastUsed.UTC().Format(time.RFC3339)
		}
		switch {
		case k.Spec.Revoked:
			end = "revoked"
		case k.Status.Expires != nil:
			end = k.Status.Expires.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.Namespace, k.Name, printable(subjectWords(k.Spec.Subject)), printable(k.Spec.Audience), end, used, k.Status.CredentialID)
	}
	_ = w.Flush()
}

func subjectWords(s *identity.AccessKeySubject) string {
	switch {
	case s == nil:
		return "-"
	case s.ServiceAccount != "":
		return "serviceaccount/" + s.ServiceAccount
	default:
		return "user/" + s.User
	}
}

func revokeKeyCommand() *cobra.Command {
	var o listKeyOptions
	c := &cobra.Command{
		Use:   "revoke KEY...",
		Short: "End access keys for good",
		Long: `Ends access keys, and every session opened with one, on every replica within one
second. A key is given by its name (with --namespace) or its credential id KEY=….

"gatehouse revoke credential KEY=…" bans a key instead: that can be lifted, reaches
connected sites, and needs no right on the key itself.`,
		Example: `  gatehouse keys revoke nightly --namespace payments
  gatehouse keys revoke KEY=xov3m2ka7ndbsl4q`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &exit{exitUsage, errors.New("at least one KEY is required")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if o.namespace == "" && !strings.HasPrefix(arg, "KEY=") {
					return &exit{exitUsage, errors.New("--namespace is required with names of keys")}
				}
			}
			keys, err := o.find(cmd.Context(), args)
			if err != nil {
				return err
			}
			client, err := keysClient(o.kubeconfig)
			if err != nil {
				return err
			}
			for i := range keys {
				patch := fmt.Sprintf(`{"metadata":{"uid":%q},"spec":{"revoked":true}}`, keys[i].UID)
				err := client.Patch("application/merge-patch+json").Resource("accesskeys").Namespace(keys[i].Namespace).Name(keys[i].Name).Body([]byte(patch)).Do(cmd.Context()).Into(&keys[i])
				if err != nil {
					return clientError(err)
				}
				keys[i].ManagedFields = nil
			}
			return found(cmd, len(keys), show(cmd.OutOrStdout(), o.output, keys, func(w io.Writer) { printKeys(w, keys) }))
		},
	}
	o.flags(c)
	return c
}

func reachCommand() *cobra.Command {
	var o listKeyOptions
	c := &cobra.Command{
		Use:   "reach [KEY...]",
		Short: "List what each key can do",
		Long: `Lists for each access key what its holder may do, by the policy in force: everywhere
first, then in single namespaces. Beside RBAC, AccessPolicies that allow the holder
more are named. A key counts at its door alone, so that it can do less than listed.
The last row says with which credentials the key was made: a ban on any ends it.

The exit code is 0 when there are any keys and 1 when there are none. It needs the
verb create on accesskeys/reach.`,
		Example: `  gatehouse keys reach --namespace payments
  gatehouse keys reach KEY=xov3m2ka7ndbsl4q -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := o.find(cmd.Context(), args)
			if err != nil {
				return err
			}
			client, err := keysClient(o.kubeconfig)
			if err != nil {
				return err
			}
			reaches := []identity.AccessKeyReach{}
			for i := range keys {
				var reach identity.AccessKeyReach
				err := client.Post().Resource("accesskeys").Namespace(keys[i].Namespace).Name(keys[i].Name).SubResource("reach").Body(&identity.AccessKeyReach{}).Do(cmd.Context()).Into(&reach)
				if err != nil {
					return clientError(err)
				}
				reach.TypeMeta = metav1.TypeMeta{APIVersion: identity.GroupVersion.String(), Kind: "AccessKeyReach"}
				reaches = append(reaches, reach)
			}
			return found(cmd, len(reaches), show(cmd.OutOrStdout(), o.output, reaches, func(w io.Writer) { printReach(w, reaches) }))
		},
	}
	o.flags(c)
	return c
}

func printReach(out io.Writer, reaches []identity.AccessKeyReach) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "KEY\tAUDIENCE\tHOLDER\tWHERE\tMAY")
	for i := range reaches {
		r := &reaches[i]
		row := func(where, what string) {
			fmt.Fprintf(w, "%s/%s\t%s\t%s\t%s\t%s\n", r.Namespace, r.Name, printable(r.Status.Audience), orWord(r.Status.User, "-"), where, printable(what))
		}
		if r.Status.Ended != "" {
			row("-", "nothing: "+r.Status.Ended)
		}
		for _, scope := range r.Status.Scopes {
			for _, rule := range rbac.Rules(scope.Rules) {
				row(orWord(scope.Namespace, "everywhere"), rbac.Describe(rule))
			}
		}
		for _, policy := range r.Status.Policies {
			row("by its limits", "what AccessPolicy "+policy+" allows")
		}
		if len(r.Status.Scopes)+len(r.Status.Policies) == 0 && r.Status.Ended == "" {
			row("-", "nothing")
		}
		if r.Status.Incomplete {
			row("further namespaces", "not listed")
		}
		if len(r.Status.Origin) > 0 {
			ids := make([]string, len(r.Status.Origin))
			for i, text := range r.Status.Origin {
				ids[i] = origin.ID(text)
			}
			row("made with", strings.Join(ids, ", "))
		}
	}
	_ = w.Flush()
}
