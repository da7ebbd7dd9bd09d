package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/durable"
	"github.com/gatehouse-dev/gatehouse/internal/federation/clusterfiles"
)

func siteCommand() *cobra.Command {
	c := &cobra.Command{Use: "site", Short: "Connect platforms to the control plane"}
	connect := &cobra.Command{Use: "connect", Short: "Register a platform and write what it needs"}
	connect.AddCommand(connectKubernetesCommand(), connectHostCommand())
	c.AddCommand(connect, rotateKeysCommand())
	return c
}

// connectOptions are the flags of site connect kubernetes.
type connectOptions struct {
	kubeconfig, out, installDir string
	mode, rbac, owner           string
	issuers                     []string
	tokens                      string
	failClosed, replace         bool
	server                      string
	local                       bool
	localAddress, localTLSDir   string
}

func connectKubernetesCommand() *cobra.Command {
	var o connectOptions
	c := &cobra.Command{
		Use:   "kubernetes NAME --out DIR",
		Short: "Connect a Kubernetes cluster",
		Long: `Registers a Kubernetes cluster as a site, has its client certificate issued (the
private key is made here and never leaves this machine) and writes the files and
flags that a stock kube-apiserver needs:

  observe   the cluster reports its audit events; nothing can break
  deny      also, what the control plane denies is refused in the cluster
  full      also, users of the control plane can sign in to the cluster, and the
            control plane can grant what the cluster's own rules do not decide

With --local the cluster asks "gatehouse-edge authorize" beside it, which decides by
the same policy and goes on while the control plane is away; that is what makes
--fail-closed safe. The flags of that program are written to gatehouse-edge.flags, and
it must serve before kube-apiserver starts.

Running it again with another mode changes the site and writes the files anew.`,
		Example: `  gatehouse site connect kubernetes blue --out ./blue
  gatehouse site connect kubernetes blue --mode full --rbac shared \
      --out ./blue --install-dir /etc/kubernetes/gatehouse
  gatehouse site connect kubernetes blue --mode full --local --fail-closed \
      --out ./blue --install-dir /etc/kubernetes/gatehouse`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &exit{exitUsage, errors.New("one name of a site is required")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return connectKubernetes(cmd, args[0], o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.mode, "mode", "observe", "observe, deny or full")
	f.StringVar(&o.rbac, "rbac", "none", "shared lets RBAC objects of the control plane grant at the site; none does not")
	f.StringVar(&o.out, "out", "", "directory to write to (required); it is created")
	f.StringVar(&o.installDir, "install-dir", "", "directory in which kube-apiserver will find the files (default: that of --out)")
	f.StringVar(&o.tokens, "service-account-tokens", "", "who signs the service-account tokens of the cluster: own, or gatehouse with gatehouse-edge signer (default: own, or what the site says already)")
	f.StringVar(&o.owner, "owner-namespace", "default", "namespace of the control plane that the site belongs to")
	f.StringSliceVar(&o.issuers, "cluster-audience", []string{"https://kubernetes.default.svc.cluster.local"}, "audiences that the cluster accepts already: its service-account issuer, or its --api-audiences")
	f.BoolVar(&o.failClosed, "fail-closed", false, "refuse in the cluster while the control plane is away; only for sites with a local decision point")
	f.BoolVar(&o.local, "local", false, "have the cluster ask a local decision point (gatehouse-edge authorize)")
	f.StringVar(&o.localAddress, "local-address", "127.0.0.1:7444", "loopback address on which that serves")
	f.StringVar(&o.localTLSDir, "local-tls-dir", "/var/lib/gatehouse-edge/tls", "directory in which it keeps the client certificate of kube-apiserver")
	f.BoolVar(&o.replace, "replace-credential", false, "make the new certificate the only one by which the site is recognised")
	f.StringVar(&o.server, "server", "", "URL by which the cluster reaches the control plane (default: that of the kubeconfig)")
	kubeconfigFlag(c, &o.kubeconfig)
	return c
}

// kubeconfigFlag adds the flag with which every client command finds the
// server.
func kubeconfigFlag(c *cobra.Command, to *string) {
	c.Flags().StringVar(to, "kubeconfig", "", "kubeconfig of the control plane (default: $KUBECONFIG, else gatehouse-data/admin.kubeconfig)")
}

func loadKubeconfig(path string) (*rest.Config, error) {
	if path == "" {
		path = os.Getenv("KUBECONFIG")
	}
	if path == "" {
		path = filepath.Join("gatehouse-data", "admin.kubeconfig")
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, &exit{exitUsage, fmt.Errorf("read kubeconfig: %w", err)}
	}
	cfg.UserAgent = "gatehouse/" + version
	// As kubectl shows them.
	cfg.WarningHandler = rest.NewWarningWriter(os.Stderr, rest.WarningWriterOptions{Deduplicate: true})
	return cfg, nil
}

// sitesClient speaks to sites.federation.gatehouse.dev.
func sitesClient(cfg *rest.Config) (*rest.RESTClient, error) {
	return groupClient(cfg, federation.GroupVersion, federation.AddToScheme)
}

func connectKubernetes(cmd *cobra.Command, name string, o connectOptions) error {
	ctx := cmd.Context()
	mode, ok := map[string]federation.SiteMode{"observe": federation.SiteObserve, "deny": federation.SiteDeny, "full": federation.SiteFull}[o.mode]
	if !ok {
		return &exit{exitUsage, fmt.Errorf("--mode %q is not observe, deny or full", o.mode)}
	}
	shared, ok := map[string]federation.SiteRBAC{"none": federation.SiteRBACNone, "shared": federation.SiteRBACShared}[o.rbac]
	if !ok {
		return &exit{exitUsage, fmt.Errorf("--rbac %q is not none or shared", o.rbac)}
	}
	if shared == federation.SiteRBACShared && mode != federation.SiteFull {
		return &exit{exitUsage, errors.New("--rbac shared grants only with --mode full")}
	}
	if o.local && mode == federation.SiteObserve {
		return &exit{exitUsage, errors.New("--local decides, which --mode observe does not")}
	}
	signer, ok := map[string]federation.SiteTokens{"": "", "own": federation.SiteTokensOwn, "gatehouse": federation.SiteTokensGatehouse}[o.tokens]
	if !ok {
		return &exit{exitUsage, fmt.Errorf("--service-account-tokens %q is not own or gatehouse", o.tokens)}
	}
	if o.out == "" {
		return &exit{exitUsage, errors.New("--out is required")}
	}
	out, err := filepath.Abs(o.out)
	if err != nil {
		return &exit{exitUsage, err}
	}
	cfg, err := loadKubeconfig(o.kubeconfig)
	if err != nil {
		return err
	}
	client, err := sitesClient(cfg)
	if err != nil {
		return &exit{exitUsage, err}
	}
	spec := federation.SiteSpec{
		Kind: federation.SiteKubernetes, Mode: mode, OwnerNamespace: o.owner,
		Authorization: federation.SiteAuthorization{RBAC: shared}, FailurePolicy: federation.SiteFailureNoOpinion,
		ServiceAccountTokens: signer,
	}
	if o.failClosed {
		spec.FailurePolicy = federation.SiteFailureDeny
	}
	if err := putSite(ctx, client, name, spec); err != nil {
		return clientError(err)
	}
	key, request, err := newRequest()
	if err != nil {
		return err
	}
	credential := &federation.SiteCredential{
		TypeMeta: metav1.TypeMeta{APIVersion: federation.GroupVersion.String(), Kind: "SiteCredential"},
		Spec:     federation.SiteCredentialSpec{Request: request, Replace: o.replace},
	}
	if err := client.Post().Resource("sites").Name(name).SubResource("credential").Body(credential).Do(ctx).Into(credential); err != nil {
		return clientError(err)
	}
	dir := o.installDir
	if dir == "" {
		dir = out
	}
	server := o.server
	if server == "" {
		server = cfg.Host
	}
	if u, err := url.Parse(server); err != nil || u.Scheme != "https" {
		return &exit{exitUsage, fmt.Errorf("--server %q is not an https URL", server)}
	}
	var local *clusterfiles.Local
	if o.local {
		local = &clusterfiles.Local{Server: "https://" + o.localAddress, TLSDir: o.localTLSDir}
	}
	files, err := clusterfiles.Render(clusterfiles.Options{
		Local: local,
		Site:  name, Mode: mode, FailClosed: o.failClosed, Server: server,
		ServingCA: credential.Status.ServingCA, Certificate: credential.Status.Certificate, Key: key,
		Dir: dir, APIAudiences: o.issuers,
	})
	if err != nil {
		return &exit{exitUsage, err}
	}
	if err := writeFiles(out, files); err != nil {
		return &exit{exitNo, err}
	}
	e := cmd.ErrOrStderr()
	fmt.Fprintf(e, "site %s is connected in mode %s; its certificate ends %s\n", name, o.mode, credential.Status.ExpirationTimestamp.UTC().Format("2006-01-02"))
	fmt.Fprintf(e, "files are in %s; start kube-apiserver with these flags", out)
	if mode != federation.SiteObserve {
		fmt.Fprint(e, ", and without --authorization-mode")
	}
	fmt.Fprintln(e, ":")
	fmt.Fprint(cmd.OutOrStdout(), string(files[0].Content))
	return nil
}

// putSite creates the site or brings it to the wished state. What somebody
// else set (the namespace map, the certificates) stays.
func putSite(ctx context.Context, client *rest.RESTClient, name string, spec federation.SiteSpec) error {
	current := &federation.Site{}
	err := client.Get().Resource("sites").Name(name).Do(ctx).Into(current)
	if apierrors.IsNotFound(err) {
		site := &federation.Site{
			TypeMeta:   metav1.TypeMeta{APIVersion: federation.GroupVersion.String(), Kind: "Site"},
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec,
		}
		return client.Post().Resource("sites").Body(site).Do(ctx).Error()
	}
	if err != nil {
		return err
	}
	if current.Spec.Kind != spec.Kind {
		return &exit{exitUsage, fmt.Errorf("site %s exists and is of kind %s", name, current.Spec.Kind)}
	}
	if spec.ServiceAccountTokens == "" {
		spec.ServiceAccountTokens = current.Spec.ServiceAccountTokens
	}
	spec.NamespaceMap, spec.Credentials = current.Spec.NamespaceMap, current.Spec.Credentials
	current.TypeMeta = metav1.TypeMeta{APIVersion: federation.GroupVersion.String(), Kind: "Site"}
	current.Spec = spec
	return client.Put().Resource("sites").Name(name).Body(current).Do(ctx).Error()
}

// newRequest makes a key and a request for a certificate of it.
func newRequest() (keyPEM, requestPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	// The names in the certificate are the server's choice.
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{}}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate request: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

func writeFiles(dir string, files []clusterfiles.File) error {
	for _, f := range files {
		if err := writeFile(dir, f.Name, f.Content, f.Secret); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(dir, name string, content []byte, secret bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	path := filepath.Join(dir, name)
	// Every file is written private first; the public ones are opened up for a
	// program that runs as another user.
	if err := durable.WriteFile(path, content); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if !secret {
		if err := os.Chmod(path, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return nil
}

// clientError gives what a server answered, or did not, its exit code.
func clientError(err error) error {
	var e *exit
	var status apierrors.APIStatus
	switch {
	case errors.As(err, &e):
		return err
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return &exit{exitNo, err}
	case errors.As(err, &status) && status.Status().Code > 0 && !apierrors.IsServiceUnavailable(err) && !apierrors.IsTimeout(err):
		return &exit{exitUsage, err}
	default:
		return &exit{exitUnreachable, fmt.Errorf("server unreachable: %s", strings.TrimPrefix(err.Error(), "Get "))}
	}
}
