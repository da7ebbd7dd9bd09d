package credential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/cache"
	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/oidc"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// maxInput bounds the files that settings name, in bytes.
const maxInput = 1 << 20

// Settings are one sign-in as flags describe it. The command that signs in
// writes them into a kubeconfig with [Settings.Args], and the exec plugin reads
// them from there.
type Settings struct {
	Issuer, ClientID        string
	SecretFile, IssuerCA    string
	Scopes                  []string
	Device, NoBrowser       bool
	Port                    uint16
	Certificate, PrivateKey string
	Lifetime, Patience      time.Duration
	CacheDir                string
}

// Flags defines the flags of a sign-in.
func (s *Settings) Flags(f *pflag.FlagSet) {
	f.StringVar(&s.Issuer, "issuer", "", "https URL of the OpenID Connect provider, exactly as it writes it in its tokens")
	f.StringVar(&s.ClientID, "client-id", "", "the client's name at the provider")
	f.StringVar(&s.SecretFile, "client-secret-file", "", "file with the client's secret, for providers that insist on one")
	f.StringVar(&s.IssuerCA, "issuer-ca", "", "file with the authorities of the provider (default: those of this machine)")
	f.StringSliceVar(&s.Scopes, "scope", nil, `scopes to ask for beside openid, such as "groups,offline_access"`)
	f.BoolVar(&s.Device, "device", false, "sign in with a code on another device (RFC 8628) instead of a browser here")
	f.BoolVar(&s.NoBrowser, "no-browser", false, "show the address to open and start no browser")
	f.Uint16Var(&s.Port, "redirect-port", 0, "port on 127.0.0.1 to which the browser comes back (default: a free one)")
	f.StringVar(&s.Certificate, "certificate", "", "file with a client certificate to sign in with, in the TLS handshake, for a short-lived one")
	f.StringVar(&s.PrivateKey, "key", "", "file with the key of --certificate; gatehouse-edge also takes a pkcs11: or tpm: URI")
	f.DurationVar(&s.Lifetime, "lifetime", DefaultLifetime, "how long the short-lived certificate is to last; the control plane may give less")
	f.DurationVar(&s.Patience, "login-timeout", 3*time.Minute, "how long a person may take to sign in")
	f.StringVar(&s.CacheDir, "cache-dir", "", "where credentials are kept, mode 0700 (default: gatehouse/credentials in the user's cache)")
}

// Args renders the settings as the exec plugin's arguments, with absolute paths.
func (s *Settings) Args() ([]string, error) {
	args := []string{"credential"}
	var err error
	file := func(flag, path string) {
		if path == "" {
			return
		}
		absolute := path
		if !isURI(path) {
			var absErr error
			if absolute, absErr = filepath.Abs(path); absErr != nil {
				err = absErr
			}
		}
		args = append(args, "--"+flag+"="+absolute)
	}
	if s.Issuer != "" {
		args = append(args, "--issuer="+s.Issuer, "--client-id="+s.ClientID)
		for _, scope := range s.Scopes {
			args = append(args, "--scope="+scope)
		}
		file("client-secret-file", s.SecretFile)
		file("issuer-ca", s.IssuerCA)
		if s.Device {
			args = append(args, "--device")
		}
		if s.NoBrowser {
			args = append(args, "--no-browser")
		}
		if s.Port != 0 {
			args = append(args, fmt.Sprintf("--redirect-port=%d", s.Port))
		}
	} else {
		file("certificate", s.Certificate)
		file("key", s.PrivateKey)
		args = append(args, "--lifetime="+s.Lifetime.String())
	}
	if s.Patience != 3*time.Minute {
		args = append(args, "--login-timeout="+s.Patience.String())
	}
	file("cache-dir", s.CacheDir)
	return args, err
}

// World is what a keeper needs beside the settings.
type World struct {
	Cluster *Cluster
	Say     io.Writer
	Browse  func(url string)
	// OpenKey opens what --key names if it is no file; nil if only files are.
	OpenKey func(uri string) (crypto.Signer, error)
}

// Keeper makes what the settings describe. Errors are about the settings.
func (s *Settings) Keeper(w World) (*Keeper, error) {
	k := &Keeper{Dir: s.CacheDir, Now: time.Now, Warn: w.Say, Patience: s.Patience}
	if s.Patience < time.Second || s.Patience > time.Hour {
		return nil, errors.New("--login-timeout: must be between 1s and 1h")
	}
	var err error
	if k.Dir == "" {
		if k.Dir, err = cache.Dir(); err != nil {
			return nil, err
		}
	}
	switch {
	case s.Issuer != "" && s.Certificate == "" && s.PrivateKey == "":
		k.Source, err = s.oidc(w)
	case s.Issuer == "" && s.Certificate != "" && s.PrivateKey != "":
		k.Source, err = s.exchange(w)
	default:
		err = errors.New("either --issuer and --client-id or --certificate and --key are required")
	}
	return k, err
}

func (s *Settings) oidc(w World) (Source, error) {
	// Whoever answers there could use the token elsewhere until it ends. Without
	// a cluster nothing is known of where kubectl will show it.
	if c := w.Cluster; c != nil && (c.Insecure || !strings.HasPrefix(c.Server, "https://")) {
		return nil, errors.New("the kubeconfig leads to a server that nobody verifies (insecure-skip-tls-verify, or no https); it gets no token")
	}
	o := OIDC{
		Config: oidc.Config{Issuer: s.Issuer, ClientID: s.ClientID, Scopes: s.Scopes, Now: time.Now},
		Device: s.Device, Port: s.Port, Say: w.Say,
	}
	if !s.NoBrowser {
		o.Browse = w.Browse
	}
	if s.IssuerCA != "" {
		data, err := ReadFile(s.IssuerCA)
		if err != nil {
			return nil, fmt.Errorf("--issuer-ca: %w", err)
		}
		o.Config.CA = data
	}
	if s.SecretFile != "" {
		data, err := ReadFile(s.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("--client-secret-file: %w", err)
		}
		o.Config.Secret = secret.NewString(strings.TrimRight(string(data), "\r\n"))
	}
	return NewOIDC(o)
}

func (s *Settings) exchange(w World) (Source, error) {
	if w.Cluster == nil {
		return nil, errors.New("the kubeconfig must say users.exec.provideClusterInfo: true, so that the certificate is shown to that server alone")
	}
	if w.Cluster.Insecure || len(w.Cluster.CA) == 0 {
		return nil, errors.New("the kubeconfig must name the authority of the server; a server that nobody verified gets no certificate")
	}
	name, err := filepath.Abs(s.Certificate)
	if err != nil {
		return nil, err
	}
	return NewExchange(Exchange{
		Server: w.Cluster.Server, CA: w.Cluster.CA, ServerName: w.Cluster.TLSServerName, Name: name, Lifetime: s.Lifetime,
		Identity: func() (*tls.Certificate, error) { return Identity(s.Certificate, s.PrivateKey, w.OpenKey) },
		Now:      time.Now, Say: w.Say,
	})
}

// Identity reads a certificate with its key: a file, or what open finds.
func Identity(certificate, key string, open func(uri string) (crypto.Signer, error)) (*tls.Certificate, error) {
	chain, err := ReadFile(certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if !isURI(key) {
		data, err := ReadFile(key)
		if err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		pair, err := tls.X509KeyPair(chain, data)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		return &pair, nil
	}
	if open == nil {
		return nil, errors.New("key: a key in a token or TPM is reached by gatehouse-edge credential, not from here")
	}
	signer, err := open(key)
	if err != nil {
		return nil, err
	}
	return Pair(chain, signer)
}

// Pair puts a chain in PEM and the key of its first certificate together.
func Pair(chain []byte, key crypto.Signer) (*tls.Certificate, error) {
	pair := &tls.Certificate{PrivateKey: key}
	for rest := chain; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			pair.Certificate = append(pair.Certificate, block.Bytes)
		}
	}
	if len(pair.Certificate) == 0 {
		return nil, errors.New("certificate: none in PEM")
	}
	var err error
	if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	public, ok := pair.Leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return nil, errors.New("certificate: is of another key")
	}
	// A TPM key signs one kind of digest, and TLS must not choose another.
	if ec, ok := key.Public().(*ecdsa.PublicKey); ok && ec.Curve.Params().BitSize == 256 {
		pair.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}
	}
	return pair, nil
}

func isURI(key string) bool {
	return strings.HasPrefix(key, "pkcs11:") || strings.HasPrefix(key, "tpm:")
}

// ReadFile reads a small file.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxInput+1))
	if err == nil && len(data) > maxInput {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxInput)
	}
	return data, err
}
