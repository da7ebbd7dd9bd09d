// Package cluster reaches the API of a Kubernetes cluster from within it, or
// with a kubeconfig: what a small program needs of that, without a client
// library.
//
// It owns: the service account of a pod (its token is read again, since it is
// replaced), and kubeconfigs with certificates, keys and tokens, inside the
// file or beside it. It refuses: servers without TLS or that are not verified,
// and users that are established otherwise (an exec plugin, a password,
// impersonation). Start at [FromKubeconfig] and [InPod].
package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

const (
	accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"
	maxFile    = 1 << 20
	maxToken   = 64 << 10
)

// file is what is read of a kubeconfig.
type file struct {
	CurrentContext string `json:"current-context"`
	Contexts       []struct {
		Name    string `json:"name"`
		Context struct {
			Cluster string `json:"cluster"`
			User    string `json:"user"`
		} `json:"context"`
	} `json:"contexts"`
	Clusters []struct {
		Name    string  `json:"name"`
		Cluster cluster `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		Name string `json:"name"`
		User user   `json:"user"`
	} `json:"users"`
}

type cluster struct {
	Server        string `json:"server"`
	ServerName    string `json:"tls-server-name"`
	Insecure      bool   `json:"insecure-skip-tls-verify"`
	ProxyURL      string `json:"proxy-url"`
	Authority     []byte `json:"certificate-authority-data"`
	AuthorityFile string `json:"certificate-authority"`
}

type user struct {
	Certificate     []byte `json:"client-certificate-data"`
	CertificateFile string `json:"client-certificate"`
	Key             []byte `json:"client-key-data"`
	KeyFile         string `json:"client-key"`
	Token           string `json:"token"`
	TokenFile       string `json:"tokenFile"`

	Exec         any    `json:"exec"`
	AuthProvider any    `json:"auth-provider"`
	Username     string `json:"username"`
	As           string `json:"as"`
}

// FromKubeconfig reaches the cluster of the current context of a kubeconfig.
// base is its URL, without a slash at its end. Files beside the kubeconfig are
// read again for every connection, a token file for every request.
func FromKubeconfig(path string) (base string, client *http.Client, err error) {
	data, err := read(path, maxFile)
	if err != nil {
		return "", nil, err
	}
	var f file
	if err := yaml.Unmarshal(data, &f); err != nil {
		return "", nil, errors.New("read kubeconfig: is not one") // the text of the error may quote a secret
	}
	c, u, err := f.current()
	if err != nil {
		return "", nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	dir := filepath.Dir(path)
	for _, name := range []*string{&c.AuthorityFile, &u.CertificateFile, &u.KeyFile, &u.TokenFile} {
		if *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(dir, *name)
		}
	}
	switch {
	case c.Insecure:
		err = errors.New("a server that is not verified is not reached")
	case c.ProxyURL != "":
		err = errors.New("proxy-url is not known here")
	case u.Exec != nil || u.AuthProvider != nil || u.Username != "" || u.As != "":
		err = errors.New("the user must have a certificate or a token")
	}
	if err != nil {
		return "", nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	return c.reach(u)
}

func (f *file) current() (c cluster, u user, err error) {
	if f.CurrentContext == "" {
		return c, u, errors.New("no current-context")
	}
	for _, x := range f.Contexts {
		if x.Name != f.CurrentContext {
			continue
		}
		for _, y := range f.Clusters {
			for _, z := range f.Users {
				if y.Name == x.Context.Cluster && z.Name == x.Context.User {
					return y.Cluster, z.User, nil
				}
			}
		}
	}
	return c, u, fmt.Errorf("the context %q has no cluster and user", f.CurrentContext)
}

// InPod reaches the cluster that this pod runs in, as its service account.
func InPod() (base string, client *http.Client, err error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return "", nil, errors.New("this is no pod: KUBERNETES_SERVICE_HOST and _PORT are not set")
	}
	c := cluster{Server: "https://" + net.JoinHostPort(host, port), AuthorityFile: filepath.Join(accountDir, "ca.crt")}
	return c.reach(user{TokenFile: filepath.Join(accountDir, "token")})
}

func (c *cluster) reach(u user) (string, *http.Client, error) {
	at, err := url.Parse(c.Server)
	if err != nil || at.Scheme != "https" || at.Host == "" || at.User != nil || at.RawQuery != "" {
		return "", nil, fmt.Errorf("reach the cluster: server %q is no https URL", c.Server)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	ca := c.Authority
	if len(ca) == 0 && c.AuthorityFile != "" {
		if ca, err = read(c.AuthorityFile, maxFile); err != nil {
			return "", nil, err
		}
	}
	// Without authorities those of the machine would count.
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(ca) {
		return "", nil, errors.New("reach the cluster: no certificate authority is given")
	}
	if u.CertificateFile != "" || len(u.Certificate) > 0 {
		if _, err := u.pair(); err != nil {
			return "", nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return u.pair() }
	} else if u.Token == "" && u.TokenFile == "" {
		return "", nil, errors.New("reach the cluster: the user must have a certificate or a token")
	}
	var transport http.RoundTripper = &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: config, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 90 * time.Second,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ResponseHeaderTimeout: time.Minute,
	}
	if u.Token != "" || u.TokenFile != "" {
		if _, err := u.bearer(); err != nil {
			return "", nil, err
		}
		transport = bearer{transport, u}
	}
	return strings.TrimSuffix(at.String(), "/"), &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirects are not followed") },
	}, nil
}

// At returns a client that reaches what client does, at one address (HOST:PORT)
// whatever the URL says. The name that the server proves stays that of the URL.
func At(client *http.Client, address string) (*http.Client, error) {
	out, next := *client, client.Transport
	b, token := next.(bearer)
	if token {
		next = b.next
	}
	transport, ok := next.(*http.Transport)
	if !ok {
		return nil, errors.New("reach the cluster: this client's way cannot be changed")
	}
	transport = transport.Clone()
	dial := (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, address) }
	out.Transport = transport
	if token {
		out.Transport = bearer{transport, b.user}
	}
	return &out, nil
}

func (u *user) pair() (*tls.Certificate, error) {
	certificate, key := u.Certificate, u.Key
	var err error
	if len(certificate) == 0 {
		if certificate, err = read(u.CertificateFile, maxFile); err != nil {
			return nil, err
		}
	}
	if len(key) == 0 {
		if key, err = read(u.KeyFile, maxFile); err != nil {
			return nil, err
		}
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, errors.New("reach the cluster: certificate and key do not belong together")
	}
	return &pair, nil
}

func (u *user) bearer() (string, error) {
	token := u.Token
	if u.TokenFile != "" { // as in every client, the file counts before the field
		data, err := read(u.TokenFile, maxToken)
		if err != nil {
			return "", err
		}
		token = strings.TrimSpace(string(data))
	}
	if token == "" || strings.ContainsAny(token, " \r\n") {
		return "", errors.New("reach the cluster: the token is empty or no token")
	}
	return token, nil
}

// bearer puts the token on each request.
type bearer struct {
	next http.RoundTripper
	user user
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := b.user.bearer()
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return b.next.RoundTrip(r)
}

// read reads a file of bounded size. Its path is no secret; its content is not
// in the error.
func read(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reach the cluster: %w", err)
	}
	if info.Size() > most {
		return nil, fmt.Errorf("reach the cluster: %s has more than %d bytes", path, most)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reach the cluster: %w", err)
	}
	return data, nil
}
