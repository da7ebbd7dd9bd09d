package collect

import (
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Verifier proves certificates of the site CA.
type Verifier interface {
	VerifySite(ctx context.Context, peer []*x509.Certificate) (authn.Site, error)
	VerifySource(ctx context.Context, peer []*x509.Certificate) (authn.Source, error)
}

// Config is what [Sources] needs; everything is required.
type Config struct {
	Verifier Verifier
	// Site returns a connected site that is not banned.
	Site func(name string) (*federation.Site, bool)
	// SiteHeard notes that a site used a door.
	SiteHeard func(name, door string, at time.Time)
	Now       func() time.Time
}

// Sources knows who may write to the record, fed by the watch, and what was
// heard of whom. It is safe for concurrent use.
type Sources struct {
	cfg Config

	mu     sync.RWMutex // guards the rest
	byName map[string]*auditapi.AuditSource
	heard  map[string]Observation
	// loose is what was heard of a site's own certificate: by site, kind and
	// host.
	loose map[looseKey]Observation
}

type looseKey struct {
	site, host string
	kind       auditapi.AuditSourceKind
}

// maxLoose bounds what is remembered of hosts that a site names.
const maxLoose = 10_000

// Observation is what was heard of a source: when, and the newest time that an
// entry of it bears.
type Observation struct{ Heard, Entry time.Time }

func (o Observation) and(other Observation) Observation {
	if other.Heard.After(o.Heard) {
		o.Heard = other.Heard
	}
	if other.Entry.After(o.Entry) {
		o.Entry = other.Entry
	}
	return o
}

// NewSources knows nobody yet.
func NewSources(c Config) (*Sources, error) {
	if c.Verifier == nil || c.Site == nil || c.SiteHeard == nil || c.Now == nil {
		return nil, errors.New("collect: incomplete configuration")
	}
	return &Sources{cfg: c, byName: map[string]*auditapi.AuditSource{}, heard: map[string]Observation{}, loose: map[looseKey]Observation{}}, nil
}

// Replace sets all sources.
func (s *Sources) Replace(all []*auditapi.AuditSource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.byName)
	for _, o := range all {
		s.byName[o.Name] = o
	}
	maps.DeleteFunc(s.heard, func(name string, _ Observation) bool { return s.byName[name] == nil })
}

// Put adds or changes one source.
func (s *Sources) Put(o *auditapi.AuditSource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byName[o.Name] = o
}

// Delete removes one source; its certificate opens nothing from now on.
func (s *Sources) Delete(o *auditapi.AuditSource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byName, o.Name)
	delete(s.heard, o.Name)
}

// Writer is who writes: a source with a certificate of its own, or else a site
// as a whole.
type Writer struct {
	Site string
	// Source is the name of the AuditSource, "" for the site itself.
	Source string
	// Host is where a source writes from, "" for the site itself, whose
	// entries say it.
	Host       string
	Credential string
}

// User is the writer as the user of what it writes.
func (w Writer) User() string {
	if w.Source != "" {
		return sitename.SourceUserPrefix + w.Source
	}
	return sitename.SiteUserPrefix + w.Site
}

// Group is the one group of that user.
func (w Writer) Group() string {
	if w.Source != "" {
		return sitename.SourcesGroup
	}
	return sitename.SitesGroup
}

// Admit proves who stands behind a client certificate and that it may write in
// this way now. A writer is returned with an error as far as it was proven, for
// the record. Calling it again with the same connection costs little, so that
// who holds a connection open can be asked about again.
func (s *Sources) Admit(ctx context.Context, peer []*x509.Certificate, kind auditapi.AuditSourceKind) (Writer, error) {
	if len(peer) == 0 {
		return Writer{}, fault.New(fault.Unauthenticated, "no client certificate")
	}
	var (
		w      Writer
		listed []string
	)
	if authn.IsSource(peer[0]) {
		id, err := s.cfg.Verifier.VerifySource(ctx, peer)
		if err != nil {
			return Writer{}, err
		}
		w = Writer{Source: id.Name(), Credential: id.CredentialID()}
		s.mu.RLock()
		o, known := s.byName[id.Name()]
		s.mu.RUnlock()
		if !known || o.DeletionTimestamp != nil {
			return w, fault.Newf(fault.Denied, "audit source %q is not declared", id.Name())
		}
		w.Site, w.Host, listed = o.Spec.Site, o.Spec.Host, o.Spec.Credentials
		if o.Spec.Kind != kind {
			return w, fault.Newf(fault.Denied, "audit source %q is of kind %s and may not write as %s", w.Source, o.Spec.Kind, kind)
		}
	} else {
		id, err := s.cfg.Verifier.VerifySite(ctx, peer)
		if err != nil {
			return Writer{}, err
		}
		w = Writer{Site: id.Name(), Credential: id.CredentialID()}
	}
	site, connected := s.cfg.Site(w.Site)
	if !connected {
		return w, fault.Newf(fault.Denied, "site %q is not connected", w.Site)
	}
	if w.Source == "" {
		listed = site.Spec.Credentials
	}
	if !slices.Contains(listed, w.Credential) {
		return w, fault.Newf(fault.Denied, "this certificate is not listed for %q", w.User())
	}
	return w, nil
}

// Heard notes that a writer wrote something that is on record: from which host,
// and the newest time that it bears, which may be zero.
func (s *Sources) Heard(w Writer, kind auditapi.AuditSourceKind, host string, newest time.Time) {
	now := s.cfg.Now()
	if door := doors[kind]; door != "" {
		s.cfg.SiteHeard(w.Site, door, now)
	}
	if newest.After(now) {
		newest = now // a clock that runs ahead would hide a lag
	}
	o := Observation{now, newest}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.Source != "" {
		if s.byName[w.Source] != nil {
			s.heard[w.Source] = s.heard[w.Source].and(o)
		}
		return
	}
	k := looseKey{w.Site, host, kind}
	if _, known := s.loose[k]; !known && len(s.loose) >= maxLoose {
		// Hosts that nobody expects must not push out those that somebody does.
		maps.DeleteFunc(s.loose, func(k looseKey, _ Observation) bool { return !s.expected(k) })
		if len(s.loose) >= maxLoose {
			return
		}
	}
	s.loose[k] = s.loose[k].and(o)
}

// doors are the names under which a site's status lists what was used. The
// audit webhook's door is noted where it is served.
var doors = map[auditapi.AuditSourceKind]string{
	auditapi.AuditSourceJournal: "journal", auditapi.AuditSourceSyslog: "syslog", auditapi.AuditSourceOTLP: "v1/logs",
}

// expected reports whether a source without a certificate is written for by
// its site. s.mu is held.
func (s *Sources) expected(k looseKey) bool {
	for _, o := range s.byName {
		if looseOf(o) == k {
			return true
		}
	}
	return false
}

func looseOf(o *auditapi.AuditSource) looseKey {
	return looseKey{o.Spec.Site, o.Spec.Host, o.Spec.Kind}
}

// Known is a source and what was heard of it here.
type Known struct {
	*auditapi.AuditSource
	Observation
}

// All returns every source, in order. The objects must not be changed.
func (s *Sources) All() []Known {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]Known, 0, len(s.byName))
	for _, name := range slices.Sorted(maps.Keys(s.byName)) {
		o := s.byName[name]
		k := Known{o, s.heard[name]}
		if len(o.Spec.Credentials) == 0 {
			k.Observation = k.Observation.and(s.loose[looseOf(o)])
		}
		out = append(out, k)
	}
	return out
}
