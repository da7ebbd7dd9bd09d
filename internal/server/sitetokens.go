package server

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/issuer/sitetoken"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// siteTokens signs for sites and forgets those that are deleted.
type siteTokens struct{ *sitetoken.Signer }

// Replace, Put and Delete are the feed of sites.
func (s *siteTokens) Replace([]*federationapi.Site)   {}
func (s *siteTokens) Put(*federationapi.Site)         {}
func (s *siteTokens) Delete(site *federationapi.Site) { s.Forget(site.Name) }

// siteKeyLead is how long a new key is published before it signs, when nobody
// asks for another time: verifiers keep a key set for an hour.
const siteKeyLead = 2 * time.Hour

// siteKeySchedule rotates the keys of sites each quarter.
func siteKeySchedule(longest time.Duration) keys.Schedule {
	return keys.Schedule{Every: 90 * 24 * time.Hour, Lead: siteKeyLead, Keep: max(longest, 24*time.Hour)}
}

// rotateSiteKeys answers sites/keyrotation.
func (i *identity) rotateSiteKeys(ctx context.Context, _ resource.Caller, site *federationapi.Site, in *federationapi.SiteKeyRotation, dryRun bool) error {
	in.Name = site.Name
	in.Status = federationapi.SiteKeyRotationStatus{}
	if dryRun {
		return nil
	}
	lead := siteKeyLead
	if s := in.Spec.LeadSeconds; s != nil {
		lead = time.Duration(*s) * time.Second
	}
	id, from, err := i.siteTokens.Rotate(ctx, site.Name, lead)
	if err != nil {
		return err
	}
	in.Status = federationapi.SiteKeyRotationStatus{KeyID: id, SignsFrom: metav1.NewTime(from)}
	return nil
}
