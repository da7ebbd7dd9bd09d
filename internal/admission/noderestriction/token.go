package noderestriction

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// audienceVerb is the permission for a token that the pod does not ask for; its
// resource is the audience, its name that of the service account.
const audienceVerb = "request-serviceaccounts-token-audience"

// token lets a node have tokens that end with a pod of its own, for audiences
// that the pod names. The binding to the node follows from that to the pod.
func (r *Rules) token(ctx context.Context, node string, c *resource.Change) error {
	if c.Operation != resource.Create || c.Subresource != "token" {
		return nil // authorization grants nothing else
	}
	request, err := object[*authenticationv1.TokenRequest](c.Object)
	if err != nil {
		return err
	}
	ref := request.Spec.BoundObjectRef
	switch {
	case ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "":
		return denied("node requested token not bound to a pod")
	case ref.UID == "":
		return denied("node requested token with a pod binding without a uid")
	}
	pod, err := r.Pod(ctx, c.Namespace, ref.Name)
	switch {
	case err != nil:
		return err
	case pod.UID != ref.UID:
		return denied("the UID in the bound object reference (%s) does not match that of the pod, which may have been deleted and created anew", ref.UID)
	case pod.Spec.NodeName != node:
		return denied("node requested token bound to a pod scheduled on a different node")
	}
	return r.audience(ctx, c, request, pod)
}

func (r *Rules) audience(ctx context.Context, c *resource.Change, request *authenticationv1.TokenRequest, pod *corev1.Pod) error {
	audience := ""
	switch len(request.Spec.Audiences) {
	case 0:
	case 1:
		audience = request.Spec.Audiences[0]
	default:
		return denied("node may only request 0 or 1 audiences")
	}
	for i := range pod.Spec.Volumes {
		projected := pod.Spec.Volumes[i].Projected
		if projected == nil {
			continue
		}
		for j := range projected.Sources {
			if t := projected.Sources[j].ServiceAccountToken; t != nil && t.Audience == audience {
				return nil
			}
		}
	}
	allowed, _, err := r.Permit(ctx, c.Caller, &authz.Request{
		ResourceRequest: true, Verb: audienceVerb, Resource: audience, Namespace: c.Namespace, Name: c.Name,
	})
	switch {
	case err != nil:
		return err
	case !allowed:
		return denied("audience %q not found in pod spec volume, %s is not authorized to request tokens for this audience", audience, c.Caller.Name)
	}
	return nil
}
