package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	identityapi "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/config"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi/identityprovider"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

var identityProviders = schema.GroupResource{Group: identityapi.GroupVersion.Group, Resource: "identityproviders"}

// How often the file is looked at, and what is seen of providers is reported.
const (
	fileInterval   = 5 * time.Second
	reportInterval = time.Second
)

// filePrefix is before the issuer in the name of a provider of the file; no
// resource can have such a name.
const filePrefix = "file:"

// providers keeps the identity providers of the chain as the resources and the
// configured file say.
type providers struct {
	config   config.Authentication
	chain    *authn.Chain
	manager  *identityprovider.Manager
	fetching identityprovider.Fetching
	own      []string // issuers that nobody else may speak for
	log      *slog.Logger

	mu        sync.Mutex // guards what follows
	file      []identityprovider.Spec
	resources map[string]*identityapi.IdentityProvider
	faults    map[string]error
}

func newProviders(i *identity) (*providers, error) {
	p := &providers{
		config: i.config, chain: i.chain, manager: identityprovider.NewManager(i.chain),
		fetching: identityprovider.Fetching{AllowLoopback: i.config.AllowLoopbackIssuers},
		own:      []string{i.issuer.URL(), authn.LegacyIssuer},
		log:      i.log, resources: map[string]*identityapi.IdentityProvider{},
	}
	var err error
	if p.file, _, err = p.readFile(); err != nil {
		return nil, err
	}
	p.apply()
	for name, err := range p.faults {
		return nil, fmt.Errorf("authentication configuration: %s: %w", name, err)
	}
	return p, nil
}

// CheckAuthentication reads the configured file as the server does.
func CheckAuthentication(cfg config.Config) error {
	_, _, err := (&providers{config: cfg.Authentication()}).readFile()
	return err
}

// maxAuthenticationFile bounds the file.
const maxAuthenticationFile = 4 << 20

func (p *providers) readFile() (specs []identityprovider.Spec, sum [32]byte, err error) {
	if p.config.ConfigFile == "" {
		return nil, sum, nil
	}
	if info, err := os.Stat(p.config.ConfigFile); err == nil && info.Size() > maxAuthenticationFile {
		return nil, sum, fmt.Errorf("authentication configuration: %s is larger than %d bytes", p.config.ConfigFile, maxAuthenticationFile)
	}
	data, err := os.ReadFile(p.config.ConfigFile)
	if err != nil {
		return nil, sum, fmt.Errorf("authentication configuration: %w", err)
	}
	sum = sha256.Sum256(data)
	list, err := identityprovider.Load(data, p.own)
	if err != nil {
		return nil, sum, err
	}
	for _, jwt := range list {
		specs = append(specs, identityprovider.Spec{
			Name:   filePrefix + jwt.Issuer.URL,
			Config: identityprovider.Config{JWT: jwt, DisallowedIssuers: p.own, Fetching: p.fetching},
		})
	}
	return specs, sum, nil
}

// followFile reads the file again when it has changed. One that does not hold
// leaves everything as it is.
func (p *providers) followFile(ctx context.Context) error {
	if p.config.ConfigFile == "" {
		return nil
	}
	_, seen, _ := p.readFile()
	tick := time.NewTicker(fileInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		specs, sum, err := p.readFile()
		if sum == seen {
			continue
		}
		seen = sum
		if err != nil {
			p.log.Error("authentication configuration not applied", "file", p.config.ConfigFile, "error", err)
			continue
		}
		p.change(func() { p.file = specs })
		p.log.Info("authentication configuration applied", "file", p.config.ConfigFile, "issuers", len(specs))
	}
}

// Replace, Put and Delete are the feed of identity providers.
func (p *providers) Replace(list []*identityapi.IdentityProvider) {
	p.change(func() {
		clear(p.resources)
		for _, o := range list {
			p.resources[o.Name] = o
		}
	})
}

func (p *providers) Put(o *identityapi.IdentityProvider) {
	p.change(func() { p.resources[o.Name] = o })
}

func (p *providers) Delete(o *identityapi.IdentityProvider) {
	p.change(func() { delete(p.resources, o.Name) })
}

func (p *providers) change(apply func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	apply()
	p.apply()
}

// apply puts what is configured into force. Of two resources for one issuer
// the older counts, and of two of the same second the first by name: every
// replica must come to the same answer.
func (p *providers) apply() {
	specs := slices.Clone(p.file)
	older := slices.SortedFunc(maps.Values(p.resources), func(a, b *identityapi.IdentityProvider) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	unreadable := map[string]error{}
	for _, o := range older {
		if o.DeletionTimestamp != nil {
			continue
		}
		spec, err := p.specOf(o)
		if err != nil {
			unreadable[o.Name] = err
			continue
		}
		specs = append(specs, spec)
	}
	p.faults = p.manager.Apply(specs)
	maps.Copy(p.faults, unreadable)
}

func (p *providers) specOf(o *identityapi.IdentityProvider) (identityprovider.Spec, error) {
	spec := identityprovider.Spec{Name: o.Name, Timeout: time.Duration(o.Spec.TimeoutSeconds) * time.Second}
	spec.DisallowedIssuers, spec.Fetching = p.own, p.fetching
	if w := o.Spec.Webhook; w != nil {
		spec.Webhook = &identityprovider.WebhookConfig{
			URL: w.URL, CertificateAuthority: w.CertificateAuthority, Issuers: w.Issuers,
			UsernamePrefix: w.UsernamePrefix, GroupPrefix: w.GroupPrefix, Fetching: p.fetching,
		}
		return spec, nil
	}
	if o.Spec.JWT == nil {
		return spec, fmt.Errorf("neither jwt nor webhook is set")
	}
	var err error
	spec.JWT, err = identityprovider.Authenticator(o.Spec.JWT)
	return spec, err
}

// conditionsOf is what this replica has seen of a resource.
func (p *providers) conditionsOf(o *identityapi.IdentityProvider, seen map[string]authn.ProviderStatus) []metav1.Condition {
	accepted := metav1.Condition{Type: identityapi.ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted"}
	available := metav1.Condition{Type: identityapi.ConditionAvailable, Status: metav1.ConditionUnknown, Reason: "NotAsked"}
	if err := p.faults[o.Name]; err != nil {
		accepted.Status, accepted.Reason, accepted.Message = metav1.ConditionFalse, "Refused", bounded(err.Error())
	}
	if s, ok := seen[o.Name]; ok && !s.Since.IsZero() {
		available.Status, available.Reason = metav1.ConditionTrue, "Answers"
		if s.Down {
			available.Status, available.Reason, available.Message = metav1.ConditionFalse, "DoesNotAnswer", bounded(s.Detail)
		}
	}
	accepted.ObservedGeneration, available.ObservedGeneration = o.Generation, o.Generation
	return []metav1.Condition{accepted, available}
}

// bounded keeps what others say to what a condition takes.
func bounded(text string) string {
	const most = 1024
	if len(text) > most {
		return text[:most]
	}
	return text
}

func (p *providers) statuses() map[string]authn.ProviderStatus {
	out := map[string]authn.ProviderStatus{}
	for _, s := range p.chain.Providers() {
		out[s.Name] = s
	}
	return out
}

// report writes what this replica sees into the status of the resources, when
// it changes: replicas that see different things do not take turns.
func (p *providers) report(ctx context.Context, frame *kubeapi.Frame) error {
	said := map[string][]metav1.Condition{}
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		seen := p.statuses()
		p.mu.Lock()
		now := make(map[string][]metav1.Condition, len(p.resources))
		for name, o := range p.resources {
			now[name] = p.conditionsOf(o, seen)
		}
		p.mu.Unlock()
		for name, conditions := range now {
			if slices.Equal(said[name], conditions) {
				continue
			}
			err := frame.Modify(ctx, identityProviders, "status", "", name, func(o resource.Object) error {
				for _, c := range conditions {
					meta.SetStatusCondition(&o.(*identityapi.IdentityProvider).Status.Conditions, c)
				}
				return nil
			})
			if err != nil {
				if ctx.Err() == nil {
					p.log.Warn("status of identity provider not written", "provider", name, "error", err)
				}
				delete(now, name)
			}
		}
		said = now
	}
}

// notes are the lines about providers in /readyz?verbose. One that is down
// takes nothing from the others, so that it says so and fails nothing.
func (p *providers) notes() []string {
	var out []string
	for _, s := range p.chain.Providers() {
		line := "identity-provider " + s.Name + " ok"
		if s.Down {
			line = "identity-provider " + s.Name + " down since " + s.Since.UTC().Format(time.RFC3339)
		}
		out = append(out, line)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(p.faults)) {
		out = append(out, "identity-provider "+name+" refused")
	}
	return out
}

var providerUp = prometheus.NewDesc("gatehouse_identity_provider_up",
	"Whether an identity provider could tell about the last token.", []string{"provider"}, nil)

// Describe and Collect make providers a prometheus.Collector.
func (p *providers) Describe(to chan<- *prometheus.Desc) { to <- providerUp }

func (p *providers) Collect(to chan<- prometheus.Metric) {
	for _, s := range p.chain.Providers() {
		up := 1.0
		if s.Down {
			up = 0
		}
		to <- prometheus.MustNewConstMetric(providerUp, prometheus.GaugeValue, up, s.Name)
	}
}

// validateJWT checks an identity provider as the chain will read it.
func validateJWT(own ...string) func(*field.Path, *identityapi.JWTAuthenticator) field.ErrorList {
	return func(path *field.Path, jwt *identityapi.JWTAuthenticator) field.ErrorList {
		return identityprovider.Validate(path, jwt, own)
	}
}

// identityProvider guards the writing of identity providers: whoever writes one
// can be any user and any member of a group.
func (r reviews) identityProvider(ctx context.Context, by resource.Caller, _, _ *identityapi.IdentityProvider) error {
	return r.beAnybody(ctx, by, "say who callers are")
}

// beAnybody refuses a caller who could not act as everybody anyway. What was only
// delegated to it does not count: it ends, and what the caller has made would not.
func (r reviews) beAnybody(ctx context.Context, by resource.Caller, to string) error {
	for _, what := range []string{"users", "groups"} {
		d, err := r.access.Decide(ctx, subject(by), authz.Request{ResourceRequest: true, Verb: "impersonate", Resource: what})
		if err != nil {
			return err
		}
		if !d.Allowed() || len(d.Delegations()) > 0 {
			return fault.Newf(fault.Denied, "user %q may not %s, which needs the verb impersonate on all %s", by.Name, to, what)
		}
	}
	return nil
}
