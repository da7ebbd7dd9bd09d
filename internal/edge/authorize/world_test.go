package authorize

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/authz/condition"
	"github.com/gatehouse-dev/gatehouse/authz/snapshot"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
	"github.com/gatehouse-dev/gatehouse/internal/access/review"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/edge/follow"
	"github.com/gatehouse-dev/gatehouse/internal/edge/journal"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// centre is the control plane: its engine, what credentials are bound to, and
// what it says of tokens.
type centre struct {
	t      testing.TB
	engine *authz.Engine
	index  *authn.Index
	key    ed25519.PrivateKey
	// issuers are shipped with the policy.
	issuers []snapshot.Issuer

	mu    sync.Mutex // guards the rest
	says  map[string]authenticationv1.TokenReviewStatus
	err   error
	asked int
}

func newCentre(t testing.TB) *centre {
	return &centre{t: t, engine: authz.New(), index: authn.NewIndex(nil), says: map[string]authenticationv1.TokenReviewStatus{},
		key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))}
}

func (c *centre) KeyID() string                 { return "k1" }
func (c *centre) Sign(m []byte) ([]byte, error) { return ed25519.Sign(c.key, m), nil }
func (c *centre) Verify(_ string, m, signature []byte) error {
	if !ed25519.Verify(c.key.Public().(ed25519.PublicKey), m, signature) {
		return errors.New("bad signature")
	}
	return nil
}

func (c *centre) Token(_ context.Context, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	return c.says[spec.Token], c.err
}

func (c *centre) away(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// answer is what the doors of the control plane answer: see package server.
func (c *centre) answer(site string, denials bool, spec *authorizationv1.SubjectAccessReviewSpec, now time.Time) (authorizationv1.SubjectAccessReviewStatus, error) {
	reason, err := federation.Ended(context.Background(), c.index, spec, now)
	if err != nil {
		c.t.Fatal(err)
	}
	if reason != "" {
		return authorizationv1.SubjectAccessReviewStatus{Denied: denials, Reason: reason}, nil
	}
	if err := access.CheckLength(spec); err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	status := review.Status(access.ReviewAtSite(c.engine.Snapshot(), site, spec, now))
	if denials && !status.Denied {
		status = authorizationv1.SubjectAccessReviewStatus{}
	}
	return status, nil
}

// conditions is the environment that both sides have.
var conditions = sync.OnceValue(func() grant.Conditions {
	e, err := condition.New()
	if err != nil {
		panic(err)
	}
	return grant.Conditions{Environment: e}
})

// world is a decision point of a site of that control plane.
type world struct {
	*centre
	*Point
	follower *snapshot.Follower
	sequence uint64
	denyOnly atomic.Bool

	mu        sync.Mutex // guards the rest
	now       time.Time
	connected bool
	events    []audit.Event
	broken    error
}

func newWorld(t testing.TB, site string) *world {
	t.Helper()
	w := &world{centre: newCentre(t), now: noon, connected: true}
	w.follower = snapshot.NewFollower(snapshot.Rules{Site: site, Conditions: "v1", Verifier: w.centre, Skew: time.Minute,
		Compile: conditions().Follow})
	p, err := New(Config{
		Site: site, Name: "edge-1", Mode: federationapi.SiteFull, Policy: w, Journal: w, Centre: w.centre, Clients: x509.NewCertPool(),
		URL: "https://127.0.0.1:7444", Registry: prometheus.NewRegistry(), Now: w.clock, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Point = p
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) connect(yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connected = yes
}

// ship brings the policy of the control plane here, good for a day.
func (w *world) ship() {
	w.centre.t.Helper()
	var present []snapshot.Fingerprint
	w.index.Each(func(key authn.ObjectKey, state authn.ObjectState) bool {
		present = append(present, federation.Fingerprint(w.cfg.Site, key, state.UID))
		return true
	})
	w.sequence++
	content := w.engine.Snapshot().Restrict(authz.Restriction{Site: w.cfg.Site})
	frame, _, err := snapshot.Seal(&content, snapshot.Credentials{Present: present, Issuers: w.issuers}, snapshot.Header{
		Site: w.cfg.Site, Sequence: w.sequence, Issued: w.clock(), Ends: w.clock().Add(24 * time.Hour), Conditions: "v1"}, w.centre)
	if err == nil {
		_, err = w.follower.Accept(frame, w.clock())
	}
	if err != nil {
		w.centre.t.Fatal(err)
	}
}

// world is the Policy and the Journal of its Point.

func (w *world) Current() (*snapshot.InForce, error) { return w.follower.Current(w.clock()) }

func (w *world) DenyOnly() bool { return w.denyOnly.Load() }

func (w *world) Connected() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.connected
}

func (w *world) Status() follow.Status {
	h, ends, _ := w.follower.Held()
	return follow.Status{Connected: w.Connected(), Held: h, Ends: ends}
}

func (w *world) Append(_ context.Context, e *audit.Event, _ audit.Durability) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return w.broken
	}
	var held audit.Event
	if err := json.Unmarshal(e.AppendJSON(nil), &held); err != nil {
		return err
	}
	w.events = append(w.events, held)
	return e.Validate()
}

func (w *world) AppendBatch(context.Context, string, []audit.Event) (audit.BatchResult, error) {
	return audit.BatchResult{}, errors.New("not here")
}

func (w *world) Stats() journal.Stats { return journal.Stats{MaxBytes: 1} }

func (w *world) takeEvents() []audit.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.events
	w.events = nil
	return out
}

// Ready is that of the journal; the point's is asked as w.Point.Ready.
func (w *world) Ready() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken
}

// ask asks a door here.
func (w *world) ask(denials bool, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	site, _ := w.sites.Get(w.cfg.Site)
	return reviews{w.Point}.AccessAtSite(context.Background(), site, denials, spec)
}

func (w *world) review(token string) (authenticationv1.TokenReviewStatus, error) {
	site, _ := w.sites.Get(w.cfg.Site)
	return reviews{w.Point}.TokenAtSite(context.Background(), site, &authenticationv1.TokenReviewSpec{Token: token})
}

var unavailable = fault.New(fault.Unavailable, "away")
