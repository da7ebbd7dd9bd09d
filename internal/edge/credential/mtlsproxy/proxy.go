// Package mtlsproxy lends a key that cannot leave its token to kubectl on the
// same machine: it listens on loopback and passes every request on to one
// control plane over TLS in which it shows the certificate of that key.
//
// It owns: the listener, with an authority of its own that lives as long as the
// process, and the random token without which nothing is passed on, so that
// another user of the machine, or a page in a browser, cannot borrow the key.
// It refuses: to listen anywhere but on loopback, to pass the local token on or
// to let a request name its own credential.
//
// Start at [New].
package mtlsproxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// lifetime is of the local authority; a process that runs longer is started
// anew. Its key is in memory only.
const lifetime = 30 * 24 * time.Hour

// Config is what a proxy needs.
type Config struct {
	// Server is the https URL of the control plane.
	Server string
	// Upstream shows the certificate there.
	Upstream *http.Transport
	// Listen is the loopback address and port.
	Listen string
	Now    func() time.Time
	Log    *slog.Logger
}

// Proxy is one listener. Start it with [Proxy.Serve].
type Proxy struct {
	listener net.Listener
	server   *http.Server
	ca       []byte
	token    secret.String
	close    []*http.Transport
}

// New opens the listener; nothing is passed on before [Proxy.Serve].
func New(cfg Config) (*Proxy, error) {
	target, err := url.Parse(cfg.Server)
	if err != nil || target.Scheme != "https" || target.Host == "" {
		return nil, errors.New("server: must be an https URL")
	}
	if cfg.Upstream == nil || cfg.Log == nil || cfg.Now == nil {
		return nil, errors.New("a transport, a clock and a log are required")
	}
	address, err := netip.ParseAddrPort(cfg.Listen)
	if err != nil || !address.Addr().IsLoopback() {
		return nil, errors.New("listen: must be a loopback address and a port, such as 127.0.0.1:0")
	}
	certificate, ca, err := local(address.Addr(), cfg.Now())
	if err != nil {
		return nil, err
	}
	p := &Proxy{ca: ca, token: secret.NewString(rand.Text() + rand.Text())}
	// Streams of kubectl exec, attach and port-forward take the connection over,
	// which HTTP/2 has no way for.
	streams := cfg.Upstream.Clone()
	streams.ForceAttemptHTTP2 = false
	streams.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	streams.TLSClientConfig.NextProtos = []string{"http/1.1"}
	p.close = []*http.Transport{cfg.Upstream, streams}
	errorLog := slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug)
	reverse := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = target.Host
			// The caller's proof is for this listener alone.
			r.Out.Header.Del("Authorization")
			r.Out.Header.Del("Cookie")
			r.Out.Header.Del("Origin")
		},
		Transport: choose{streams: streams, other: cfg.Upstream},
		// A watch has its events passed on as they come.
		FlushInterval: -1,
		ErrorLog:      errorLog,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				cfg.Log.Warn("request not passed on", "method", r.Method, "error", err)
			}
			refuse(w, http.StatusBadGateway, "the control plane was not reached; the proxy's own log says why")
		},
	}
	if p.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p.server = &http.Server{
		Handler:           p.guard(reverse),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    1 << 20,
		ErrorLog:          errorLog,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}},
	}
	return p, nil
}

// choose sends what takes a connection over on a transport without HTTP/2.
type choose struct{ streams, other http.RoundTripper }

func (c choose) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Upgrade") != "" {
		return c.streams.RoundTrip(r)
	}
	return c.other.RoundTrip(r)
}

// guard lets only those through who can read the kubeconfig.
func (p *Proxy) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if len(r.Header["Authorization"]) != 1 || !ok || subtle.ConstantTimeCompare([]byte(given), []byte(p.token.Reveal())) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "the token of this proxy's kubeconfig is required")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers as every Kubernetes client reads it.
func refuse(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"gatehouse-edge: %s","code":%d}`+"\n", message, code)
}

// URL is where kubectl finds the proxy, CA whom it trusts there (PEM), and
// Token what it shows.
func (p *Proxy) URL() string          { return "https://" + p.listener.Addr().String() }
func (p *Proxy) CA() []byte           { return p.ca }
func (p *Proxy) Token() secret.String { return p.token }

// Serve passes requests on until ctx ends. Streams that are open then are cut.
func (p *Proxy) Serve(ctx context.Context) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = p.server.Shutdown(ctx)
		_ = p.server.Close()
	})
	err := p.server.ServeTLS(p.listener, "", "")
	if !stop() {
		<-stopped
	}
	for _, t := range p.close {
		t.CloseIdleConnections()
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

// local makes an authority and a certificate of the listener. The authority's
// key is thrown away at once: nobody can make another certificate under it.
func local(address netip.Addr, now time.Time) (tls.Certificate, []byte, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "gatehouse-edge local proxy"},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("local authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "gatehouse-edge"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		IPAddresses: []net.IP{address.AsSlice()}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("local certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), nil
}

func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}
