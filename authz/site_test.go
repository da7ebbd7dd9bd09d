package authz

import "testing"

// TestSiteQuestions attacks the border between a site's names and the control
// plane's.
func TestSiteQuestions(t *testing.T) {
	t.Parallel()
	all := rule4("*", "*", "*", "*")
	s := New().Update(func(tx *Tx) {
		tx.PutSite(Site{Name: "shared", SharedRBAC: true})
		tx.PutSite(Site{Name: "closed"})
		tx.PutRole(clusterRole("all", all))
		tx.PutRole(clusterRole("system:all", all))
		tx.PutRole(Role{Name: "own", Rules: []Rule{all}, Bootstrap: true})
		tx.PutBinding(bind("ns", "people", ClusterRoleKind, "all", "User:alice Group:team Group:system:authenticated-not"))
		tx.PutBinding(bind("ns", "machines", ClusterRoleKind, "all", "ServiceAccount:ns/sa Group:system:serviceaccounts:ns User:system:node:n1 Group:system:nodes User:system:admin"))
		tx.PutBinding(bind("ns", "masters", ClusterRoleKind, "all", "Group:system:masters"))
		tx.PutBinding(bind("ns", "prefixed", ClusterRoleKind, "all", "User:gatehouse:carol User:gatehouse:system:node:n2"))
		tx.PutBinding(bind("ns", "system:people", ClusterRoleKind, "all", "User:bob"))
		tx.PutBinding(bind("ns", "to-system", ClusterRoleKind, "system:all", "User:bob"))
		tx.PutBinding(bind("ns", "to-own", ClusterRoleKind, "own", "User:bob"))
		b := bind("ns", "made-for-itself", ClusterRoleKind, "all", "User:bob")
		b.Bootstrap = true
		tx.PutBinding(b)
		tx.PutBinding(bind("open", "everyone", ClusterRoleKind, "all", "Group:system:authenticated"))
	})
	for _, tc := range []struct {
		user, group, namespace string
		here, shared           bool
	}{
		{"alice", "", "ns", true, true},
		{"x", "team", "ns", true, true},
		{"bob", "", "ns", true, false},
		{"system:serviceaccount:ns:sa", "", "ns", true, false},
		{"gatehouse:system:serviceaccount:ns:sa", "", "ns", false, true},
		{"gatehouse:gatehouse:system:serviceaccount:ns:sa", "", "ns", false, false},
		{"x", "system:serviceaccounts:ns", "ns", true, false},
		{"x", "gatehouse:system:serviceaccounts:ns", "ns", false, true},
		{"x", "gatehouse:system:serviceaccountsX", "ns", false, false},
		{"system:node:n1", "", "ns", true, false},
		{"gatehouse:system:node:n1", "", "ns", false, false},
		{"gatehouse:system:node:n2", "", "ns", true, true}, // a user of just that name
		{"x", "system:nodes", "ns", true, false},
		{"system:admin", "", "ns", true, false},
		{"gatehouse:system:admin", "", "ns", false, false},
		{"x", "system:masters", "ns", true, false},
		{"x", "gatehouse:system:masters", "ns", false, false},
		{"gatehouse:carol", "", "ns", true, true},
		{"x", "system:authenticated", "open", true, true},
	} {
		q := res(tc.user, tc.group, "get", "pods", "", tc.namespace)
		for site, want := range map[string]bool{"": tc.here, "shared": tc.shared, "closed": false, "unknown": false} {
			q.Site = site
			d := s.Decide(q)
			if d.Allowed() != want {
				t.Errorf("site %q, user %q, group %q: allowed %v (%s), want %v", site, tc.user, tc.group, d.Allowed(), d.Reason(), want)
			}
			granted, _ := s.RulesFor(q)
			if (len(granted) > 0) != want {
				t.Errorf("site %q, user %q, group %q: %d rules listed, allowed %v", site, tc.user, tc.group, len(granted), want)
			}
		}
	}
}
