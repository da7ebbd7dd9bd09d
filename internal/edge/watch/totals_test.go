package watch_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/edge/watch"
	"github.com/gatehouse-dev/gatehouse/internal/federation/siteobjects"
	"github.com/gatehouse-dev/gatehouse/internal/federation/totalwire"
)

// metrics are the lines of a stock kube-apiserver that count, among others.
const metrics = `# HELP apiserver_audit_error_total [ALPHA] Counter of audit events that failed to be audited properly.
# TYPE apiserver_audit_error_total counter
apiserver_audit_error_total{plugin="buffered"} 1203
apiserver_audit_error_total{plugin="log"} 7
apiserver_audit_error_total{plugin="truncate"} 2
apiserver_audit_error_total{plugin="webhook"} 1.2e+03
# TYPE apiserver_audit_event_total counter
apiserver_audit_event_total 1.234567e+06
apiserver_audit_level_total{level="Metadata"} 9
apiserver_audit_requests_rejected_total 0
process_start_time_seconds 1.76379840052e+09
process_start_time_seconds_of_another 5
`

// tell runs a watcher at a cluster and returns the first report of it.
func tell(t *testing.T, c *cluster) totalwire.Report {
	t.Helper()
	p := &plane{t: t, registry: siteobjects.New(nowhere{}, time.Now), totals: make(chan string, 1)}
	there, here := httptest.NewTLSServer(c), httptest.NewTLSServer(p)
	t.Cleanup(func() { close(c.done); there.Close(); here.Close() })
	if c.servers != "" {
		host, port, err := net.SplitHostPort(there.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.servers = fmt.Sprintf(c.servers, host, port)
	}
	w, err := watch.New(watch.Config{
		// The name is that of the certificate and of nothing that answers.
		ClusterURL: there.URL, Cluster: there.Client(), Server: here.URL, Site: "blue", Client: here.Client(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = w.Run(t.Context()) }() // nil, when the test ends
	var r totalwire.Report
	if err := json.Unmarshal([]byte(<-p.totals), &r); err != nil {
		t.Fatal(err)
	}
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	return r
}

func TestTotals(t *testing.T) {
	t.Parallel()
	c := &cluster{t: t, metrics: metrics, events: make(chan string), done: make(chan struct{})}
	r := tell(t, c)
	want := totalwire.Discarded{Buffered: 1203, Webhook: 1200, Truncate: 2}
	if len(r.Processes) != 1 || r.Processes[0].Produced != 1234567 || r.Processes[0].Started != 1763798400520000 || r.Processes[0].Discarded != want || len(r.Unreached) != 0 {
		t.Errorf("%+v", r)
	}
}

// Each kube-apiserver is asked at its own address; one that does not answer is
// named.
func TestTotalsOfEach(t *testing.T) {
	t.Parallel()
	c := &cluster{t: t, metrics: metrics, events: make(chan string), done: make(chan struct{}),
		servers: `{"endpoints":[{"addresses":["%[1]s"]},{"addresses":["127.1.2.3","not-an-address"]}],"ports":[{"name":"https","port":%[2]s}]}`}
	r := tell(t, c)
	if len(r.Processes) != 1 || !strings.HasPrefix(r.Processes[0].Server, "127.0.0.1:") || r.Processes[0].Discarded.Buffered != 1203 || len(r.Unreached) != 1 || !strings.HasPrefix(r.Unreached[0], "127.1.2.3:") {
		t.Errorf("%+v", r)
	}
}

// Metrics that do not say what they should are not taken for zero.
func TestOddMetrics(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"none":            "",
		"of another":      "process_start_time_seconds 5\nup 1\n",
		"without a start": "apiserver_audit_event_total 5\n",
		"negative":        strings.Replace(metrics, "1203", "-1", 1),
		"no number":       strings.Replace(metrics, "1203", "NaN", 1),
		"too large":       strings.Replace(metrics, "1203", "1e300", 1),
		"no value":        strings.Replace(metrics, " 1203", "", 1),
		"a long line":     metrics + "x" + strings.Repeat("y", 1<<20) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &cluster{t: t, metrics: text, events: make(chan string), done: make(chan struct{})}
			if r := tell(t, c); len(r.Processes) != 0 || len(r.Unreached) != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
}
