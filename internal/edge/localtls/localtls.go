// Package localtls lets a program on this machine, a kube-apiserver, ask a
// local decision point over HTTPS, and nobody else.
//
// It owns an authority that signs exactly two things: the certificate of the
// decision point for loopback names, whose key stays in memory, and the client
// certificate by which the asking program is known, which is written where that
// program reads it. It signs for nobody who asks. Start at [Open].
package localtls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"

	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/durable"
)

// Names of the files, mode 0600.
const (
	CAFile     = "ca.crt"
	CAKeyFile  = "ca.key"
	ClientFile = "client.crt"
	ClientKey  = "client.key"
)

const (
	day          = 24 * time.Hour
	caValidity   = 10 * 365 * day
	leafValidity = 365 * day
	// renewBefore is how long before its end a certificate is replaced.
	renewBefore = leafValidity / 3
	// backdate is for clocks that differ a little.
	backdate = 5 * time.Minute
)

// Authority is the local authority. It is safe for concurrent use.
type Authority struct {
	dir, site string
	now       func() time.Time
	cert      *x509.Certificate
	key       crypto.Signer
	serving   atomic.Pointer[tls.Certificate]
	client    atomic.Pointer[x509.Certificate]
}

// Open opens the authority of a directory, or creates it, and renews what is
// near its end.
func Open(dir, site string, now func() time.Time) (*Authority, error) {
	a := &Authority{dir: dir, site: site, now: now}
	if err := durable.Mkdir(dir); err != nil {
		return nil, fmt.Errorf("local authority: %w", err)
	}
	if err := durable.RemoveLeftovers(dir); err != nil {
		return nil, fmt.Errorf("local authority: %w", err)
	}
	if err := a.open(); err != nil {
		return nil, fmt.Errorf("local authority: %w", err)
	}
	if err := a.Renew(); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *Authority) open() error {
	pair, err := tls.LoadX509KeyPair(a.path(CAFile), a.path(CAKeyFile))
	if err == nil {
		key, ok := pair.PrivateKey.(crypto.Signer)
		if !ok || !pair.Leaf.IsCA {
			return fmt.Errorf("%s is not an authority", a.path(CAFile))
		}
		if a.now().Add(leafValidity).Before(pair.Leaf.NotAfter) {
			a.cert, a.key = pair.Leaf, key
			return nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return a.create()
}

func (a *Authority) create() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t, err := a.template(pkix.Name{CommonName: "local decision point of site " + a.site}, caValidity)
	if err != nil {
		return err
	}
	t.IsCA, t.MaxPathLenZero = true, true
	t.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	a.key = key
	// The key comes first: a certificate without its key cannot be used.
	if err := a.writeKey(CAKeyFile, key); err != nil {
		return err
	}
	return a.writeCert(CAFile, der)
}

func (a *Authority) template(name pkix.Name, validity time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: name, BasicConstraintsValid: true,
		NotBefore: a.now().Add(-backdate), NotAfter: a.now().Add(validity),
	}, nil
}

// Renew replaces the certificates that are near their end. It should be called
// once a day; programs that hold the client certificate read it again by
// themselves.
func (a *Authority) Renew() error {
	if s := a.serving.Load(); s == nil || a.old(s.Leaf) {
		key, der, err := a.sign(pkix.Name{CommonName: "localhost"}, x509.ExtKeyUsageServerAuth)
		if err != nil {
			return fmt.Errorf("local authority: serving certificate: %w", err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("local authority: serving certificate: %w", err)
		}
		a.serving.Store(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf})
	}
	if pair, err := tls.LoadX509KeyPair(a.path(ClientFile), a.path(ClientKey)); err == nil && !a.old(pair.Leaf) && pair.Leaf.CheckSignatureFrom(a.cert) == nil {
		a.client.Store(pair.Leaf)
		return nil
	}
	key, der, err := a.sign(authn.SiteSubject(a.site), x509.ExtKeyUsageClientAuth)
	if err == nil {
		err = a.writeKey(ClientKey, key)
	}
	if err == nil {
		err = a.writeCert(ClientFile, der)
	}
	if err != nil {
		return fmt.Errorf("local authority: client certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("local authority: client certificate: %w", err)
	}
	a.client.Store(leaf)
	return nil
}

func (a *Authority) old(c *x509.Certificate) bool { return a.now().Add(renewBefore).After(c.NotAfter) }

func (a *Authority) sign(name pkix.Name, usage x509.ExtKeyUsage) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t, err := a.template(name, leafValidity)
	if err != nil {
		return nil, nil, err
	}
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{usage}
	if usage == x509.ExtKeyUsageServerAuth {
		t.DNSNames, t.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	return key, der, err
}

func (a *Authority) writeKey(name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return durable.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func (a *Authority) writeCert(name string, der []byte) error {
	return durable.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Pool returns the authority as the one whose clients are known.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// ServerTLS returns the configuration of the decision point's listener: a
// client certificate is asked for, and verified by whoever needs one.
func (a *Authority) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return a.serving.Load(), nil
		},
		ClientAuth:             tls.RequestClientCert,
		NextProtos:             []string{"h2", "http/1.1"},
		SessionTicketsDisabled: true,
	}
}

// Loopback refuses an address that other machines can reach.
func Loopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if host != "localhost" {
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() || ip.To4() != nil && !ip.Equal(net.IPv4(127, 0, 0, 1)) {
			return fmt.Errorf("%s is not 127.0.0.1, [::1] or localhost", address)
		}
	}
	return nil
}

// Files returns the paths that the kubeconfig of an asking program names.
func Files(dir string) (ca, cert, key string) {
	return filepath.Join(dir, CAFile), filepath.Join(dir, ClientFile), filepath.Join(dir, ClientKey)
}
