package server

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/witness"
	"github.com/gatehouse-dev/gatehouse/internal/auditsink/outbound"
	"github.com/gatehouse-dev/gatehouse/internal/auditwitness"
	"github.com/gatehouse-dev/gatehouse/internal/config"
)

// newWitnesses makes the keeper of what witnesses sign. Nobody is asked before
// it runs.
func newWitnesses(log *ledger.Log, list []config.Witness, logger *slog.Logger) (*witness.Keeper, error) {
	c := witness.KeeperConfig{Log: log.Dir(), Signed: func() uint64 { return log.Stats().Signed }, Prove: proofs{log}.prove, Logger: logger}
	for _, w := range list {
		key, err := witness.ParseVerifier(w.Key)
		if err != nil {
			return nil, err
		}
		to := outbound.Receiver{}
		if w.CAFile != "" {
			if to.CABundle, err = os.ReadFile(w.CAFile); err != nil {
				return nil, fmt.Errorf("audit witness %s: %w", key.Name(), err)
			}
		}
		client, err := to.Client()
		if err != nil {
			return nil, fmt.Errorf("audit witness %s: %w", key.Name(), err)
		}
		c.Targets = append(c.Targets, witness.Target{Key: key, Peer: auditwitness.NewClient(w.URL, client)})
	}
	return witness.NewKeeper(c)
}

// proofs are made from the log on disk.
type proofs struct{ log *ledger.Log }

func (p proofs) prove(old uint64) (signed []byte, proof tlog.TreeProof, err error) {
	src, err := openTiles(p.log)
	switch {
	case err != nil:
		return nil, nil, err
	case old > src.Size():
		return nil, nil, witness.ErrBeyond
	case old > 0 && old < src.Size():
		if proof, err = tlog.ProveTree(int64(src.Size()), int64(old), src); err != nil {
			return nil, nil, fmt.Errorf("prove that the log grew from %d records: %w", old, err)
		}
	}
	return src.Checkpoint(), proof, nil
}

// witnessed shows what witnesses signed as metrics.
type witnessed struct{ *witness.Keeper }

var (
	witnessedRecords = prometheus.NewDesc("gatehouse_audit_witnessed_records", "Records of the log that a witness has signed.", []string{"witness"}, nil)
	witnessedAt      = prometheus.NewDesc("gatehouse_audit_witnessed_timestamp_seconds", "When a witness signed last.", []string{"witness"}, nil)
	witnessFailures  = prometheus.NewDesc("gatehouse_audit_witness_failures_total", "Questions to a witness that it did not answer with a signature.", []string{"witness"}, nil)
)

// Describe implements prometheus.Collector.
func (witnessed) Describe(out chan<- *prometheus.Desc) {
	out <- witnessedRecords
	out <- witnessedAt
	out <- witnessFailures
}

// Collect implements prometheus.Collector.
func (w witnessed) Collect(out chan<- prometheus.Metric) {
	for _, s := range w.States() {
		out <- prometheus.MustNewConstMetric(witnessedRecords, prometheus.GaugeValue, float64(s.Size), s.Name)
		if !s.At.IsZero() {
			out <- prometheus.MustNewConstMetric(witnessedAt, prometheus.GaugeValue, float64(s.At.Unix()), s.Name)
		}
		out <- prometheus.MustNewConstMetric(witnessFailures, prometheus.CounterValue, float64(s.Failures), s.Name)
	}
}
