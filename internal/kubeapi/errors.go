package kubeapi

import (
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// retryAfterSeconds is what clients are told to wait when something that the
// control plane needs is away.
const retryAfterSeconds = 1

// statusError renders an error of package fault as the Kubernetes Status that
// clients understand. Errors that already are one pass through; the text of an
// unclassified error is withheld.
func statusError(err error, n resource.Names, name string) error {
	if err == nil {
		return nil
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		// The library looks at the error itself, not at what it wraps.
		return &apierrors.StatusError{ErrStatus: status.Status()}
	}
	gr := groupResource(n)
	text := fault.Public(err)
	switch fault.KindOf(err) {
	case fault.Invalid:
		return apierrors.NewBadRequest(text)
	case fault.Unauthenticated:
		return apierrors.NewUnauthorized(text)
	case fault.Denied:
		return apierrors.NewForbidden(gr, name, errors.New(text))
	case fault.NotFound:
		return apierrors.NewNotFound(gr, name)
	case fault.Conflict:
		return apierrors.NewConflict(gr, name, errors.New(text))
	case fault.Exhausted:
		return apierrors.NewTooManyRequests(text, retryAfterSeconds)
	case fault.Unavailable:
		return apierrors.NewServiceUnavailable(text)
	default:
		return apierrors.NewInternalError(errors.New(text))
	}
}
