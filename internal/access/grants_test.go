package access_test

import (
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	federationv1alpha1 "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz/condition"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// granted is a policy with all feeds, and a clock that the test moves.
func granted(t *testing.T) (*access.Policy, *access.Grants, *access.Authorizer, *time.Time) {
	t.Helper()
	environment, err := condition.New()
	if err != nil {
		t.Fatal(err)
	}
	p := access.NewPolicy()
	g := p.WithGrants(grant.Conditions{Environment: environment}.Compile)
	p.Roles.Replace(nil)
	p.ClusterRoles.Replace([]*rbacv1.ClusterRole{clusterRole("reader", rule("get", "", "pods")), clusterRole("cluster-admin", rule("*", "*", "*"))})
	p.RoleBindings.Replace(nil)
	p.ClusterRoleBindings.Replace([]*rbacv1.ClusterRoleBinding{clusterBind("reader", "User:alice")})
	p.Sites.Replace([]*federationv1alpha1.Site{siteObject("shared", federationv1alpha1.SiteFull, federationv1alpha1.SiteRBACShared)})
	g.AccessPolicies.Replace(nil)
	g.Bans.Replace(nil)
	g.Delegations.Replace(nil)
	g.Accounts.Replace(nil)
	g.Namespaces.Replace(nil)
	now := noon
	a, err := access.New(access.Config{Policy: p, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return p, g, a, &now
}

func namespace(name, domain string) *corev1.Namespace {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if domain != "" {
		n.Labels = map[string]string{access.DomainLabel: domain}
	}
	return n
}

func accessPolicy(name string, effect accessv1alpha1.Effect, subject accessv1alpha1.Subject, sites ...string) *accessv1alpha1.AccessPolicy {
	return &accessv1alpha1.AccessPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: accessv1alpha1.AccessPolicySpec{
		Effect: effect, Subjects: []accessv1alpha1.Subject{subject}, Rules: []rbacv1.PolicyRule{rule("get", "", "pods,secrets")}, Sites: sites}}
}

func TestGrantsAreWaitedFor(t *testing.T) {
	t.Parallel()
	p := access.NewPolicy()
	p.WithGrants(nil)
	if want := "access policy is not loaded yet: waiting for accesspolicies, bans, clusterrolebindings, clusterroles, delegations, namespaces, rolebindings, roles, serviceaccounts, sites"; fault.Public(p.Ready()) != want {
		t.Errorf("got %q", fault.Public(p.Ready()))
	}
}

func TestBansComeFirst(t *testing.T) {
	t.Parallel()
	_, g, a, now := granted(t)
	const q = "get core/pods ns/web"
	alice, root := user("alice"), user("root", "system:masters")
	alice.Extra = map[string][]string{access.CredentialIDExtra: {"JTI=1", "JTI=2"}}
	expect := func(step string, who access.Subject, allowed bool) {
		t.Helper()
		d := mustDecide(t, a, who, q)
		if d.Allowed() != allowed || d.Denied() == allowed {
			t.Errorf("%s: allowed %v, denied %v because %q", step, d.Allowed(), d.Denied(), d.Reason())
		}
	}
	ban := func(spec accessv1alpha1.BanSpec) *accessv1alpha1.Ban {
		spec.Reason = "r"
		return &accessv1alpha1.Ban{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: spec}
	}
	subject := func(kind accessv1alpha1.SubjectKind, name string) *accessv1alpha1.BanSubject {
		return &accessv1alpha1.BanSubject{Kind: kind, Name: name}
	}
	expect("no ban", alice, true)
	for _, id := range []string{"JTI=1", "JTI=2"} {
		g.Bans.Put(ban(accessv1alpha1.BanSpec{CredentialID: id}))
		expect("credential "+id, alice, false)
		expect("the same person with another credential", user("alice"), true)
	}
	g.Bans.Put(ban(accessv1alpha1.BanSpec{Subject: subject("User", "alice"), Sites: []string{"berlin"}}))
	expect("banned elsewhere", alice, true)
	g.Bans.Put(ban(accessv1alpha1.BanSpec{Subject: subject("Group", "system:masters")}))
	expect("superusers", root, false)
	g.Bans.Put(ban(accessv1alpha1.BanSpec{Subject: subject("User", "root"), NotAfter: &metav1.Time{Time: noon.Add(time.Hour)}}))
	expect("a superuser", root, false)
	if err := a.CheckImpersonation(t.Context(), root, user("alice")); fault.KindOf(err) != fault.Denied {
		t.Errorf("a banned superuser impersonates: %v", err)
	}
	*now = noon.Add(time.Hour)
	expect("the ban has ended", root, true)
	g.Bans.Put(ban(accessv1alpha1.BanSpec{Subject: subject("User", "root")}))
	expect("banned again", root, false)
	g.Bans.Delete(ban(accessv1alpha1.BanSpec{}))
	expect("the ban is deleted", root, true)
}

func TestBansHoldAtSites(t *testing.T) {
	t.Parallel()
	_, g, a, _ := granted(t)
	g.Bans.Put(&accessv1alpha1.Ban{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: accessv1alpha1.BanSpec{CredentialID: "JTI=2", Reason: "r"}})
	spec := sar("alice", nil, "get core/pods ns/web")
	made := func(allowed bool) {
		t.Helper()
		spec.Extra = map[string]authorizationv1.ExtraValue{access.CredentialIDExtra: {"JTI=9"}, origin.Extra: {"KEY=a", "JTI=2;exp=1763800000;kid=k"}}
		if d, err := a.DecideForSite(t.Context(), access.SiteView{Name: "shared"}, spec); err != nil || d.Allowed() != allowed || d.Denied() == allowed {
			t.Errorf("made with JTI=2: allowed %v, denied %v, error %v", d.Allowed(), d.Denied(), err)
		}
	}
	made(false)
	g.Bans.Put(&accessv1alpha1.Ban{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: accessv1alpha1.BanSpec{CredentialID: "JTI=2", Reason: "r", Made: accessv1alpha1.BanKeepsMade}})
	made(true)
	for id, allowed := range map[string]bool{"JTI=1": true, "JTI=2": false} {
		spec.Extra = map[string]authorizationv1.ExtraValue{access.CredentialIDExtra: {id}}
		d, err := a.DecideForSite(t.Context(), access.SiteView{Name: "shared"}, spec)
		if err != nil || d.Allowed() != allowed || d.Denied() == allowed {
			t.Errorf("%s: allowed %v, denied %v, error %v", id, d.Allowed(), d.Denied(), err)
		}
	}
}

func TestDenyBeatsEverythingButIsScoped(t *testing.T) {
	t.Parallel()
	_, g, a, now := granted(t)
	deny := accessPolicy("no-pods", accessv1alpha1.EffectDeny, accessv1alpha1.Subject{Kind: "User", NamePrefix: "al"}, "gatehouse")
	deny.Spec.NotBefore = &metav1.Time{Time: noon.Add(time.Hour)}
	g.AccessPolicies.Put(deny)
	if d := mustDecide(t, a, user("alice"), "get core/pods ns/web"); !d.Allowed() {
		t.Errorf("before it begins: %q", d.Reason())
	}
	*now = noon.Add(time.Hour)
	for _, who := range []access.Subject{user("alice"), user("alex", "system:masters")} {
		if d := mustDecide(t, a, who, "get core/pods ns/web"); !d.Denied() || d.Reason() != `access: denied by AccessPolicy "no-pods"` {
			t.Errorf("%s: %v because %q", who.Name, d.Effect(), d.Reason())
		}
	}
	if d, err := a.DecideForSite(t.Context(), access.SiteView{Name: "shared"}, sar("alice", nil, "get core/pods ns/web")); err != nil || !d.Allowed() {
		t.Errorf("at a site: %v because %q, %v", d.Effect(), d.Reason(), err)
	}
	g.AccessPolicies.Replace(nil)
	if d := mustDecide(t, a, user("alice"), "get core/pods ns/web"); !d.Allowed() {
		t.Errorf("without it: %q", d.Reason())
	}
}

// A site's own service account is granted by a policy that names its site, and
// by nothing of the control plane.
func TestPoliciesOfASite(t *testing.T) {
	t.Parallel()
	_, g, a, _ := granted(t)
	robot := sar("system:serviceaccount:ns:robot", []string{"system:serviceaccounts", "system:authenticated"}, "get core/secrets ns/x")
	decide := func() access.Decision {
		d, err := a.DecideForSite(t.Context(), access.SiteView{Name: "shared"}, robot)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	g.AccessPolicies.Put(accessPolicy("p", accessv1alpha1.EffectAllow, accessv1alpha1.Subject{Kind: "ServiceAccount", Namespace: "ns", Name: "robot"}, "shared"))
	if decide().Allowed() {
		t.Error("the site's own service account was taken for ours")
	}
	g.AccessPolicies.Put(accessPolicy("p", accessv1alpha1.EffectAllow, accessv1alpha1.Subject{Kind: "User", Name: "system:serviceaccount:ns:robot"}, "other"))
	if decide().Allowed() {
		t.Error("a policy of another site grants")
	}
	g.AccessPolicies.Put(accessPolicy("p", accessv1alpha1.EffectAllow, accessv1alpha1.Subject{Kind: "User", Name: "system:serviceaccount:ns:robot"}, "shared"))
	if d := decide(); !d.Allowed() || d.Reason() != `access: allowed by AccessPolicy "p"` {
		t.Errorf("a policy of this site does not grant: %v", d.Effect())
	}
}

func TestDomainsAreFollowed(t *testing.T) {
	t.Parallel()
	p, g, a, _ := granted(t)
	g.AccessPolicies.Put(accessPolicy("robots", accessv1alpha1.EffectAllow, accessv1alpha1.Subject{Kind: "ServiceAccount", Domain: "research"}, "gatehouse"))
	g.AccessPolicies.Put(accessPolicy("sites", accessv1alpha1.EffectAllow, accessv1alpha1.Subject{Kind: "Site", Domain: "research"}, "gatehouse"))
	robot := user("system:serviceaccount:lab:robot", "system:serviceaccounts", "system:serviceaccounts:lab", "system:authenticated")
	site := user("system:site:berlin", "system:sites")
	expect := func(step string, who access.Subject, want bool) {
		t.Helper()
		if got := mustDecide(t, a, who, "get core/secrets ns/x").Allowed(); got != want {
			t.Errorf("%s: allowed %v", step, got)
		}
	}
	berlin := siteObject("berlin", federationv1alpha1.SiteDeny, "")
	berlin.Spec.OwnerNamespace = "lab"
	expect("no namespaces", robot, false)
	g.Namespaces.Put(namespace("lab", "research"))
	expect("in the domain", robot, true)
	expect("an unknown site", site, false)
	p.Sites.Put(berlin)
	expect("a site of the domain", site, true)
	g.Namespaces.Put(namespace("lab", ""))
	expect("in the default domain", robot, false)
	expect("its site with it", site, false)
	g.Namespaces.Replace([]*corev1.Namespace{namespace("other", "research"), namespace("lab", "research")})
	expect("back", robot, true)
	expect("its site with it", site, true)
	g.Namespaces.Replace([]*corev1.Namespace{namespace("other", "research")})
	expect("gone", robot, false)
	g.Namespaces.Put(namespace("lab", "research"))
	p.Sites.Delete(berlin)
	expect("the site is gone", site, false)
	g.AccessPolicies.Delete(accessPolicy("robots", "", accessv1alpha1.Subject{}))
	expect("the policy is gone", robot, false)
	g.Namespaces.Put(namespace("lab", ""))
	g.Namespaces.Put(namespace("lab", "research"))
	expect("and stays so", robot, false)
}

func TestConditionsDecide(t *testing.T) {
	t.Parallel()
	_, g, a, now := granted(t)
	p := accessPolicy("p", accessv1alpha1.EffectAllow, accessv1alpha1.Subject{Kind: "Group", Name: "dev"}, "gatehouse")
	bob := user("bob", "dev")
	bob.Extra = map[string][]string{"level": {"2"}}
	for _, tc := range []struct {
		condition     string
		allow, denied bool // as an allow allows, as a deny denies
	}{
		{`request.extra["level"] == ["2"]`, true, true},
		{`request.extra["level"] == ["3"]`, false, false},
		{`request.time.getHours() == 12`, true, true},
		{`request.extra["absent"] == ["2"]`, false, true}, // an error
		{`object.spec.x == 1`, false, true},               // an object that nobody will show
		{`does not compile`, false, true},
	} {
		*now = noon
		p.Spec.Condition = tc.condition
		p.Spec.Effect = accessv1alpha1.EffectAllow
		g.AccessPolicies.Put(p.DeepCopy())
		if d := mustDecide(t, a, bob, "get core/pods ns/web"); d.Allowed() != tc.allow || d.Denied() {
			t.Errorf("allow if %s: %v because %q", tc.condition, d.Effect(), d.Reason())
		}
		p.Spec.Effect = accessv1alpha1.EffectDeny
		g.AccessPolicies.Put(p.DeepCopy())
		if d := mustDecide(t, a, bob, "get core/pods ns/web"); d.Denied() != tc.denied || d.Allowed() {
			t.Errorf("deny if %s: %v because %q", tc.condition, d.Effect(), d.Reason())
		}
	}
}

// An allow for some labels answers a question that selects at least as
// narrowly; a deny for them any question that could touch them.
func TestSelectorsDecide(t *testing.T) {
	t.Parallel()
	_, g, a, _ := granted(t)
	p := accessPolicy("p", accessv1alpha1.EffectAllow, accessv1alpha1.Subject{Kind: "User", Name: "bob"}, "shared")
	p.Spec.LabelSelector = []metav1.LabelSelectorRequirement{{Key: "team", Operator: "In", Values: []string{"a"}}}
	spec := sar("bob", nil, "get core/secrets ns")
	for _, tc := range []struct {
		raw           string
		allow, denied bool
	}{
		{"", false, true}, {"team=a", true, true}, {"team=a,x=y", true, true}, {"team=b", false, false}, {"team in (a,b)", false, true},
		{"team", false, true}, {"!team", false, false}, {"team>1", false, true}, {"((", false, true},
	} {
		spec.ResourceAttributes.LabelSelector = nil
		if tc.raw != "" {
			spec.ResourceAttributes.LabelSelector = &authorizationv1.LabelSelectorAttributes{RawSelector: tc.raw}
		}
		for effect, want := range map[accessv1alpha1.Effect][2]bool{accessv1alpha1.EffectAllow: {tc.allow, false}, accessv1alpha1.EffectDeny: {false, tc.denied}} {
			p := p.DeepCopy()
			p.Spec.Effect = effect
			g.AccessPolicies.Put(p)
			d, err := a.DecideForSite(t.Context(), access.SiteView{Name: "shared"}, spec)
			if err != nil || d.Allowed() != want[0] || d.Denied() != want[1] {
				t.Errorf("%s with %q: %v because %q, %v", effect, tc.raw, d.Effect(), d.Reason(), err)
			}
		}
	}
}
