package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/collect/hostfiles"
)

// hostOptions are the flags of site connect host.
type hostOptions struct {
	kubeconfig, out, installDir string
	site, kind, host            string
	server, syslog              string
	interval                    time.Duration
	replace                     bool
}

func connectHostCommand() *cobra.Command {
	var o hostOptions
	c := &cobra.Command{
		Use:   "host NAME --site SITE --out DIR",
		Short: "Connect a host, or a program on one, that sends its logs",
		Long: `Declares an audit source of a site, has its client certificate issued (the
private key is made here and never leaves this machine) and writes the files that
the host needs:

  journal   configuration of systemd-journal-upload
  syslog    configuration of rsyslog, which sends RFC 5424 over TLS (RFC 5425)
  otlp      environment of a program with an OpenTelemetry SDK

The certificate writes to the record of that site, under that host and in that
way, and opens nothing else.`,
		Example: `  gatehouse site connect host web-1 --site blue --out ./web-1 --interval 5m
  gatehouse site connect host web-1-syslog --site blue --kind syslog --host web-1 \
      --syslog gatehouse.example:6514 --out ./web-1 --install-dir /etc/gatehouse`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &exit{exitUsage, errors.New("one name of a source is required")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return connectHost(cmd, args[0], o) },
	}
	f := c.Flags()
	f.StringVar(&o.site, "site", "", "site that the host belongs to (required)")
	f.StringVar(&o.kind, "kind", "journal", "journal, syslog or otlp")
	f.StringVar(&o.host, "host", "", "host under which its entries are recorded (default: NAME)")
	f.StringVar(&o.out, "out", "", "directory to write to (required); it is created")
	f.StringVar(&o.installDir, "install-dir", "", "directory in which the host will find the files (default: that of --out)")
	f.StringVar(&o.server, "server", "", "URL by which the host reaches the control plane (default: that of the kubeconfig)")
	f.StringVar(&o.syslog, "syslog", "", "host:port of the syslog listener (default: the host of --server, port 6514)")
	f.DurationVar(&o.interval, "interval", 0, "how often something is heard of the source when it is well; its silence is recorded after two (default: silence is nothing unusual)")
	f.BoolVar(&o.replace, "replace-credential", false, "make the new certificate the only one by which the source is recognised")
	kubeconfigFlag(c, &o.kubeconfig)
	return c
}

// sourceKinds are the values of --kind.
var sourceKinds = map[string]auditapi.AuditSourceKind{
	"journal": auditapi.AuditSourceJournal, "syslog": auditapi.AuditSourceSyslog, "otlp": auditapi.AuditSourceOTLP,
}

func connectHost(cmd *cobra.Command, name string, o hostOptions) error {
	ctx := cmd.Context()
	kind, ok := sourceKinds[o.kind]
	switch {
	case !ok:
		return &exit{exitUsage, fmt.Errorf("--kind %q is not journal, syslog or otlp", o.kind)}
	case o.site == "":
		return &exit{exitUsage, errors.New("--site is required")}
	case o.out == "":
		return &exit{exitUsage, errors.New("--out is required")}
	case o.interval < 0 || o.interval%time.Second != 0:
		return &exit{exitUsage, fmt.Errorf("--interval %v is not a number of seconds", o.interval)}
	}
	out, err := filepath.Abs(o.out)
	if err != nil {
		return &exit{exitUsage, err}
	}
	cfg, err := loadKubeconfig(o.kubeconfig)
	if err != nil {
		return err
	}
	options := hostfiles.Options{Source: name, Site: o.site, Kind: kind, Server: o.server, Syslog: o.syslog, Dir: o.installDir}
	if options.Server == "" {
		options.Server = cfg.Host
	}
	if options.Dir == "" {
		options.Dir = out
	}
	if u, err := url.Parse(options.Server); err == nil && options.Syslog == "" {
		options.Syslog = net.JoinHostPort(u.Hostname(), "6514")
	}
	// Before anything is made that would have to be taken back.
	if _, err := hostfiles.Render(options); err != nil {
		return &exit{exitUsage, err}
	}
	client, err := sourcesClient(cfg)
	if err != nil {
		return &exit{exitUsage, err}
	}
	spec := auditapi.AuditSourceSpec{Site: o.site, Kind: kind, Host: o.host}
	if o.interval > 0 {
		seconds := int64(o.interval / time.Second)
		spec.ExpectedIntervalSeconds = &seconds
	}
	get := client.Get().Resource("auditsources").Name(name).Do(ctx)
	source := &auditapi.AuditSource{}
	switch err := get.Into(source); {
	case apierrors.IsNotFound(err):
		source = &auditapi.AuditSource{TypeMeta: sourceMeta("AuditSource"), ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
		err = client.Post().Resource("auditsources").Body(source).Do(ctx).Error()
		if err != nil {
			return clientError(err)
		}
	case err != nil:
		return clientError(err)
	default:
		spec.Credentials = source.Spec.Credentials
		source.TypeMeta, source.Spec = sourceMeta("AuditSource"), spec
		if err := client.Put().Resource("auditsources").Name(name).Body(source).Do(ctx).Error(); err != nil {
			return clientError(err)
		}
	}
	key, request, err := newRequest()
	if err != nil {
		return err
	}
	credential := &auditapi.AuditSourceCredential{
		TypeMeta: sourceMeta("AuditSourceCredential"), Spec: auditapi.AuditSourceCredentialSpec{Request: request, Replace: o.replace},
	}
	if err := client.Post().Resource("auditsources").Name(name).SubResource("credential").Body(credential).Do(ctx).Into(credential); err != nil {
		return clientError(err)
	}
	options.ServingCA, options.Certificate, options.Key = credential.Status.ServingCA, credential.Status.Certificate, key
	files, err := hostfiles.Render(options)
	if err != nil {
		return &exit{exitUsage, err}
	}
	for _, f := range files {
		if err := writeFile(out, f.Name, f.Content, f.Secret); err != nil {
			return &exit{exitNo, err}
		}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "source %s may write to the record of site %s; its certificate ends %s\nfiles are in %s:\n",
		name, o.site, credential.Status.ExpirationTimestamp.UTC().Format("2006-01-02"), out)
	if host, _, err := net.SplitHostPort(options.Syslog); err == nil && kind == auditapi.AuditSourceSyslog && net.ParseIP(host) != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "note: rsyslog knows a server by a DNS name of its certificate, and %s is an address; give a name with --syslog\n", host)
	}
	fmt.Fprint(cmd.OutOrStdout(), string(files[0].Content))
	return nil
}

func sourceMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: auditapi.GroupVersion.String(), Kind: kind}
}

// sourcesClient speaks to auditsources.audit.gatehouse.dev.
func sourcesClient(cfg *rest.Config) (*rest.RESTClient, error) {
	return groupClient(cfg, auditapi.GroupVersion, auditapi.AddToScheme)
}
