package access_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access"
)

func TestChecksOnBans(t *testing.T) {
	t.Parallel()
	w := authors()
	w.clusterRoles = append(w.clusterRoles, clusterRole("ban-escalator", rule("escalate", "access.gatehouse.dev", "bans")))
	w.clusterRoleBindings = append(w.clusterRoleBindings, clusterBind("ban-escalator", "User:ban-escalator"))
	c := access.Checks{Access: w.authorizer(t)}
	user := &accessv1alpha1.BanSubject{Kind: accessv1alpha1.SubjectUser, Name: "getter"}
	for _, tc := range []struct {
		name string
		spec accessv1alpha1.BanSpec
		want verdicts
	}{
		{"somebody who holds nothing", accessv1alpha1.BanSpec{Subject: &accessv1alpha1.BanSubject{Kind: "User", Name: "stranger"}},
			verdicts{"nobody": true}},
		{"somebody who holds as much", accessv1alpha1.BanSpec{Subject: user},
			verdicts{"getter": true, "admin": true, "root,system:masters": true, "nobody": false, "ns-getter": false, "ban-escalator": true}},
		{"superusers", accessv1alpha1.BanSpec{Subject: &accessv1alpha1.BanSubject{Kind: "Group", Name: "system:masters"}, Sites: []string{"gate*"}},
			verdicts{"getter": false, "root,system:masters": true, "ban-escalator": true}},
		{"superusers of a site", accessv1alpha1.BanSpec{Subject: &accessv1alpha1.BanSubject{Kind: "Group", Name: "system:masters"}, Sites: []string{"blue"}},
			verdicts{"nobody": true}},
		{"a credential", accessv1alpha1.BanSpec{CredentialID: "JTI=1"}, verdicts{"nobody": true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.want.check(t, func(author access.Subject) error {
				return c.Ban(t.Context(), author, &accessv1alpha1.Ban{Spec: tc.spec}, nil)
			})
		})
	}
}

func TestBanned(t *testing.T) {
	t.Parallel()
	_, g, a, _ := granted(t)
	g.Bans.Put(&accessv1alpha1.Ban{ObjectMeta: metav1.ObjectMeta{Name: "here"}, Spec: accessv1alpha1.BanSpec{
		Subject: &accessv1alpha1.BanSubject{Kind: "User", Name: "alice"}, Sites: []string{"gatehouse"}, Reason: "left"}})
	g.Bans.Put(&accessv1alpha1.Ban{ObjectMeta: metav1.ObjectMeta{Name: "there"}, Spec: accessv1alpha1.BanSpec{
		Subject: &accessv1alpha1.BanSubject{Kind: "Site", Name: "shared"}, Reason: "stolen"}})
	g.Bans.Put(&accessv1alpha1.Ban{ObjectMeta: metav1.ObjectMeta{Name: "robot"}, Spec: accessv1alpha1.BanSpec{
		Subject: &accessv1alpha1.BanSubject{Kind: "ServiceAccount", Namespace: "web", Name: "robot"}, Sites: []string{"shared"}, Reason: "broken"}})
	// A deny is no ban.
	g.AccessPolicies.Put(accessPolicy("no", accessv1alpha1.EffectDeny, accessv1alpha1.Subject{Kind: "User", Name: "bob"}, "*"))
	for _, tc := range []struct {
		user, site string
		want       string
	}{
		{"alice", "", `Ban "here": left`},
		{"alice", "shared", ""},
		{"bob", "", ""},
		{"system:site:shared", "", `Ban "there": stolen`},
		{"system:serviceaccount:web:robot", "", ""},
		{"gatehouse:system:serviceaccount:web:robot", "shared", `Ban "robot": broken`},
		{"gatehouse:system:serviceaccount:web:robot", "other", ""},
	} {
		reason, banned, err := a.Banned(t.Context(), user(tc.user), tc.site)
		if err != nil || banned != (tc.want != "") || !strings.Contains(reason, tc.want) {
			t.Errorf("%s at %q: %v %q %v", tc.user, tc.site, banned, reason, err)
		}
	}
	if _, _, err := mustNew(t, access.NewPolicy()).Banned(t.Context(), user("alice"), ""); err == nil {
		t.Error("an incomplete policy says that nobody is banned")
	}
}

func mustNew(t *testing.T, p *access.Policy) *access.Authorizer {
	t.Helper()
	a, err := access.New(access.Config{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	return a
}
