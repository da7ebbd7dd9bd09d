package s3

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

var vectorTime = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)

func target(t *testing.T, endpoint string, client *http.Client) *Target {
	t.Helper()
	s, err := New(Config{
		Endpoint: endpoint, Region: "us-east-1", Bucket: "records", Prefix: "audit/", Log: "r1",
		AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: secret.NewString("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
		Client: client, Clock: func() time.Time { return vectorTime },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSignature is the PUT example that Amazon publishes for signature
// version 4.
func TestSignature(t *testing.T) {
	t.Parallel()
	req, err := http.NewRequest(http.MethodPut, "https://examplebucket.s3.amazonaws.com/test$file.text", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Date", "Fri, 24 May 2013 00:00:00 GMT")
	req.Header.Set("X-Amz-Storage-Class", "REDUCED_REDUNDANCY")
	target(t, "https://s3.amazonaws.com", http.DefaultClient).sign(req, []byte("Welcome to Amazon S3."), vectorTime)
	const want = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request," +
		"SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class," +
		"Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
	if got := req.Header.Get("Authorization"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	code := http.StatusServiceUnavailable
	var path, body string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		path, body = r.Method+" "+r.URL.Path, string(b)
		w.WriteHeader(code)
	}))
	defer server.Close()
	s := target(t, server.URL, server.Client())
	batch := []sink.Event{
		{Index: 7, At: vectorTime, Site: "blue", Event: &audit.Event{AuditID: "a"}},
		{Index: 9, At: vectorTime, Event: &audit.Event{AuditID: "b"}},
	}
	if err := s.Deliver(t.Context(), batch); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("an answer of 503 counts as taken: %v", err)
	}
	code = http.StatusOK
	if err := s.Deliver(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if path != "PUT /records/audit/2013/05/24/r1/00000000000000000007-00000000000000000009.jsonl" {
		t.Error(path)
	}
	if lines := strings.Split(strings.TrimSpace(body), "\n"); len(lines) != 2 || !strings.Contains(lines[0], `"audit.gatehouse.dev/site":"blue"`) {
		t.Error(body)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Deliver(ended, batch); err == nil {
		t.Error("delivered after the end")
	}
}
