package server

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
	"github.com/gatehouse-dev/gatehouse/internal/federation/siteobjects"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

const (
	// siteObjectArea is where what sites tell of their objects is kept.
	siteObjectArea = "site-objects"
	// siteObjectInterval is how often it is looked whether they are current.
	siteObjectInterval = 5 * time.Second
	// objectsCurrent is the condition of a site that says so.
	objectsCurrent = "ObjectsCurrent"
)

// tendSiteObjects keeps the condition of each site that tells of its objects,
// and forgets sites that are gone.
func tendSiteObjects(ctx context.Context, frame *kubeapi.Frame, directory *federation.Directory, objects *siteobjects.Registry, log *slog.Logger) error {
	tick := time.NewTicker(siteObjectInterval)
	defer tick.Stop()
	missing := map[string]bool{} // at the last look: the site may be news that is still on its way
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, name := range objects.Sites() {
			site, ok := directory.Get(name)
			if !ok && !missing[name] {
				missing[name] = true
				continue
			}
			delete(missing, name)
			if !ok {
				if err := objects.Forget(ctx, name); err != nil && ctx.Err() == nil {
					log.Warn("objects of a site not forgotten", "site", name, "error", err)
				}
				continue
			}
			status, known := objects.Status(name)
			want := conditionOf(status)
			if have := meta.FindStatusCondition(site.Status.Conditions, objectsCurrent); !known || have != nil && have.Status == want.Status && have.Message == want.Message {
				continue
			}
			err := frame.Modify(ctx, sites, "status", "", name, func(o resource.Object) error {
				meta.SetStatusCondition(&o.(*federationapi.Site).Status.Conditions, want)
				return nil
			})
			if err != nil && ctx.Err() == nil {
				log.Warn("site status not written", "site", name, "error", err)
			}
		}
	}
}

// conditionOf tells the time only of a site that has gone silent, so that one
// that has not costs no writes.
func conditionOf(s siteobjects.Status) metav1.Condition {
	c := metav1.Condition{Type: objectsCurrent, Status: metav1.ConditionTrue, Reason: "Confirmed", Message: "gatehouse-edge watch confirms the objects of the site"}
	switch {
	case s.Confirmed.IsZero():
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, "Incomplete", "gatehouse-edge watch has not told all objects yet; rules that need them do not match"
	case !s.Current:
		c.Status, c.Reason = metav1.ConditionFalse, "Stale"
		c.Message = fmt.Sprintf("gatehouse-edge watch last confirmed the objects at %s; rules that need them do not match", s.Confirmed.UTC().Format(time.RFC3339))
	}
	return c
}

// nodeOfSite answers for a node of a connected cluster, where policy has not.
func (r reviews) nodeOfSite(site *federationapi.Site, spec *authorizationv1.SubjectAccessReviewSpec, status authorizationv1.SubjectAccessReviewStatus) authorizationv1.SubjectAccessReviewStatus {
	if site.Spec.Authorization.Nodes != federationapi.SiteNodesNeeded {
		return status
	}
	if q, ok := access.RequestFrom(spec.ResourceAttributes, spec.NonResourceAttributes); ok {
		if allowed, reason, node := r.nodes.Decide(site.Name, spec.User, spec.Groups, &q); node {
			status.Allowed, status.Reason = allowed, reason
		}
	}
	return status
}
