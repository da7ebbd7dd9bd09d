package mtlsproxy

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// world is a control plane that wants a certificate, a proxy before it, and a
// client of the proxy.
func world(t *testing.T, handler http.HandlerFunc) (*Proxy, *http.Client) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ada"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	up := httptest.NewUnstartedServer(handler)
	up.EnableHTTP2 = true
	up.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13}
	up.StartTLS()
	t.Cleanup(up.Close)
	roots := x509.NewCertPool()
	roots.AddCert(up.Certificate())
	p, err := New(Config{
		Server: up.URL, Listen: "127.0.0.1:0", Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Upstream: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	local := x509.NewCertPool()
	local.AppendCertsFromPEM(p.CA())
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: local}}
	t.Cleanup(transport.CloseIdleConnections)
	return p, &http.Client{Transport: transport}
}

func ask(t *testing.T, p *Proxy, c *http.Client, change func(*http.Request)) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL()+"/path?q=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	change(request)
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestProxyLendsToItsOwner(t *testing.T) {
	t.Parallel()
	p, c := world(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s authorization=%q cookie=%q impersonate=%q host=%v", r.TLS.PeerCertificates[0].Subject.CommonName, r.URL,
			r.Header.Get("Authorization"), r.Header.Get("Cookie"), r.Header.Get("Impersonate-User"), r.Host)
	})
	code, body := ask(t, p, c, func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+p.Token().Reveal())
		r.Header.Set("Cookie", "a=b")
		r.Header.Set("Impersonate-User", "bob")
	})
	if code != http.StatusOK || !strings.HasPrefix(body, `ada /path?q=1 authorization="" cookie="" impersonate="bob"`) || strings.Contains(body, p.listener.Addr().String()) {
		t.Errorf("%d %s", code, body)
	}
	token := p.Token().Reveal()
	for name, header := range map[string][]string{
		"nothing": nil, "empty": {"Bearer "}, "another": {"Bearer x"}, "a part": {"Bearer " + token[:20]}, "more": {"Bearer " + token + "x"},
		"basic": {"Basic " + token}, "twice": {"Bearer " + token, "Bearer " + token}, "bare": {token},
	} {
		if code, body := ask(t, p, c, func(r *http.Request) { r.Header["Authorization"] = header }); code != http.StatusUnauthorized || strings.Contains(body, "/path") {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	// The local name is not trusted by anybody else, and nothing goes in clear.
	if _, err := (&http.Client{}).Get(p.URL()); err == nil {
		t.Error("the machine trusts the local authority")
	}
	if response, err := http.Get(strings.Replace(p.URL(), "https", "http", 1)); err == nil {
		response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("in clear: %d", response.StatusCode)
		}
	}
}

// A watch's events pass as they come.
func TestProxyStreams(t *testing.T) {
	t.Parallel()
	next := make(chan string)
	p, c := world(t, func(w http.ResponseWriter, r *http.Request) {
		for {
			select {
			case line := <-next:
				fmt.Fprintln(w, line)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+p.Token().Reveal())
	go func() { next <- "one" }()
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for _, want := range []string{"one", "two", "three"} {
		if want != "one" {
			next <- want
		}
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("got %q, want %q: %v", lines.Text(), want, lines.Err())
		}
	}
}

// What takes the connection over, as kubectl exec does, passes both ways.
func TestProxyUpgrades(t *testing.T) {
	t.Parallel()
	p, c := world(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || r.Header.Get("Upgrade") != "SPDY/3.1" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
		_ = rw.Flush()
		line, err := rw.ReadString('\n')
		if err == nil {
			fmt.Fprintf(rw, "echo %s", line)
			_ = rw.Flush()
		}
	})
	conn, err := tls.Dial("tcp", p.listener.Addr().String(), &tls.Config{RootCAs: c.Transport.(*http.Transport).TLSClientConfig.RootCAs, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /exec HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n", p.Token().Reveal())
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v %v", response, err)
	}
	fmt.Fprintln(conn, "hello")
	if line, err := in.ReadString('\n'); err != nil || line != "echo hello\n" {
		t.Errorf("%q %v", line, err)
	}
}

func TestProxyListensOnLoopbackAlone(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"0.0.0.0:0", "[::]:0", ":0", "localhost:0", "192.0.2.1:0", ""} {
		if p, err := New(Config{Server: "https://a", Listen: listen, Now: time.Now, Log: slog.New(slog.DiscardHandler), Upstream: &http.Transport{}}); err == nil {
			p.listener.Close()
			t.Errorf("%q is listened on", listen)
		}
	}
}
