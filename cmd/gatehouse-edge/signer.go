package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/internal/edge/signer"
	"github.com/gatehouse-dev/gatehouse/internal/edge/unary"
)

// signerOptions are the flags of signer.
type signerOptions struct {
	socket, server, site, dir string
	refresh                   time.Duration
}

func signerCommand() *cobra.Command {
	var o signerOptions
	c := &cobra.Command{
		Use:   "signer --socket PATH --server URL --site NAME --dir DIR",
		Short: "Have the service-account tokens of a kube-apiserver signed by the control plane",
		Long: `Serves v1.ExternalJWTSigner on a unix socket, for a stock kube-apiserver that is
started with --service-account-signing-endpoint. Every token is signed by a key of
this site that never leaves the control plane; keys rotate without a restart. The
issuer that kube-apiserver must be started with is printed when the signer serves.

DIR holds site.crt, site.key and ca.crt as "gatehouse site connect" wrote them; they
are read again for every new connection.`,
		Example: `  gatehouse-edge signer --site blue --server https://gatehouse.example:7443 \
      --dir /etc/kubernetes/gatehouse --socket /run/gatehouse/signer.sock`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serveSigner(cmd.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.socket, "socket", "", "path of the unix socket (required)")
	f.StringVar(&o.server, "server", "", "https URL of the control plane (required)")
	f.StringVar(&o.site, "site", "", "name of the site (required)")
	f.StringVar(&o.dir, "dir", "", "directory with site.crt, site.key and ca.crt (required)")
	f.DurationVar(&o.refresh, "refresh", 10*time.Second, "how often kube-apiserver asks for keys")
	return c
}

func serveSigner(ctx context.Context, o signerOptions) error {
	for flag, value := range map[string]string{"socket": o.socket, "server": o.server, "site": o.site, "dir": o.dir} {
		if value == "" {
			return &exit{exitUsage, fmt.Errorf("--%s is required", flag)}
		}
	}
	client, err := siteClient(o.dir)
	if err != nil {
		return &exit{exitUsage, err}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	s, err := signer.New(signer.Config{Server: o.server, Site: o.site, Client: client, Refresh: o.refresh, Log: log})
	if err != nil {
		return &exit{exitUsage, err}
	}
	issuer, err := s.Issuer(ctx)
	if err != nil {
		return &exit{exitUnreachable, err}
	}
	listener, err := listenUnix(o.socket)
	if err != nil {
		return &exit{exitNo, err}
	}
	srv := unary.Server{Methods: s.Methods(), Log: log}
	fmt.Println("ready", o.socket)
	fmt.Println("issuer", issuer)
	if err := srv.Serve(ctx, listener); err != nil {
		return &exit{exitNo, fmt.Errorf("serve: %w", err)}
	}
	return nil
}

// listenUnix opens the socket for this user and its group alone. A socket that
// nobody listens on any more is replaced.
func listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s is no socket", path)
		}
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, fmt.Errorf("%s is in use", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace socket: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("socket: %w", err)
	}
	// The directory keeps others out until the mode is set.
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("socket: %w", err)
	}
	return l, nil
}

// siteClient speaks to the control plane with the certificate of the site.
func siteClient(dir string) (*http.Client, error) {
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("read authority: no certificate in ca.crt")
	}
	pair := func() (*tls.Certificate, error) {
		p, err := tls.LoadX509KeyPair(filepath.Join(dir, "site.crt"), filepath.Join(dir, "site.key"))
		return &p, err
	}
	if _, err := pair(); err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirects are not followed") },
		Transport: &http.Transport{
			ForceAttemptHTTP2:   true,
			TLSHandshakeTimeout: 5 * time.Second,
			IdleConnTimeout:     time.Minute,
			TLSClientConfig: &tls.Config{
				MinVersion: tls.VersionTLS13, RootCAs: roots,
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair() },
			},
		},
	}, nil
}
