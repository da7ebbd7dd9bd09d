package banstatus

import (
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	federationv1alpha1 "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
)

const (
	// lag is how far what another replica signs may be behind what is known
	// here: replicas that hear nothing for five seconds sign nothing, and clocks
	// differ.
	lag = 10 * time.Second
	// patience is how long a decision point that was heard of lately may take
	// to say that it has a ban, and another replica to write so.
	patience = 90 * time.Second
	// step is how exactly it is said until when a decision point may decide, so
	// that a status does not change with every beat.
	step = 10 * time.Minute
	// maxPoints bounds the list in a status.
	maxPoints = 64
)

// point is a local decision point that may decide.
type point struct {
	name      string
	connected bool
	// here and elsewhere are the times of policy that it decides by, as told to
	// this replica and to others; told is the newest that it may have.
	here, elsewhere, told, heard time.Time
	ends                         time.Time
}

// points returns those of a site whose policy has not ended. t.mu is held.
func (t *Tracker) points(site *federationv1alpha1.Site, here []Follower, now time.Time) []point {
	byName := map[string]point{}
	for i := range site.Status.Followers {
		f := &site.Status.Followers[i]
		p := point{name: f.Name, elsewhere: timeOf(f.PolicyTime), heard: timeOf(f.LastHeard)}
		p.told = later(p.elsewhere, p.heard)
		byName[f.Name] = p
	}
	for _, f := range here {
		p := byName[f.Name]
		p.name, p.connected, p.here = f.Name, p.connected || f.Connected, f.Policy
		p.told, p.heard = later(p.told, f.Told), later(p.heard, f.LastHeard)
		byName[f.Name] = p
	}
	var out []point
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		p := byName[name]
		if p.ends = p.told.Add(t.maxAge); p.connected || now.Before(p.ends) {
			out = append(out, p)
		}
	}
	return out
}

// has reports whether a decision point is known to decide by a ban.
func (p *point) has(x *tracked) bool {
	if !p.here.IsZero() && !p.here.Before(x.since) {
		return true
	}
	known := x.since
	if created := x.ban.CreationTimestamp.Time; x.ban.Generation <= 1 && !created.IsZero() && created.Before(known) {
		known = created // this replica began later than the ban
	}
	return !later(p.here, p.elsewhere).Before(known.Add(lag))
}

func (p *point) notHeard() accessv1alpha1.BanDecisionPoint {
	out := accessv1alpha1.BanDecisionPoint{Name: p.name, DecidesUntil: metav1.NewTime(p.ends.Add(step).Truncate(step))}
	if !p.heard.IsZero() {
		out.LastHeard = &metav1.Time{Time: p.heard.Truncate(time.Second)}
	}
	return out
}

func timeOf(t *metav1.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.Time
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
