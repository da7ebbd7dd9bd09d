package unary_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gatehouse-dev/gatehouse/internal/edge/unary"
)

const echo = "/test.Service/Echo"

// serve starts a server; stop ends it and returns what Serve returned.
func serve(t *testing.T, methods map[string]unary.Method) (address string, stop func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- (&unary.Server{Methods: methods, Log: slog.New(slog.DiscardHandler)}).Serve(ctx, l)
		close(done)
	}()
	stop = func() error { cancel(); return <-done }
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), stop
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// The client of gRPC itself finds every answer as it was meant.
func TestCalls(t *testing.T) {
	t.Parallel()
	const message = "100 % \"höflich\"\nrefused"
	address, _ := serve(t, map[string]unary.Method{
		echo: func(_ context.Context, in []byte) ([]byte, error) { return in, nil },
		"/test.Service/Refuse": func(context.Context, []byte) ([]byte, error) {
			return nil, status.Error(codes.PermissionDenied, message)
		},
		"/test.Service/Fail": func(context.Context, []byte) ([]byte, error) { return nil, errors.New("broken") },
		"/test.Service/Slow": func(ctx context.Context, _ []byte) ([]byte, error) {
			if _, ok := ctx.Deadline(); !ok {
				return nil, errors.New("no deadline")
			}
			<-ctx.Done()
			return nil, errors.New("too late")
		},
		"/test.Service/Much": func(context.Context, []byte) ([]byte, error) { return make([]byte, 2<<20), nil },
	})
	c := dial(t, address)
	call := func(method, value string, timeout time.Duration, options ...grpc.CallOption) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		out := &wrapperspb.StringValue{}
		err := c.Invoke(ctx, method, wrapperspb.String(value), out, options...)
		return out.GetValue(), err
	}
	for _, value := range []string{"", "a", strings.Repeat("large", 100_000)} {
		if got, err := call(echo, value, time.Minute); err != nil || got != value {
			t.Errorf("echo of %d bytes: %d bytes, %v", len(value), len(got), err)
		}
	}
	for _, tc := range []struct {
		method, value string
		code          codes.Code
		message       string
		options       []grpc.CallOption
	}{
		{method: "/test.Service/Refuse", code: codes.PermissionDenied, message: message},
		{method: "/test.Service/Fail", code: codes.Unknown, message: "broken"},
		{method: "/test.Service/Much", code: codes.ResourceExhausted, message: "the answer is too large"},
		{method: "/test.Service/Other", code: codes.Unimplemented, message: `there is no method "/test.Service/Other"`},
		{method: echo, value: "packed", code: codes.Unimplemented, message: "messages are not compressed here", options: []grpc.CallOption{grpc.UseCompressor(gzip.Name)}},
		{method: echo, value: strings.Repeat("x", 1<<20), code: codes.ResourceExhausted, message: "the message is over 1048576 bytes"},
	} {
		_, err := call(tc.method, tc.value, time.Minute, tc.options...)
		if st := status.Convert(err); st.Code() != tc.code || st.Message() != tc.message {
			t.Errorf("%s: %v %q, want %v %q", tc.method, st.Code(), st.Message(), tc.code, tc.message)
		}
	}
	if _, err := call("/test.Service/Slow", "", 50*time.Millisecond); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("slow: %v", err)
	}
}

// What no sound client sends is told as gRPC has it, over plain HTTP/2.
func TestRefuses(t *testing.T) {
	t.Parallel()
	address, _ := serve(t, map[string]unary.Method{
		echo: func(ctx context.Context, in []byte) ([]byte, error) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return in, nil
		},
	})
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	for name, tc := range map[string]struct {
		method, media, timeout, body string
		code                         int
		status                       string
	}{
		"sound":              {body: "\x00\x00\x00\x00\x01a", status: "0"},
		"sound, with proto":  {media: "application/grpc+proto", body: "\x00\x00\x00\x00\x00", status: "0"},
		"in time":            {timeout: "99999999H", body: "\x00\x00\x00\x00\x00", status: "0"},
		"no time":            {timeout: "0n", body: "\x00\x00\x00\x00\x00", status: "4"},
		"nine digits":        {timeout: "100000000n", body: "\x00\x00\x00\x00\x00", status: "3"},
		"no unit":            {timeout: "10", body: "\x00\x00\x00\x00\x00", status: "3"},
		"no digits":          {timeout: "S", body: "\x00\x00\x00\x00\x00", status: "3"},
		"a sign":             {timeout: "+1S", body: "\x00\x00\x00\x00\x00", status: "3"},
		"no message":         {status: "13"},
		"half a prefix":      {body: "\x00\x00", status: "13"},
		"half a message":     {body: "\x00\x00\x00\x00\x02a", status: "13"},
		"more than one":      {body: "\x00\x00\x00\x00\x01a\x00\x00\x00\x00\x01a", status: "13"},
		"compressed":         {body: "\x01\x00\x00\x00\x01a", status: "12"},
		"unknown flag":       {body: "\x02\x00\x00\x00\x01a", status: "13"},
		"promised too large": {body: "\x00\xff\xff\xff\xff", status: "8"},
		"not posted":         {method: http.MethodGet, code: http.StatusMethodNotAllowed},
		"JSON":               {media: "application/grpc+json", body: "{}", code: http.StatusUnsupportedMediaType},
		"a form":             {media: "application/x-www-form-urlencoded", body: "a=b", code: http.StatusUnsupportedMediaType},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := http.NewRequestWithContext(t.Context(), or(tc.method, http.MethodPost), "http://"+address+echo, strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", or(tc.media, "application/grpc"))
			if tc.timeout != "" {
				r.Header.Set("Grpc-Timeout", tc.timeout)
			}
			answer, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if tc.code != 0 {
				if answer.StatusCode != tc.code {
					t.Errorf("%d, want %d", answer.StatusCode, tc.code)
				}
				return
			}
			got := answer.Trailer.Get("Grpc-Status") + answer.Header.Get("Grpc-Status")
			if answer.StatusCode != http.StatusOK || got != tc.status || answer.Header.Get("Content-Type") != "application/grpc" {
				t.Errorf("%d, status %q, want %q; %v", answer.StatusCode, got, tc.status, answer.Header)
			}
			if sound := tc.status == "0"; sound && string(body) != tc.body || !sound && len(body) > 0 {
				t.Errorf("answered %q", body)
			}
		})
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// A call under way is answered before the server ends, and none begins after.
func TestStop(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	address, stop := serve(t, map[string]unary.Method{
		echo: func(_ context.Context, in []byte) ([]byte, error) {
			close(entered)
			<-release
			return in, nil
		},
	})
	c := dial(t, address)
	answered := make(chan error, 1)
	go func() {
		answered <- c.Invoke(context.Background(), echo, wrapperspb.String("a"), &wrapperspb.StringValue{})
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	// The listener closes first.
	for {
		probe, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		_ = probe.Close()
	}
	close(release)
	if err := <-answered; err != nil {
		t.Errorf("call under way: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
}

// HTTP/1 finds nobody.
func TestNoHTTP1(t *testing.T) {
	t.Parallel()
	address, _ := serve(t, nil)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(c) // reset or closed
	if len(got) > 0 {
		t.Errorf("answered %q", got)
	}
}
