package watch

import (
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/federation/totalwire"
)

// Whatever a server calls its metrics, what is read of them can be reported.
func FuzzReadTotals(f *testing.F) {
	for _, seed := range []string{
		"process_start_time_seconds 1.7e+09\napiserver_audit_event_total 5\napiserver_audit_error_total{plugin=\"buffered\"} 3 1700000000000\n",
		"apiserver_audit_error_total{plugin=\"a } b\"} 1\n", "apiserver_audit_event_total{} 1\nprocess_start_time_seconds{} 1\n",
		"apiserver_audit_event_total", "apiserver_audit_event_total ", "process_start_time_seconds -0", "apiserver_audit_error_total{plugin=\"webhook\"",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := readTotals(strings.NewReader(text))
		if err != nil {
			return
		}
		p.Server = "a"
		if err := (&totalwire.Report{Processes: []totalwire.Process{p}}).Check(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	})
}
