package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"github.com/gatehouse-dev/gatehouse/internal/durable"
	"github.com/gatehouse-dev/gatehouse/internal/edge/credential"
	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/hardkey"
	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/mtlsproxy"
	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/oidc"
	"github.com/gatehouse-dev/gatehouse/internal/kubeconfig"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

func credentialCommand() *cobra.Command {
	var s credential.Settings
	c := &cobra.Command{
		Use:   "credential",
		Short: "Give kubectl the credential of a person (exec plugin)",
		Long: `Speaks client.authentication.k8s.io/v1: kubectl runs it through users.exec of the
kubeconfig that "gatehouse login" writes. It answers with what is kept from the last
sign-in, renews that before it ends, and asks the person only when kubectl says that
one is there (users.exec.interactiveMode). With --issuer the credential is an ID token
of an OpenID Connect provider, with --certificate a short-lived client certificate that
the control plane gives for a long-lived one.

What is kept lies in one file for each sign-in, mode 0600; of many kubectls at a time
one renews it and the others wait. If a program asks again for a credential that has
not ended, the server has refused it, and it is renewed.

Exit codes: 1 nobody is signed in or the provider refuses, 2 wrong settings, 3 the
provider or the control plane does not answer.`,
		Example: `  users:
  - name: ada
    user:
      exec:
        apiVersion: client.authentication.k8s.io/v1
        command: gatehouse-edge
        args: [credential, --issuer=https://login.example/realms/staff, --client-id=gatehouse]
        interactiveMode: IfAvailable
        provideClusterInfo: true`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return giveCredential(cmd.Context(), &s) },
	}
	s.Flags(c.Flags())
	c.AddCommand(proxyCommand(), createKeyCommand(), requestCommand())
	return c
}

func giveCredential(ctx context.Context, s *credential.Settings) error {
	info, err := credential.ParseInfo(os.Getenv(credential.InfoVariable))
	if err != nil {
		return &exit{exitUsage, err}
	}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		return &exit{exitUsage, errors.New("the credential would be shown on the terminal")}
	}
	keeper, err := s.Keeper(credential.World{Cluster: info.Cluster, Say: os.Stderr, Browse: browse, OpenKey: openSigner})
	if err != nil {
		return &exit{exitUsage, err}
	}
	process := credential.Parent()
	if process != "" && info.Cluster != nil {
		// A program with several clusters asks once for each.
		process += " " + info.Cluster.Server
	}
	entry, until, err := keeper.Get(ctx, credential.Ask{Person: info.Interactive, Process: process})
	if err != nil {
		if errors.Is(err, credential.ErrNobody) {
			err = fmt.Errorf("%w: run gatehouse login", err)
		}
		return &exit{credentialExit(err), err}
	}
	data, err := credential.Exec(entry, until)
	if err != nil {
		return &exit{exitNo, err}
	}
	_, err = os.Stdout.Write(data)
	return err
}

func credentialExit(err error) int {
	if errors.Is(err, oidc.ErrUnreachable) {
		return exitUnreachable
	}
	return exitNo
}

// browse opens a page for the person; the address is on the terminal as well,
// so that nothing is lost when there is no browser.
func browse(url string) {
	opener := "xdg-open"
	if runtime.GOOS == "darwin" {
		opener = "open"
	}
	path, err := exec.LookPath(opener)
	if err != nil {
		return
	}
	c := exec.Command(path, url)
	if err := c.Start(); err == nil {
		go func() { _ = c.Wait() }()
	}
}

// openSigner opens a key in a token or TPM for the rest of the process.
func openSigner(uri string) (crypto.Signer, error) { return hardkey.Open(uri, askPIN) }

// askPIN reads a PIN from the terminal without showing it.
func askPIN(what string) (secret.String, error) {
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) {
		return secret.String{}, errors.New("PIN: no terminal to ask on; name a file with pin-source")
	}
	fmt.Fprintf(os.Stderr, "%s: ", what)
	data, err := term.ReadPassword(in)
	fmt.Fprintln(os.Stderr)
	if err != nil {
		return secret.String{}, fmt.Errorf("PIN: %w", err)
	}
	return secret.NewString(string(data)), nil
}

func createKeyCommand() *cobra.Command {
	var uri string
	c := &cobra.Command{
		Use:   "create-key --key URI",
		Short: "Make a key that cannot leave its PKCS#11 token or TPM",
		Long: `Makes an ECDSA P-256 key under the name that the URI gives it, where there must be
none yet. The token is told never to hand it out; in a TPM it is made under the
owner's storage root, fixed to that TPM, and kept at the handle. Nothing is written to
disk.

  pkcs11:token=LABEL;object=LABEL?module-path=FILE[&pin-source=file:FILE]
  tpm:DEVICE?handle=0x81010001[&pin-source=file:FILE]

Without pin-source the PIN of a token is asked for on the terminal; a key in a TPM has
a PIN only if pin-source names one (or is "ask").`,
		Example: `  gatehouse-edge credential create-key --key 'pkcs11:token=people;object=ada?module-path=/usr/lib/softhsm/libsofthsm2.so'
  gatehouse-edge credential create-key --key 'tpm:/dev/tpmrm0?handle=0x81010001&pin-source=ask'`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if uri == "" {
				return &exit{exitUsage, errors.New("--key is required")}
			}
			key, err := hardkey.Create(uri, askPIN)
			if err != nil {
				return &exit{exitUsage, err}
			}
			return key.Close()
		},
	}
	c.Flags().StringVar(&uri, "key", "", "pkcs11: or tpm: URI of the key (required)")
	return c
}

func requestCommand() *cobra.Command {
	var uri, user, name, output string
	var groups []string
	var lifetime time.Duration
	c := &cobra.Command{
		Use:   "request --key URI --user NAME",
		Short: "Ask for a certificate of a key in a PKCS#11 token or TPM",
		Long: `Prints a CertificateSigningRequest for kubectl create, or with --output pem the bare
certificate request. The key signs the request where it is. Somebody who may approves
it; the certificate is then in status.certificate.`,
		Example: `  gatehouse-edge credential request --key "$KEY" --user ada --group dev --name ada-laptop | kubectl create -f -
  kubectl certificate approve ada-laptop
  kubectl get csr ada-laptop -o jsonpath='{.status.certificate}' | base64 -d > ada.crt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if uri == "" || user == "" {
				return &exit{exitUsage, errors.New("--key and --user are required")}
			}
			if output != "yaml" && output != "json" && output != "pem" {
				return &exit{exitUsage, fmt.Errorf("--output %q is not yaml, json or pem", output)}
			}
			key, err := hardkey.Open(uri, askPIN)
			if err != nil {
				return &exit{exitUsage, err}
			}
			defer func() { _ = key.Close() }()
			request, err := credential.Request(user, groups, key)
			if err != nil {
				return &exit{exitNo, err}
			}
			return printRequest(cmd.OutOrStdout(), output, name, request, lifetime)
		},
	}
	f := c.Flags()
	f.StringVar(&uri, "key", "", "pkcs11: or tpm: URI of the key (required)")
	f.StringVar(&user, "user", "", "user that the certificate is to name (required)")
	f.StringSliceVar(&groups, "group", nil, "groups that it is to name")
	f.StringVar(&name, "name", "", "name of the CertificateSigningRequest (default: generated)")
	f.DurationVar(&lifetime, "lifetime", 30*24*time.Hour, "how long the certificate is to last")
	f.StringVarP(&output, "output", "o", "yaml", "yaml, json or pem")
	return c
}

func printRequest(w io.Writer, output, name string, request []byte, lifetime time.Duration) error {
	if output == "pem" {
		_, err := w.Write(request)
		return err
	}
	data, err := yaml.Marshal(credential.Manifest(name, request, lifetime))
	if err == nil && output == "json" {
		data, err = yaml.YAMLToJSON(data)
	}
	if err != nil {
		return &exit{exitNo, err}
	}
	_, err = w.Write(data)
	return err
}

// proxyOptions are the flags of credential proxy.
type proxyOptions struct {
	key, certificate, server, ca, listen, kubeconfig, namespace string
}

func proxyCommand() *cobra.Command {
	var o proxyOptions
	c := &cobra.Command{
		Use:   "proxy --key URI --certificate FILE --server URL --ca FILE --kubeconfig FILE",
		Short: "Serve a key in a PKCS#11 token or TPM to kubectl",
		Long: `Listens on loopback and passes every request on to the control plane in TLS
connections that the key signs for where it is: kubectl has no way of its own to use
such a key. The kubeconfig written, mode 0600, holds a random token and the authority
of the listener, both good only for as long as the proxy runs; without that token
nothing is passed on, so that no other user of this machine can borrow the key. Watches
and streams (exec, logs -f, port-forward) pass through. The certificate is read again
for every connection, so that it can be replaced.

The kubeconfig is removed when the proxy ends.`,
		Example: `  gatehouse-edge credential proxy --server https://gatehouse.example:7443 --ca ca.crt \
      --key 'tpm:/dev/tpmrm0?handle=0x81010001' --certificate ada.crt --kubeconfig ~/.kube/ada
  KUBECONFIG=~/.kube/ada kubectl get pods`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serveProxy(cmd.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.key, "key", "", "pkcs11: or tpm: URI of the key (required)")
	f.StringVar(&o.certificate, "certificate", "", "file with its certificate (required)")
	f.StringVar(&o.server, "server", "", "https URL of the control plane (required)")
	f.StringVar(&o.ca, "ca", "", "file with the authority of the control plane (required)")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig to write (required)")
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "loopback address and port; port 0 takes a free one")
	f.StringVar(&o.namespace, "namespace", "", "default namespace of the kubeconfig")
	return c
}

func serveProxy(ctx context.Context, o proxyOptions) error {
	for flag, value := range map[string]string{"key": o.key, "certificate": o.certificate, "server": o.server, "ca": o.ca, "kubeconfig": o.kubeconfig} {
		if value == "" {
			return &exit{exitUsage, fmt.Errorf("--%s is required", flag)}
		}
	}
	ca, err := credential.ReadFile(o.ca)
	if err != nil {
		return &exit{exitUsage, fmt.Errorf("--ca: %w", err)}
	}
	key, err := hardkey.Open(o.key, askPIN)
	if err != nil {
		return &exit{exitUsage, err}
	}
	defer func() { _ = key.Close() }()
	identity := func() (*tls.Certificate, error) {
		chain, err := credential.ReadFile(o.certificate)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		return credential.Pair(chain, key)
	}
	pair, err := identity()
	if err != nil {
		return &exit{exitUsage, err}
	}
	upstream, err := credential.Transport(o.server, "", ca, identity)
	if err != nil {
		return &exit{exitUsage, err}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	proxy, err := mtlsproxy.New(mtlsproxy.Config{Server: o.server, Upstream: upstream, Listen: o.listen, Now: time.Now, Log: log})
	if err != nil {
		return &exit{exitUsage, err}
	}
	if err := kubeconfig.Write(o.kubeconfig, kubeconfig.Config{
		Cluster: "gatehouse-edge", User: "proxy", Server: proxy.URL(), CA: proxy.CA(), Token: proxy.Token(), Namespace: o.namespace,
	}); err != nil {
		return &exit{exitUsage, err}
	}
	defer func() { _ = durable.Remove(o.kubeconfig) }()
	fmt.Println("ready", proxy.URL())
	fmt.Println("user", pair.Leaf.Subject.CommonName, "until", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	if err := proxy.Serve(ctx); err != nil {
		return &exit{exitNo, err}
	}
	return nil
}
