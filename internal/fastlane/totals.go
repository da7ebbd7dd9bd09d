package fastlane

import (
	"context"
	"net/http"

	kjson "sigs.k8s.io/json"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation/totalwire"
)

// Totals takes what the kube-apiservers of a site say of their audit events.
type Totals interface {
	Accept(ctx context.Context, site string, r *totalwire.Report) error
}

var errNoTotals = fault.New(fault.Unavailable, "totals of audit events are not kept here")

// doorTotals takes counts, and answers when every gap that they show is on
// record, or durably with the replica that is recording it.
func (t *turn) doorTotals(site *federation.Site) int {
	if t.lane.Totals == nil {
		return t.fail(errNoTotals)
	}
	if site.Spec.Kind != federation.SiteKubernetes {
		return t.fail(fault.Newf(fault.Denied, "site %q is no Kubernetes cluster", site.Name))
	}
	var in totalwire.Report
	if strict, err := kjson.UnmarshalStrict([]byte(t.read), &in); err != nil || len(strict) > 0 {
		return t.fail(fault.New(fault.Invalid, `the body must be {"processes": [...], "unreached": [...]}`))
	}
	if err := t.lane.Totals.Accept(t.ctx, site.Name, &in); err != nil {
		return t.fail(err)
	}
	t.bodies = true
	return t.answerObject(http.StatusOK, struct{}{})
}
