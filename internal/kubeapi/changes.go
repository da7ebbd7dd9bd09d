package kubeapi

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Admit refuses a change that authorization allowed, by what it says: with an
// error of package fault or an apimachinery status error. It is asked last, so
// that it sees what would be stored, and never about the control plane itself.
type Admit func(ctx context.Context, c *resource.Change) error

// lastWord is an admission plugin that asks each Admit in turn.
type lastWord []Admit

var _ admission.ValidationInterface = lastWord(nil)

func (lastWord) Handles(admission.Operation) bool { return true }

func (p lastWord) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	u := a.GetUserInfo()
	if u == nil {
		return admission.NewForbidden(a, errors.New("the request names no caller"))
	}
	if u == user.Info(loopbackUser) {
		return nil
	}
	c := &resource.Change{
		Caller:    resource.Caller{Name: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: u.GetExtra()},
		Operation: resource.Operation(a.GetOperation()),
		Resource:  a.GetResource().GroupResource(), Subresource: a.GetSubresource(), Namespace: a.GetNamespace(), Name: a.GetName(),
		Object: a.GetObject(), Old: a.GetOldObject(), DryRun: a.IsDryRun(),
	}
	if info, ok := request.RequestInfoFrom(ctx); ok {
		c.Verb = info.Verb
	}
	for _, admit := range p {
		err := admit(ctx, c)
		if err == nil {
			continue
		}
		var status apierrors.APIStatus
		if errors.As(err, &status) {
			return err
		}
		if fault.KindOf(err) == fault.Denied {
			return admission.NewForbidden(a, errors.New(fault.Public(err)))
		}
		return statusError(err, resource.Names{}, a.GetName())
	}
	return nil
}
