package snapshot

import (
	"fmt"
	"testing"

	"github.com/gatehouse-dev/gatehouse/authz"
)

// BenchmarkFollow restricts, seals and accepts the policy of a site that shares
// a hundred thousand bindings.
func BenchmarkFollow(b *testing.B) {
	s := authz.New().Update(func(t *authz.Tx) {
		t.PutSite(authz.Site{Name: "s1", SharedRBAC: true})
		for i := range 2000 {
			t.PutRole(authz.Role{Name: fmt.Sprint("role-", i), Rules: []authz.Rule{{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"pods", fmt.Sprint("kind-", i%200)}}}})
		}
		for i := range 100_000 {
			t.PutBinding(authz.Binding{Namespace: fmt.Sprint("project-", i%2000), Name: fmt.Sprint("binding-", i), RoleKind: authz.ClusterRoleKind, RoleName: fmt.Sprint("role-", i%1999),
				Subjects: []authz.Subject{{Kind: authz.User, Name: fmt.Sprintf("user-%d@example.com", i%20_000)}}})
		}
	})
	var frame []byte
	b.Run("seal", func(b *testing.B) {
		for b.Loop() {
			content := s.Restrict(authz.Restriction{Site: "s1"})
			var err error
			if frame, _, err = Seal(&content, Credentials{}, header("s1", "", 1), newKey(1)); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(frame)), "bytes")
	})
	b.Run("accept", func(b *testing.B) {
		for b.Loop() {
			if _, err := NewFollower(rules("s1", "")).Accept(frame, noon); err != nil {
				b.Fatal(err)
			}
		}
	})
}
