package fastlane

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what the lane does.
type Metrics struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	noOpinion *prometheus.CounterVec
	events    *prometheus.CounterVec
}

// NewMetrics registers the lane's metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_fastlane_requests_total", Help: "Requests served by the fast lane, by route and HTTP status.",
		}, []string{"route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gatehouse_fastlane_request_duration_seconds", Help: "Time from the request's headers to the end of its answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .05, .25, 1},
		}, []string{"route"}),
		noOpinion: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_site_no_opinion_total", Help: "Questions of a site's deny door that nothing denied; they are counted and not recorded.",
		}, []string{"site"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_site_audit_events_total", Help: "Audit events that sites delivered, by site and outcome (recorded, duplicate).",
		}, []string{"site", "outcome"}),
	}
	r.MustRegister(m.requests, m.duration, m.noOpinion, m.events)
	return m
}

func (m *Metrics) observe(route string, code int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(code)).Inc()
	m.duration.WithLabelValues(route).Observe(took.Seconds())
}

func (m *Metrics) ingested(site string, recorded, duplicates int) {
	m.events.WithLabelValues(site, "recorded").Add(float64(recorded))
	m.events.WithLabelValues(site, "duplicate").Add(float64(duplicates))
}
