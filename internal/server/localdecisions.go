package server

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz/condition"
	"github.com/gatehouse-dev/gatehouse/authz/snapshot"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/config"
	"github.com/gatehouse-dev/gatehouse/internal/federation/banstatus"
	"github.com/gatehouse-dev/gatehouse/internal/federation/policystream"
	"github.com/gatehouse-dev/gatehouse/internal/issuer"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/storage/etcd"
)

// localDecisions ships the policy of sites to where it is decided.
type localDecisions struct {
	*policystream.Publisher
	ring   *keys.Ring[keys.PolicySnapshots]
	maxAge time.Duration
}

func openLocalDecisions(ctx context.Context, cfg config.Config, st *state, policy *access.Policy, ready func() error, index *authn.Index, issuers func() []snapshot.Issuer, now func() time.Time, log *slog.Logger) (*localDecisions, error) {
	ring, err := keys.Ensure[keys.PolicySnapshots](ctx, st.vault)
	if err != nil {
		return nil, err
	}
	sequence := &policystream.Sequence{Store: etcd.NewBlobs(st.client, settingsArea), Now: now}
	p, err := policystream.New(policystream.Config{
		Policy: policy.Snapshot, Objects: index, Keys: ring.Set, Issuers: issuers, Sequence: sequence.Next, Ready: ready,
		Conditions: condition.Version, MaxAge: cfg.MaxPolicyAge(), Now: now, Log: log,
	})
	if err != nil {
		return nil, err
	}
	return &localDecisions{p, ring, cfg.MaxPolicyAge()}, nil
}

// tokenIssuers returns whose tokens sites may verify by themselves: the control
// plane's own, less the keys that are banned. An issuer without a key stays, so
// that what such a key signed is refused rather than unknown.
func tokenIssuers(iss *issuer.Issuer, bans *authn.Bans, now func() time.Time, log *slog.Logger) func() []snapshot.Issuer {
	return func() []snapshot.Issuer {
		documents, err := iss.Documents()
		if err != nil {
			return nil // no key yet: nothing was minted
		}
		keySet := documents.KeySet
		if bans.AnyKey() {
			keys, err := jws.ParseKeySet(keySet)
			if err == nil {
				keySet, err = jws.MarshalKeySet(slices.DeleteFunc(keys, func(k *jws.Key) bool { return bans.KeyBanned(k.ID(), now()) }))
			}
			if err != nil { // it is our own document
				log.Error("keys of tokens not shipped to sites", "error", err)
				keySet = []byte(`{"keys":[]}`)
			}
		}
		return []snapshot.Issuer{{URL: iss.URL(), KeySet: string(keySet)}}
	}
}

// run signs until ctx ends. A key verifies for as long as what it signed may
// decide.
func (l *localDecisions) run(ctx context.Context, w *work) {
	schedule := keys.Schedule{Every: 90 * 24 * time.Hour, Lead: 2 * time.Hour, Keep: l.maxAge}
	w.start("policy snapshot keys", func() error { return l.ring.Run(ctx, schedule, keyInterval) })
	w.start("policy snapshots", func() error { return l.Run(ctx) })
}

// Acknowledged notes that a site decides by the policy of a time: its bans are
// in force there, as if its deny door had been asked.
func (d siteDoors) Acknowledged(site string, policyOf time.Time) {
	d.status.Heard(site, banstatus.DenyDoor, policyOf)
}

// banFollowers is who follows, for the status of bans.
func (l *localDecisions) banFollowers() map[string][]banstatus.Follower {
	out := map[string][]banstatus.Follower{}
	for site, list := range l.Followers() {
		for _, f := range list {
			out[site] = append(out[site], banstatus.Follower{Name: f.Name, Connected: f.Left.IsZero(), Policy: f.Issued, Told: f.Told, LastHeard: f.Acknowledged})
		}
	}
	return out
}

// forgetFollower is when a follower that was not heard of leaves the status, at
// the earliest: one that may still decide stays.
const forgetFollower = 24 * time.Hour

// setFollowers brings the status of a site to what is known of its followers
// here. Those of other replicas stay.
func setFollowers(status *federationapi.SiteStatus, here []policystream.State, maxAge time.Duration, now time.Time) {
	byName := map[string]federationapi.SiteFollower{}
	for _, f := range status.Followers {
		if f.LastHeard != nil && now.Sub(f.LastHeard.Time) < max(forgetFollower, maxAge) {
			byName[f.Name] = f
		}
	}
	for _, f := range here {
		if f.Acknowledged.IsZero() || f.Sequence > math.MaxInt64 {
			continue
		}
		heard := metav1.NewTime(f.Acknowledged)
		if old := byName[f.Name]; old.LastHeard != nil && heard.Before(old.LastHeard) {
			continue
		}
		next := federationapi.SiteFollower{Name: f.Name, Sequence: int64(f.Sequence), LastHeard: &heard}
		if !f.Issued.IsZero() {
			next.PolicyTime = &metav1.Time{Time: f.Issued}
		}
		byName[f.Name] = next
	}
	status.Followers = nil
	for _, f := range byName {
		status.Followers = append(status.Followers, f)
	}
	slices.SortFunc(status.Followers, func(a, b federationapi.SiteFollower) int { return strings.Compare(a.Name, b.Name) })
	if len(status.Followers) > maxFollowers {
		status.Followers = status.Followers[:maxFollowers]
	}
}

// maxFollowers is how many the status names.
const maxFollowers = 64
