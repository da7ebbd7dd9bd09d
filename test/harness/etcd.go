package harness

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"net"
	"os"
	"path/filepath"
)

// An Etcd is a stock etcd of one member. It speaks TLS and wants a certificate
// from its clients; the files are what a client needs.
type Etcd struct {
	*Process
	URL                       string // https://127.0.0.1:PORT
	CAFile, CertFile, KeyFile string
	address, dir              string
}

// StartEtcd starts a stock etcd that keeps its data and certificates below dir.
func StartEtcd(ctx context.Context, dir string) (*Etcd, error) {
	e := &Etcd{dir: filepath.Join(dir, "etcd")}
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return nil, err
	}
	ca, err := newAuthority("etcd-ca")
	if err != nil {
		return nil, err
	}
	e.CAFile, e.CertFile, e.KeyFile = e.path("ca.crt"), e.path("client.crt"), e.path("client.key")
	err = errors.Join(
		ca.write(e.CAFile),
		ca.issue(e.dir, "server", pkix.Name{CommonName: "etcd"}, net.IPv4(127, 0, 0, 1)),
		ca.issue(e.dir, "client", pkix.Name{CommonName: "apiserver"}),
	)
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(e.CertFile, e.KeyFile)
	if err != nil {
		return nil, err
	}
	// Built before the time of the start begins.
	if _, err := Upstream(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	err = onFreePort(func(address string) error {
		e.address = address
		if err := e.start(); err != nil {
			return err
		}
		if err := e.waitHTTP(ctx, ca.client(pair), e.URL+"/readyz"); err != nil {
			e.Kill()
			return err
		}
		return nil
	})
	return e, err
}

func (e *Etcd) path(name string) string { return filepath.Join(e.dir, name) }

func (e *Etcd) start() error {
	programs, err := Upstream()
	if err != nil {
		return err
	}
	peer, err := FreeAddress()
	if err != nil {
		return err
	}
	e.URL = "https://" + e.address
	e.Process, err = Start("etcd", filepath.Join(programs, "etcd"), nil,
		"--name=stock", "--data-dir="+e.path("data"), "--log-level=warn",
		"--listen-client-urls="+e.URL, "--advertise-client-urls="+e.URL,
		"--cert-file="+e.path("server.crt"), "--key-file="+e.path("server.key"),
		"--client-cert-auth", "--trusted-ca-file="+e.CAFile,
		"--listen-peer-urls=http://"+peer, "--initial-advertise-peer-urls=http://"+peer,
		"--initial-cluster=stock=http://"+peer)
	return err
}
