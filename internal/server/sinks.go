package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/audit/declared"
	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
	"github.com/gatehouse-dev/gatehouse/internal/audit/sink/directory"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
	"github.com/gatehouse-dev/gatehouse/internal/auditsink/kafka"
	"github.com/gatehouse-dev/gatehouse/internal/auditsink/otlp"
	"github.com/gatehouse-dev/gatehouse/internal/auditsink/outbound"
	"github.com/gatehouse-dev/gatehouse/internal/auditsink/s3"
	"github.com/gatehouse-dev/gatehouse/internal/auditsink/syslog"
	"github.com/gatehouse-dev/gatehouse/internal/auditsink/webhook"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

var (
	auditSinks    = schema.GroupResource{Group: auditapi.GroupVersion.Group, Resource: "auditsinks"}
	auditPolicies = schema.GroupResource{Group: auditapi.GroupVersion.Group, Resource: "auditpolicies"}
	auditSources  = schema.GroupResource{Group: auditapi.GroupVersion.Group, Resource: "auditsources"}
)

// sinks passes this replica's log on, as AuditSinks say.
type sinks struct {
	set     *sink.Set
	tenants *declared.Tenants
	signing *keys.Ring[keys.Reports]
	frame   func() *kubeapi.Frame
	logID   string
	host    string
	dataDir string
	// near lets confined sinks reach this machine.
	near bool
	now  func() time.Time
	log  *slog.Logger
}

// newSinks makes the set; nothing is delivered before it runs.
func newSinks(b *record, st *state, near bool, frame func() *kubeapi.Frame) (*sinks, error) {
	set, err := sink.NewSet(sink.SetConfig{
		Dir: b.dir, Synced: func() uint64 { return b.log.Stats().Synced }, Cursors: filepath.Join(st.dir, "audit-cursors"), Clock: b.now, Logger: b.logger,
	})
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "" // "-" in syslog, absent in OTLP
	}
	return &sinks{set: set, tenants: b.tenants, signing: b.signing, frame: frame, logID: st.replica, host: host, dataDir: st.dir, near: near, now: b.now, log: b.logger}, nil
}

// Replace implements feed.
func (s *sinks) Replace(all []*auditapi.AuditSink) {
	names := make(map[string]bool, len(all))
	for _, o := range all {
		names[o.Name] = true
		s.Put(o)
	}
	s.set.Keep(names)
}

// Put implements feed.
func (s *sinks) Put(o *auditapi.AuditSink) {
	p, err := declared.Policy(o.Spec.Policy)
	if err != nil { // kept out by validation
		s.log.Error("audit sink not applied", "sink", o.Name, "error", err)
		return
	}
	spec := sink.Spec{
		Name: o.Name, ID: string(o.UID), Generation: o.Generation, Since: o.CreationTimestamp.Time, Policy: p,
		Build: s.builder(o.DeepCopy()),
	}
	if scope := declared.ScopeOf(&o.Spec); scope != nil {
		spec.Allow = s.tenants.Allow(*scope)
	}
	s.set.Put(spec)
}

// Delete implements feed.
func (s *sinks) Delete(o *auditapi.AuditSink) { s.set.Remove(o.Name) }

// builder returns what connects a sink to its receiver.
func (s *sinks) builder(o *auditapi.AuditSink) func(context.Context) (sink.Target, error) {
	unconfirmed := &syslog.Unconfirmed{}
	return func(ctx context.Context) (sink.Target, error) {
		if o.Spec.Directory != nil {
			return directory.New(vfs.OS{}, filepath.Join(s.dataDir, "audit-sinks", o.Name), s.logID)
		}
		to := outbound.Receiver{Confined: o.Spec.Scope != nil && !s.near}
		var credential map[string][]byte
		if ref := o.Spec.Credential; ref != nil {
			obj, err := s.frame().Get(ctx, secrets, ref.Namespace, ref.Name)
			if err != nil {
				return nil, err
			}
			credential = obj.(*corev1.Secret).Data
			to.Certificate, to.Key = credential[corev1.TLSCertKey], secret.NewBytes(credential[corev1.TLSPrivateKeyKey])
			to.Token = secret.NewString(string(credential["token"]))
		}
		switch {
		case o.Spec.Syslog != nil:
			return s.syslog(o.Spec.Syslog, to, unconfirmed)
		case o.Spec.Webhook != nil:
			return s.webhook(o.Spec.Webhook, to)
		case o.Spec.OTLP != nil:
			return s.otlp(o.Name, o.Spec.OTLP, to)
		case o.Spec.S3 != nil:
			return s.s3(o.Spec.S3, to, credential)
		case o.Spec.Kafka != nil:
			return s.kafka(o.Spec.Kafka, to, credential)
		}
		return nil, errors.New("audit sink names no receiver")
	}
}

func (s *sinks) syslog(spec *auditapi.SyslogSink, to outbound.Receiver, unconfirmed *syslog.Unconfirmed) (sink.Target, error) {
	to.CABundle, to.ServerName = spec.CABundle, spec.ServerName
	conf, err := to.TLS()
	if err != nil {
		return nil, err
	}
	return syslog.New(syslog.Config{Address: spec.Address, TLS: conf, Dialer: to.Dialer(), Log: s.logID, Host: s.host, Unconfirmed: unconfirmed})
}

func (s *sinks) webhook(spec *auditapi.WebhookSink, to outbound.Receiver) (sink.Target, error) {
	to.CABundle = spec.CABundle
	client, err := to.Client()
	if err != nil {
		return nil, err
	}
	key := s.signing.Set().Signer(s.now())
	return webhook.New(webhook.Config{URL: spec.URL, Client: client, Key: key, KeyID: key.KeyID(), Clock: s.now})
}

func (s *sinks) otlp(name string, spec *auditapi.OTLPSink, to outbound.Receiver) (sink.Target, error) {
	to.CABundle = spec.CABundle
	client, err := to.Client()
	if err != nil {
		return nil, err
	}
	return otlp.New(otlp.Config{URL: spec.URL, Client: client, Log: s.logID, Host: s.host, Rejected: func(n int64, why string) {
		s.log.Warn("receiver of an audit sink rejected events for good", "sink", name, "events", n, "why", why)
	}})
}

func (s *sinks) s3(spec *auditapi.S3Sink, to outbound.Receiver, credential map[string][]byte) (sink.Target, error) {
	to.CABundle, to.Token = spec.CABundle, secret.String{}
	client, err := to.Client()
	if err != nil {
		return nil, err
	}
	return s3.New(s3.Config{
		Endpoint: spec.Endpoint, Region: spec.Region, Bucket: spec.Bucket, Prefix: spec.Prefix, Log: s.logID, Client: client, Clock: s.now,
		AccessKeyID: string(credential["accessKeyID"]), SecretAccessKey: secret.NewString(string(credential["secretAccessKey"])),
	})
}

func (s *sinks) kafka(spec *auditapi.KafkaSink, to outbound.Receiver, credential map[string][]byte) (sink.Target, error) {
	to.CABundle = spec.CABundle
	conf, err := to.TLS()
	if err != nil {
		return nil, err
	}
	c := kafka.Config{
		Brokers: spec.Brokers, Topic: spec.Topic, Compression: string(spec.Compression), Key: string(spec.Key), Log: s.logID,
		Dial: (&tls.Dialer{NetDialer: to.Dialer(), Config: conf}).DialContext,
	}
	if spec.SASL != nil {
		c.SASL = &kafka.SASL{
			Mechanism: string(spec.SASL.Mechanism), Username: string(credential[corev1.BasicAuthUsernameKey]),
			Password: secret.NewString(string(credential[corev1.BasicAuthPasswordKey])),
		}
	}
	return kafka.New(c)
}

// sinkStatusInterval is how often the state of sinks is written: it is for
// people, and metrics have it at every moment.
const sinkStatusInterval = 10 * time.Second

// report writes how far this replica has come into the status of each sink.
func (s *sinks) report(ctx context.Context) error {
	tick := time.NewTicker(sinkStatusInterval)
	defer tick.Stop()
	last := map[string]auditapi.SinkReplica{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for name, st := range s.set.States() {
			now := s.status(st)
			if was, ok := last[name]; ok && sameStatus(was, now) {
				continue
			}
			err := s.frame().Modify(ctx, auditSinks, "status", "", name, func(o resource.Object) error {
				setReplica(&o.(*auditapi.AuditSink).Status, now)
				return nil
			})
			switch {
			case err == nil:
				last[name] = now
			case apierrors.IsNotFound(err):
				delete(last, name)
			case ctx.Err() == nil:
				s.log.Warn("audit sink status not written", "sink", name, "error", err)
			}
		}
	}
}

func (s *sinks) status(st sink.State) auditapi.SinkReplica {
	out := auditapi.SinkReplica{
		Log: s.logID, ObservedGeneration: st.Generation, Next: int64(st.Next), Lag: int64(st.Lag), Error: st.Error, Updated: metav1.NewTime(s.now()),
	}
	if !st.DeliveredAt.IsZero() {
		at := metav1.NewTime(st.DeliveredAt)
		out.LastDelivered = &at
	}
	return out
}

// sameStatus leaves out what changes by itself.
func sameStatus(a, b auditapi.SinkReplica) bool {
	return a.ObservedGeneration == b.ObservedGeneration && a.Lag == b.Lag && a.Error == b.Error && a.LastDelivered.Equal(b.LastDelivered)
}

func setReplica(status *auditapi.AuditSinkStatus, r auditapi.SinkReplica) {
	for i := range status.Replicas {
		if status.Replicas[i].Log == r.Log {
			status.Replicas[i] = r
			return
		}
	}
	status.Replicas = append(status.Replicas, r)
}

// Metrics of the sinks.
var (
	sinkLag       = prometheus.NewDesc("gatehouse_audit_sink_lag_records", "Records that wait for a sink.", []string{"sink"}, nil)
	sinkDelivered = prometheus.NewDesc("gatehouse_audit_sink_delivered_events_total", "Events that a sink took.", []string{"sink"}, nil)
	sinkFailures  = prometheus.NewDesc("gatehouse_audit_sink_failures_total", "Deliveries to a sink that failed.", []string{"sink"}, nil)
)

var _ prometheus.Collector = (*sinks)(nil)

// Describe implements prometheus.Collector.
func (s *sinks) Describe(to chan<- *prometheus.Desc) {
	to <- sinkLag
	to <- sinkDelivered
	to <- sinkFailures
}

// Collect implements prometheus.Collector.
func (s *sinks) Collect(to chan<- prometheus.Metric) {
	for name, st := range s.set.States() {
		to <- prometheus.MustNewConstMetric(sinkLag, prometheus.GaugeValue, float64(st.Lag), name)
		to <- prometheus.MustNewConstMetric(sinkDelivered, prometheus.CounterValue, float64(st.Delivered), name)
		to <- prometheus.MustNewConstMetric(sinkFailures, prometheus.CounterValue, float64(st.Failures), name)
	}
}

// auditSink guards what a sink sees: nobody passes on what they may not read.
func (r reviews) auditSink(ctx context.Context, by resource.Caller, now, old *auditapi.AuditSink) error {
	for _, s := range []*auditapi.AuditSink{now, old} {
		if s == nil {
			continue
		}
		if err := r.readRecord(ctx, by, declared.ScopeOf(&s.Spec)); err != nil {
			return err
		}
	}
	if now == nil {
		return nil
	}
	if ref := now.Spec.Credential; ref != nil && (old == nil || old.Spec.Credential == nil || *old.Spec.Credential != *ref) {
		return r.need(ctx, by, "use secret "+ref.Namespace+"/"+ref.Name, authz.Request{
			ResourceRequest: true, Verb: "get", Resource: "secrets", Namespace: ref.Namespace, Name: ref.Name,
		})
	}
	return nil
}

// readRecord refuses a caller who may not read what a scope shows: with verb
// get on auditevents everywhere or in each namespace, or with verb audit on
// the domain.
func (r reviews) readRecord(ctx context.Context, by resource.Caller, scope *declared.Scope) error {
	everywhere := authz.Request{ResourceRequest: true, Verb: "get", APIGroup: auditapi.GroupVersion.Group, Resource: "auditevents"}
	switch {
	case scope == nil:
		return r.need(ctx, by, "read the record", everywhere)
	case scope.Domain != "":
		return r.need(ctx, by, "read the record of domain "+scope.Domain, everywhere, authz.Request{
			ResourceRequest: true, Verb: "audit", APIGroup: federationapi.GroupVersion.Group, Resource: "domains", Name: scope.Domain,
		})
	}
	for _, n := range scope.Namespaces {
		in := everywhere
		in.Namespace = n
		if err := r.need(ctx, by, "read the record of namespace "+n, everywhere, in); err != nil {
			return err
		}
	}
	return nil
}

// tenantNamespaces feeds to whom namespaces belong.
type tenantNamespaces struct{ *declared.Tenants }

func (t tenantNamespaces) Replace(all []*corev1.Namespace) {
	names := make(map[string]bool, len(all))
	for _, n := range all {
		names[n.Name] = true
		t.Put(n)
	}
	t.KeepNamespaces(names)
}

func (t tenantNamespaces) Put(n *corev1.Namespace) {
	t.SetNamespace(n.Name, n.Labels[access.DomainLabel])
}
func (t tenantNamespaces) Delete(n *corev1.Namespace) { t.RemoveNamespace(n.Name) }
