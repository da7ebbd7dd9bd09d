package bootstrap_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/bootstrap"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

// started returns the roles as a new control plane holds them, by name.
func started(t *testing.T) map[string]*rbacv1.ClusterRole {
	t.Helper()
	plan, err := bootstrap.Reconcile(bootstrap.Default(), bootstrap.Objects{})
	if err != nil {
		t.Fatal(err)
	}
	roles := map[string]*rbacv1.ClusterRole{}
	for _, r := range plan.Create.ClusterRoles {
		if roles[r.Name] != nil {
			t.Errorf("two cluster roles are named %s", r.Name)
		}
		roles[r.Name] = r
	}
	return roles
}

func covers(owner *rbacv1.ClusterRole, verbs, group, resource string) bool {
	var asked []rbacv1.PolicyRule
	for _, v := range strings.Fields(verbs) {
		asked = append(asked, rbacv1.PolicyRule{Verbs: []string{v}, APIGroups: []string{group}, Resources: []string{resource}})
	}
	return len(rbac.Missing(owner.Rules, asked)) == 0
}

func TestEveryObjectIsMarked(t *testing.T) {
	t.Parallel()
	check := func(kind, name string, labels, annotations map[string]string) {
		if labels["kubernetes.io/bootstrapping"] != "rbac-defaults" || annotations["rbac.authorization.kubernetes.io/autoupdate"] != "true" {
			t.Errorf("%s %s: labels %v, annotations %v", kind, name, labels, annotations)
		}
	}
	for _, r := range bootstrap.Default().ClusterRoles {
		check("role", r.Name, r.Labels, r.Annotations)
	}
	roles := started(t)
	for _, b := range bootstrap.Default().ClusterRoleBindings {
		check("binding", b.Name, b.Labels, b.Annotations)
		if roles[b.RoleRef.Name] == nil || b.RoleRef.Kind != "ClusterRole" || b.RoleRef.APIGroup != rbacv1.GroupName {
			t.Errorf("binding %s names the role %v", b.Name, b.RoleRef)
		}
	}
}

func TestDefaultIsFresh(t *testing.T) {
	t.Parallel()
	first := bootstrap.Default()
	for _, r := range first.ClusterRoles {
		for _, rule := range r.Rules {
			for _, list := range [][]string{rule.Verbs, rule.APIGroups, rule.Resources, rule.NonResourceURLs} {
				for i := range list {
					list[i] = "changed"
				}
			}
		}
	}
	for _, r := range bootstrap.Default().ClusterRoles {
		for _, rule := range r.Rules {
			if strings.Contains(rbac.Describe(authz.Rule(rule)), "changed") {
				t.Fatalf("%s was changed: %v", r.Name, rule)
			}
		}
	}
}

// TestNobodyButAdministratorsIsUnlimited keeps wildcards out of every role but
// the one of everything.
func TestNobodyButAdministratorsIsUnlimited(t *testing.T) {
	t.Parallel()
	for name, r := range started(t) {
		for _, rule := range r.Rules {
			wild := slices.Contains(rule.Verbs, "*") || slices.Contains(rule.APIGroups, "*") ||
				slices.ContainsFunc(rule.Resources, func(s string) bool { return strings.Contains(s, "*") }) || slices.Contains(rule.NonResourceURLs, "*")
			if wild && name != "cluster-admin" {
				t.Errorf("%s holds %s", name, rbac.Describe(authz.Rule(rule)))
			}
			if slices.Contains(rule.Verbs, "list") && !slices.Contains(rule.Verbs, "watch") {
				t.Errorf("%s may list and not watch: %s", name, rbac.Describe(authz.Rule(rule)))
			}
		}
	}
}

// TestWhoReaches lists, for what is dangerous, the complete set of roles that
// reach it.
func TestWhoReaches(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ verb, group, resource, roles string }{
		{"get", "", "secrets", "admin cluster-admin edit system:aggregate-to-edit system:node"},
		{"create", "", "secrets", "admin cluster-admin edit system:aggregate-to-edit"},
		{"create", "", "pods/exec", "admin cluster-admin edit system:aggregate-to-edit"},
		{"get", "", "pods/exec", "admin cluster-admin edit system:aggregate-to-edit"},
		{"get", "", "services/proxy", "admin cluster-admin edit system:aggregate-to-edit"},
		{"create", "", "serviceaccounts/token", "admin cluster-admin edit system:aggregate-to-edit system:node"},
		{"impersonate", "", "serviceaccounts", "admin cluster-admin edit system:aggregate-to-edit"},
		{"impersonate", "", "users", "cluster-admin"},
		{"impersonate", "", "groups", "cluster-admin"},
		{"create", rbacv1.GroupName, "rolebindings", "admin cluster-admin system:aggregate-to-admin"},
		{"create", rbacv1.GroupName, "roles", "admin cluster-admin system:aggregate-to-admin"},
		{"get", rbacv1.GroupName, "roles", "admin cluster-admin system:aggregate-to-admin"},
		{"create", rbacv1.GroupName, "clusterrolebindings", "cluster-admin"},
		{"get", rbacv1.GroupName, "clusterroles", "cluster-admin"},
		{"escalate", rbacv1.GroupName, "roles", "cluster-admin"},
		{"bind", rbacv1.GroupName, "clusterroles", "cluster-admin"},
		{"create", "", "namespaces", "cluster-admin"},
		{"delete", "", "nodes", "cluster-admin"},
		{"update", "", "pods/status", "cluster-admin system:node"},
		{"create", "certificates.k8s.io", "certificatesigningrequests", "cluster-admin system:node system:node-bootstrapper"},
		{"update", "certificates.k8s.io", "certificatesigningrequests/approval", "cluster-admin"},
		{"sign", "certificates.k8s.io", "signers", "cluster-admin"},
		{"create", "authentication.k8s.io", "tokenreviews", "cluster-admin system:auth-delegator system:node"},
		{"create", "authorization.k8s.io", "subjectaccessreviews", "cluster-admin system:auth-delegator system:node"},
		{"create", "authorization.k8s.io", "localsubjectaccessreviews", "admin cluster-admin system:aggregate-to-admin system:node"},
		{"get", "federation.gatehouse.dev", "sites", "cluster-admin gatehouse:site-operator"},
		{"list", "federation.gatehouse.dev", "sites", "cluster-admin gatehouse:site-operator"},
		{"create", "federation.gatehouse.dev", "sites", "cluster-admin gatehouse:site-operator"},
		{"get", "access.gatehouse.dev", "accesspolicies", "cluster-admin"},
		{"create", "admissionregistration.k8s.io", "validatingadmissionpolicies", "cluster-admin"},
	} {
		var got []string
		for name, r := range started(t) {
			if covers(r, tc.verb, tc.group, tc.resource) {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != tc.roles {
			t.Errorf("%s %s/%s: %v, want %s", tc.verb, tc.group, tc.resource, got, tc.roles)
		}
	}
}

// TestUserRolesContainOneAnother: view ⊂ edit ⊂ admin, and view is what edit
// may read apart from what gives more power when read.
func TestUserRolesContainOneAnother(t *testing.T) {
	t.Parallel()
	roles := started(t)
	for _, pair := range [][2]string{{"admin", "edit"}, {"edit", "view"}} {
		if missing := rbac.Missing(roles[pair[0]].Rules, roles[pair[1]].Rules); len(missing) > 0 {
			t.Errorf("%s lacks of %s: %v", pair[0], pair[1], missing)
		}
		if missing := rbac.Missing(roles[pair[1]].Rules, roles[pair[0]].Rules); len(missing) == 0 {
			t.Errorf("%s is no less than %s", pair[1], pair[0])
		}
	}
	escalating := map[string]bool{}
	for _, missing := range rbac.Missing(roles["view"].Rules, roles["edit"].Rules) {
		if verb := missing.Verbs[0]; verb == "get" || verb == "list" || verb == "watch" {
			escalating[missing.APIGroups[0]+"/"+missing.Resources[0]] = true
		}
	}
	want := []string{"/pods/attach", "/pods/exec", "/pods/portforward", "/pods/proxy", "/secrets", "/services/proxy", "coordination.k8s.io/leases"}
	if got := slices.Sorted(maps.Keys(escalating)); !slices.Equal(got, want) {
		t.Errorf("edit reads beyond view: %v, want %v", got, want)
	}
	for _, rule := range roles["view"].Rules {
		for _, verb := range rule.Verbs {
			if verb != "get" && verb != "list" && verb != "watch" {
				t.Errorf("view may %s %v", verb, rule.Resources)
			}
		}
	}
}

// TestBindings is the complete list of who holds something from the start.
func TestBindings(t *testing.T) {
	t.Parallel()
	want := map[string][]string{
		"cluster-admin":                           {"system:masters"},
		"system:monitoring":                       {"system:monitoring"},
		"system:discovery":                        {"system:authenticated"},
		"system:basic-user":                       {"system:authenticated"},
		"system:public-info-viewer":               {"system:authenticated", "system:unauthenticated"},
		"system:node":                             nil,
		"system:service-account-issuer-discovery": {"system:serviceaccounts"},
	}
	got := map[string][]string{}
	for _, b := range bootstrap.Default().ClusterRoleBindings {
		var groups []string
		for _, s := range b.Subjects {
			if s.Kind != "Group" || s.APIGroup != rbacv1.GroupName || s.Namespace != "" {
				t.Errorf("%s binds %+v", b.Name, s)
			}
			groups = append(groups, s.Name)
		}
		got[b.Name] = groups
	}
	if !maps.EqualFunc(got, want, slices.Equal[[]string]) {
		t.Errorf("got %v", got)
	}
}
