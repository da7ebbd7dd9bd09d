// Package outbound makes the connections of sinks: TLS to the receiver that
// was meant, and for a tenant's sink nowhere near ourselves.
//
// It owns: [Receiver]. It refuses: connections without TLS, and for confined
// receivers loopback, link-local and unspecified addresses, which are reached
// from the control plane only because it stands where it stands.
package outbound

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

const dialTimeout = 10 * time.Second

// Receiver says who is connected to, and as whom.
type Receiver struct {
	// CABundle are PEM certificates; empty means those of the system.
	CABundle []byte
	// ServerName is expected in the certificate, by default the host.
	ServerName string
	// Certificate and Key, in PEM, are a client certificate, if set.
	Certificate []byte
	Key         secret.Bytes
	// Token is sent as a bearer token over HTTP, if set.
	Token secret.String
	// Confined refuses addresses of the machine itself and its link. It is for
	// receivers that somebody chose who does not run the control plane.
	Confined bool
}

// TLS returns the client configuration.
func (r *Receiver) TLS() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: r.ServerName}
	if len(r.CABundle) > 0 {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(r.CABundle) {
			return nil, errors.New("caBundle holds no PEM certificate")
		}
	}
	if len(r.Certificate) > 0 {
		cert, err := tls.X509KeyPair(r.Certificate, r.Key.Reveal())
		if err != nil {
			// The cause may quote the key.
			return nil, errors.New("client certificate and key do not fit together")
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// ErrConfined is the reason for a refused connection.
var ErrConfined = errors.New("the receiver of a confined sink must not be on this machine or its link")

// Dialer returns the dialer of all connections. The check is made on the
// address that is connected to, after names were resolved.
func (r *Receiver) Dialer() *net.Dialer {
	d := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	if r.Confined {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			ip := at.Addr().Unmap()
			if ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsMulticast() || ip.IsUnspecified() {
				return ErrConfined
			}
			return nil
		}
	}
	return d
}

// Client returns an HTTP client with a pool of its own. It uses no proxy, since
// one would connect where the dialer does not.
func (r *Receiver) Client() (*http.Client, error) {
	conf, err := r.TLS()
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		DialContext: r.Dialer().DialContext, TLSClientConfig: conf, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: dialTimeout, MaxIdleConns: 2, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
	}
	return &http.Client{
		Transport: &authorized{t, r.Token},
		// A receiver must not be able to point the record elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// CheckURL accepts https only, without user, query or fragment.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("is not a URL")
	case u.Scheme != "https" || u.Host == "" || u.Hostname() == "":
		return errors.New("must be an https URL with a host")
	case u.User != nil || u.Fragment != "" || u.RawQuery != "":
		return errors.New("must have no user, query or fragment")
	}
	return nil
}

// authorized adds the token.
type authorized struct {
	*http.Transport
	token secret.String
}

func (a *authorized) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" {
		return nil, fmt.Errorf("refusing %s without TLS", req.URL.Host)
	}
	if token := a.token.Reveal(); token != "" {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return a.Transport.RoundTrip(req)
}
