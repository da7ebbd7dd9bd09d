package fastlane_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/review"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/declared"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/caller"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
	"github.com/gatehouse-dev/gatehouse/internal/issuer"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/keys/keystest"
	"github.com/gatehouse-dev/gatehouse/internal/pki"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

const apiAudience = "gatehouse"

// authorities make the certificates of all tests: keys take long to make.
type authorities struct {
	client  *pki.Authority[keys.ClientCA]
	site    *pki.Authority[keys.SiteCA]
	foreign *pki.Authority[keys.SiteCA]
	serving *pki.Serving
	servers *pki.Authority[keys.ServingCA]
}

var trusted = sync.OnceValue(func() *authorities {
	// Nothing here reports to a test: a failure is a panic.
	t := &testing.T{}
	vault, other := keystest.NewVault(background{t}, time.Now), keystest.NewVault(background{t}, time.Now)
	ctx := context.Background()
	a := &authorities{
		client: open[keys.ClientCA](ctx, vault), site: open[keys.SiteCA](ctx, vault),
		servers: open[keys.ServingCA](ctx, vault), foreign: open[keys.SiteCA](ctx, other),
	}
	var err error
	a.serving, err = pki.NewServing(pki.ServingConfig{
		Authority: a.servers, Names: pki.Names{DNS: []string{"localhost"}, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		Clock: time.Now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	return a
})

// background is a testing.TB that outlives the test that asks first.
type background struct{ testing.TB }

func (background) Helper()                  {}
func (background) Context() context.Context { return context.Background() }
func (background) Fatal(args ...any)        { panic(args) }

func open[P keys.Authority](ctx context.Context, vault *keys.Vault) *pki.Authority[P] {
	a, err := pki.Open[P](ctx, vault, time.Now)
	if err != nil {
		panic(err)
	}
	return a
}

// issue makes a certificate with its key.
func issue[P keys.Authority](t testing.TB, from *pki.Authority[P], prepare func(crypto.PublicKey) (*pki.Prepared[P], error)) *tls.Certificate {
	t.Helper()
	key, err := pki.NewLeafKey()
	must(t, err)
	prepared, err := prepare(key.Public())
	must(t, err)
	cert, err := from.Issue(prepared)
	must(t, err)
	private, err := key.PEM()
	must(t, err)
	pair, err := tls.X509KeyPair(pki.CertificatePEM(cert), private.Reveal())
	must(t, err)
	return &pair
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func userCertificate(t testing.TB, name string, groups ...string) *tls.Certificate {
	return issue(t, trusted().client, func(p crypto.PublicKey) (*pki.Prepared[keys.ClientCA], error) {
		return pki.PrepareAdmin(pki.Client{User: name, Groups: groups, Public: p})
	})
}

func siteCertificate(t testing.TB, from *pki.Authority[keys.SiteCA], name string) *tls.Certificate {
	return issue(t, from, func(p crypto.PublicKey) (*pki.Prepared[keys.SiteCA], error) {
		return pki.PrepareSite(name, p, 0)
	})
}

func idOf(c *tls.Certificate) string {
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		panic(err)
	}
	return authn.CertificateID(leaf)
}

// record keeps events and answers as told.
type record struct {
	mu     sync.Mutex // guards the rest
	events []audit.Event
	kept   []audit.Durability
	err    error
	batch  [][]audit.Event
}

func (r *record) Append(_ context.Context, ev *audit.Event, d audit.Durability) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	if err := ev.Validate(); err != nil {
		return err
	}
	var held audit.Event
	// Encoded, because the event is the lane's and will be used again.
	if err := json.Unmarshal(ev.AppendJSON(nil), &held); err != nil {
		return err
	}
	r.events, r.kept = append(r.events, held), append(r.kept, d)
	return nil
}

func (r *record) AppendBatch(_ context.Context, _ string, events []audit.Event) (audit.BatchResult, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return audit.BatchResult{}, r.err
	}
	r.batch = append(r.batch, events)
	return audit.BatchResult{Recorded: len(events)}, nil
}

func (r *record) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *record) take() ([]audit.Event, []audit.Durability) {
	r.mu.Lock()
	defer r.mu.Unlock()
	events, kept := r.events, r.kept
	r.events, r.kept = nil, nil
	return events, kept
}

// answers is what the composition gives the lane, over the real engine.
type answers struct {
	access *access.Authorizer
	review review.Reviewer
	chain  *authn.Chain

	mu     sync.Mutex // guards the rest
	asked  int
	broken func() error
}

func (a *answers) note() error {
	a.mu.Lock()
	a.asked++
	broken := a.broken
	a.mu.Unlock()
	if broken != nil {
		return broken()
	}
	return nil
}

func (a *answers) Permit(ctx context.Context, c resource.Caller, req *authz.Request) (bool, string, error) {
	d, err := a.access.Decide(ctx, access.Subject{Name: c.Name, UID: c.UID, Groups: c.Groups, Extra: c.Extra}, *req)
	return d.Allowed(), d.Reason(), err
}

func (a *answers) Access(ctx context.Context, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	if err := a.note(); err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	in := authorizationv1.SubjectAccessReview{Spec: *spec}
	err := a.review.SubjectAccessReview(ctx, &in)
	return in.Status, err
}

func (a *answers) AccessAtSite(ctx context.Context, site *federationapi.Site, denials bool, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	if err := a.note(); err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	d, err := a.access.DecideForSite(ctx, access.SiteView{Name: site.Name}, spec)
	status := review.Status(d)
	if denials && !status.Denied {
		status = authorizationv1.SubjectAccessReviewStatus{}
	}
	return status, err
}

func (a *answers) Token(ctx context.Context, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error) {
	if err := a.note(); err != nil {
		return authenticationv1.TokenReviewStatus{}, err
	}
	return federation.Token(ctx, a.chain, spec)
}

func (a *answers) TokenAtSite(ctx context.Context, site *federationapi.Site, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error) {
	if err := a.note(); err != nil {
		return authenticationv1.TokenReviewStatus{}, err
	}
	return federation.TokenForSite(ctx, a.chain, site, spec)
}

// frame stands for the API's frame and notes what it was left.
type frame struct {
	mu     sync.Mutex // guards bodies
	bodies []string
}

const fromFrame = http.StatusTeapot

func (f *frame) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		body = append(body, "!"+err.Error()...)
	}
	f.mu.Lock()
	f.bodies = append(f.bodies, string(body))
	f.mu.Unlock()
	w.WriteHeader(fromFrame)
}

func (f *frame) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.bodies
	f.bodies = nil
	return b
}

// world is a listener with the lane on it, everything around it real but the
// frame and the record.
type world struct {
	t         testing.TB
	url       string
	frame     *frame
	record    *record
	answers   *answers
	chain     *authn.Chain
	index     *authn.Index
	issuer    *issuer.Issuer
	policy    *access.Policy
	directory *federation.Directory
	registry  *prometheus.Registry

	admin, nobody, siteOne, siteTwo, siteForeign, siteUnlisted *tls.Certificate
}

type option func(*fastlane.Config)

func newWorld(t testing.TB, options ...option) *world {
	t.Helper()
	ca := trusted()
	w := &world{t: t, frame: &frame{}, record: &record{}, registry: prometheus.NewRegistry()}
	var err error
	w.issuer, err = issuer.New(issuer.Config{URL: "https://gatehouse.test", Now: time.Now})
	must(t, err)
	key, err := pki.NewLeafKey()
	must(t, err)
	must(t, w.issuer.SetKeys(issuer.Keys{Signing: signerOf(t, key)}))
	w.index = authn.NewIndex(nil)
	w.index.Put(authn.ObjectKey{Kind: authn.ServiceAccountObject, Namespace: "lab", Name: "robot"}, authn.ObjectState{UID: "robot-uid"})
	w.chain, err = authn.New(authn.Config{Audiences: []string{apiAudience}, Issuers: []authn.TrustedIssuer{w.issuer.Trusted()}, Objects: w.index, Now: time.Now})
	must(t, err)
	clients, err := ca.client.Pool()
	must(t, err)
	sites, err := ca.site.Pool()
	must(t, err)
	w.chain.SetClientCAs(clients)
	w.chain.SetSiteCAs(sites)

	w.admin = userCertificate(t, "admin", "system:masters")
	w.nobody = userCertificate(t, "nobody")
	w.siteOne, w.siteTwo = siteCertificate(t, ca.site, "one"), siteCertificate(t, ca.site, "two")
	w.siteForeign, w.siteUnlisted = siteCertificate(t, ca.foreign, "one"), siteCertificate(t, ca.site, "one")

	w.directory = federation.NewDirectory(w.chain)
	connected := []*federationapi.Site{
		site("one", federationapi.SiteFull, idOf(w.siteOne), idOf(w.siteForeign)),
		site("two", federationapi.SiteObserve, idOf(w.siteTwo)),
	}
	w.directory.Replace(connected)
	w.policy = access.NewPolicy()
	w.policy.Roles.Replace(nil)
	w.policy.ClusterRoles.Replace([]*rbacv1.ClusterRole{{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}},
	}})
	w.policy.RoleBindings.Replace(nil)
	w.policy.ClusterRoleBindings.Replace([]*rbacv1.ClusterRoleBinding{{
		ObjectMeta: metav1.ObjectMeta{Name: "readers"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "reader"},
		Subjects: []rbacv1.Subject{
			{APIGroup: rbacv1.GroupName, Kind: "User", Name: "alice"},
			{Kind: "ServiceAccount", Namespace: "lab", Name: "robot"},
		},
	}})
	w.policy.Sites.Replace(connected)
	authorizer, err := access.New(access.Config{Policy: w.policy})
	must(t, err)
	w.answers = &answers{access: authorizer, review: review.Reviewer{Access: authorizer}, chain: w.chain}

	cfg := fastlane.Config{
		Frame: w.frame,
		Authenticate: func(ctx context.Context, r *http.Request) (authn.Identity, bool, error) {
			return caller.From(ctx, w.chain, r)
		},
		Reviews: w.answers, Sites: w.directory, Recorder: w.record, Batch: w.record,
		Policy: declared.NewRaised(policy.Default(), nil),
		Now:    time.Now, Log: slog.New(slog.DiscardHandler), Metrics: fastlane.NewMetrics(w.registry), InFlight: 64,
	}
	for _, o := range options {
		o(&cfg)
	}
	lane, err := fastlane.New(cfg)
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := &http.Server{
		Handler: lane, TLSConfig: pki.ServerTLS(ca.serving), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(tls.NewListener(listener, server.TLSConfig))
	}()
	t.Cleanup(func() { server.Close(); <-served })
	w.url = "https://" + listener.Addr().String()
	return w
}

func signerOf(t testing.TB, key pki.LeafKey) crypto.Signer {
	t.Helper()
	text, err := key.PEM()
	must(t, err)
	block, _ := pem.Decode(text.Reveal())
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	must(t, err)
	return private.(crypto.Signer)
}

func site(name string, mode federationapi.SiteMode, credentials ...string) *federationapi.Site {
	s := &federationapi.Site{ObjectMeta: metav1.ObjectMeta{Name: name}}
	s.Spec.Mode, s.Spec.Credentials = mode, credentials
	s.Spec.Authorization.RBAC = federationapi.SiteRBACShared
	if name == "one" {
		s.Spec.ServiceAccountTokens = federationapi.SiteTokensGatehouse
	}
	return s
}

// token mints one for the robot of namespace lab.
func (w *world) token(audiences ...string) string {
	w.t.Helper()
	token, err := w.issuer.Mint(context.Background(), issuer.Claims{
		Namespace: "lab", Account: issuer.Ref{Name: "robot", UID: "robot-uid"}, Audiences: audiences, Lifetime: time.Hour,
		Pod: &issuer.Ref{Name: "robot-0", UID: "pod-uid"}, Node: &issuer.Ref{Name: "node-0", UID: "node-uid"},
	})
	must(w.t, err)
	w.index.Put(authn.ObjectKey{Kind: authn.PodObject, Namespace: "lab", Name: "robot-0"}, authn.ObjectState{UID: "pod-uid"})
	return token.Text.Reveal()
}

// client is a connection pool with one certificate; http1 keeps it from
// HTTP/2.
func (w *world) client(cert *tls.Certificate, http1 bool) *http.Client {
	w.t.Helper()
	bundle, err := trusted().servers.BundlePEM()
	must(w.t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	cfg := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: !http1, MaxIdleConnsPerHost: 16}
	if http1 {
		tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// call is one request and what must become of it.
type call struct {
	method, path, body string
	header             http.Header
	chunked            bool
}

type answer struct {
	code   int
	header http.Header
	body   string
}

func (w *world) do(c *http.Client, in call) answer {
	w.t.Helper()
	var body io.Reader = strings.NewReader(in.body)
	if in.chunked {
		body = struct{ io.Reader }{body}
	}
	if in.method == "" {
		in.method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(w.t.Context(), in.method, w.url, body)
	must(w.t, err)
	req.URL.Opaque = "//" + req.URL.Host + in.path // exactly as written
	req.Header.Set("Content-Type", "application/json")
	maps.Copy(req.Header, in.header)
	resp, err := c.Do(req)
	must(w.t, err)
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	must(w.t, err)
	return answer{resp.StatusCode, resp.Header, string(out)}
}

// one returns the only event there is.
func (w *world) one() audit.Event {
	w.t.Helper()
	events, _ := w.record.take()
	if len(events) != 1 {
		w.t.Fatalf("%d records, want exactly one: %+v", len(events), events)
	}
	return events[0]
}

const (
	sarPath   = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
	tokenPath = "/apis/authentication.k8s.io/v1/tokenreviews"
)

func sar(user, verb, res string, groups ...string) string {
	return sarIn("lab", user, verb, res, groups...)
}

func sarIn(namespace, user, verb, res string, groups ...string) string {
	out, err := json.Marshal(authorizationv1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{Kind: "SubjectAccessReview", APIVersion: "authorization.k8s.io/v1"},
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user, Groups: groups,
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: verb, Resource: res},
		},
	})
	if err != nil {
		panic(err)
	}
	return string(out)
}

func tokenReview(token string, audiences ...string) string {
	out, err := json.Marshal(map[string]any{
		"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
		"spec": map[string]any{"token": token, "audiences": audiences},
	})
	if err != nil {
		panic(err)
	}
	return string(out)
}

func decode[T any](t testing.TB, body string) T {
	t.Helper()
	var out T
	if err := json.NewDecoder(bytes.NewReader([]byte(body))).Decode(&out); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return out
}

var (
	unavailable = fault.New(fault.Unavailable, "the audit log cannot be written")
	ledgerKey   = ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))
)

func openLedger(t testing.TB) *ledger.Log {
	t.Helper()
	l, err := ledger.Open(t.TempDir(), ledger.Config{ID: "r1", Origin: "gatehouse.test/r1", Key: ledgerKey, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func sorted(groups []string) []string { return slices.Sorted(slices.Values(groups)) }
