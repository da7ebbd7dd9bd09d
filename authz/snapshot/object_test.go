package snapshot

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/authz"
)

// TestOneObjectSameAnswers restricts policy to one object of a namespace, as a
// host follows it, and asks both about that object.
func TestOneObjectSameAnswers(t *testing.T) {
	t.Parallel()
	var outcomes [3]int
	handed := 0
	for seed := range uint64(300) {
		d := draw{rand.New(rand.NewPCG(seed, 14))}
		centre := authz.New().Update(d.fill)
		r := authz.Restriction{Site: d.pick(authz.ControlPlane, authz.ControlPlane, "s1"), Namespace: d.pick("", "n1"),
			Object: authz.Object{APIGroup: d.pick("", "apps"), Resource: d.pick("pods", "jobs"), Name: d.pick("a", "b")}}
		content := centre.Restrict(r)
		h := header(r.Site, r.Namespace, 1)
		h.Object = r.Object.Resource + "." + r.Object.APIGroup + "/" + r.Object.Name
		frame, _, err := Seal(&content, Credentials{}, h, newKey(1))
		if err != nil {
			t.Fatal(err)
		}
		demand := rules(r.Site, r.Namespace)
		demand.Object = h.Object
		f := NewFollower(demand)
		if _, err := f.Accept(frame, noon); err != nil {
			t.Fatal(err)
		}
		held, err := f.Current(noon)
		if err != nil {
			t.Fatal(err)
		}
		site := r.Site
		if site == authz.ControlPlane {
			site = ""
		}
		for range 150 {
			q := d.question(site, r.Namespace)
			q.ResourceRequest, q.Path = true, ""
			q.APIGroup, q.Resource, q.Name = r.Object.APIGroup, r.Object.Resource, r.Object.Name
			want, got := centre.Decide(q), held.Snapshot.Decide(q)
			if want.Effect() != got.Effect() || want.Reason() != got.Reason() {
				t.Fatalf("seed %d, %+v: %+v\ncentre: %v %s\nhere:   %v %s", seed, r, q, want.Effect(), want.Reason(), got.Effect(), got.Reason())
			}
			outcomes[want.Effect()]++
			if len(got.Delegations()) > 0 {
				handed++
			}
		}
	}
	if handed < 100 || slices.Min(outcomes[:]) < 2000 {
		t.Errorf("%v, %d by delegation: the questions say little", outcomes, handed)
	}
}

// TestOneObjectTellsLittle: of other objects, resources, namespaces and paths
// nothing is in the bytes.
func TestOneObjectTellsLittle(t *testing.T) {
	t.Parallel()
	ada := []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.User, Name: "ada"}}}
	hosts := func(names ...string) authz.Rule {
		return authz.Rule{Verbs: []string{"run"}, APIGroups: []string{"fleet", "secret-group"}, Resources: []string{"hosts", "hosts/jobs", "secret-resources"}, ResourceNames: names}
	}
	secrets := authz.Rule{Verbs: []string{"get"}, APIGroups: []string{"secret-group"}, Resources: []string{"secret-resources"}}
	path := authz.Rule{Verbs: []string{"get"}, NonResourceURLs: []string{"/secret-path"}}
	s := authz.New().Update(func(t *authz.Tx) {
		t.PutNamespace(authz.ControlPlane, "lab", map[string]string{"tier": "x", "secret-label": "y"})
		t.PutNamespace(authz.ControlPlane, "secret-namespace", map[string]string{"tier": "x"})
		t.PutRole(authz.Role{Name: "operator", Rules: []authz.Rule{hosts("web-1", "secret-host"), secrets, path}})
		t.PutRole(authz.Role{Name: "secret-role", Rules: []authz.Rule{secrets, path, hosts("secret-host")}})
		b := authz.Binding{Namespace: "lab", Name: "operators", RoleKind: "ClusterRole", RoleName: "operator", Subjects: []authz.Subject{{Kind: authz.User, Name: "ada"}}}
		t.PutBinding(b)
		b.Name, b.RoleName = "secret-binding", "secret-role"
		t.PutBinding(b)
		b.Name, b.RoleName, b.Namespace = "secret-binding", "operator", "secret-namespace"
		t.PutBinding(b)
		for name, p := range map[string]authz.Policy{
			"of-hosts":       {Rules: []authz.Rule{hosts("web-1", "secret-host"), secrets}, Namespaces: []string{"lab", "secret-namespace"}},
			"secret-policy":  {Rules: []authz.Rule{secrets, path, hosts("secret-host")}},
			"secret-by-role": {Roles: []string{"secret-role"}},
			"secret-space":   {Rules: []authz.Rule{hosts()}, Namespaces: []string{"secret-namespace"}},
		} {
			p.Name, p.Effect, p.Subjects, p.Sites = name, authz.Deny, ada, []string{"*"}
			t.PutPolicy(p)
		}
		for name, rule := range map[string]authz.Rule{"handed": hosts("web-1", "secret-host"), "secret-delegation": secrets} {
			t.PutDelegation(authz.Delegation{Name: name, ID: "1", Giver: authz.Giver{User: "ada"}, To: authz.Subject{Kind: authz.User, Name: "bea"},
				Rules: []authz.Rule{rule}, Sites: []string{authz.ControlPlane, "secret-site"}, Namespaces: []string{"lab", "secret-namespace"}, NotAfter: noon})
		}
	})
	c := s.Restrict(authz.Restriction{Site: authz.ControlPlane, Namespace: "lab", Object: authz.Object{APIGroup: "fleet", Resource: "hosts", Name: "web-1"}})
	body, err := encode(&c)
	if err != nil {
		t.Fatal(err)
	}
	if at := strings.Index(string(body), "secret"); at >= 0 {
		t.Errorf("the body tells %q", body[at:min(len(body), at+40)])
	}
	if len(c.Roles) != 1 || len(c.Bindings) != 1 || len(c.Policies) != 1 || len(c.Delegations) != 1 {
		t.Errorf("content %+v lacks what the host needs", c)
	}
}
