package server

import (
	"context"
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// wildcardSigner turns example.com/name into example.com/*.
func wildcardSigner(name string) string {
	domain, _, _ := strings.Cut(name, "/")
	return domain + "/*"
}

// kindMapper finds the resource of a kind among those that are served.
type kindMapper map[schema.GroupVersionKind]string

func newKindMapper(kinds []resource.Kind) kindMapper {
	m := kindMapper{}
	for _, k := range kinds {
		n := resource.NamesOf(k)
		m[n.GroupVersion.WithKind(n.Kind)] = n.Resource
	}
	return m
}

// resourceOf answers "*" for a kind that is not served, which only a caller
// who may read everything passes.
func (m kindMapper) resourceOf(apiVersion, kind string) (group, res string) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return "*", "*"
	}
	if r, ok := m[gv.WithKind(kind)]; ok {
		return gv.Group, r
	}
	return "*", "*"
}

// bindingParams guards the parameters that a binding of an admission policy
// names.
func (r reviews) bindingParams(frame func() *kubeapi.Frame, mapper func() kindMapper) func(context.Context, resource.Caller, string, admissionregistrationv1.ParamRef) error {
	return func(ctx context.Context, by resource.Caller, policy string, ref admissionregistrationv1.ParamRef) error {
		ask := authz.Request{ResourceRequest: true, Verb: "list", APIGroup: "*", Resource: "*", Namespace: ref.Namespace}
		obj, err := frame().Get(ctx, schema.GroupResource{Group: admissionregistrationv1.GroupName, Resource: "validatingadmissionpolicies"}, "", policy)
		if err == nil {
			if kind := obj.(*admissionregistrationv1.ValidatingAdmissionPolicy).Spec.ParamKind; kind != nil {
				ask.APIGroup, ask.Resource = mapper().resourceOf(kind.APIVersion, kind.Kind)
			}
		}
		if ref.Name != "" {
			ask.Verb, ask.Name = "get", ref.Name
		}
		return r.need(ctx, by, fmt.Sprintf("use %s as parameters", ask.Resource), ask)
	}
}
