// Package site describes sites: the platforms that are connected to the
// control plane. It checks what is written about a site; who is recognised as
// one is decided at the doors. Start with [New].
package site

import (
	"context"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	federationv1alpha1 "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// IssueCredential answers a request for a certificate by which site is
// recognised, and lists it in the site's spec. With dryRun it leaves no trace.
// It returns an error of package fault or an apimachinery status error.
type IssueCredential func(ctx context.Context, caller resource.Caller, site *federationv1alpha1.Site, request *federationv1alpha1.SiteCredential, dryRun bool) error

// RotateKeys makes the next key that signs the service-account tokens of a
// site. With dryRun it leaves no trace. It returns an error of package fault.
type RotateKeys func(ctx context.Context, caller resource.Caller, site *federationv1alpha1.Site, request *federationv1alpha1.SiteKeyRotation, dryRun bool) error

// New describes sites.
func New(issue IssueCredential, rotate RotateKeys) resource.Kind {
	return resource.Definition[*federationv1alpha1.Site]{
		Names: resource.Names{
			GroupVersion: federationv1alpha1.GroupVersion,
			Kind:         "Site",
			Resource:     "sites",
			Singular:     "site",
		},
		New:          func() *federationv1alpha1.Site { return &federationv1alpha1.Site{} },
		NewList:      func() runtime.Object { return &federationv1alpha1.SiteList{} },
		ValidateName: validateName,
		Default:      setDefaults,
		PrepareCreate: func(_ resource.Caller, s *federationv1alpha1.Site) {
			s.Status = federationv1alpha1.SiteStatus{}
			s.Generation = 1
		},
		PrepareUpdate: func(_ resource.Caller, s, old *federationv1alpha1.Site) {
			s.Status = old.Status
			s.Generation = old.Generation
			if !apiequality.Semantic.DeepEqual(s.Spec, old.Spec) {
				s.Generation++
			}
		},
		Validate:       validate,
		ValidateUpdate: validateUpdate,
		Columns: []resource.Column[*federationv1alpha1.Site]{
			{
				Name: "Kind", Description: "The kind of platform.",
				Value: func(s *federationv1alpha1.Site) any { return string(s.Spec.Kind) },
			},
			{
				Name: "Mode", Description: "How far the control plane decides for the site.",
				Value: func(s *federationv1alpha1.Site) any { return string(s.Spec.Mode) },
			},
			{
				Name: "Owner", Description: "The namespace that the site belongs to.",
				Value: func(s *federationv1alpha1.Site) any { return s.Spec.OwnerNamespace },
			},
			{
				Name: "Last Heard", Description: "Time since the site last used one of its doors.",
				Value: func(s *federationv1alpha1.Site) any { return lastHeard(s) },
			},
			resource.Age[*federationv1alpha1.Site](),
			{
				Name: "RBAC", Priority: 1, Description: "Whether the RBAC objects of the control plane grant at the site.",
				Value: func(s *federationv1alpha1.Site) any { return string(s.Spec.Authorization.RBAC) },
			},
			{
				Name: "On Failure", Priority: 1, Description: "What the site makes of an unreachable control plane.",
				Value: func(s *federationv1alpha1.Site) any { return string(s.Spec.FailurePolicy) },
			},
		},
		Subresources: []resource.Subresource[*federationv1alpha1.Site]{{
			Name: "status",
			Prepare: func(_ resource.Caller, s, old *federationv1alpha1.Site) {
				s.Spec = old.Spec
				s.Generation = old.Generation
			},
			Validate: validateStatus,
			Fields:   []string{"status"},
			Ignored:  []string{"spec"},
		}},
		Actions: []resource.Action[*federationv1alpha1.Site]{{
			Name:             "credential",
			GroupVersionKind: federationv1alpha1.GroupVersion.WithKind("SiteCredential"),
			New:              func() runtime.Object { return &federationv1alpha1.SiteCredential{} },
			Do: func(ctx context.Context, caller resource.Caller, s *federationv1alpha1.Site, in runtime.Object, dryRun bool) (runtime.Object, error) {
				request := in.(*federationv1alpha1.SiteCredential)
				if errs := validateCredential(request); len(errs) > 0 {
					return nil, apierrors.NewInvalid(federationv1alpha1.GroupVersion.WithKind("SiteCredential").GroupKind(), s.Name, errs)
				}
				return request, issue(ctx, caller, s, request, dryRun)
			},
		}, {
			Name:             "keyrotation",
			GroupVersionKind: federationv1alpha1.GroupVersion.WithKind("SiteKeyRotation"),
			New:              func() runtime.Object { return &federationv1alpha1.SiteKeyRotation{} },
			Do: func(ctx context.Context, caller resource.Caller, s *federationv1alpha1.Site, in runtime.Object, dryRun bool) (runtime.Object, error) {
				request := in.(*federationv1alpha1.SiteKeyRotation)
				if errs := validateKeyRotation(request); len(errs) > 0 {
					return nil, apierrors.NewInvalid(federationv1alpha1.GroupVersion.WithKind("SiteKeyRotation").GroupKind(), s.Name, errs)
				}
				return request, rotate(ctx, caller, s, request, dryRun)
			},
		}},
	}.Kind()
}

func setDefaults(s *federationv1alpha1.Site) {
	if s.Spec.Mode == "" {
		s.Spec.Mode = federationv1alpha1.SiteObserve
	}
	if s.Spec.Authorization.RBAC == "" {
		s.Spec.Authorization.RBAC = federationv1alpha1.SiteRBACNone
	}
	if s.Spec.Authorization.Nodes == "" {
		s.Spec.Authorization.Nodes = federationv1alpha1.SiteNodesNone
	}
	if s.Spec.ServiceAccountTokens == "" {
		s.Spec.ServiceAccountTokens = federationv1alpha1.SiteTokensOwn
	}
	if s.Spec.FailurePolicy == "" {
		s.Spec.FailurePolicy = federationv1alpha1.SiteFailureNoOpinion
	}
}

func lastHeard(s *federationv1alpha1.Site) string {
	latest := -1
	for i, door := range s.Status.Doors {
		if door.LastHeard != nil && (latest < 0 || s.Status.Doors[latest].LastHeard.Before(door.LastHeard)) {
			latest = i
		}
	}
	if latest < 0 {
		return "<never>"
	}
	return resource.Since(*s.Status.Doors[latest].LastHeard)
}
