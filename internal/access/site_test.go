package access_test

import (
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	federationv1alpha1 "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/bootstrap"
)

func siteObject(name string, mode federationv1alpha1.SiteMode, rbac federationv1alpha1.SiteRBAC) *federationv1alpha1.Site {
	return &federationv1alpha1.Site{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: federationv1alpha1.SiteSpec{Mode: mode, Authorization: federationv1alpha1.SiteAuthorization{RBAC: rbac}}}
}

// sar builds a question as [ask] reads it.
func sar(who string, groups []string, q string) *authorizationv1.SubjectAccessReviewSpec {
	r := ask(q)
	spec := &authorizationv1.SubjectAccessReviewSpec{User: who, Groups: groups}
	if r.ResourceRequest {
		spec.ResourceAttributes = &authorizationv1.ResourceAttributes{Verb: r.Verb, Group: r.APIGroup, Version: "v1",
			Resource: r.Resource, Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name}
	} else {
		spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Verb: r.Verb, Path: r.Path}
	}
	return spec
}

// federation is a control plane with its bootstrap objects, grants that people
// made, and grants that a careless operator made on reserved names.
func federation(t *testing.T) world {
	plan, err := bootstrap.Reconcile(bootstrap.Default(), bootstrap.Objects{})
	if err != nil {
		t.Fatal(err)
	}
	w := world{
		clusterRoles:        plan.Create.ClusterRoles,
		clusterRoleBindings: plan.Create.ClusterRoleBindings,
		sites: []*federationv1alpha1.Site{
			siteObject("shared", federationv1alpha1.SiteFull, federationv1alpha1.SiteRBACShared),
			siteObject("alone", federationv1alpha1.SiteFull, federationv1alpha1.SiteRBACNone),
			siteObject("unset", federationv1alpha1.SiteFull, ""),
			siteObject("denies", federationv1alpha1.SiteDeny, federationv1alpha1.SiteRBACShared),
			siteObject("observes", "", federationv1alpha1.SiteRBACShared),
		},
	}
	w.clusterRoles = append(w.clusterRoles,
		clusterRole("reader", rule("get", "", "configmaps")),
		clusterRole("reserved-grants", rule("*", "", "secrets")),
		clusterRole("for-everybody", rule("get", "", "notices")),
		clusterRole("for-robots", rule("get", "", "widgets")),
		clusterRole("for-prod-robots", rule("get", "", "gadgets")))
	extra := clusterBind("cluster-admin", "User:extra-admin")
	extra.Name = "extra-admins"
	systemRole := clusterBind("system:monitoring", "User:watcher")
	systemRole.Name = "watchers"
	systemBinding := clusterBind("reader", "User:sysbound")
	systemBinding.Name = "system:sysbound"
	labelled := clusterBind("reader", "User:labelbound")
	labelled.Name = "labelled"
	labelled.Labels = map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"}
	widened := w.clusterRoleBindings
	for i, b := range widened {
		if b.Name == "cluster-admin" {
			// An operator added a person, and took the bootstrap label off.
			b = b.DeepCopy()
			b.Labels = nil
			b.Subjects = append(b.Subjects, rbacv1.Subject{Kind: "User", Name: "widened"})
			widened[i] = b
		}
	}
	w.clusterRoleBindings = append(w.clusterRoleBindings, extra, systemRole, systemBinding, labelled,
		clusterBind("for-everybody", "Group:system:authenticated"),
		clusterBind("for-robots", "Group:system:serviceaccounts"),
		clusterBind("for-prod-robots", "Group:system:serviceaccounts:prod"),
		clusterBind("reserved-grants", "User:system:kube-scheduler", "User:system:anonymous", "User:system:node:n1", "User:system:site:other",
			"Group:system:masters", "Group:system:sites", "Group:system:nodes", "Group:system:unauthenticated",
			"User:gatehouse:system:masters", "Group:gatehouse:system:masters", "User:gatehouse:gatehouse:system:serviceaccount:prod:deployer",
			"ServiceAccount:kube-system/x"))
	w.roleBindings = []*rbacv1.RoleBinding{
		bind("prod", "ClusterRole/edit", "User:alice", "Group:dev"),
		bind("prod", "ClusterRole/view", "ServiceAccount:prod/deployer"),
	}
	return w
}

func TestDecideForSite(t *testing.T) {
	t.Parallel()
	a := federation(t).authorizer(t)
	const deployer = "gatehouse:system:serviceaccount:prod:deployer"
	authenticated := []string{"system:authenticated"}
	for _, tc := range []struct {
		name   string
		site   string
		user   string
		groups []string
		q      string
		want   bool
	}{
		{"a person with a binding", "shared", "alice", authenticated, "update apps/deployments prod/web", true},
		{"by a group", "shared", "bob", []string{"dev"}, "get core/secrets prod/x", true},
		{"a group and no user", "shared", "", []string{"dev"}, "get core/secrets prod/x", true},
		{"in another namespace", "shared", "alice", authenticated, "get core/pods kube-system", false},
		{"a stranger", "shared", "eve", authenticated, "get core/pods prod", false},
		{"a service account that we told the site about", "shared", deployer, authenticated, "get core/pods prod", true},
		{"which may not more there than here", "shared", deployer, authenticated, "get core/secrets prod/x", false},
		{"its groups", "shared", deployer, []string{"gatehouse:system:serviceaccounts"}, "get core/widgets prod", true},
		{"its namespace's group", "shared", deployer, []string{"gatehouse:system:serviceaccounts:prod"}, "get core/gadgets prod", true},
		{"everybody's grant", "shared", "eve", authenticated, "get core/notices prod", true},
		{"a role of everything, bound on purpose", "shared", "extra-admin", nil, "delete core/nodes", true},

		{"RBAC is not shared", "alone", "alice", authenticated, "get core/pods prod", false},
		{"RBAC is not mentioned", "unset", "alice", authenticated, "get core/pods prod", false},
		{"a site that only denies", "denies", "alice", authenticated, "get core/pods prod", false},
		{"a site that only observes", "observes", "alice", authenticated, "get core/pods prod", false},
		{"a site that is not known", "strange", "alice", authenticated, "get core/pods prod", false},
		{"no site", "", "alice", authenticated, "get core/pods prod", false},

		{"the site's own service account of a name that is bound here", "shared", "system:serviceaccount:prod:deployer", authenticated, "get core/pods prod", false},
		{"the site's own service account of kube-system", "shared", "system:serviceaccount:kube-system:x", nil, "get core/secrets prod/x", false},
		{"the site's own robot has no share in everybody's grant", "shared", "system:serviceaccount:prod:deployer", authenticated, "get core/notices prod", false},
		{"nor in a person's group", "shared", "system:serviceaccount:prod:deployer", []string{"dev"}, "get core/pods prod", false},
		{"nor in the groups of ours", "shared", "system:serviceaccount:prod:deployer", []string{"gatehouse:system:serviceaccounts", "system:serviceaccounts:prod"}, "get core/gadgets prod", false},
		{"system:masters", "shared", "mallory", []string{"system:masters"}, "get core/secrets prod/x", false},
		{"prefixed system:masters", "shared", "mallory", []string{"gatehouse:system:masters"}, "get core/secrets prod/x", false},
		{"a user named after the prefixed group", "shared", "gatehouse:system:masters", nil, "get core/secrets prod/x", false},
		{"double prefix", "shared", "gatehouse:" + deployer, nil, "get core/secrets prod/x", false},
		{"double prefix on a group", "shared", deployer, []string{"gatehouse:gatehouse:system:serviceaccounts"}, "get core/widgets prod", false},
		{"system:sites", "shared", "mallory", []string{"system:sites"}, "get core/secrets prod/x", false},
		{"another site", "shared", "system:site:other", []string{"system:sites"}, "get core/secrets prod/x", false},
		{"prefixed other site", "shared", "gatehouse:system:site:other", nil, "get core/secrets prod/x", false},
		{"anonymous", "shared", "system:anonymous", []string{"system:unauthenticated"}, "get core/secrets prod/x", false},
		{"unauthenticated group", "shared", "mallory", []string{"system:unauthenticated"}, "get core/secrets prod/x", false},
		{"a node", "shared", "system:node:n1", []string{"system:nodes"}, "get core/secrets prod/x", false},
		{"the scheduler", "shared", "system:kube-scheduler", nil, "get core/secrets prod/x", false},
		{"nobody at all", "shared", "", nil, "get core/notices prod", false},
		{"an empty group", "shared", "", []string{""}, "get core/notices prod", false},
		{"reserved groups and no user", "shared", "", []string{"system:masters", "system:sites"}, "get core/secrets prod/x", false},
		{"robots' groups and no user", "shared", "", []string{"gatehouse:system:serviceaccounts:prod"}, "get core/gadgets prod", false},
		{"robots' groups beside a person", "shared", "mallory", []string{"gatehouse:system:serviceaccounts", "gatehouse:system:serviceaccounts:prod"}, "get core/gadgets prod", false},
		{"another namespace's group beside a robot", "shared", "gatehouse:system:serviceaccount:dev:x", []string{"gatehouse:system:serviceaccounts:prod"}, "get core/gadgets prod", false},
		{"a person keeps what is genuine", "shared", "alice", []string{"gatehouse:system:serviceaccounts:prod", "dev"}, "get core/pods prod", true},

		{"bootstrap bindings: discovery", "shared", "alice", authenticated, "get /apis", false},
		{"bootstrap bindings: health", "shared", "alice", []string{"system:authenticated", "system:unauthenticated"}, "get /healthz", false},
		{"bootstrap bindings: own reviews", "shared", "alice", authenticated, "create authorization.k8s.io/selfsubjectaccessreviews", false},
		{"bootstrap bindings: issuer", "shared", deployer, []string{"gatehouse:system:serviceaccounts"}, "get /openid/v1/jwks", false},
		{"bootstrap bindings: a person added to cluster-admin", "shared", "widened", nil, "get core/secrets prod/x", false},
		{"a system: role, bound by people", "shared", "watcher", nil, "get /metrics", false},
		{"a system: binding of an ordinary role", "shared", "sysbound", nil, "get core/configmaps prod/x", false},
		{"a binding with the bootstrap label", "shared", "labelbound", nil, "get core/configmaps prod/x", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			spec := sar(tc.user, tc.groups, tc.q)
			d, err := a.DecideForSite(t.Context(), access.SiteView{Name: tc.site}, spec)
			if err != nil {
				t.Fatal(err)
			}
			if d.Allowed() != tc.want || d.Denied() || (d.Reason() == "") == tc.want {
				t.Errorf("allowed %v, denied %v because %q", d.Allowed(), d.Denied(), d.Reason())
			}
			// UID and extra are the site's words and give no right.
			spec.UID = "1234"
			spec.Extra = map[string]authorizationv1.ExtraValue{
				"authentication.kubernetes.io/credential-id": {"X509SHA256=00"},
				"authentication.kubernetes.io/groups":        {"system:masters"},
				"gatehouse.dev/site":                         {"alone"},
			}
			if again, err := a.DecideForSite(t.Context(), access.SiteView{Name: tc.site}, spec); err != nil || again.Allowed() != tc.want {
				t.Errorf("with extra: allowed %v, error %v", again.Allowed(), err)
			}
		})
	}
}

func TestDecideForSiteNeedsOneQuestion(t *testing.T) {
	t.Parallel()
	a := federation(t).authorizer(t)
	both := sar("alice", nil, "get core/pods prod")
	both.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Verb: "get", Path: "/"}
	for name, spec := range map[string]*authorizationv1.SubjectAccessReviewSpec{
		"both": both, "neither": {User: "alice", Groups: []string{"dev"}},
	} {
		if d, err := a.DecideForSite(t.Context(), access.SiteView{Name: "shared"}, spec); err != nil || d.Allowed() {
			t.Errorf("%s: allowed %v, error %v", name, d.Allowed(), err)
		}
	}
}

func TestSiteObjectDecidesAtOnce(t *testing.T) {
	t.Parallel()
	w := federation(t)
	p := w.policy()
	a, err := access.New(access.Config{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(step string, want bool) {
		t.Helper()
		d, err := a.DecideForSite(t.Context(), access.SiteView{Name: "shared"}, sar("alice", nil, "get core/pods prod"))
		if err != nil || d.Allowed() != want {
			t.Errorf("%s: allowed %v, error %v", step, d.Allowed(), err)
		}
	}
	expect("shared", true)
	p.Sites.Put(siteObject("shared", federationv1alpha1.SiteFull, federationv1alpha1.SiteRBACNone))
	expect("not shared any more", false)
	p.Sites.Put(siteObject("shared", federationv1alpha1.SiteFull, federationv1alpha1.SiteRBACShared))
	expect("shared again", true)
	p.Sites.Delete(siteObject("shared", "", ""))
	expect("deleted", false)
}
