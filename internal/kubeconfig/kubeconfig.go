// Package kubeconfig writes the file by which kubectl and every other client
// of the Kubernetes API reach the control plane as one user.
//
// It owns: self-contained files (authority, certificate and key or token
// inside), mode 0600, replaced atomically. It refuses: anything but https,
// files that trust any server or the authorities of the machine, and
// credentials that do not fit together, so that a file it wrote works.
//
// Start at [Write].
package kubeconfig

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/gatehouse-dev/gatehouse/internal/durable"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// maxName bounds cluster, user and namespace names, in bytes.
const maxName = 253

// Config is one cluster, one user and the context of both. One of Certificate
// with Key, Token and Exec is set.
type Config struct {
	// Cluster and User name the entries in the file; the context is
	// "User@Cluster". They have no meaning for the server.
	Cluster, User string
	// Server is the URL of the API, https and without credentials.
	Server string
	// CA is the certificates to trust for Server, in PEM.
	CA []byte
	// Namespace is the context's default namespace, if not empty.
	Namespace string

	Certificate []byte // PEM
	Key         secret.Bytes
	Token       secret.String
	Exec        *Exec
}

// Exec is a program that gives the credential (client.authentication.k8s.io/v1).
// It is told which server the credential is for, and asks a person only where
// one is.
type Exec struct {
	Command string
	Args    []string
	// Hint tells people without the program where it comes from.
	Hint string
}

// Write checks c and replaces the file at path, mode 0600.
func Write(path string, c Config) error {
	data, err := Render(c)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, data.Reveal())
}

// Render checks c and returns the file's content. Errors are of kind Invalid
// and name the field; they do not quote credentials.
func Render(c Config) (secret.Bytes, error) {
	if err := c.check(); err != nil {
		return secret.Bytes{}, fmt.Errorf("kubeconfig: %w", err)
	}
	context := c.User + "@" + c.Cluster
	type object map[string]any
	user := object{}
	switch {
	case c.Exec != nil:
		user["exec"] = object{
			"apiVersion": "client.authentication.k8s.io/v1", "command": c.Exec.Command, "args": c.Exec.Args,
			"interactiveMode": "IfAvailable", "provideClusterInfo": true, "installHint": c.Exec.Hint,
		}
	case c.Token.Len() > 0:
		user["token"] = c.Token.Reveal()
	default:
		user["client-certificate-data"] = c.Certificate
		user["client-key-data"] = c.Key.Reveal()
	}
	inner := object{"cluster": c.Cluster, "user": c.User}
	if c.Namespace != "" {
		inner["namespace"] = c.Namespace
	}
	data, err := yaml.Marshal(object{
		"apiVersion": "v1",
		"kind":       "Config",
		"clusters": []object{{"name": c.Cluster, "cluster": object{
			"server": c.Server, "certificate-authority-data": c.CA,
		}}},
		"users":           []object{{"name": c.User, "user": user}},
		"contexts":        []object{{"name": context, "context": inner}},
		"current-context": context,
		"preferences":     object{},
	})
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("kubeconfig: %w", err)
	}
	return secret.NewBytes(data), nil
}

func (c Config) check() error {
	for field, name := range map[string]string{"cluster": c.Cluster, "user": c.User} {
		if !plain(name) {
			return fault.Newf(fault.Invalid, "%s: must be 1 to %d letters, digits and marks", field, maxName)
		}
	}
	if c.Namespace != "" && !plain(c.Namespace) {
		return fault.New(fault.Invalid, "namespace: is not a name")
	}
	if err := checkServer(c.Server); err != nil {
		return err
	}
	if err := checkCA(c.CA); err != nil {
		return err
	}
	pair, token := len(c.Certificate) > 0 || c.Key.Len() > 0, c.Token.Len() > 0
	switch {
	case c.Exec != nil && (pair || token), c.Exec == nil && pair == token:
		return fault.New(fault.Invalid, "credentials: must be one of a certificate with its key, a token and a program")
	case c.Exec != nil:
		if c.Exec.Command == "" {
			return fault.New(fault.Invalid, "credentials: the program has no name")
		}
	case pair:
		if _, err := tls.X509KeyPair(c.Certificate, c.Key.Reveal()); err != nil {
			return fault.New(fault.Invalid, "credentials: certificate and key do not fit together")
		}
	case strings.ContainsFunc(c.Token.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }):
		return fault.New(fault.Invalid, "credentials: the token holds characters that no header can carry")
	}
	return nil
}

func checkServer(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" || u.Hostname() == "" {
		return fault.New(fault.Invalid, "server: must be an https URL of host, port and path only")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fault.New(fault.Invalid, "server: has a port that does not exist")
		}
	}
	// A client cannot connect to the address that listeners use for all.
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsUnspecified() {
		return fault.New(fault.Invalid, "server: is the unspecified address, name one that clients can reach")
	}
	return nil
}

// checkCA demands PEM of certificates only: a private key here would be
// handed to every user.
func checkCA(ca []byte) error {
	found := false
	for rest := ca; len(strings.TrimSpace(string(rest))) > 0; found = true {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return fault.New(fault.Invalid, "CA: must be certificates in PEM and nothing else")
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err != nil || !cert.IsCA {
			return fault.New(fault.Invalid, "CA: holds something that is not an authority's certificate")
		}
	}
	if !found {
		return fault.New(fault.Invalid, "CA: must not be empty")
	}
	return nil
}

// plain reports whether a name is printable ASCII without spaces.
func plain(name string) bool {
	return name != "" && len(name) <= maxName &&
		!strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
}
