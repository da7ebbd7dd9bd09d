package fastlane

import (
	"context"
	"net/http"

	kjson "sigs.k8s.io/json"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation/objectwire"
)

// SiteObjects takes what a cluster tells of its objects.
type SiteObjects interface {
	Accept(ctx context.Context, site string, p *objectwire.Post) (objectwire.Answer, error)
}

var errNoObjects = fault.New(fault.Unavailable, "objects of sites are not kept here")

// doorObjects takes names of objects of the site, and answers which it lacks.
func (t *turn) doorObjects(site *federation.Site) int {
	if t.lane.Objects == nil {
		return t.fail(errNoObjects)
	}
	if site.Spec.Kind != federation.SiteKubernetes {
		return t.fail(fault.Newf(fault.Denied, "site %q is no Kubernetes cluster", site.Name))
	}
	var in objectwire.Post
	if strict, err := kjson.UnmarshalStrict([]byte(t.read), &in); err != nil || len(strict) > 0 {
		return t.fail(fault.New(fault.Invalid, `the body must be {"groups": [...], "inventory": {...}}`))
	}
	answer, err := t.lane.Objects.Accept(t.ctx, site.Name, &in)
	if err != nil {
		return t.fail(err)
	}
	return t.answerObject(http.StatusOK, answer)
}
