package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/internal/audit/flood"
)

// strangers shows as a metric what was counted instead of recorded.
type strangers struct{ *flood.Guard }

var suppressedEvents = prometheus.NewDesc("gatehouse_audit_suppressed_events_total", "Events of callers without a valid credential that were counted and not recorded; a gap record has each count.", nil, nil)

// Describe implements prometheus.Collector.
func (strangers) Describe(out chan<- *prometheus.Desc) { out <- suppressedEvents }

// Collect implements prometheus.Collector.
func (s strangers) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.MustNewConstMetric(suppressedEvents, prometheus.CounterValue, float64(s.Suppressed()))
}
