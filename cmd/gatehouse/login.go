package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/gatehouse-dev/gatehouse/internal/edge/credential"
	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/cache"
	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/oidc"
	"github.com/gatehouse-dev/gatehouse/internal/kubeconfig"
)

// loginOptions are the flags of login.
type loginOptions struct {
	credential.Settings
	server, ca, kubeconfig, out, edge, output, namespace string
	forget                                               bool
}

func loginCommand() *cobra.Command {
	var o loginOptions
	c := &cobra.Command{
		Use:   "login",
		Short: "Sign a person in and write a kubeconfig that stays signed in",
		Long: `Signs a person in at an OpenID Connect provider, in a browser on this machine
(authorization code with PKCE) or with a code on another device (--device), or with a
client certificate (--certificate): that is shown in the TLS handshake, which proves
that its key is here, and a certificate of an hour is asked for in its place.

The kubeconfig written holds no credential. kubectl asks gatehouse-edge for one, which
keeps what the sign-in gave in the user's cache (mode 0600) and renews it before it
ends. The control plane and its authority are taken from --server and --ca, or from the
kubeconfig.

Exit codes: 0 signed in, 1 refused by the person, the provider or the control plane, 2
wrong settings, 3 the provider or the control plane does not answer.`,
		Example: `  gatehouse login --server https://gatehouse.example:7443 --ca ca.crt \
      --issuer https://login.example/realms/staff --client-id gatehouse --scope groups,offline_access
  gatehouse login --device --issuer https://login.example/realms/staff --client-id gatehouse
  gatehouse login --certificate ada.crt --key ada.key --lifetime 30m
  gatehouse login --forget --issuer https://login.example/realms/staff --client-id gatehouse`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return login(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), &o)
		},
	}
	o.Flags(c.Flags())
	f := c.Flags()
	f.StringVar(&o.server, "server", "", "https URL of the control plane (default: that of the kubeconfig)")
	f.StringVar(&o.ca, "ca", "", "file with the authority of the control plane (default: that of the kubeconfig)")
	f.StringVar(&o.out, "out", "gatehouse.kubeconfig", "kubeconfig to write")
	f.StringVar(&o.namespace, "namespace", "", "default namespace in it")
	f.StringVar(&o.edge, "edge", "", `gatehouse-edge as kubectl is to run it (default: beside this program, else from PATH)`)
	f.BoolVar(&o.forget, "forget", false, "forget what an earlier sign-in left in the cache, have the provider revoke its refresh token, and sign nobody in")
	outputFlag(c, &o.output)
	kubeconfigFlag(c, &o.kubeconfig)
	return c
}

// signedIn is what login prints.
type signedIn struct {
	User       string    `json:"user"`
	Groups     []string  `json:"groups,omitempty"`
	Expires    time.Time `json:"expires"`
	Kubeconfig string    `json:"kubeconfig"`
}

func login(ctx context.Context, out, say io.Writer, o *loginOptions) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	cluster, err := o.cluster()
	if err != nil {
		return &exit{exitUsage, err}
	}
	keeper, err := o.Keeper(credential.World{Cluster: cluster, Say: say})
	if err != nil {
		return &exit{exitUsage, err}
	}
	if o.forget {
		ended, err := keeper.Forget(ctx)
		switch {
		case err != nil:
			return signInError(fmt.Errorf("forgotten here, but not at the provider: %w", err))
		case ended:
			fmt.Fprintln(say, "forgotten, and the provider renews it no more; a token that was given out goes on until it ends")
		default:
			fmt.Fprintln(say, "forgotten; what was given out goes on until it ends")
		}
		return nil
	}
	entry, _, err := keeper.Get(ctx, credential.Ask{Person: true, Anew: true})
	if err != nil {
		return signInError(err)
	}
	who, err := accepted(ctx, say, cluster, entry)
	if err != nil {
		return signInError(err)
	}
	who.Expires = entry.Expires.UTC()
	if who.Kubeconfig, err = o.write(cluster); err != nil {
		return &exit{exitUsage, err}
	}
	return show(out, o.output, who, func(w io.Writer) {
		fmt.Fprintf(w, "signed in as %s until %s\nexport KUBECONFIG=%s\n", who.User, who.Expires.Format(time.RFC3339), who.Kubeconfig)
	})
}

func signInError(err error) error {
	if errors.Is(err, oidc.ErrUnreachable) {
		return &exit{exitUnreachable, err}
	}
	return &exit{exitNo, err}
}

// cluster is the control plane to sign in at.
func (o *loginOptions) cluster() (*credential.Cluster, error) {
	if (o.server == "") != (o.ca == "") {
		return nil, errors.New("--server and --ca belong together")
	}
	if o.server != "" {
		ca, err := credential.ReadFile(o.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		return &credential.Cluster{Server: o.server, CA: ca}, nil
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	if o.kubeconfig == "" && os.Getenv("KUBECONFIG") == "" {
		rules.ExplicitPath = filepath.Join("gatehouse-data", "admin.kubeconfig")
	}
	// Where the server is counts, whoever signed in there before does not.
	raw, err := rules.Load()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	current, ok := raw.Contexts[raw.CurrentContext]
	if !ok || raw.Clusters[current.Cluster] == nil {
		return nil, errors.New("read kubeconfig: no current cluster; use --server and --ca")
	}
	named := raw.Clusters[current.Cluster]
	ca := named.CertificateAuthorityData
	if len(ca) == 0 {
		if ca, err = credential.ReadFile(named.CertificateAuthority); err != nil {
			return nil, fmt.Errorf("read kubeconfig: authority of the server: %w", err)
		}
	}
	return &credential.Cluster{Server: named.Server, CA: ca, TLSServerName: named.TLSServerName}, nil
}

// write writes the kubeconfig and returns its absolute path.
func (o *loginOptions) write(cluster *credential.Cluster) (string, error) {
	args, err := o.Args()
	if err != nil {
		return "", err
	}
	path, err := filepath.Abs(o.out)
	if err != nil {
		return "", err
	}
	edge := o.edge
	if edge == "" {
		edge = "gatehouse-edge"
		if own, err := os.Executable(); err == nil {
			beside := filepath.Join(filepath.Dir(own), "gatehouse-edge")
			if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
				edge = beside
			}
		}
	}
	return path, kubeconfig.Write(path, kubeconfig.Config{
		Cluster: "gatehouse", User: "person", Server: cluster.Server, CA: cluster.CA, Namespace: o.namespace,
		Exec: &kubeconfig.Exec{Command: edge, Args: args, Hint: "gatehouse-edge comes with Gatehouse; see docs/howto/sign-in.md"},
	})
}

// errNotAccepted: the credential is in order and the control plane wants none
// of it.
var errNotAccepted = errors.New("signed in, but the control plane does not accept it: is there an IdentityProvider for this issuer and client, and is the person not banned?")

// A control plane that has just read a provider's keys does so again after ten
// seconds at the earliest, so that a key newer than that needs patience.
const (
	acceptWithin = 12 * time.Second
	acceptEvery  = time.Second
)

// accepted waits until the control plane takes the credential, and says whose
// it is.
func accepted(ctx context.Context, say io.Writer, cluster *credential.Cluster, e *cache.Entry) (*signedIn, error) {
	who, err := whoIs(ctx, cluster, e)
	if !errors.Is(err, errNotAccepted) || e.Token == "" {
		return who, err
	}
	fmt.Fprintln(say, "the control plane does not accept it yet; trying for", acceptWithin)
	ctx, cancel := context.WithTimeout(ctx, acceptWithin)
	defer cancel()
	tick := time.NewTicker(acceptEvery)
	defer tick.Stop()
	for errors.Is(err, errNotAccepted) {
		select {
		case <-ctx.Done():
			return nil, err
		case <-tick.C:
			who, err = whoIs(ctx, cluster, e)
		}
	}
	return who, err
}

// whoIs shows the credential to the control plane, which says whose it is.
func whoIs(ctx context.Context, cluster *credential.Cluster, e *cache.Entry) (*signedIn, error) {
	transport, err := credential.Transport(cluster.Server, cluster.TLSServerName, cluster.CA, func() (*tls.Certificate, error) {
		if e.Certificate == "" {
			return &tls.Certificate{}, nil
		}
		pair, err := tls.X509KeyPair([]byte(e.Certificate), []byte(e.Key))
		return &pair, err
	})
	if err != nil {
		return nil, err
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(cluster.Server, "/")+"/apis/authentication.k8s.io/v1/selfsubjectreviews",
		bytes.NewReader([]byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`)))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	if e.Token != "" {
		request.Header.Set("Authorization", "Bearer "+e.Token)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("ask the control plane who that is: %w: %w", oidc.ErrUnreachable, err)
	}
	defer func() { _ = response.Body.Close() }()
	switch {
	case response.StatusCode == http.StatusUnauthorized:
		return nil, errNotAccepted
	case response.StatusCode != http.StatusCreated:
		return nil, fmt.Errorf("ask the control plane who that is: %w: status %d", oidc.ErrUnreachable, response.StatusCode)
	}
	var review struct {
		Status struct {
			UserInfo struct {
				Username string   `json:"username"`
				Groups   []string `json:"groups"`
			} `json:"userInfo"`
		} `json:"status"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&review); err != nil || review.Status.UserInfo.Username == "" {
		return nil, fmt.Errorf("ask the control plane who that is: %w: the answer names nobody", oidc.ErrUnreachable)
	}
	return &signedIn{User: review.Status.UserInfo.Username, Groups: review.Status.UserInfo.Groups}, nil
}
