package server

import (
	"context"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/review"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
	"github.com/gatehouse-dev/gatehouse/internal/federation/siteobjects"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// reviews answers the questions of both lanes with one implementation.
type reviews struct {
	access *access.Authorizer
	review review.Reviewer
	chain  *authn.Chain
	// nodes answers for the nodes of connected clusters.
	nodes *siteobjects.Registry
	// emergencies knows what is marked as break-glass.
	emergencies *breakGlass
}

var (
	_ fastlane.Reviews   = reviews{}
	_ kubeapi.Authorizer = reviews{}
)

func subject(c resource.Caller) access.Subject {
	return access.Subject{Name: c.Name, UID: c.UID, Groups: c.Groups, Extra: c.Extra}
}

// Permit decides for the fast lane.
func (r reviews) Permit(ctx context.Context, c resource.Caller, req *authz.Request) (bool, string, error) {
	d, err := r.access.Decide(ctx, subject(c), *req)
	r.note(ctx, subject(c), d)
	return d.Allowed(), d.Reason(), err
}

// Decide decides for the frame.
func (r reviews) Decide(ctx context.Context, c resource.Caller, req *authz.Request) (bool, string, error) {
	return r.Permit(ctx, c, req)
}

func (r reviews) Access(ctx context.Context, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	in := authorizationv1.SubjectAccessReview{Spec: *spec}
	err := r.review.SubjectAccessReview(ctx, &in)
	return in.Status, err
}

// decideFor adapts Access to the review kinds of the frame.
func (r reviews) decideFor(ctx context.Context, _ resource.Caller, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	return r.Access(ctx, spec)
}

func (r reviews) AccessAtSite(ctx context.Context, site *federationapi.Site, denials bool, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	if err := access.CheckLength(spec); err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	d, err := r.access.DecideForSite(ctx, access.SiteView{Name: site.Name}, spec)
	if err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	status := review.Status(d)
	if !denials {
		r.note(ctx, access.Subject{Name: spec.User, Groups: spec.Groups}, d)
	}
	if denials && !status.Denied {
		status = authorizationv1.SubjectAccessReviewStatus{}
	}
	if !denials && !status.Denied && !status.Allowed {
		status = r.nodeOfSite(site, spec, status)
	}
	return status, nil
}

func (r reviews) Token(ctx context.Context, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error) {
	return federation.Token(ctx, r.chain, spec)
}

// tokenFor adapts Token to the review kind of the frame.
func (r reviews) tokenFor(ctx context.Context, _ resource.Caller, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error) {
	return r.Token(ctx, spec)
}

func (r reviews) TokenAtSite(ctx context.Context, site *federationapi.Site, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error) {
	// Whether the token's account still exists is known from the watch, too.
	if err := r.access.Ready(); err != nil {
		return authenticationv1.TokenReviewStatus{}, err
	}
	return federation.TokenForSite(ctx, r.chain, site, spec)
}

func (r reviews) rules(ctx context.Context, c resource.Caller, namespace string) (authorizationv1.SubjectRulesReviewStatus, error) {
	in := authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}
	err := r.review.SelfSubjectRulesReview(ctx, subject(c), &in)
	return in.Status, err
}

// checks are the escalation checks in the form of the kinds.
type checks struct{ access.Checks }

func (c checks) role(ctx context.Context, by resource.Caller, obj, old *rbacv1.Role) error {
	return c.Role(ctx, subject(by), obj, old)
}

func (c checks) clusterRole(ctx context.Context, by resource.Caller, obj, old *rbacv1.ClusterRole) error {
	return c.ClusterRole(ctx, subject(by), obj, old)
}

func (c checks) roleBinding(ctx context.Context, by resource.Caller, obj, old *rbacv1.RoleBinding) error {
	return c.RoleBinding(ctx, subject(by), obj, old)
}

func (c checks) clusterRoleBinding(ctx context.Context, by resource.Caller, obj, old *rbacv1.ClusterRoleBinding) error {
	return c.ClusterRoleBinding(ctx, subject(by), obj, old)
}

// need refuses a caller who holds none of the given permissions.
func (r reviews) need(ctx context.Context, by resource.Caller, what string, any ...authz.Request) error {
	for i := range any {
		allowed, _, err := r.Permit(ctx, by, &any[i])
		if err != nil || allowed {
			return err
		}
	}
	return fault.Newf(fault.Denied, "user %q may not %s", by.Name, what)
}

func (r reviews) assignDomain(ctx context.Context, by resource.Caller, from, to string) error {
	for _, domain := range []string{from, to} {
		if domain == "" {
			domain = "default"
		}
		if err := r.need(ctx, by, "assign namespaces of domain "+domain, authz.Request{
			ResourceRequest: true, Verb: "assign", APIGroup: federationapi.GroupVersion.Group, Resource: "domains", Name: domain,
		}); err != nil {
			return err
		}
	}
	return nil
}

func (r reviews) signer(ctx context.Context, by resource.Caller, verb, name string) error {
	ask := func(name string) authz.Request {
		return authz.Request{ResourceRequest: true, Verb: verb, APIGroup: "certificates.k8s.io", Resource: "signers", Name: name}
	}
	return r.need(ctx, by, verb+" requests of signer "+name, ask(name), ask(wildcardSigner(name)))
}

// policyParams guards the kind of parameters that an admission policy names.
func (r reviews) policyParams(mapper func() kindMapper) func(context.Context, resource.Caller, admissionregistrationv1.ParamKind) error {
	return func(ctx context.Context, by resource.Caller, kind admissionregistrationv1.ParamKind) error {
		group, res := mapper().resourceOf(kind.APIVersion, kind.Kind)
		return r.need(ctx, by, "use "+res+" as parameters", authz.Request{ResourceRequest: true, Verb: "get", APIGroup: group, Resource: res})
	}
}
