package authz

import (
	"fmt"
	"testing"
)

func TestLookups(t *testing.T) {
	t.Parallel()
	e := New()
	rule := []Rule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}
	e.Update(func(tx *Tx) {
		tx.PutRole(Role{Name: "viewer", Rules: rule})
		tx.PutRole(Role{Namespace: "a", Name: "viewer", Rules: rule})
		for i := range 80 { // beyond the forms of a few grants
			tx.PutBinding(Binding{Namespace: fmt.Sprintf("n%02d", i), Name: "b", RoleKind: ClusterRoleKind, RoleName: "viewer", Subjects: []Subject{{Kind: User, Name: "ada"}}})
		}
		for i := range 30 {
			tx.PutBinding(Binding{Namespace: "a", Name: fmt.Sprintf("b%d", i), RoleKind: RoleKind, RoleName: "viewer", Subjects: []Subject{{Kind: Group, Name: "dev"}}})
		}
		tx.PutBinding(Binding{Name: "gone", RoleKind: ClusterRoleKind, RoleName: "viewer", Subjects: []Subject{{Kind: User, Name: "bob"}}})
		tx.PutPolicy(Policy{Name: "p", Effect: Allow, Sites: []string{ControlPlane}, Namespaces: []string{"n*"}, NamespaceLabels: []Requirement{{Key: "x", Operator: Exists}}})
		tx.PutBan(Ban{Name: "b", Sites: []string{"*"}, CredentialIDs: []string{"JTI=1"}})
		tx.PutNamespace(ControlPlane, "n01", map[string]string{"x": "1"})
		tx.PutSite(Site{Name: "blue"})
	})
	s := e.Update(func(tx *Tx) { tx.DeleteBinding("", "gone") })
	if b, ok := s.BindingNamed("n07", "b"); !ok || b.RoleName != "viewer" || len(b.Subjects) != 1 {
		t.Errorf("%+v %v", b, ok)
	}
	for _, absent := range [][2]string{{"", "gone"}, {"n07", "c"}, {"zz", "b"}} {
		if b, ok := s.BindingNamed(absent[0], absent[1]); ok {
			t.Errorf("%v: %+v", absent, b)
		}
	}
	if got := s.BindingsOf(map[[2]string]bool{{"", "viewer"}: true}); len(got) != 80 || got[0].Namespace != "n00" {
		t.Errorf("%d bindings of the cluster role", len(got))
	}
	if got := s.BindingsOf(map[[2]string]bool{{"a", "viewer"}: true}); len(got) != 30 {
		t.Errorf("%d bindings of the role", len(got))
	}
	if r, ok := s.RoleNamed("a", "viewer"); !ok || len(r.Rules) != 1 {
		t.Errorf("%+v %v", r, ok)
	}
	if _, ok := s.RoleNamed("b", "viewer"); ok {
		t.Error("a role that is not there")
	}
	if got := s.NamespacesOf(&Request{User: "ada"}); len(got) != 80 || got[79] != "n79" {
		t.Errorf("%v", got)
	}
	if got := s.NamespacesOf(&Request{User: "x", Groups: []string{"dev"}}); fmt.Sprint(got) != "[a]" {
		t.Errorf("%v", got)
	}
	names := map[string]bool{}
	s.EachPolicy(func(p *Policy, b *Ban) {
		if p != nil {
			names[p.Name] = true
			if !s.InNamespace(p, ControlPlane, "n01") || s.InNamespace(p, ControlPlane, "n02") || s.InNamespace(p, ControlPlane, "") || s.InNamespace(p, "blue", "n01") {
				t.Error("where the policy reaches")
			}
		} else {
			names[b.Name] = true
		}
	})
	if len(names) != 2 || len(s.Sites()) != 1 || !AtSite([]string{"b*"}, "blue") || AtSite([]string{"b*"}, ControlPlane) {
		t.Errorf("%v %v", names, s.Sites())
	}
}
