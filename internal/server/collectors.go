package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/flood"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/query"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
	"github.com/gatehouse-dev/gatehouse/internal/auditindex"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
	"github.com/gatehouse-dev/gatehouse/internal/collect/entrance"
	"github.com/gatehouse-dev/gatehouse/internal/collect/gaps"
	"github.com/gatehouse-dev/gatehouse/internal/collect/journal"
	"github.com/gatehouse-dev/gatehouse/internal/collect/marks"
	"github.com/gatehouse-dev/gatehouse/internal/collect/otlp"
	"github.com/gatehouse-dev/gatehouse/internal/collect/senders"
	"github.com/gatehouse-dev/gatehouse/internal/collect/silence"
	"github.com/gatehouse-dev/gatehouse/internal/collect/syslog"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/storage/etcd"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql"
)

// collectors take in what hosts and programs of sites log.
type collectors struct {
	sources  *collect.Sources
	entrance *entrance.Entrance
	journal  journal.Door
	otlp     *otlp.Door
	entries  *prometheus.CounterVec
	gaps     *gaps.Tracker
	ids      *collect.IDs
	senders  *senders.Accounts
	marks    *marks.Marks
	now      func() time.Time
}

// newCollectors makes the doors. ctx ends with the server.
func newCollectors(ctx context.Context, st *state, db *sql.DB, verifier collect.Verifier, sites siteDoors, log *ledger.Log, guard *flood.Guard, now func() time.Time, logger *slog.Logger) (*collectors, error) {
	key, err := st.vault.Shared(ctx, "audit-ids")
	if err != nil {
		return nil, err
	}
	c := &collectors{gaps: gaps.New(), ids: collect.NewIDs([32]byte(key.Reveal())), now: now, entries: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_collected_entries_total", Help: "Log entries that sources of sites wrote, by site, kind and outcome (recorded, duplicate).",
	}, []string{"site", "kind", "outcome"})}
	rows, err := auditindex.New(db)
	if err != nil {
		return nil, err
	}
	if c.marks, err = marks.New(marks.Config{Store: rows, Now: now, Log: logger}); err != nil {
		return nil, err
	}
	if c.sources, err = collect.NewSources(collect.Config{Verifier: verifier, Site: sites.Get, SiteHeard: sites.Heard, Now: now}); err != nil {
		return nil, err
	}
	c.entrance, err = entrance.New(entrance.Config{Sources: c.sources, Recorder: guard, Collected: log, IDs: c.ids, Marks: c.marks, Count: c.count, Stop: ctx, Now: now, Log: logger})
	if err != nil {
		return nil, err
	}
	if c.senders, err = senders.New(senders.Config{
		Store: etcd.NewBlobs(st.client, senderArea), Recorder: log, IDs: c.ids, LastHeard: lastHeard(sites.Directory), Now: now,
	}); err != nil {
		return nil, err
	}
	c.journal, c.otlp = journal.Door{Entrance: c.entrance}, otlp.New(c.entrance)
	return c, nil
}

func (c *collectors) count(site string, kind auditapi.AuditSourceKind, recorded, duplicates int) {
	c.entries.WithLabelValues(site, string(kind), "recorded").Add(float64(recorded))
	c.entries.WithLabelValues(site, string(kind), "duplicate").Add(float64(duplicates))
}

// serve serves the doors of collectors under /sites/NAME/.
func (c *collectors) serve(w http.ResponseWriter, r *http.Request) bool {
	site, door, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/sites/"), "/")
	switch door {
	case "journal", "journal/upload": // systemd-journal-upload adds /upload
		c.journal.Serve(w, r, site)
	case "v1/logs":
		c.otlp.Serve(w, r, site)
	default:
		return false
	}
	return true
}

// run judges what is heard until ctx ends.
func (c *collectors) run(ctx context.Context, w *work, frame *kubeapi.Frame, directory *federation.Directory, log *ledger.Log, now func() time.Time, logger *slog.Logger) {
	modify := func(ctx context.Context, name string, change func(*auditapi.AuditSource) error) error {
		err := frame.Modify(ctx, auditSources, "status", "", name, func(o resource.Object) error { return change(o.(*auditapi.AuditSource)) })
		if apierrors.IsNotFound(err) {
			return nil // deleted meanwhile
		}
		return err
	}
	w.start("audit gaps", func() error { return c.findGaps(ctx, log, logger) })
	w.start("audit sources", func() error {
		return silence.Watch(ctx, silence.Config{Sources: c.sources, Modify: modify, Recorder: log, IDs: c.ids, Now: now, Log: logger})
	})
	w.start("journal marks", func() error { return c.marks.Run(ctx) })
	w.start("audit senders", func() error { return tendSenders(ctx, frame, directory, c.senders, logger) })
}

// listenSyslog takes in syslog over TLS where the configuration says so.
func (c *collectors) listenSyslog(ctx context.Context, w *work, address string, conf *tls.Config, logger *slog.Logger) error {
	if address == "" {
		return nil
	}
	on, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen for syslog: %w", err)
	}
	l := &syslog.Listener{Entrance: c.entrance, TLS: conf, Log: logger}
	w.start("syslog", func() error { return l.Serve(ctx, on) })
	logger.Info("syslog is taken in", "address", on.Addr().String())
	return nil
}

// observe notes what the audit webhook of a site delivered.
func (c *collectors) observe(site string, events []audit.Event, result audit.BatchResult, err error) {
	if err != nil {
		c.gaps.Unsure(site, events)
		return
	}
	c.gaps.Observe(site, events, result.Known, c.now())
	var newest time.Time
	for i := range events {
		if at := events[i].StageTimestamp.Time; at.After(newest) {
			newest = at
		}
	}
	c.sources.Heard(collect.Writer{Site: site}, auditapi.AuditSourceKubernetes, "", newest)
}

const (
	// gapInterval is how often gaps are looked for; they are known minutes
	// afterwards at the earliest.
	gapInterval = time.Minute
	// seedEvents bounds what is read of the log to know what went before.
	seedEvents = 100_000
)

// findGaps has gaps in what sites deliver recorded, until ctx ends.
func (c *collectors) findGaps(ctx context.Context, log *ledger.Log, logger *slog.Logger) error {
	began := c.now()
	seed := query.Filter{Since: began.Add(-gaps.Memory), Newest: true, Limit: seedEvents, Allow: func(site string, _ *audit.Event) bool { return site != "" }}
	if err := query.Run(ctx, vfs.OS{}, log.Dir(), seed, func(m query.Match) error {
		c.gaps.Seed(m.Site, m.Event.StageTimestamp.Time, began)
		return nil
	}); err != nil && ctx.Err() == nil {
		logger.Warn("record of sites not read; a gap during the last stop will not show", "error", err)
	}
	tick := time.NewTicker(gapInterval)
	defer tick.Stop()
	var found []gaps.Gap
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		found = append(found, c.gaps.Take(c.now())...)
		for len(found) > 0 {
			g := found[0]
			logger.Warn("audit events of a site are missing", "site", g.Site, "from", g.From, "to", g.To, "missing", g.Missing)
			if _, err := log.AppendCollected(ctx, g.Site, []audit.Event{g.Event(c.ids, c.now())}); err != nil {
				if ctx.Err() == nil {
					logger.Error("gap not recorded", "site", g.Site, "error", err)
				}
				break // it stays, and is tried again
			}
			found = found[1:]
		}
	}
}
