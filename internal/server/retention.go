package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/retention"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// newRetention turns what is configured into a policy.
func newRetention(log *ledger.Log, kept map[string]time.Duration, now func() time.Time) (*retention.Keeper, error) {
	p := retention.Policy{}
	for class, d := range kept {
		p[retention.Class(class)] = d
	}
	return retention.New(log, vfs.OS{}, p, now)
}

// dropped shows what retention did as metrics.
type dropped struct{ *retention.Keeper }

var droppedRecords = prometheus.NewDesc("gatehouse_audit_dropped_records_total", "Records that retention dropped, by class.", []string{"class"}, nil)

// Describe implements prometheus.Collector.
func (dropped) Describe(out chan<- *prometheus.Desc) { out <- droppedRecords }

// Collect implements prometheus.Collector.
func (d dropped) Collect(out chan<- prometheus.Metric) {
	for class, n := range d.Dropped() {
		out <- prometheus.MustNewConstMetric(droppedRecords, prometheus.CounterValue, float64(n), string(class))
	}
}
