package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// publicPaths answer without a credential. Whoever adds one adds it here, and a
// reviewer asks why.
var publicPaths = []string{
	"/healthz", // what older probes ask
	"/livez",
	"/readyz",
}

// otherPaths are doors that no discovery document lists, and paths that programs
// of this kind often open by accident.
var otherPaths = []string{
	"/", "/metrics", "/metrics/slis", "/version", "/openapi/v2", "/openapi/v3", "/openapi/v3/api/v1",
	"/debug/pprof", "/debug/pprof/profile", "/debug/pprof/heap", "/debug/flags/v", "/debug/vars", "/logs", "/statusz", "/flagz", "/configz",
	"/livez/ping", "/readyz/ping", "/healthz/ping", "/readyz/etcd",
	"/sites", "/sites/somewhere", "/sites/somewhere/authenticate", "/sites/somewhere/authorize",
	"/sites/somewhere/authorize/deny", "/sites/somewhere/audit", "/sites/somewhere/audit/totals", "/sites/somewhere/journal", "/sites/somewhere/journal/upload", "/sites/somewhere/v1/logs", "/sites//authorize", "/sites/../sites/somewhere/audit",
	"/access/v1/evaluation", "/access/v1/evaluations", "/access/v1/search/subject", "/access/v1/search/resource", "/access/v1/search/action",
	"/.well-known/authzen-configuration",
	"/api/v1/namespaces/kube-system/secrets", "/no/such/path",
}

// expiredCertificate is a client certificate of an authority that nobody knows,
// for the administrator's name, and past its end.
func expiredCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		NotBefore:    time.Now().Add(-2 * time.Hour),
		NotAfter:     time.Now().Add(-time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A route is a method on a path.
type route struct{ method, path string }

// routes lists everything the server says it serves, from its own OpenAPI
// document and index, with names filled in, and the other paths.
func routes(t *testing.T, c client) []route {
	t.Helper()
	var document struct {
		Paths map[string]map[string]json.RawMessage
	}
	c.get("/openapi/v2", &document)
	var index struct{ Paths []string }
	c.get("/", &index)
	var all []route
	for path, operations := range document.Paths {
		for method := range operations {
			if method = strings.ToUpper(method); method != "PARAMETERS" {
				all = append(all, route{method, fill(path)})
			}
		}
	}
	for _, path := range slices.Concat(index.Paths, otherPaths) {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodHead, http.MethodOptions} {
			all = append(all, route{method, path})
		}
	}
	slices.SortFunc(all, func(a, b route) int {
		return strings.Compare(a.path+" "+a.method, b.path+" "+b.method)
	})
	return slices.Compact(all)
}

func fill(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if strings.HasPrefix(part, "{") {
			parts[i] = "default"
		}
	}
	return strings.Join(parts, "/")
}

// Every route refuses a caller without a credential, with one that means
// nothing, and with a certificate that is past its end.
func TestEveryRouteWantsACredential(t *testing.T) {
	t.Parallel()
	server := shared(t)
	all := routes(t, adminClient(t, server))
	if len(all) < 200 {
		t.Fatalf("found only %d routes: %v", len(all), all)
	}
	garbage := http.Header{"Authorization": {"Bearer garbage.garbage.garbage"}}
	for name, caller := range map[string]struct {
		client client
		header http.Header
	}{
		"no credential":       {client: bareClient(t, server)},
		"garbage token":       {client: bareClient(t, server), header: garbage},
		"empty token":         {client: bareClient(t, server), header: http.Header{"Authorization": {"Bearer "}}},
		"a password":          {client: bareClient(t, server), header: http.Header{"Authorization": {"Basic YWRtaW46YWRtaW4="}}},
		"claimed headers":     {client: bareClient(t, server), header: http.Header{"X-Remote-User": {"admin"}, "X-Remote-Group": {"system:masters"}, "Impersonate-User": {"admin"}}},
		"expired certificate": {client: bareClient(t, server, expiredCertificate(t))},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			caller.client.t = t
			for _, r := range all {
				if slices.Contains(publicPaths, r.path) {
					continue
				}
				code, body := caller.client.send(r.method, r.path, caller.header, nil)
				if code != http.StatusUnauthorized {
					t.Errorf("%s %s answered %d: %.200s", r.method, r.path, code, body)
				}
			}
		})
	}
	t.Logf("%d routes", len(all))
}

// What is public is so for everyone, says nothing else, and cannot be written.
func TestPublicPaths(t *testing.T) {
	t.Parallel()
	c := bareClient(t, shared(t))
	for _, path := range publicPaths {
		code, body := c.send(http.MethodGet, path, nil, nil)
		if code != http.StatusOK || len(body) > 100 {
			t.Errorf("GET %s: %d: %.200s", path, code, body)
		}
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
			if code, body := c.send(method, path, nil, nil); code < 400 {
				t.Errorf("%s %s: %d: %.200s", method, path, code, body)
			}
		}
	}
}

// The listener speaks TLS 1.3 only, and prefers a key agreement that a future
// quantum computer does not open.
func TestTLS(t *testing.T) {
	t.Parallel()
	base, config, err := as(t, shared(t)).k.Endpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(base, "https://")
	conn, err := tls.Dial("tcp", address, config)
	if err != nil {
		t.Fatal(err)
	}
	state := conn.ConnectionState()
	conn.Close()
	if state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("negotiated %s with %v", tls.VersionName(state.Version), state.CurveID)
	}
	// The server's first choice counts, not the client's order.
	config.CurvePreferences = []tls.CurveID{tls.CurveP256, tls.X25519MLKEM768}
	if conn, err := tls.Dial("tcp", address, config); err != nil {
		t.Error(err)
	} else {
		if got := conn.ConnectionState().CurveID; got != tls.X25519MLKEM768 {
			t.Errorf("negotiated %v although the client offers the hybrid", got)
		}
		conn.Close()
	}
	config.CurvePreferences = nil
	config.MaxVersion = tls.VersionTLS12
	if conn, err := tls.Dial("tcp", address, config); err == nil {
		conn.Close()
		t.Error("TLS 1.2 is accepted")
	} else if !strings.Contains(fmt.Sprint(err), "protocol version") {
		t.Error(err)
	}
}
