package server

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/collect/senders"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

const (
	// senderArea is where the accounts of sites' senders are kept.
	senderArea = "audit-senders"
	// senderInterval is how often it is looked whether they are current.
	senderInterval = 10 * time.Second
	// auditAccounted is the condition of a site that says what may be missing
	// of its events without being noticed.
	auditAccounted = "AuditAccounted"
	auditDoor      = "audit"
)

// lastHeard is when a site last delivered events, as its status has it: of all
// replicas, and half a minute old at most.
func lastHeard(directory *federation.Directory) func(string) time.Time {
	return func(name string) time.Time {
		site, ok := directory.Get(name)
		if !ok {
			return time.Time{}
		}
		return doorUsed(site, auditDoor)
	}
}

func doorUsed(site *federationapi.Site, door string) time.Time {
	for i := range site.Status.Doors {
		if d := &site.Status.Doors[i]; d.Name == door && d.LastHeard != nil {
			return d.LastHeard.Time
		}
	}
	return time.Time{}
}

// tendSenders finishes what other replicas left undone, keeps the condition of
// each cluster that delivers its events, and forgets sites that are gone.
func tendSenders(ctx context.Context, frame *kubeapi.Frame, directory *federation.Directory, accounts *senders.Accounts, log *slog.Logger) error {
	tick := time.NewTicker(senderInterval)
	defer tick.Stop()
	missing := map[string]bool{} // at the last look: the site may be news that is still on its way
	for {
		states, err := accounts.Tend(ctx)
		if err != nil && ctx.Err() == nil {
			log.Warn("accounts of audit senders not tended", "error", err)
		}
		for _, site := range directory.All() {
			state, reported := states[site.Name]
			if site.Spec.Kind != federationapi.SiteKubernetes || !reported && doorUsed(site, auditDoor).IsZero() {
				continue
			}
			want := accountedCondition(state, reported)
			if have := meta.FindStatusCondition(site.Status.Conditions, auditAccounted); have != nil && have.Status == want.Status && have.Message == want.Message {
				continue
			}
			err := frame.Modify(ctx, sites, "status", "", site.Name, func(o resource.Object) error {
				meta.SetStatusCondition(&o.(*federationapi.Site).Status.Conditions, want)
				return nil
			})
			if err != nil && ctx.Err() == nil {
				log.Warn("site status not written", "site", site.Name, "error", err)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(states)) {
			if _, ok := directory.Get(name); ok {
				delete(missing, name)
				continue
			}
			if !missing[name] {
				missing[name] = true
				continue
			}
			if err := accounts.Forget(ctx, name); err != nil && ctx.Err() == nil {
				log.Warn("account of audit senders not forgotten", "site", name, "error", err)
			}
			delete(missing, name)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// accountedCondition changes with what it says and not with each report, so
// that a site that reports costs no writes.
func accountedCondition(s senders.State, reported bool) metav1.Condition {
	c := metav1.Condition{Type: auditAccounted, Status: metav1.ConditionFalse}
	const cannot = "a loss that leaves no hole of 30 seconds in its events cannot be excluded"
	switch {
	case !reported:
		c.Reason = "NotReported"
		c.Message = "no gatehouse-edge watch reports what the kube-apiservers of the site discard: " + cannot
	case !s.Current:
		c.Reason = "Stale"
		c.Message = fmt.Sprintf("gatehouse-edge watch reported last at %s: since then %s", s.Reported.UTC().Format(time.RFC3339), cannot)
	case s.Unreached > 0:
		c.Reason = "Incomplete"
		c.Message = fmt.Sprintf("gatehouse-edge watch does not reach %d of the kube-apiservers of the site: of their events %s", s.Unreached, cannot)
	default:
		c.Status, c.Reason = metav1.ConditionTrue, "Reported"
		c.Message = fmt.Sprintf("gatehouse-edge watch reports %d kube-apiservers, which discarded %d events since %s; each loss is on record as a gap", s.Processes, s.Discarded, s.Since.UTC().Format(time.RFC3339))
	}
	return c
}
