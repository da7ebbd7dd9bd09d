package signer_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	externaljwt "k8s.io/externaljwt/apis/v1"

	"github.com/gatehouse-dev/gatehouse/internal/edge/signer"
	"github.com/gatehouse-dev/gatehouse/internal/edge/unary"
)

// client serves s and returns the client that kube-apiserver has.
func client(t *testing.T, s *signer.Signer) externaljwt.ExternalJWTSignerClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- (&unary.Server{Methods: s.Methods(), Log: slog.New(slog.DiscardHandler)}).Serve(ctx, l)
	}()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return externaljwt.NewExternalJWTSignerClient(conn)
}

func claims(issuer string) string {
	raw, _ := json.Marshal(map[string]string{"iss": issuer}) // a map of strings
	return base64.RawURLEncoding.EncodeToString(raw)
}

func TestSigner(t *testing.T) {
	t.Parallel()
	var answer atomic.Int32
	answer.Store(http.StatusOK)
	signed := atomic.Int32{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if code := int(answer.Load()); code != http.StatusOK {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(`{"kind":"Status","message":"not now"}`))
			return
		}
		switch r.URL.Path {
		case "/sites/blue/keys":
			_, _ = w.Write([]byte(`{"issuer":"https://x/sites/blue","keys":[{"id":"k","key":"AQ=="}],"maxLifetimeSeconds":3600,"at":"2026-01-01T00:00:00.5Z"}`))
		case "/sites/blue/sign":
			signed.Add(1)
			_, _ = w.Write([]byte(`{"header":"h","signature":"s"}`))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	s, err := signer.New(signer.Config{Server: server.URL + "/", Site: "blue", Client: server.Client(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, c := t.Context(), client(t, s)
	keys := func() (*externaljwt.FetchKeysResponse, error) {
		return c.FetchKeys(ctx, &externaljwt.FetchKeysRequest{})
	}
	answer.Store(http.StatusServiceUnavailable)
	if _, err := keys(); status.Code(err) != codes.Unavailable {
		t.Errorf("keys before any are known: %v", err)
	}
	answer.Store(http.StatusOK)
	check := func(what string) {
		t.Helper()
		got, err := keys()
		if err != nil || len(got.Keys) != 1 || got.Keys[0].KeyId != "k" || string(got.Keys[0].Key) != "\x01" || got.Keys[0].ExcludeFromOidcDiscovery || got.RefreshHintSeconds != 10 || !got.DataTimestamp.AsTime().Equal(time.Date(2026, 1, 1, 0, 0, 0, 500_000_000, time.UTC)) {
			t.Errorf("%s: %v %v", what, got, err)
		}
	}
	check("keys")
	if m, err := c.Metadata(ctx, &externaljwt.MetadataRequest{}); err != nil || m.MaxTokenExpirationSeconds != 3600 {
		t.Errorf("metadata: %v %v", m, err)
	}
	got, err := c.Sign(ctx, &externaljwt.SignJWTRequest{Claims: claims("https://x/sites/blue")})
	if err != nil || got.Header != "h" || got.Signature != "s" || signed.Load() != 1 {
		t.Errorf("signed: %v %v", got, err)
	}
	for name, bad := range map[string]string{"another issuer": claims("https://other"), "no base64url": "+", "no JSON": "AAAA", "large": strings.Repeat("A", 49<<10)} {
		if _, err := c.Sign(ctx, &externaljwt.SignJWTRequest{Claims: bad}); status.Code(err) != codes.InvalidArgument || signed.Load() != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The control plane goes away: tokens verify on, none is signed.
	answer.Store(http.StatusBadGateway)
	check("keys last known")
	if _, err := c.Sign(ctx, &externaljwt.SignJWTRequest{Claims: claims("https://x/sites/blue")}); status.Code(err) != codes.Unavailable {
		t.Errorf("signed while away: %v", err)
	}
	// A site that was disconnected is told so.
	answer.Store(http.StatusForbidden)
	if _, err := keys(); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "not now") {
		t.Errorf("disconnected: %v", err)
	}
	for _, cfg := range []signer.Config{{}, {Server: "http://x", Site: "a", Client: server.Client(), Log: slog.Default()}, {Server: "https://x", Site: "a", Client: server.Client(), Log: slog.Default(), Refresh: 1}} {
		if _, err := signer.New(cfg); err == nil {
			t.Errorf("accepted %+v", cfg)
		}
	}
}
