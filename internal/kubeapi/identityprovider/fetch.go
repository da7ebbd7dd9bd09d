package identityprovider

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// Bounds on what an issuer can make us read, and for how long.
const (
	maxDocument  = 256 << 10
	fetchTimeout = 10 * time.Second
)

// Fetching says which addresses an issuer's documents may be fetched from.
// The zero value allows what is neither this machine nor its link: not
// loopback, not link-local (where clouds serve machine credentials), not
// multicast, not unspecified.
type Fetching struct {
	// AllowLoopback permits issuers on this machine.
	AllowLoopback bool
	// Deny refuses further networks.
	Deny []netip.Prefix
}

var errAddress = errors.New("the address is one that documents may not be fetched from")

// metadataV6 is where some clouds serve machine credentials over IPv6; it is
// not link-local there.
var metadataV6 = netip.MustParseAddr("fd00:ec2::254")

func (f Fetching) allowed(address netip.Addr) bool {
	address = address.Unmap()
	switch {
	case !address.IsValid(), address.IsUnspecified(), address.IsMulticast(), address.IsLinkLocalUnicast(), address == metadataV6:
		return false
	case address.IsLoopback():
		return f.AllowLoopback
	}
	for _, network := range f.Deny {
		if network.Contains(address.WithZone("")) {
			return false
		}
	}
	return true
}

// client returns an HTTP client that keeps to the rules. They are applied to
// the address that is dialled, after names were resolved: a name that resolves
// to something else the second time gains nothing.
func (f Fetching) client(roots *x509.CertPool) *http.Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		target, err := netip.ParseAddrPort(address)
		if err != nil || !f.allowed(target.Addr()) {
			return errAddress
		}
		return nil
	}}
	return &http.Client{
		Timeout: fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("redirects are not followed")
		},
		Transport: &bounded{&http.Transport{
			// A proxy would dial in our place, past the rules.
			Proxy:                  nil,
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    5 * time.Second,
			ResponseHeaderTimeout:  fetchTimeout,
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        time.Minute,
			ForceAttemptHTTP2:      true,
		}},
	}
}

// bounded is a transport without plain HTTP and without endless bodies.
type bounded struct{ next *http.Transport }

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, errors.New("only https is fetched")
	}
	response, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = &boundedBody{response.Body, maxDocument}
	return response, nil
}

// boundedBody ends in an error, not in a document cut short.
type boundedBody struct {
	io.ReadCloser
	left int
}

var errDocument = fmt.Errorf("the document is larger than %d bytes", maxDocument)

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errDocument
	}
	// One byte beyond the limit tells a document that is too long from one
	// that just fits.
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, errDocument
	}
	return n, err
}

// get fetches one JSON document.
func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch %s: status %d", url, response.StatusCode)
	}
	if kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err == nil && kind == "text/html" {
		return nil, fmt.Errorf("fetch %s: a page, not a document", url)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", url, err)
	}
	return body, nil
}
