package server

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/audit/declared"
	"github.com/gatehouse-dev/gatehouse/internal/audit/flood"
	"github.com/gatehouse-dev/gatehouse/internal/audit/index"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/merkle"
	"github.com/gatehouse-dev/gatehouse/internal/audit/registry"
	"github.com/gatehouse-dev/gatehouse/internal/audit/retention"
	"github.com/gatehouse-dev/gatehouse/internal/audit/tiles"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
	"github.com/gatehouse-dev/gatehouse/internal/audit/witness"
	"github.com/gatehouse-dev/gatehouse/internal/auditindex"
	"github.com/gatehouse-dev/gatehouse/internal/config"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/storage/etcd"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql"
)

// record is this replica's part of the record: its log, and what stands
// beside it.
type record struct {
	log *ledger.Log
	// guard stands before log where strangers can make records.
	guard  *flood.Guard
	dir    string // of the log
	logs   keys.Store
	keeper *registry.Keeper
	// raised is what to record of a request, tenants to whom an event belongs.
	raised  *declared.Raised
	tenants *declared.Tenants
	sinks   *sinks
	// retention drops what need not be kept.
	retention *retention.Keeper
	cuts      cuts
	witnesses *witness.Keeper
	// rows holds the index by which the log is searched.
	rows    *sql.DB
	indexed index.Config
	// mayRead refuses a caller who may not read what a scope shows.
	mayRead func(ctx context.Context, by resource.Caller, scope *declared.Scope) error
	// signing signs what leaves; its keys follow what other replicas do.
	signing *keys.Ring[keys.Reports]
	keyring *etcd.Blobs
	now     func() time.Time
	logger  *slog.Logger
}

// finalTimeout is how long the final checkpoint may take to be registered.
const finalTimeout = 5 * time.Second

// openRecord opens the log and holds it against its registration. frame is
// asked for later, when there is one.
func openRecord(ctx context.Context, st *state, cfg config.Config, checkpoints *keys.Ring[keys.Checkpoints], frame func() *kubeapi.Frame, now func() time.Time, logger *slog.Logger) (*record, error) {
	base, err := auditPolicy(cfg.AuditPolicyFile())
	if err != nil {
		return nil, err
	}
	r := &record{
		dir: filepath.Join(st.dir, "audit"), logs: etcd.NewBlobs(st.client, registry.Area), keyring: etcd.NewBlobs(st.client, keyArea),
		tenants: declared.NewTenants(), now: now, logger: logger,
		raised: declared.NewRaised(base, func(name string, err error) { // kept out by validation
			logger.Error("audit policy not applied", "policy", name, "error", err)
		}),
	}
	if r.signing, err = keys.Ensure[keys.Reports](ctx, st.vault); err != nil {
		return nil, err
	}
	r.log, err = ledger.Open(r.dir, ledger.Config{
		ID: st.replica, Origin: originOf(st.replica), Key: checkpoints.Set().Signer(now()), Attribute: r.tenants.Attribute, Clock: now, Logger: logger,
	})
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	r.guard = flood.New(r.log, now, logger)
	r.keeper, err = registry.New(registry.Config{Store: r.logs, ID: st.replica, Origin: originOf(st.replica), Source: registered{r.log}, Now: now, Log: logger})
	if err == nil {
		err = r.keeper.Begin(ctx)
	}
	if err == nil {
		r.rows, err = openRows(ctx, cfg, st.dir, logger)
	}
	if err == nil {
		err = r.openIndex(st)
	}
	if err == nil {
		r.sinks, err = newSinks(r, st, cfg.AllowLoopbackSinks(), frame)
	}
	if err == nil {
		r.retention, err = newRetention(r.log, cfg.Retention(), now)
	}
	if err == nil {
		r.witnesses, err = newWitnesses(r.log, cfg.Witnesses(), logger)
	}
	if err != nil {
		if r.rows != nil {
			r.rows.Close()
		}
		r.log.Close()
		return nil, err
	}
	return r, nil
}

func (r *record) openIndex(st *state) error {
	store, err := auditindex.New(r.rows)
	r.indexed = index.Config{Store: store, Log: st.replica, Dir: r.dir, Synced: func() uint64 { return r.log.Stats().Synced }, Logger: r.logger}
	return err
}

// close ends the log and registers its final checkpoint.
func (r *record) close() {
	if err := r.log.Close(); err != nil {
		r.logger.Error("audit log not closed cleanly", "error", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), finalTimeout)
	defer cancel()
	if err := r.keeper.End(ctx); err != nil {
		r.logger.Warn("audit log ended unregistered", "error", err)
	}
	if err := r.rows.Close(); err != nil {
		r.logger.Warn("database not closed cleanly", "error", err)
	}
}

// follow feeds what is declared about the record.
func (r *record) follow(ctx context.Context, flow *follower) {
	flow.follow(ctx, namespaces, typed[*corev1.Namespace]{tenantNamespaces{r.tenants}})
	flow.follow(ctx, sites, typed[*federationapi.Site]{declared.Sites{Tenants: r.tenants}})
	flow.follow(ctx, auditPolicies, typed[*auditapi.AuditPolicy]{r.raised})
	flow.follow(ctx, auditSinks, typed[*auditapi.AuditSink]{r.sinks})
}

// start runs what follows the log. Everything that is declared has been read.
func (r *record) start(ctx context.Context, w *work, metrics prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{r.sinks, dropped{r.retention}, witnessed{r.witnesses}, strangers{r.guard}} {
		if err := metrics.Register(c); err != nil {
			return err
		}
	}
	builder, err := index.NewBuilder(r.indexed)
	if err != nil {
		return err
	}
	w.start("audit index", func() error { return builder.Run(ctx) })
	w.start("rows", func() error {
		// Damage shows in readiness; the log does not depend on rows.
		if err := r.rows.Run(ctx); err != nil && ctx.Err() == nil {
			r.logger.Error("database is damaged", "error", err)
		}
		return nil
	})
	w.start("audit registration", func() error { return r.keeper.Run(ctx) })
	w.start("audit sinks", func() error { return r.sinks.set.Run(ctx) })
	// Every sink that is declared is in the set by now, with its cursor.
	w.start("audit retention", func() error { return r.retention.Run(ctx, r.needed, r.logger) })
	w.start("audit of strangers", func() error { return r.guard.Run(ctx) })
	w.start("audit witnesses", func() error { return r.witnesses.Run(ctx) })
	w.start("audit sink status", func() error { return r.sinks.report(ctx) })
	w.start("report keys", func() error {
		return r.keyring.Follow(ctx, func() {
			if err := r.signing.Refresh(ctx); err != nil && ctx.Err() == nil {
				r.logger.Warn("report keys not read", "error", err)
			}
		})
	})
	return nil
}

// needed is the first record that a sink has still to deliver, or of which a
// witness has still to see that it stayed.
func (r *record) needed() uint64 { return min(r.sinks.set.Next(), r.witnesses.Next()) }

// routes serves what is asked about the record.
func (r *record) routes(f *kubeapi.Frame, answers reviews) {
	r.mayRead = answers.readRecord
	f.Handle(pathEvents, http.HandlerFunc(r.serveEvents))
	f.Handle(pathExport, http.HandlerFunc(r.serveExport))
	f.Handle(pathLogs, http.HandlerFunc(r.serveLogs))
	f.Handle(pathKeys, http.HandlerFunc(r.serveKeys))
}

// registered is the log as its registration sees it.
type registered struct{ *ledger.Log }

var _ registry.Source = registered{}

func (s registered) Checkpoint() []byte { return s.Stats().Checkpoint }

func (s registered) RootAt(size uint64) (root merkle.Hash, ok bool, err error) {
	src, err := openTiles(s.Log)
	if err == nil {
		root, ok, err = src.RootAt(size)
	}
	if err != nil && s.Stats().Checkpoint == nil {
		return root, false, nil
	}
	return root, ok, err
}

// openTiles opens the log at its newest checkpoint.
func openTiles(log *ledger.Log) (src *tiles.Source, err error) {
	// A segment can be sealed, and so renamed, while it is looked at.
	for range 5 {
		if src, err = tiles.Open(vfs.OS{}, log.Dir()); err == nil || !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return src, err
}

// pathLogs is where the registered logs are read (GET) and retired (POST).
const pathLogs = "/audit/logs"

// retirement is the body of a POST to pathLogs.
type retirement struct {
	Retire string `json:"retire"`
	// Checkpoint is the final one, if it is newer than the registered.
	Checkpoint string `json:"checkpoint,omitempty"`
}

func (r *record) serveLogs(w http.ResponseWriter, req *http.Request) {
	switch req.Method {
	case http.MethodGet:
		logs, err := registry.List(req.Context(), r.logs)
		r.answer(w, struct {
			Logs []registry.Log `json:"logs"`
		}{logs}, err)
	case http.MethodPost:
		var in retirement
		dec := json.NewDecoder(http.MaxBytesReader(w, req.Body, 2*checkpoint.MaxSize))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&in); err != nil {
			r.answer(w, nil, fault.Newf(fault.Invalid, "body: %v", err))
			return
		}
		if _, err := dec.Token(); !errors.Is(err, io.EOF) || in.Retire == "" {
			r.answer(w, nil, fault.New(fault.Invalid, `body: must be one object with "retire"`))
			return
		}
		l, err := registry.Retire(req.Context(), r.logs, in.Retire, []byte(in.Checkpoint), r.now())
		r.answer(w, l, err)
	default:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "only GET and POST", http.StatusMethodNotAllowed)
	}
}

// pathKeys is where receivers of sinks find the keys of our signatures.
const pathKeys = "/audit/keys"

func (r *record) serveKeys(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	type key struct {
		KeyID     string `json:"keyID"`
		PublicKey []byte `json:"publicKey"` // PKIX, DER
	}
	var out struct {
		Keys []key `json:"keys"`
	}
	for _, v := range r.signing.Set().Verifiers(r.now()) {
		der, err := x509.MarshalPKIXPublicKey(v.Public())
		if err != nil {
			r.answer(w, nil, err)
			return
		}
		out.Keys = append(out.Keys, key{v.KeyID(), der})
	}
	r.answer(w, out, nil)
}

// answer writes a value or, for an error, a Kubernetes status with its public
// text.
func (r *record) answer(w http.ResponseWriter, value any, err error) {
	code := http.StatusOK
	if err != nil {
		reason := metav1.StatusReasonInternalError
		code = http.StatusInternalServerError
		switch fault.KindOf(err) {
		case fault.Invalid:
			code, reason = http.StatusBadRequest, metav1.StatusReasonBadRequest
		case fault.NotFound:
			code, reason = http.StatusNotFound, metav1.StatusReasonNotFound
		case fault.Conflict:
			code, reason = http.StatusConflict, metav1.StatusReasonConflict
		case fault.Unauthenticated:
			code, reason = http.StatusUnauthorized, metav1.StatusReasonUnauthorized
		case fault.Denied:
			code, reason = http.StatusForbidden, metav1.StatusReasonForbidden
		case fault.Unavailable, fault.Exhausted:
			code, reason = http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable
		default:
			r.logger.Error("question about the record failed", "error", err)
		}
		value = metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
			Status:   metav1.StatusFailure, Message: fault.Public(err), Reason: reason, Code: int32(code),
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(value); err != nil {
		r.logger.Debug("answer cut off", "error", err)
	}
}
