package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	otellog "go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
)

// The exporter of the OpenTelemetry project delivers logs; the encodings and the
// answers are those of the specification.
func TestOTLP(t *testing.T) {
	t.Parallel()
	g := start(t)
	connect(t, g, "blue")
	dir := connectHost(t, g, "shop", "blue", "--kind", "otlp", "--host", "web-3")
	_, config, err := as(t, g).k.Endpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config = config.Clone()
	config.Certificates = nil
	config.Certificates = append(config.Certificates, pair(t, dir, "source"))
	for name, compression := range map[string]otlploghttp.Compression{"plain": otlploghttp.NoCompression, "packed": otlploghttp.GzipCompression} {
		exporter, err := otlploghttp.New(t.Context(), otlploghttp.WithEndpointURL(g.URL+"/sites/blue/v1/logs"), otlploghttp.WithTLSClientConfig(config), otlploghttp.WithCompression(compression))
		if err != nil {
			t.Fatal(err)
		}
		provider := sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)))
		logger := provider.Logger("shop", otellog.WithInstrumentationVersion("1.2"))
		for i := range 500 {
			var r otellog.Record
			r.SetTimestamp(time.Now())
			r.SetSeverity(otellog.SeverityWarn)
			r.SetBody(attribute.StringValue(fmt.Sprint(name, " ", i)))
			r.AddAttributes(attribute.Int("n", i), attribute.String("password", "in the clear"))
			logger.Emit(t.Context(), r)
		}
		ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
		defer cancel()
		if err := provider.ForceFlush(ctx); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := provider.Shutdown(ctx); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	bodies := func() map[string]int {
		count := map[string]int{}
		for _, e := range record(t, g, "--verb", "log", "--name", "web-3") {
			count[e.field(t, "body")]++
			if e.User.Username != "system:audit-source:shop" || e.RequestURI != "/sites/blue/v1/logs" {
				t.Fatalf("recorded as %s", e.raw)
			}
		}
		return count
	}
	got := bodies()
	for i := range 500 {
		for _, name := range []string{"plain", "packed"} {
			if text := fmt.Sprint(name, " ", i); got[text] != 1 {
				t.Fatalf("%q is on record %d times", text, got[text])
			}
		}
	}

	// JSON, and what the specification says about answers.
	c := bareClient(t, g, pair(t, dir, "source"))
	post := func(media, encoding string, body []byte) (int, string) {
		code, answer := c.send(http.MethodPost, "/sites/blue/v1/logs", http.Header{"Content-Type": {media}, "Content-Encoding": {encoding}}, body)
		return code, string(answer)
	}
	const one = `{"resourceLogs":[{"scopeLogs":[{"logRecords":[%s]}]}]}`
	logs := func(texts ...string) []byte { return fmt.Appendf(nil, one, strings.Join(texts, ",")) }
	at := fmt.Sprintf(`"timeUnixNano":"%d"`, time.Now().UnixNano())
	for range 2 { // sent again, it is the same
		if code, answer := post("application/json", "", logs(`{`+at+`,"body":{"stringValue":"by hand"},"traceId":"5b8efff798038103d269b633813fc60c"}`)); code != http.StatusOK || answer != "{}" {
			t.Errorf("JSON: %d %s", code, answer)
		}
	}
	code, answer := post("application/json", "", logs(`{`+at+`,"body":{"stringValue":"good"}}`, `{"timeUnixNano":"18446744073709551615","body":{"stringValue":"bad"}}`))
	var partial struct {
		PartialSuccess struct{ RejectedLogRecords, ErrorMessage string }
	}
	if err := json.Unmarshal([]byte(answer), &partial); err != nil || code != http.StatusOK || partial.PartialSuccess.RejectedLogRecords != "1" || partial.PartialSuccess.ErrorMessage == "" {
		t.Errorf("a partial success: %d %s %v", code, answer, err)
	}
	pack := func(b []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	for name, bad := range map[string]struct {
		media, encoding string
		body            []byte
		code            int
	}{
		"not protobuf":     {"application/x-protobuf", "", []byte("\xff\xff"), http.StatusBadRequest},
		"not JSON":         {"application/json", "", []byte("{"), http.StatusBadRequest},
		"not gzip":         {"application/json", "gzip", logs(`{"body":{"stringValue":"bad"}}`), http.StatusBadRequest},
		"gzip broken off":  {"application/json", "gzip", pack(logs(`{"body":{"stringValue":"bad"}}`))[:30], http.StatusBadRequest},
		"a bomb":           {"application/json", "gzip", pack(logs(`{"body":{"stringValue":"` + strings.Repeat("bad", 20<<20) + `"}}`)), http.StatusRequestEntityTooLarge},
		"too large":        {"application/json", "", logs(`{"body":{"stringValue":"` + strings.Repeat("bad", 2<<20) + `"}}`), http.StatusRequestEntityTooLarge},
		"another encoding": {"application/json", "zstd", logs(`{"body":{"stringValue":"bad"}}`), http.StatusUnsupportedMediaType},
		"another media":    {"text/plain", "", logs(`{"body":{"stringValue":"bad"}}`), http.StatusUnsupportedMediaType},
		"10,001 records":   {"application/json", "", logs(strings.Repeat(`{"body":{"stringValue":"bad"}},`, 10_000) + `{"body":{"stringValue":"bad"}}`), http.StatusBadRequest},
	} {
		if code, answer := post(bad.media, bad.encoding, bad.body); code != bad.code {
			t.Errorf("%s: %d %.200s, want %d", name, code, answer, bad.code)
		}
	}
	if code, _ := bareClient(t, g).send(http.MethodPost, "/sites/blue/v1/logs", nil, logs()); code != http.StatusUnauthorized {
		t.Errorf("without a certificate: %d", code)
	}
	got = bodies()
	if got["by hand"] != 1 || got["good"] != 1 || got["bad"] != 0 || len(got) != 1002 {
		t.Errorf("on record: by hand %d, good %d, bad %d, %d in all", got["by hand"], got["good"], got["bad"], len(got))
	}
}
