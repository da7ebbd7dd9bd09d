// Package authorize answers the questions of one site beside it, with the
// answers of the control plane: the doors authorize/deny, authorize,
// authenticate and audit of the site, and AuthZEN, on this machine.
//
// It owns what is decided while the control plane is away: policy by the
// snapshot in force, tokens of service accounts by the keys and objects that
// came with it, other tokens by what the control plane said of them before, and
// nothing at all once the policy has ended. Every rule is that of the control
// plane: packages access and federation decide, package fastlane serves. It
// refuses to decide what it cannot record. Start at [New].
package authorize

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/authz/snapshot"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/review"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/edge/follow"
	"github.com/gatehouse-dev/gatehouse/internal/edge/journal"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// nobody is the audience of the decision point itself: no token opens anything
// here.
const nobody = "gatehouse-edge:none"

// inFlight bounds the requests that are served at once.
const inFlight = 512

// Policy is the policy that is followed.
type Policy interface {
	Current() (*snapshot.InForce, error)
	Connected() bool
	// DenyOnly says that nothing may be granted, whatever the mode here.
	DenyOnly() bool
	Status() follow.Status
}

// Journal takes what is decided.
type Journal interface {
	audit.Recorder
	audit.BatchRecorder
	Ready() error
	Stats() journal.Stats
}

// Config is what a decision point needs. Everything is required.
type Config struct {
	Site string
	// Name of this decision point, for the record.
	Name string
	// Mode is that of the site: Deny closes the doors that grant.
	Mode    federationapi.SiteMode
	Policy  Policy
	Journal Journal
	// Centre answers about tokens while the control plane is heard.
	Centre Centre
	// Clients is the authority of the programs that may ask over HTTPS.
	Clients *x509.CertPool
	// URL is where AuthZEN is served over HTTPS.
	URL      string
	Registry *prometheus.Registry
	Now      func() time.Time
	Log      *slog.Logger
}

// Point is a local decision point.
type Point struct {
	cfg    Config
	chain  *authn.Chain
	tokens *tokens
	sites  sites
	lane   http.Handler

	verifier verifier
	answers  struct{ here, centre, memory atomic.Uint64 } // good tokens, by who found them so
}

// New puts a decision point together.
func New(cfg Config) (*Point, error) {
	if cfg.Site == "" || cfg.Name == "" || cfg.Policy == nil || cfg.Journal == nil || cfg.Centre == nil || cfg.Clients == nil || cfg.Registry == nil || cfg.Now == nil || cfg.Log == nil {
		return nil, errors.New("authorize: incomplete configuration")
	}
	if cfg.Mode != federationapi.SiteFull && cfg.Mode != federationapi.SiteDeny {
		return nil, fmt.Errorf("authorize: mode %q does not decide", cfg.Mode)
	}
	p := &Point{cfg: cfg, tokens: newTokens()}
	chain, err := authn.New(authn.Config{Audiences: []string{nobody}, Now: cfg.Now})
	if err != nil {
		return nil, err
	}
	chain.SetSiteCAs(cfg.Clients)
	p.chain = chain
	p.sites = newSites(p)
	p.lane, err = fastlane.New(fastlane.Config{
		Frame: p.others(),
		Authenticate: func(context.Context, *http.Request) (authn.Identity, bool, error) {
			return authn.Identity{}, false, nil
		},
		Reviews: reviews{p}, Sites: p.sites, Recorder: recorder{p}, Policy: recordAll{policy.NewChain(policy.Default())}, Batch: cfg.Journal,
		Now: cfg.Now, Log: cfg.Log, Metrics: fastlane.NewMetrics(cfg.Registry), InFlight: inFlight,
	})
	if err != nil {
		return nil, err
	}
	return p, cfg.Registry.Register(newCollector(p))
}

// Handler serves the HTTPS listener.
func (p *Point) Handler() http.Handler { return p.lane }

// policy returns the policy in force; the error says to the caller, and to
// kube-apiserver's failure policy, that nothing is decided.
func (p *Point) policy() (*snapshot.InForce, error) {
	in, err := p.cfg.Policy.Current()
	if err != nil {
		return nil, fault.New(fault.Unavailable, "nothing is decided here: "+err.Error())
	}
	return in, nil
}

// gone tells whether an object of the control plane is no more, as far as is
// known here. One that the control plane confirmed after the policy was signed
// is new, not gone.
func (p *Point) gone(in *snapshot.InForce) func(authn.ObjectKey, string) (bool, error) {
	return func(key authn.ObjectKey, uid string) (bool, error) {
		if in.Present(federation.Fingerprint(p.cfg.Site, key, uid)) {
			return false, nil
		}
		return !p.tokens.confirmedAfter(key, uid, in.Header.Issued), nil
	}
}

// reviews answers the doors.
type reviews struct{ *Point }

var _ fastlane.Reviews = reviews{}

var errNotHere = fault.New(fault.Unavailable, "questions of the control plane are not answered here")

func (reviews) Permit(context.Context, resource.Caller, *authz.Request) (bool, string, error) {
	return false, "", errNotHere
}

func (reviews) Access(context.Context, *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	return authorizationv1.SubjectAccessReviewStatus{}, errNotHere
}

func (reviews) Token(context.Context, *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error) {
	return authenticationv1.TokenReviewStatus{}, errNotHere
}

// AccessAtSite answers as the control plane does: what has ended first, then
// policy.
func (r reviews) AccessAtSite(ctx context.Context, site *federationapi.Site, denials bool, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	in, err := r.policy()
	if err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	now := r.cfg.Now()
	reason, err := federation.EndedBy(spec, now, r.gone(in))
	switch {
	case err != nil:
		return authorizationv1.SubjectAccessReviewStatus{}, err
	case reason != "":
		return authorizationv1.SubjectAccessReviewStatus{Denied: denials, Reason: reason}, nil
	}
	if err := access.CheckLength(spec); err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	d := access.ReviewAtSite(in.Snapshot, site.Name, spec, now)
	if !denials {
		note(ctx, d)
	}
	status := review.Status(d)
	if denials && !status.Denied {
		status = authorizationv1.SubjectAccessReviewStatus{}
	}
	return status, nil
}

// sites is the one site that there is here, known by any client certificate of
// the local authority, which signs for one program.
type sites struct {
	*Point
	mu    *sync.Mutex // serialises changes of known
	known *atomic.Pointer[federationapi.Site]
}

func newSites(p *Point) sites {
	s := sites{p, &sync.Mutex{}, &atomic.Pointer[federationapi.Site]{}}
	s.known.Store(&federationapi.Site{
		ObjectMeta: metav1.ObjectMeta{Name: p.cfg.Site},
		Spec:       federationapi.SiteSpec{Mode: p.cfg.Mode},
	})
	return s
}

func (s sites) Verify(ctx context.Context, peer []*x509.Certificate) (authn.Site, error) {
	id, err := s.chain.VerifySite(ctx, peer)
	if err != nil {
		return authn.Site{}, err
	}
	if id.Name() != s.cfg.Site {
		return authn.Site{}, fault.Newf(fault.Unauthenticated, "the certificate is of site %q", id.Name())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.known.Load(); !slices.Contains(old.Spec.Credentials, id.CredentialID()) {
		// One a year; see package localtls.
		next := old.DeepCopy()
		next.Spec.Credentials = append(next.Spec.Credentials, id.CredentialID())
		s.known.Store(next)
	}
	return id, nil
}

func (s sites) Get(name string) (*federationapi.Site, bool) {
	site := s.known.Load()
	if site.Spec.Mode == federationapi.SiteFull && s.cfg.Policy.DenyOnly() {
		less := *site
		less.Spec.Mode = federationapi.SiteDeny
		site = &less
	}
	return site, name == s.cfg.Site
}

func (sites) Heard(string, string, time.Time) {}

// recordAll is what is recorded here: every decision, because the policy of the
// control plane is not known. What that leaves out can be left out there.
type recordAll struct{ chain *policy.Chain }

func (r recordAll) Chain() *policy.Chain { return r.chain }

// recorder says in every event where and by which policy it was decided.
type recorder struct{ *Point }

// Annotations of an event that was decided here. They stand where a site may
// write: what begins with audit.gatehouse.dev/ is the control plane's own word.
const (
	AnnotationPoint  = "decision.gatehouse.dev/point"
	AnnotationPolicy = "decision.gatehouse.dev/policy"
	// AnnotationChain and AnnotationOnBehalf say by whom the caller has what it
	// was allowed, AnnotationDecider which AccessPolicy or Ban decided.
	AnnotationChain    = "decision.gatehouse.dev/delegation-chain"
	AnnotationOnBehalf = "decision.gatehouse.dev/on-behalf-of"
	AnnotationDecider  = "decision.gatehouse.dev/policies"
)

// note adds to the event of a question what decided it.
func note(ctx context.Context, d access.Decision) {
	if chain, giver := d.Handed(); giver != "" {
		audit.Note(ctx, AnnotationChain, chain)
		audit.Note(ctx, AnnotationOnBehalf, giver)
	}
	if kind, name, ok := d.Decider(); ok {
		audit.Note(ctx, AnnotationDecider, kind+"/"+name)
	}
}

func (r recorder) Append(ctx context.Context, e *audit.Event, d audit.Durability) error {
	e.Annotate(AnnotationPoint, r.cfg.Name)
	if s := r.cfg.Policy.Status(); s.Held.Sequence > 0 {
		e.Annotate(AnnotationPolicy, fmt.Sprint(s.Held.Sequence))
	}
	return r.cfg.Journal.Append(ctx, e, d)
}
