package server

import (
	"context"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime/schema"

	accessapi "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

var delegations = schema.GroupResource{Group: accessapi.GroupVersion.Group, Resource: "delegations"}

// handover is what the kind Delegation needs of the control plane.
type handover struct {
	checks access.Checks
	frame  func() *kubeapi.Frame
}

// find reads a delegation past every cache, so that one may be handed on as
// soon as it was written.
func (h handover) find(name string) (*accessapi.Delegation, bool) {
	obj, err := h.frame().Get(context.Background(), delegations, "", name)
	if err != nil {
		return nil, false
	}
	return obj.(*accessapi.Delegation), true
}

// fill notes who gives. A giver that the author names is checked later; groups
// that everybody of the name is in are added.
func (h handover) fill(by resource.Caller, d *accessapi.Delegation) {
	s := &d.Spec
	s.Author = by.Name
	if s.From.User == "" || s.From.User == by.Name {
		s.From = access.Giver(subject(by))
	} else {
		s.From = access.OnBehalf(subject(by), s.From)
	}
	if line, err := by.Origin(); err == nil { // or check says why
		s.From = access.WrittenWith(s.From, line)
	}
	s.ParentUID = ""
	if s.Parent == "" {
		return
	}
	if parent, ok := h.find(s.Parent); ok {
		s.ParentUID = parent.UID
	}
}

func (h handover) check(ctx context.Context, by resource.Caller, d *accessapi.Delegation) error {
	if _, err := by.Origin(); err != nil {
		return err
	}
	return h.checks.Delegation(ctx, subject(by), d, h.find)
}

// noteChain records by whom the caller of a request has the right to make it.
func noteChain(ctx context.Context, d access.Decision) {
	if chain, giver := d.Handed(); giver != "" {
		contribute(ctx, audit.AnnotationDelegation, chain)
		contribute(ctx, audit.AnnotationOnBehalf, giver)
	}
}

// objectReaders reports whether conditions read objects. Once they did it stays
// so: a request may be under way that was allowed on the promise to be asked
// again.
func objectReaders(policy *access.Policy) func() bool {
	var ever atomic.Bool
	return func() bool {
		if !ever.Load() && policy.Snapshot().ReadsObjects() {
			ever.Store(true)
		}
		return ever.Load()
	}
}
