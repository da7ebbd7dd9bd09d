package credential

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/cache"
	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/oidc"
)

// Bounds of an exchange.
const (
	DefaultLifetime = time.Hour
	minLifetime     = 10 * time.Minute // of the certificates API
	askTimeout      = 10 * time.Second
	askEvery        = 200 * time.Millisecond
	maxAnswer       = 1 << 20
	clientSigner    = "kubernetes.io/kube-apiserver-client"
)

// Exchange is a [Source] of short-lived client certificates. The long-lived one
// is shown in the TLS handshake with the control plane, which proves that its
// key is at hand, and nowhere else; the short-lived one is asked for with a
// CertificateSigningRequest.
type Exchange struct {
	// Server is the https URL of the control plane, CA whom to trust for it (PEM).
	Server string
	CA     []byte
	// ServerName is what its certificate must be for, if not the host of Server.
	ServerName string
	// Identity is the long-lived certificate with its key.
	Identity func() (*tls.Certificate, error)
	// Name tells the cache which certificate that is: a path or a key's URI.
	Name string
	// Lifetime is asked for; the control plane may give less. 0 means an hour.
	Lifetime time.Duration
	Now      func() time.Time
	// Say is where a person reads that somebody has to approve.
	Say io.Writer

	http *http.Client
}

// NewExchange checks the settings.
func NewExchange(e Exchange) (*Exchange, error) {
	if e.Lifetime == 0 {
		e.Lifetime = DefaultLifetime
	}
	if e.Lifetime < minLifetime {
		return nil, fmt.Errorf("lifetime: must be %v at least", minLifetime)
	}
	transport, err := Transport(e.Server, e.ServerName, e.CA, e.Identity)
	if err != nil {
		return nil, err
	}
	e.http = &http.Client{Timeout: askTimeout, Transport: transport, CheckRedirect: noRedirect}
	return &e, nil
}

func noRedirect(*http.Request, []*http.Request) error {
	return errors.New("redirects are not followed")
}

// Transport speaks TLS 1.3 to a control plane and shows the certificate.
func Transport(server, serverName string, ca []byte, identity func() (*tls.Certificate, error)) (*http.Transport, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("server: must be an https URL")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("authority of the server: no certificate in PEM")
	}
	return &http.Transport{
		ForceAttemptHTTP2: true, TLSHandshakeTimeout: askTimeout, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: time.Minute,
		MaxIdleConnsPerHost: 16,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: serverName,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return identity() },
		},
	}, nil
}

// Key implements [Source].
func (x *Exchange) Key() string { return "certificate\x00" + x.Server + "\x00" + x.Name }

// Login implements [Source]: the key is all that is needed.
func (x *Exchange) Login(ctx context.Context) (*cache.Entry, error) { return x.Renew(ctx, nil) }

// Renew implements [Source] with a new key and a new certificate each time.
func (x *Exchange) Renew(ctx context.Context, _ *cache.Entry) (*cache.Entry, error) {
	identity, err := x.Identity()
	if err != nil {
		return nil, err
	}
	long := identity.Leaf
	if now := x.Now(); now.After(long.NotAfter) {
		return nil, fmt.Errorf("%w: the certificate ended at %s", oidc.ErrLogin, long.NotAfter.UTC().Format(time.RFC3339))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	request, err := Request(long.Subject.CommonName, long.Subject.Organization, key)
	if err != nil {
		return nil, err
	}
	chain, err := x.sign(ctx, request)
	if err != nil {
		return nil, err
	}
	pair, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pair})
	made, err := tls.X509KeyPair(chain, keyPEM)
	if err != nil {
		return nil, errors.New("the control plane signed another key than was asked for")
	}
	return &cache.Entry{
		Name: made.Leaf.Subject.CommonName + " at " + x.Server, Certificate: string(chain), Key: string(keyPEM),
		Issued: x.Now().UTC().Truncate(time.Second), Expires: made.Leaf.NotAfter,
	}, nil
}

// Request makes a certificate request in PEM for a user and groups.
func Request(user string, groups []string, key crypto.Signer) ([]byte, error) {
	if user == "" {
		return nil, errors.New("a certificate needs a user")
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: user, Organization: groups}}, key)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// signing is what is used of a CertificateSigningRequest.
type signing struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name         string `json:"name,omitempty"`
		GenerateName string `json:"generateName,omitempty"`
	} `json:"metadata"`
	Spec struct {
		Request    []byte   `json:"request"`
		Signer     string   `json:"signerName"`
		Usages     []string `json:"usages"`
		Expiration int64    `json:"expirationSeconds,omitempty"`
	} `json:"spec"`
	Status *struct {
		Certificate []byte `json:"certificate"`
		Conditions  []struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"conditions"`
	} `json:"status,omitempty"`
}

// Manifest is the CertificateSigningRequest for a request, to be created by
// whoever may. A name that is empty has one generated.
func Manifest(name string, request []byte, lifetime time.Duration) any {
	s := signing{APIVersion: "certificates.k8s.io/v1", Kind: "CertificateSigningRequest"}
	if s.Metadata.Name = name; name == "" {
		s.Metadata.GenerateName = "login-"
	}
	s.Spec.Request, s.Spec.Signer, s.Spec.Usages = request, clientSigner, []string{"client auth"}
	s.Spec.Expiration = int64(lifetime / time.Second)
	return s
}

// sign has a request signed and returns the chain in PEM.
func (x *Exchange) sign(ctx context.Context, request []byte) ([]byte, error) {
	body, err := json.Marshal(Manifest("", request, x.Lifetime))
	if err != nil {
		return nil, err
	}
	var s signing
	if err := x.ask(ctx, http.MethodPost, "", body, &s); err != nil {
		return nil, fmt.Errorf("ask for a certificate: %w", err)
	}
	said := false
	for began := x.Now(); ; {
		if s.Status != nil {
			for _, c := range s.Status.Conditions {
				if c.Type == "Denied" || c.Type == "Failed" {
					return nil, fmt.Errorf("%w: request %s: %s: %q", oidc.ErrDenied, s.Metadata.Name, c.Type, c.Message)
				}
			}
			if len(s.Status.Certificate) > 0 {
				return s.Status.Certificate, nil
			}
		}
		if !said && x.Now().Sub(began) > 2*time.Second {
			said = true
			fmt.Fprintf(x.Say, "Waiting for somebody to run: kubectl certificate approve %s\n", s.Metadata.Name)
		}
		pause := time.NewTimer(askEvery)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil, fmt.Errorf("%w: nobody approved request %s", oidc.ErrDenied, s.Metadata.Name)
		case <-pause.C:
		}
		if err := x.ask(ctx, http.MethodGet, "/"+url.PathEscape(s.Metadata.Name), nil, &s); err != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("ask for a certificate: %w", err)
		}
	}
}

func (x *Exchange) ask(ctx context.Context, method, path string, body []byte, into *signing) error {
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(x.Server, "/")+"/apis/certificates.k8s.io/v1/certificatesigningrequests"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	response, err := x.http.Do(request)
	if err != nil {
		return fmt.Errorf("%w: %w", oidc.ErrUnreachable, err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%w: the answer broke off", oidc.ErrUnreachable)
	}
	if response.StatusCode/100 != 2 {
		var status struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(data, &status) // a message is a courtesy
		cause := oidc.ErrDenied
		if response.StatusCode >= http.StatusInternalServerError || response.StatusCode == http.StatusTooManyRequests {
			cause = oidc.ErrUnreachable
		}
		return fmt.Errorf("%w: the control plane says %d: %.300q", cause, response.StatusCode, status.Message)
	}
	*into = signing{}
	return json.Unmarshal(data, into)
}
