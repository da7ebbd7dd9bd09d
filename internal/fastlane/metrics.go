package fastlane

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// route is what a metric tells requests apart by: never a part of the request.
type route uint8

const (
	routeAccessReview route = iota
	routeTokenReview
	routeSite
)

var routeNames = [...]string{routeAccessReview: "subjectaccessreview", routeTokenReview: "tokenreview", routeSite: "site"}

// Metrics counts what the lane does.
type Metrics struct {
	requests  *prometheus.CounterVec
	noOpinion *prometheus.CounterVec
	events    *prometheus.CounterVec
	followers *prometheus.GaugeVec
	// duration and usual are found once: a look-up by labels costs more than
	// the counting.
	duration [len(routeNames)]prometheus.Observer
	usual    [len(routeNames)]prometheus.Counter
}

// usualCode is the status of most answers of a route.
var usualCode = [...]int{routeAccessReview: 201, routeTokenReview: 201, routeSite: 200}

// NewMetrics registers the lane's metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_fastlane_requests_total", Help: "Requests that reached the fast lane, by route and HTTP status; 0 is left to the frame.",
		}, []string{"route", "code"}),
		noOpinion: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_site_no_opinion_total", Help: "Questions of a site's deny door that nothing denied; they are counted and not recorded.",
		}, []string{"site"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_site_audit_events_total", Help: "Audit events that sites delivered, by site and outcome (recorded, duplicate).",
		}, []string{"site", "outcome"}),
		followers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gatehouse_policy_followers", Help: "Local decision points that follow the policy of a site on this replica.",
		}, []string{"site"}),
	}
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "gatehouse_fastlane_request_duration_seconds", Help: "Time from the request's headers to the end of its answer.",
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .05, .25, 1},
	}, []string{"route"})
	for i, name := range routeNames {
		m.duration[i] = duration.WithLabelValues(name)
		m.usual[i] = m.requests.WithLabelValues(name, strconv.Itoa(usualCode[i]))
	}
	r.MustRegister(m.requests, duration, m.noOpinion, m.events, m.followers)
	return m
}

func (m *Metrics) observe(to route, code int, took time.Duration) {
	if code == usualCode[to] {
		m.usual[to].Inc()
	} else {
		m.requests.WithLabelValues(routeNames[to], strconv.Itoa(code)).Inc()
	}
	m.duration[to].Observe(took.Seconds())
}

func (m *Metrics) ingested(site string, recorded, duplicates int) {
	m.events.WithLabelValues(site, "recorded").Add(float64(recorded))
	m.events.WithLabelValues(site, "duplicate").Add(float64(duplicates))
}
