// Package banstatus works out where each ban is known to be in force.
//
// A site has acknowledged a ban once it asked its deny door a question while
// the ban was in force there. The package owns that rule and the list of what
// a ban cannot reach at a site; it refuses to enforce bans and to write
// objects: its owner feeds it and writes what [Tracker.Take] returns. Start at
// [New].
package banstatus

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	federationv1alpha1 "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
)

// DenyDoor is the door whose use acknowledges a ban.
const DenyDoor = "authorize/deny"

// What a ban cannot reach at a site.
const (
	// ObserveMode: the site reports and never asks.
	ObserveMode = "ObserveMode"
	// SiteMastersNeverAsk: members of system:masters of the site itself.
	SiteMastersNeverAsk = "SiteMastersNeverAsk"
	// OpenStreamsLiveOn: watches and streams that were open at the site.
	OpenStreamsLiveOn = "OpenStreamsLiveOn"
	// OpenWithoutControlPlane: the site lets its own authorizers decide while
	// the control plane is away.
	OpenWithoutControlPlane = "OpenWithoutControlPlane"
	// VerifiedTokensRemembered: the site remembers a verified token for ten
	// seconds, and its questions do not say which key signed it.
	VerifiedTokensRemembered = "VerifiedTokensRemembered"
)

// Tracker follows bans, sites and the use of doors. It is safe for concurrent
// use; [Tracker.Heard] costs next to nothing while no ban waits for the site.
type Tracker struct {
	now func() time.Time
	// waiting are the sites that a ban waits for.
	waiting atomic.Pointer[map[string]bool]

	mu    sync.Mutex // guards the rest
	bans  map[string]*tracked
	sites map[string]*federationv1alpha1.Site
}

type tracked struct {
	ban   *accessv1alpha1.Ban
	since time.Time            // when this replica learned of the ban
	acks  map[string]time.Time // by site, beyond those in the ban's status
}

// New returns an empty tracker.
func New(now func() time.Time) *Tracker {
	t := &Tracker{now: now, bans: map[string]*tracked{}, sites: map[string]*federationv1alpha1.Site{}}
	t.waiting.Store(&map[string]bool{})
	return t
}

// Bans and Sites are the feeds of a tracker.
type (
	Bans  struct{ *Tracker }
	Sites struct{ *Tracker }
)

// Replace sets all bans.
func (b Bans) Replace(bans []*accessv1alpha1.Ban) {
	b.change(func() {
		before := b.bans
		b.bans = make(map[string]*tracked, len(bans))
		for _, ban := range bans {
			if old := before[ban.Name]; old != nil {
				b.bans[ban.Name] = old
			}
			b.put(ban)
		}
	})
}

// Put adds or changes a ban.
func (b Bans) Put(ban *accessv1alpha1.Ban) { b.change(func() { b.put(ban) }) }

// Delete removes a ban.
func (b Bans) Delete(ban *accessv1alpha1.Ban) { b.change(func() { delete(b.bans, ban.Name) }) }

func (t *Tracker) put(ban *accessv1alpha1.Ban) {
	if x := t.bans[ban.Name]; x != nil && x.ban.UID == ban.UID {
		x.ban = ban
		return
	}
	t.bans[ban.Name] = &tracked{ban: ban, since: t.now(), acks: map[string]time.Time{}}
}

// Replace sets all sites.
func (s Sites) Replace(sites []*federationv1alpha1.Site) {
	s.change(func() {
		clear(s.sites)
		for _, site := range sites {
			s.sites[site.Name] = site
		}
	})
}

// Put adds or changes a site.
func (s Sites) Put(site *federationv1alpha1.Site) { s.change(func() { s.sites[site.Name] = site }) }

// Delete removes a site.
func (s Sites) Delete(site *federationv1alpha1.Site) {
	s.change(func() { delete(s.sites, site.Name) })
}

// change applies a change and works out for whom is waited.
func (t *Tracker) change(apply func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	apply()
	t.settle()
}

func (t *Tracker) settle() {
	waiting := map[string]bool{}
	for _, x := range t.bans {
		for name := range t.sites {
			if concerns(x.ban, name) && x.acknowledged(name) == nil {
				waiting[name] = true
			}
		}
	}
	t.waiting.Store(&waiting)
}

// Heard notes that a site used a door.
func (t *Tracker) Heard(site, door string, at time.Time) {
	if door != DenyDoor || !(*t.waiting.Load())[site] {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.bans {
		if concerns(x.ban, site) && x.acknowledged(site) == nil && !at.Before(x.since) {
			x.acks[site] = at
		}
	}
	t.settle()
}

// Report is the status that a ban should have.
type Report struct {
	Name   string
	Status accessv1alpha1.BanStatus
}

// Take returns the bans whose status is not as it should be, by name. A status
// that was not written is returned again.
func (t *Tracker) Take() []Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Report
	for _, name := range slices.Sorted(maps.Keys(t.bans)) {
		x := t.bans[name]
		status := accessv1alpha1.BanStatus{Sites: t.sitesOf(x)}
		if !equality.Semantic.DeepEqual(status, x.ban.Status) {
			out = append(out, Report{name, status})
		}
	}
	return out
}

func (t *Tracker) sitesOf(x *tracked) []accessv1alpha1.BanSite {
	var out []accessv1alpha1.BanSite
	for _, name := range slices.Sorted(maps.Keys(t.sites)) {
		if concerns(x.ban, name) {
			out = append(out, accessv1alpha1.BanSite{Name: name, Acknowledged: x.acknowledged(name), Limits: limits(x.ban, t.sites[name])})
		}
	}
	return out
}

// concerns reports whether a ban is meant for a site. The ban of a site closes
// its doors here and asks nothing of it.
func concerns(ban *accessv1alpha1.Ban, site string) bool {
	if s := ban.Spec.Subject; s != nil && s.Kind == accessv1alpha1.SubjectSite {
		return false
	}
	return len(ban.Spec.Sites) == 0 ||
		slices.ContainsFunc(ban.Spec.Sites, func(p string) bool { return grant.Pattern(p).Matches(site) })
}

// acknowledged returns when a site did, to the second that the API keeps.
func (x *tracked) acknowledged(site string) *metav1.Time {
	for i := range x.ban.Status.Sites {
		if s := &x.ban.Status.Sites[i]; s.Name == site && s.Acknowledged != nil {
			return s.Acknowledged
		}
	}
	if at, ok := x.acks[site]; ok {
		return &metav1.Time{Time: at.Truncate(time.Second)}
	}
	return nil
}

func limits(ban *accessv1alpha1.Ban, site *federationv1alpha1.Site) []string {
	if site.Spec.Mode == federationv1alpha1.SiteObserve {
		return []string{ObserveMode}
	}
	out := []string{OpenStreamsLiveOn}
	if site.Spec.FailurePolicy != federationv1alpha1.SiteFailureDeny {
		out = append(out, OpenWithoutControlPlane)
	}
	out = append(out, SiteMastersNeverAsk)
	if ban.Spec.IssuerKey != "" {
		out = append(out, VerifiedTokensRemembered)
	}
	return out
}

// Merge brings a stored status to the reported one. What another replica heard
// first stays.
func Merge(status *accessv1alpha1.BanStatus, report accessv1alpha1.BanStatus) {
	for i := range report.Sites {
		for _, stored := range status.Sites {
			if at := stored.Acknowledged; stored.Name == report.Sites[i].Name && at != nil &&
				(report.Sites[i].Acknowledged == nil || at.Before(report.Sites[i].Acknowledged)) {
				report.Sites[i].Acknowledged = at
			}
		}
	}
	status.Sites = report.Sites
}
