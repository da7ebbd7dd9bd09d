package server

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	accessapi "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/authz/condition"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
	"github.com/gatehouse-dev/gatehouse/internal/access/grantstatus"
	"github.com/gatehouse-dev/gatehouse/internal/access/held"
	"github.com/gatehouse-dev/gatehouse/internal/access/question"
	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/caller"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
	"github.com/gatehouse-dev/gatehouse/internal/federation/banstatus"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/standing"
)

var (
	accessPolicies = schema.GroupResource{Group: accessapi.GroupVersion.Group, Resource: "accesspolicies"}
	bans           = schema.GroupResource{Group: accessapi.GroupVersion.Group, Resource: "bans"}
)

// beyondRBAC is what decides beside the RBAC objects, and what keeps that in
// force.
type beyondRBAC struct {
	grants    *access.Grants
	validator grant.Validator
	// credentials are the bans that authentication knows.
	credentials *credentialBans
	status      *banstatus.Tracker
	// inForce is what access policies and delegations say of themselves.
	inForce *grantstatus.Tracker
	// policies are candidates for questions.
	policies *question.Policies
	// accounts, clusterRoles and namespaces are what questions need of objects
	// beyond the compiled policy.
	accounts     *question.Accounts
	clusterRoles *held.Objects[*rbacv1.ClusterRole]
	namespaces   *held.Objects[*corev1.Namespace]
	log          *slog.Logger
}

// newBeyondRBAC adds to policy; it must be called before policy is fed.
func newBeyondRBAC(policy *access.Policy, credentials *authn.Bans, now func() time.Time, log *slog.Logger) (*beyondRBAC, error) {
	environment, err := condition.New()
	if err != nil {
		return nil, err
	}
	conditions := grant.Conditions{Environment: environment}
	return &beyondRBAC{
		grants:      policy.WithGrants(conditions.Compile),
		validator:   grant.Validator{RoleRules: policy.ClusterRole, CheckCondition: conditions.Check, Now: now},
		credentials: &credentialBans{to: credentials, log: log, held: map[string]*accessapi.Ban{}},
		status:      banstatus.New(now),
		inForce: grantstatus.New(grantstatus.Config{
			Snapshot: policy.Snapshot, RoleRules: policy.ClusterRole, CheckCondition: conditions.Check, Now: now,
		}),
		policies:     question.NewPolicies(),
		accounts:     question.NewAccounts(),
		clusterRoles: held.New[*rbacv1.ClusterRole](),
		namespaces:   held.New[*corev1.Namespace](),
		log:          log,
	}, nil
}

// follow feeds the kinds.
func (b *beyondRBAC) follow(ctx context.Context, flow *follower) {
	flow.follow(ctx, accessPolicies, typed[*accessapi.AccessPolicy]{b.grants.AccessPolicies, b.policies, b.inForce.Policies})
	flow.follow(ctx, bans, typed[*accessapi.Ban]{
		b.credentials, b.grants.Bans, banstatus.Bans{Tracker: b.status},
	})
	flow.follow(ctx, delegations, typed[*accessapi.Delegation]{b.grants.Delegations, b.inForce.Delegations})
	flow.follow(ctx, namespaces, typed[*corev1.Namespace]{b.grants.Namespaces, b.namespaces})
	flow.follow(ctx, clusterRoles, typed[*rbacv1.ClusterRole]{b.clusterRoles})
	flow.follow(ctx, serviceAccounts, typed[*corev1.ServiceAccount]{b.grants.Accounts, b.accounts})
	flow.follow(ctx, sites, typed[*federationapi.Site]{banstatus.Sites{Tracker: b.status}})
}

// banInterval is how often it is looked whether a status has changed.
const banInterval = time.Second

// report writes where bans are in force, and whether policies and delegations
// are, into their status.
func (b *beyondRBAC) report(ctx context.Context, frame *kubeapi.Frame) error {
	tick := time.NewTicker(banInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, r := range b.status.Take() {
			err := frame.Modify(ctx, bans, "status", "", r.Name, func(o resource.Object) error {
				r.Merge(&o.(*accessapi.Ban).Status)
				return nil
			})
			if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
				b.log.Warn("ban status not written", "ban", r.Name, "error", err)
			}
		}
		b.reportInForce(ctx, frame)
	}
}

func (b *beyondRBAC) reportInForce(ctx context.Context, frame *kubeapi.Frame) {
	write := func(gr schema.GroupResource, name string, set func(resource.Object)) {
		err := frame.Modify(ctx, gr, "status", "", name, func(o resource.Object) error {
			set(o)
			return nil
		})
		if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
			b.log.Warn("status not written", "resource", gr.Resource, "name", name, "error", err)
			b.inForce.Again()
		}
	}
	changes := b.inForce.Take()
	for name, s := range changes.Policies {
		write(accessPolicies, name, func(o resource.Object) { o.(*accessapi.AccessPolicy).Status = s })
	}
	for name, s := range changes.Delegations {
		write(delegations, name, func(o resource.Object) { o.(*accessapi.Delegation).Status = s })
	}
}

// credentialBans feeds authentication with the bans that hold everywhere. One
// that holds at some places only is for those who know where they are: the
// engine, and the doors of sites.
type credentialBans struct {
	to  *authn.Bans
	log *slog.Logger

	mu   sync.Mutex // guards what follows
	held map[string]*accessapi.Ban
}

func (c *credentialBans) Replace(all []*accessapi.Ban) {
	c.change(func() {
		clear(c.held)
		for _, ban := range all {
			c.held[ban.Name] = ban
		}
	})
}

func (c *credentialBans) Put(ban *accessapi.Ban)    { c.change(func() { c.held[ban.Name] = ban }) }
func (c *credentialBans) Delete(ban *accessapi.Ban) { c.change(func() { delete(c.held, ban.Name) }) }

func (c *credentialBans) change(apply func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	apply()
	var list []authn.Ban
	for _, ban := range c.held {
		b, ok := credentialBan(ban)
		if !ok {
			continue
		}
		list = append(list, b)
	}
	if err := c.to.Replace(list); err != nil {
		// Validation keeps such bans out, so the fault is ours.
		c.log.Error("bans not applied to authentication", "error", err)
	}
}

func credentialBan(ban *accessapi.Ban) (authn.Ban, bool) {
	s := &ban.Spec
	if len(s.Sites) > 0 && s.Sites[0] != "*" {
		return authn.Ban{}, false
	}
	out := authn.Ban{Name: ban.Name, Credential: s.CredentialID, IssuerKey: s.IssuerKey, KeepsMade: s.Made == accessapi.BanKeepsMade}
	if s.NotAfter != nil {
		out.Until = s.NotAfter.Time
	}
	if s.Subject != nil {
		switch s.Subject.Kind {
		case accessapi.SubjectUser:
			out.User = s.Subject.Name
		case accessapi.SubjectGroup:
			out.Group = s.Subject.Name
		case accessapi.SubjectServiceAccount:
			out.User = "system:serviceaccount:" + s.Subject.Namespace + ":" + s.Subject.Name
		case accessapi.SubjectSite:
			out.Site = s.Subject.Name // and its doors are closed in siteDoors
		default:
			return authn.Ban{}, false
		}
	}
	return out, true
}

// checkBan and checkAccessPolicy are escalation checks in the form of the
// kinds.
func (c checks) ban(ctx context.Context, by resource.Caller, obj, old *accessapi.Ban) error {
	return c.Ban(ctx, subject(by), obj, old)
}

func (c checks) accessPolicy(ctx context.Context, by resource.Caller, obj, old *accessapi.AccessPolicy) error {
	return c.AccessPolicy(ctx, subject(by), obj, old)
}

// siteDoors are the sites as their doors see them: a banned site has none, and
// its questions acknowledge bans.
type siteDoors struct {
	*federation.Directory
	access *access.Authorizer
	status *banstatus.Tracker
}

var _ fastlane.Sites = siteDoors{}

func (d siteDoors) Get(name string) (*federationapi.Site, bool) {
	site, ok := d.Directory.Get(name)
	if !ok {
		return nil, false
	}
	who := access.Subject{Name: sitename.SiteUserPrefix + name, Groups: []string{sitename.SitesGroup}}
	// Where nothing can be decided, the door itself will say so.
	if _, banned, err := d.access.Banned(context.Background(), who, ""); err == nil && banned {
		return nil, false
	}
	return site, true
}

func (d siteDoors) Verify(ctx context.Context, peer []*x509.Certificate) (authn.Site, error) {
	return d.Directory.Verify(ctx, peer)
}

func (d siteDoors) Heard(site, door string, at time.Time) {
	d.Directory.Heard(site, door, at)
	d.status.Heard(site, door, at)
}

// siteReviews answers sites: beside the policy, what has ended since a token
// was verified there counts.
type siteReviews struct {
	reviews
	objects federation.Objects
	now     func() time.Time
}

var _ fastlane.Reviews = siteReviews{}

// TokenAtSite refuses a token also when a ban for that site alone names its
// holder.
func (r siteReviews) TokenAtSite(ctx context.Context, site *federationapi.Site, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error) {
	status, err := r.reviews.TokenAtSite(ctx, site, spec)
	if err != nil || !status.Authenticated {
		return status, err
	}
	extra := make(map[string][]string, len(status.User.Extra))
	for k, v := range status.User.Extra {
		extra[k] = v
	}
	who := access.Subject{Name: status.User.Username, UID: status.User.UID, Groups: status.User.Groups, Extra: extra}
	reason, banned, err := r.access.Banned(ctx, who, site.Name)
	if err != nil {
		return authenticationv1.TokenReviewStatus{}, err
	}
	if banned {
		return authenticationv1.TokenReviewStatus{Error: reason}, nil
	}
	return status, nil
}

// AccessAtSite denies what an ended credential asks: the site may remember for
// some seconds that it once was good.
func (r siteReviews) AccessAtSite(ctx context.Context, site *federationapi.Site, denials bool, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	reason, err := federation.Ended(ctx, r.objects, spec, r.now())
	if err == nil && reason == "" && strings.HasPrefix(spec.User, sitename.Prefix) {
		reason, err = r.chain.SiteEnded(ctx, func(key string) string {
			if values := spec.Extra[key]; len(values) > 0 {
				return values[0]
			}
			return ""
		})
	}
	switch {
	case err != nil:
		return authorizationv1.SubjectAccessReviewStatus{}, err
	case reason == "":
		return r.reviews.AccessAtSite(ctx, site, denials, spec)
	}
	return authorizationv1.SubjectAccessReviewStatus{Denied: denials, Reason: reason}, nil
}

// newStanding ends open requests of the frame whose caller could not make them
// any more.
func newStanding(chain *authn.Chain, answers reviews, policy *access.Policy, now func() time.Time, log *slog.Logger) (*standing.Registry, error) {
	return standing.New(standing.Config{
		Verify: func(r *http.Request) error {
			_, ok, err := caller.From(r.Context(), chain, r)
			if err == nil && !ok {
				return fault.New(fault.Unauthenticated, "no credential")
			}
			return err
		},
		Decide: answers.Permit,
		Policy: func() uint64 { return policy.Snapshot().Number() },
		Now:    now, Log: log,
	})
}

// standingAuthorizer decides for the frame and notes what open requests rest
// on.
type standingAuthorizer struct{ *standing.Registry }

var _ kubeapi.Authorizer = standingAuthorizer{}

// Decide implements kubeapi.Authorizer.
func (a standingAuthorizer) Decide(ctx context.Context, c resource.Caller, req *authz.Request) (bool, string, error) {
	return a.Permit(ctx, c, req)
}
