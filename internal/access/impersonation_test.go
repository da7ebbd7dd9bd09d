package access_test

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

func TestCheckImpersonation(t *testing.T) {
	t.Parallel()
	const authentication = "authentication.k8s.io"
	a := world{
		clusterRoles: []*rbacv1.ClusterRole{
			clusterRole("users", rule("impersonate", "", "users")),
			clusterRole("one-user", named(rule("impersonate", "", "users"), "alice")),
			clusterRole("groups", rule("impersonate", "", "users,groups")),
			clusterRole("extras", rule("impersonate", "", "users"), rule("impersonate", authentication, "userextras/scopes")),
			clusterRole("one-extra", rule("impersonate", "", "users"), named(rule("impersonate", authentication, "userextras/scopes"), "view")),
			clusterRole("uids", rule("impersonate", "", "users"), rule("impersonate", authentication, "uids")),
			clusterRole("everything", rule("*", "*", "*")),
			clusterRole("robots", rule("impersonate", "", "serviceaccounts")),
		},
		clusterRoleBindings: []*rbacv1.ClusterRoleBinding{clusterBind("users", "User:users"), clusterBind("one-user", "User:one-user"),
			clusterBind("groups", "User:groups"), clusterBind("extras", "User:extras"), clusterBind("one-extra", "User:one-extra"),
			clusterBind("uids", "User:uids"), clusterBind("everything", "User:everything")},
		roleBindings: []*rbacv1.RoleBinding{bind("ns", "ClusterRole/robots", "User:robots")},
	}.authorizer(t)
	target := func(name string, change func(*access.Subject)) access.Subject {
		s := user(name)
		if change != nil {
			change(&s)
		}
		return s
	}
	extra := func(k string, v ...string) func(*access.Subject) {
		return func(s *access.Subject) { s.Extra = map[string][]string{k: v} }
	}
	uid := func(s *access.Subject) { s.UID = "1" }
	groups := func(g ...string) func(*access.Subject) { return func(s *access.Subject) { s.Groups = g } }
	for _, tc := range []struct {
		who    string
		target access.Subject
		denied string // "" passes
	}{
		{"users", target("bob", nil), ""},
		{"one-user", target("alice", nil), ""},
		{"one-user", target("bob", nil), `user "one-user" cannot impersonate resource "users" in API group "", name "bob", namespace ""`},
		{"nobody", target("alice", nil), `user "nobody" cannot impersonate resource "users" in API group "", name "alice", namespace ""`},
		{"users", target("alice", groups("dev")), `user "users" cannot impersonate resource "groups" in API group "", name "dev", namespace ""`},
		{"groups", target("alice", groups("dev", "system:masters")), ""},
		{"extras", target("alice", extra("scopes", "view", "edit")), ""},
		{"extras", target("alice", extra("other", "view")), `user "extras" cannot impersonate resource "userextras/other" in API group "authentication.k8s.io", name "view", namespace ""`},
		{"one-extra", target("alice", extra("scopes", "view")), ""},
		{"one-extra", target("alice", extra("scopes", "view", "edit")), `user "one-extra" cannot impersonate resource "userextras/scopes" in API group "authentication.k8s.io", name "edit", namespace ""`},
		{"uids", target("alice", uid), ""},
		{"users", target("alice", uid), `user "users" cannot impersonate resource "uids" in API group "authentication.k8s.io", name "1", namespace ""`},
		{"robots", target("system:serviceaccount:ns:robot", nil), ""},
		{"robots", target("system:serviceaccount:other:robot", nil), `user "robots" cannot impersonate resource "serviceaccounts" in API group "", name "robot", namespace "other"`},
		{"robots", target("system:serviceaccount:ns:robot:x", nil), `user "robots" cannot impersonate resource "users" in API group "", name "system:serviceaccount:ns:robot:x", namespace ""`},
		{"users", target("system:serviceaccount:ns:robot", nil), `user "users" cannot impersonate resource "serviceaccounts" in API group "", name "robot", namespace "ns"`},
		{"everything", target("system:admin", groups("system:masters")), ""},
		{"everything", target("system:site:berlin", nil), "names of sites cannot be impersonated"},
		{"everything", target("alice", groups("dev", "system:sites")), "names of sites cannot be impersonated"},
		{"root", target("system:site:berlin", nil), "names of sites cannot be impersonated"},
		{"root", target("alice", groups("system:sites")), "names of sites cannot be impersonated"},
		{"root", target("alice", groups("dev")), ""},
	} {
		requester := user(tc.who)
		if tc.who == "root" {
			requester.Groups = []string{"system:masters"}
		}
		err := a.CheckImpersonation(t.Context(), requester, tc.target)
		switch {
		case tc.denied == "" && err != nil:
			t.Errorf("%s as %+v: %v", tc.who, tc.target, err)
		case tc.denied != "" && (fault.KindOf(err) != fault.Denied || fault.Public(err) != tc.denied):
			t.Errorf("%s as %+v: %v, want %q", tc.who, tc.target, err, tc.denied)
		}
	}
	if err := a.CheckImpersonation(t.Context(), user("everything"), access.Subject{Groups: []string{"dev"}}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("groups without a user: %v", err)
	}
}

// The generic request filter asks the authorizer itself, with the plain verb
// or a constrained one.
func TestReservedNamesAreDeniedThroughDecide(t *testing.T) {
	t.Parallel()
	a := world{}.authorizer(t)
	root := user("root", "system:masters")
	for q, denied := range map[string]bool{
		"impersonate core/users /system:site:berlin":                            true,
		"impersonate core/groups /system:sites":                                 true,
		"impersonate:user-info core/users /system:site:berlin":                  true,
		"impersonate:user-info authentication.k8s.io/users /system:site:berlin": true,
		"impersonate:user-info core/groups /system:sites":                       true,
		"impersonate core/users /alice":                                         false,
		"impersonate core/groups /system:masters":                               false,
		"get core/users /system:site:berlin":                                    false,
	} {
		d := mustDecide(t, a, root, q)
		if d.Denied() != denied || d.Allowed() == denied {
			t.Errorf("%s: denied %v, allowed %v", q, d.Denied(), d.Allowed())
		}
		if denied && d.Reason() != "names of sites cannot be impersonated" {
			t.Errorf("%s: reason %q", q, d.Reason())
		}
	}
}
