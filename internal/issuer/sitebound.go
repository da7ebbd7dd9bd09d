package issuer

import (
	"context"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// SiteAPIVersion is that of the kind Site in a reference.
const SiteAPIVersion = "federation.gatehouse.dev/v1alpha1"

// bindSite binds a token to a connected site, or to a pod or node of one. The
// token ends with the site, with the object as the site tells of it, and while
// the site does not.
func (r *Requests) bindSite(ctx context.Context, req Request, claims *Claims) error {
	ref := *req.Bound
	pod, node := ref.APIVersion != SiteAPIVersion && ref.Kind == "Pod", ref.APIVersion != SiteAPIVersion && ref.Kind == "Node"
	site, namespace := req.Site, ""
	switch {
	case ref.Kind == "Site" && ref.APIVersion == SiteAPIVersion:
		if site != "" && site != ref.Name {
			return invalid(FieldError{"spec.boundObjectRef.name", shorten(ref.Name), "is another site than the annotation names"})
		}
		site = ref.Name
	case pod && (ref.APIVersion == "v1" || ref.APIVersion == ""):
		if namespace = req.SiteNamespace; namespace == "" {
			namespace = req.Namespace
		}
	case node && (ref.APIVersion == "v1" || ref.APIVersion == ""):
	default:
		return fault.Newf(fault.Invalid, "cannot bind token to object of type %s, Kind=%s of a site: of a site, pods and nodes are known", shorten(ref.APIVersion), shorten(ref.Kind))
	}
	if !pod && req.SiteNamespace != "" {
		return invalid(FieldError{"spec.boundObjectRef.kind", shorten(ref.Kind), "only a pod is in a namespace of the site"})
	}
	if req.Container != "" {
		return invalid(FieldError{"spec.boundObjectRef", shorten(req.Container), "the containers of a site's pods are not known"})
	}
	if req.MayBind == nil {
		return fault.New(fault.Denied, "tokens are not bound to sites here")
	}
	if err := req.MayBind(ctx, site, namespace); err != nil {
		return err
	}
	uid, err := r.Objects.Site(ctx, site)
	if err != nil {
		return err
	}
	bound := &SiteRef{Ref: Ref{Name: site, UID: uid}, Namespace: namespace}
	switch {
	case pod:
		if uid, err = r.Objects.SitePod(ctx, site, namespace, ref.Name); err != nil {
			return err
		}
		bound.Pod = &Ref{Name: ref.Name, UID: uid}
	case node:
		if uid, err = r.Objects.SiteNode(ctx, site, ref.Name); err != nil {
			return err
		}
		bound.Node = &Ref{Name: ref.Name, UID: uid}
	}
	if ref.UID != "" && ref.UID != uid {
		return conflict(ref.Kind, ref.Name, fmt.Sprintf(
			"the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	claims.Site = bound
	return nil
}
