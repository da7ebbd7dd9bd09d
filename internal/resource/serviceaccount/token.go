package serviceaccount

import (
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
)

const (
	defaultTokenSeconds = int64(60 * 60)
	minTokenSeconds     = int64(10 * 60)
	maxTokenSeconds     = int64(1) << 32
)

var tokenRequestKind = authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind()

// prepareRequest checks a token request, and completes it from the account.
func prepareRequest(sa *corev1.ServiceAccount, request *authenticationv1.TokenRequest) error {
	metadata := field.NewPath("metadata")
	var errs field.ErrorList
	if request.Name != "" && request.Name != sa.Name {
		errs = append(errs, field.Invalid(metadata.Child("name"), request.Name, "must match the service account name if specified"))
	}
	if request.Namespace != "" && request.Namespace != sa.Namespace {
		errs = append(errs, field.Invalid(metadata.Child("namespace"), request.Namespace, "must match the service account namespace if specified"))
	}
	if request.Spec.ExpirationSeconds == nil {
		seconds := defaultTokenSeconds
		request.Spec.ExpirationSeconds = &seconds
	}
	expiration := field.NewPath("spec", "expirationSeconds")
	switch seconds := *request.Spec.ExpirationSeconds; {
	case seconds < minTokenSeconds:
		errs = append(errs, field.Invalid(expiration, seconds, "may not specify a duration less than 10 minutes"))
	case seconds > maxTokenSeconds:
		errs = append(errs, field.Invalid(expiration, seconds, "may not specify a duration larger than 2^32 seconds"))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(tokenRequestKind, sa.Name, errs)
	}
	if request.UID != "" && request.UID != sa.UID {
		return apierrors.NewConflict(schema.GroupResource{Group: tokenRequestKind.Group, Resource: tokenRequestKind.Kind}, sa.Name,
			fmt.Errorf("the UID in the token request (%s) does not match the UID of the service account (%s)", request.UID, sa.UID))
	}
	if ref := request.Spec.BoundObjectRef; ref != nil {
		if err := checkBoundKind(ref); err != nil {
			return err
		}
	}
	request.Name, request.Namespace, request.UID = sa.Name, sa.Namespace, sa.UID
	request.Status = authenticationv1.TokenRequestStatus{}
	return nil
}

// checkBoundKind lets through the kinds whose deletion can end a token.
func checkBoundKind(ref *authenticationv1.BoundObjectReference) error {
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	if gvk.Group == "" {
		switch gvk.Kind {
		case "Pod", "Secret", "Node":
			return nil
		}
	}
	if gvk == federation.GroupVersion.WithKind("Site") {
		return nil
	}
	return apierrors.NewBadRequest("cannot bind token to object of type " + gvk.String())
}
