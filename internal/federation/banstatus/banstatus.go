// Package banstatus works out where each ban is known to be in force.
//
// A site has acknowledged a ban once it asked its deny door a question while
// the ban was in force there, and every local decision point of it that may
// still decide has policy with the ban: one that cannot be heard is listed, and
// keeps the ban from counting as in force. The package owns that rule and the
// list of what a ban cannot reach at a site; it refuses to enforce bans and to
// write objects: its owner feeds it and writes what [Tracker.Take] returns.
// Start at [New].
package banstatus

import (
	"maps"
	"slices"
	"strings"
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

	mu        sync.Mutex // guards the rest
	bans      map[string]*tracked
	sites     map[string]*federationv1alpha1.Site
	maxAge    time.Duration
	followers func() map[string][]Follower
}

// Follower is a local decision point of a site, as this replica knows it.
type Follower struct {
	Name string
	// Connected says that it follows policy here now.
	Connected bool
	// Policy is the time of the policy that it said it decides by, Told that of
	// the newest that it was sent, and LastHeard when it said so; zero if never.
	Policy, Told, LastHeard time.Time
}

type tracked struct {
	ban   *accessv1alpha1.Ban
	since time.Time            // when this replica learned of the ban as it is
	acks  map[string]time.Time // by site, beyond those in the ban's status
	// behind are the sites where a decision point was behind when it was looked
	// last.
	behind map[string]bool
}

// New returns an empty tracker.
func New(now func() time.Time) *Tracker {
	t := &Tracker{now: now, bans: map[string]*tracked{}, sites: map[string]*federationv1alpha1.Site{}}
	t.waiting.Store(&map[string]bool{})
	return t
}

// Follow has the tracker ask for the followers of every site. maxAge is how long
// policy decides after it was signed.
func (t *Tracker) Follow(maxAge time.Duration, followers func() map[string][]Follower) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.maxAge, t.followers = maxAge, followers
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
		if x.ban.Generation != ban.Generation {
			x.since = t.now() // decision points have it as it was
		}
		x.ban = ban
		return
	}
	t.bans[ban.Name] = &tracked{ban: ban, since: t.now(), acks: map[string]time.Time{}, behind: map[string]bool{}}
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
	// caughtUp are the decision points, by site, that are known to decide by
	// the ban.
	caughtUp map[string]map[string]bool
	now      time.Time
}

// Take returns the bans whose status is not as it should be, by name. A status
// that was not written is returned again.
func (t *Tracker) Take() []Report {
	t.mu.Lock()
	followers := t.followers
	t.mu.Unlock()
	var here map[string][]Follower
	if followers != nil {
		here = followers() // it has locks of its own
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	points := make(map[string][]point, len(t.sites))
	for name, site := range t.sites {
		points[name] = t.points(site, here[name], now)
	}
	var out []Report
	for _, name := range slices.Sorted(maps.Keys(t.bans)) {
		x := t.bans[name]
		r := t.report(x, points, now)
		want := *x.ban.Status.DeepCopy()
		r.Merge(&want)
		if !equality.Semantic.DeepEqual(want, x.ban.Status) {
			out = append(out, r)
		}
	}
	return out
}

func (t *Tracker) report(x *tracked, points map[string][]point, now time.Time) Report {
	r := Report{Name: x.ban.Name, caughtUp: map[string]map[string]bool{}, now: now}
	for _, name := range slices.Sorted(maps.Keys(t.sites)) {
		if !concerns(x.ban, name) {
			continue
		}
		s := accessv1alpha1.BanSite{Name: name, Limits: limits(x.ban, t.sites[name])}
		waits := false
		for _, p := range points[name] {
			switch {
			case p.has(x):
				if r.caughtUp[name] == nil {
					r.caughtUp[name] = map[string]bool{}
				}
				r.caughtUp[name][p.name] = true
			case now.Sub(x.since) < patience && (p.connected || now.Sub(p.heard) < patience):
				waits = true // it is about to say so, here or elsewhere
			default:
				s.NotHeardFrom = append(s.NotHeardFrom, p.notHeard())
			}
		}
		if waits = waits || len(s.NotHeardFrom) > 0; !waits {
			if x.behind[name] {
				if _, heard := x.acks[name]; heard {
					x.acks[name] = now // since now, and not since the first question
				}
			}
			s.Acknowledged = x.acknowledged(name)
		}
		x.behind[name] = len(s.NotHeardFrom) > 0
		r.Status.Sites = append(r.Status.Sites, s)
	}
	return r
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
// first stays, and so does what it knows of decision points of which nothing is
// known here.
func (r Report) Merge(status *accessv1alpha1.BanStatus) {
	sites := slices.Clone(r.Status.Sites)
	for i := range sites {
		s := &sites[i]
		j := slices.IndexFunc(status.Sites, func(stored accessv1alpha1.BanSite) bool { return stored.Name == s.Name })
		if j < 0 {
			continue
		}
		stored := &status.Sites[j]
		if at := stored.Acknowledged; at != nil && (s.Acknowledged == nil || at.Before(s.Acknowledged)) {
			s.Acknowledged = at
		}
		s.NotHeardFrom = slices.Clone(s.NotHeardFrom)
		for _, p := range stored.NotHeardFrom {
			known := slices.ContainsFunc(s.NotHeardFrom, func(q accessv1alpha1.BanDecisionPoint) bool { return q.Name == p.Name })
			if !known && !r.caughtUp[s.Name][p.Name] && r.now.Before(p.DecidesUntil.Time) {
				s.NotHeardFrom = append(s.NotHeardFrom, p)
			}
		}
		slices.SortFunc(s.NotHeardFrom, func(a, b accessv1alpha1.BanDecisionPoint) int { return strings.Compare(a.Name, b.Name) })
		if len(s.NotHeardFrom) > maxPoints {
			s.NotHeardFrom = s.NotHeardFrom[:maxPoints]
		}
	}
	for i := range sites {
		if len(sites[i].NotHeardFrom) > 0 {
			sites[i].Acknowledged = nil
		}
	}
	status.Sites = sites
}
