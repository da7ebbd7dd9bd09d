package harness

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// pollEvery is how often a readiness endpoint is asked.
const pollEvery = 50 * time.Millisecond

// A Cluster is a stock etcd and a stock kube-apiserver, without nodes or
// controllers.
type Cluster struct {
	Etcd       *Etcd
	APIServer  *Process
	URL        string        // of kube-apiserver, https://127.0.0.1:PORT
	Kubeconfig string        // of a member of system:masters
	Dir        string        // certificates, keys and data
	Start      time.Duration // of kube-apiserver, from exec to /readyz

	client  *http.Client
	address string
}

// StartCluster starts both in dir and waits until kube-apiserver is ready.
// flags are added to kube-apiserver's; with --authorization-config among them
// the default Node and RBAC authorizers are left to that file, and with
// --service-account-signing-endpoint so are its own keys and issuer of tokens.
func StartCluster(ctx context.Context, dir string, flags ...string) (*Cluster, error) {
	c := &Cluster{Dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if c.Etcd, err = StartEtcd(ctx, dir); err != nil {
		return nil, err
	}
	if err = c.writeFiles(); err == nil {
		err = onFreePort(func(address string) error {
			c.address = address
			return c.StartAPIServer(ctx, flags...)
		})
	}
	if err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// StartAPIServer starts kube-apiserver on the cluster's address; call it again
// after the one before has ended, to run it with other flags.
func (c *Cluster) StartAPIServer(ctx context.Context, flags ...string) error {
	programs, err := Upstream()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	host, port, err := net.SplitHostPort(c.address)
	if err != nil {
		return err
	}
	c.URL = "https://" + c.address
	if err := c.writeKubeconfig(); err != nil {
		return err
	}
	args := []string{
		"--etcd-servers=" + c.Etcd.URL,
		"--etcd-cafile=" + c.Etcd.CAFile, "--etcd-certfile=" + c.Etcd.CertFile, "--etcd-keyfile=" + c.Etcd.KeyFile,
		"--bind-address=" + host, "--secure-port=" + port,
		// The address is never used: nothing reconciles endpoints here. It is
		// set so that the server does not look for one on this machine.
		"--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/16",
		"--cert-dir=" + c.path("certs"),
		"--tls-cert-file=" + c.path("server.crt"), "--tls-private-key-file=" + c.path("server.key"),
		"--client-ca-file=" + c.path("ca.crt"),
	}
	if !given(flags, "--service-account-signing-endpoint") {
		args = append(args,
			"--service-account-issuer=https://stock.example",
			"--service-account-signing-key-file="+c.path("sa.key"),
			"--service-account-key-file="+c.path("sa.pub"),
		)
	}
	if !given(flags, "--authorization-config") {
		args = append(args, "--authorization-mode=Node,RBAC")
	}
	began := time.Now()
	server, err := Start("kube-apiserver", filepath.Join(programs, "kube-apiserver"), nil, append(args, flags...)...)
	if err != nil {
		return err
	}
	if err := server.waitHTTP(ctx, c.client, c.URL+"/readyz"); err != nil {
		server.Kill()
		return err
	}
	c.Start = time.Since(began)
	c.APIServer = server
	return nil
}

func given(flags []string, name string) bool {
	return slices.ContainsFunc(flags, func(f string) bool { return strings.HasPrefix(f, name) })
}

// Stop ends both programs. It may be called on a cluster that started in part.
func (c *Cluster) Stop() {
	if c.APIServer != nil {
		c.APIServer.Kill()
	}
	if c.Etcd != nil {
		c.Etcd.Kill()
	}
}

// Kubectl is a kubectl that speaks to the cluster as its administrator.
func (c *Cluster) Kubectl() (*Kubectl, error) { return NewKubectl(c.Kubeconfig) }

// CAFile is the certificate that verifies the cluster's serving certificate.
func (c *Cluster) CAFile() string { return c.path("ca.crt") }

// AdminFiles are certificate and key of a member of system:masters.
func (c *Cluster) AdminFiles() (cert, key string) { return c.path("admin.crt"), c.path("admin.key") }

func (c *Cluster) path(name string) string { return filepath.Join(c.Dir, name) }

func (c *Cluster) writeFiles() error {
	ca, err := newAuthority("stock-ca")
	if err != nil {
		return err
	}
	signing, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(signing.Public())
	if err != nil {
		return err
	}
	err = errors.Join(
		ca.write(c.path("ca.crt")),
		ca.issue(c.Dir, "server", pkix.Name{CommonName: "kube-apiserver"}, net.IPv4(127, 0, 0, 1)),
		ca.issue(c.Dir, "admin", pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}),
		writeKey(c.path("sa.key"), signing),
		writePEM(c.path("sa.pub"), "PUBLIC KEY", public),
	)
	if err != nil {
		return err
	}
	admin, err := tls.LoadX509KeyPair(c.AdminFiles())
	if err != nil {
		return err
	}
	c.client = ca.client(admin)
	return nil
}

func (c *Cluster) writeKubeconfig() error {
	c.Kubeconfig = c.path("kubeconfig")
	cert, key := c.AdminFiles()
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: stock, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: admin, user: {client-certificate: %q, client-key: %q}}]
contexts: [{name: stock, context: {cluster: stock, user: admin}}]
current-context: stock
`, c.URL, c.CAFile(), cert, key)
	return os.WriteFile(c.Kubeconfig, []byte(text), 0o600)
}

// waitHTTP polls a URL until it answers 200.
func (p *Process) waitHTTP(ctx context.Context, client *http.Client, url string) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last string
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err != nil {
			last = err.Error()
		} else {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			last = resp.Status
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("%s ended with code %d before it was ready%s", p.name, p.cmd.ProcessState.ExitCode(), p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s was not ready: %s: %w%s", p.name, last, context.Cause(ctx), p.tail())
		}
	}
}
