package access_test

import (
	"strings"
	"testing"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
	"github.com/gatehouse-dev/gatehouse/internal/access/noderule"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// A node's rules come before bindings and after denials, and tell why.
func TestNodes(t *testing.T) {
	t.Parallel()
	w := federation(t)
	w.clusterRoles = append(w.clusterRoles, clusterRole("read-crds", rule("get", "*", "widgets,secrets")))
	w.clusterRoleBindings = append(w.clusterRoleBindings, clusterBind("read-crds", "Group:system:nodes"))
	g := &nodegraph.Graph{}
	g.Put(nodegraph.Source{Object: nodegraph.Object{Kind: nodegraph.Pod, Namespace: "prod", Name: "p"}, Node: "a", Needs: []nodegraph.Object{{Kind: nodegraph.ConfigMap, Namespace: "prod", Name: "needed"}}})
	a, err := access.New(access.Config{Policy: w.policy(), Nodes: g})
	if err != nil {
		t.Fatal(err)
	}
	node := user("system:node:a", "system:nodes", "system:authenticated")
	for q, want := range map[string]struct {
		effect authz.Effect
		reason string
	}{
		"get core/configmaps prod/needed": {authz.Allow, `allowed to node "a": a pod of it needs this object`},
		"get core/configmaps prod/other":  {authz.NoOpinion, `no relationship found between node "a" and this object`},
		"get core/secrets prod/x":         {authz.Allow, `ClusterRoleBinding "read-crds"`}, // a binding that says more stands
		"get example.com/widgets prod/x":  {authz.Allow, `ClusterRoleBinding "read-crds"`},
		"list core/nodes":                 {authz.NoOpinion, "cannot read all nodes"},
		"get core/nodes /a":               {authz.Allow, "the object is its own"},
	} {
		d := mustDecide(t, a, node, q)
		if d.Effect() != want.effect || !strings.Contains(d.Reason(), want.reason) {
			t.Errorf("%s: %v %q", q, d.Effect(), d.Reason())
		}
		if _, byBinding := d.Grant(); byBinding != strings.HasPrefix(want.reason, "ClusterRoleBinding") {
			t.Errorf("%s: by a binding: %v", q, byBinding)
		}
	}
	for name, who := range map[string]access.Subject{
		"without the group":                  user("system:node:a", "system:authenticated"),
		"with a group of a similar name":     user("system:node:a", "system:node"),
		"a person in the group":              user("ada", "system:nodes-x"),
		"the name of a node behind a prefix": user("oidc:system:node:a", "system:nodes-x"),
		"another node":                       user("system:node:b", "system:authenticated", "system:nodes"),
	} {
		if mustDecide(t, a, who, "get core/configmaps prod/needed").Allowed() {
			t.Errorf("allowed to a caller %s", name)
		}
	}
}

// Between authorization and admission a rule can go, for as long as a client
// takes to send what it changes.
func TestNodeRuleThatIsGone(t *testing.T) {
	t.Parallel()
	rules := &noderule.Rules{}
	a, err := access.New(access.Config{Policy: federation(t).policy(), NodeRules: rules})
	if err != nil {
		t.Fatal(err)
	}
	agent := user("system:serviceaccount:kube-system:handler")
	agent.Extra = map[string][]string{"authentication.kubernetes.io/node-name": {"n1"}}
	q := authz.Request{ResourceRequest: true, Verb: "patch", Resource: "nodes", Name: "n1"}
	rule := &accessv1alpha1.NodeRule{Spec: accessv1alpha1.NodeRuleSpec{Agents: []accessv1alpha1.NodeRuleAgent{{Namespace: "kube-system", Name: "handler"}}}}
	rules.Put(rule)
	if by, err := a.OnNodeRule(t.Context(), agent, q); !by || err != nil {
		t.Errorf("with the rule: %v %v", by, err)
	}
	rules.Delete(rule)
	if _, err := a.OnNodeRule(t.Context(), agent, q); fault.KindOf(err) != fault.Denied {
		t.Errorf("without the rule: %v", err)
	}
}
