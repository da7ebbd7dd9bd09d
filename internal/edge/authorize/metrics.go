package authorize

import (
	"github.com/prometheus/client_golang/prometheus"
)

// collector reports the state of a decision point when it is asked.
type collector struct {
	p                                       *Point
	ready, connected, sequence, age, left   *prometheus.Desc
	refused, bytes, maxBytes, pending, lost *prometheus.Desc
	tokens                                  *prometheus.Desc
}

func newCollector(p *Point) *collector {
	d := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("gatehouse_edge_"+name, help, nil, nil)
	}
	return &collector{
		p:         p,
		ready:     d("ready", "1 while questions are answered here."),
		connected: d("connected", "1 while the control plane is heard."),
		sequence:  d("policy_sequence", "Sequence of the policy that is held."),
		age:       d("policy_age_seconds", "Time since the policy that is held was signed or renewed."),
		left:      d("policy_remaining_seconds", "Time until the policy that is held stops deciding; negative once it did."),
		refused:   d("policy_refused_total", "Messages of the control plane, or files on disk, that were refused."),
		bytes:     d("journal_bytes", "Bytes of the journal of decisions on disk."),
		maxBytes:  d("journal_max_bytes", "Room of the journal of decisions."),
		pending:   d("journal_pending_bytes", "Bytes of decisions that are not on record yet."),
		tokens: prometheus.NewDesc("gatehouse_edge_tokens_total", "Tokens that were found good, by who did: verified here, asked of the control plane, or remembered while it was away.",
			[]string{"by"}, nil),
		lost: d("journal_lost_events_total", "Decisions that were dropped because the journal was full, or that the record refused."),
	}
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	count := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v)
	}
	yes := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	s, now := c.p.cfg.Policy.Status(), c.p.cfg.Now()
	gauge(c.ready, yes(c.p.Ready() == nil))
	gauge(c.connected, yes(s.Connected))
	count(c.refused, float64(s.Refused))
	gauge(c.sequence, float64(s.Held.Sequence))
	if s.Held.Sequence > 0 {
		gauge(c.age, now.Sub(s.Held.Issued).Seconds())
		gauge(c.left, s.Ends.Sub(now).Seconds())
	}
	for by, n := range map[string]uint64{"here": c.p.answers.here.Load(), "centre": c.p.answers.centre.Load(), "memory": c.p.answers.memory.Load()} {
		ch <- prometheus.MustNewConstMetric(c.tokens, prometheus.CounterValue, float64(n), by)
	}
	j := c.p.cfg.Journal.Stats()
	gauge(c.bytes, float64(j.Bytes))
	gauge(c.maxBytes, float64(j.MaxBytes))
	gauge(c.pending, float64(j.Pending))
	count(c.lost, float64(j.Lost))
}
