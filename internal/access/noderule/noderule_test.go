package noderule_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/noderule"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

const agent = "system:serviceaccount:kube-system:handler"

func rules() *noderule.Rules {
	to := []accessv1alpha1.NodeRuleAgent{{Namespace: "kube-system", Name: "handler"}}
	r := &noderule.Rules{}
	r.Replace([]*accessv1alpha1.NodeRule{
		{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: accessv1alpha1.NodeRuleSpec{Agents: to, Label: &accessv1alpha1.NodeRuleLabel{Key: "example.com/state"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: accessv1alpha1.NodeRuleSpec{Agents: to, Taint: &accessv1alpha1.NodeRuleTaint{Key: "example.com/ends", Effects: []corev1.TaintEffect{corev1.TaintEffectNoSchedule}}}},
	})
	return r
}

func extra(node string) map[string][]string {
	return map[string][]string{"authentication.kubernetes.io/node-name": {node}, "authentication.kubernetes.io/node-uid": {"uid"}}
}

func TestAllows(t *testing.T) {
	r := rules()
	ask := func(verb, resource, sub, name string) *authz.Request {
		return &authz.Request{ResourceRequest: true, Verb: verb, Resource: resource, Subresource: sub, Name: name}
	}
	for name, c := range map[string]struct {
		user  string
		extra map[string][]string
		q     *authz.Request
		want  bool
	}{
		"patch":                   {agent, extra("n1"), ask("patch", "nodes", "", "n1"), true},
		"update":                  {agent, extra("n1"), ask("update", "nodes", "", "n1"), true},
		"get":                     {agent, extra("n1"), ask("get", "nodes", "", "n1"), true},
		"delete":                  {agent, extra("n1"), ask("delete", "nodes", "", "n1"), false},
		"create":                  {agent, extra("n1"), ask("create", "nodes", "", "n1"), false},
		"list":                    {agent, extra("n1"), ask("list", "nodes", "", "n1"), false},
		"another node":            {agent, extra("n1"), ask("patch", "nodes", "", "n2"), false},
		"no name":                 {agent, extra(""), ask("patch", "nodes", "", ""), false},
		"the status":              {agent, extra("n1"), ask("patch", "nodes", "status", "n1"), false},
		"another kind":            {agent, extra("n1"), ask("patch", "pods", "", "n1"), false},
		"another group":           {agent, extra("n1"), &authz.Request{ResourceRequest: true, APIGroup: "x", Verb: "patch", Resource: "nodes", Name: "n1"}, false},
		"a path":                  {agent, extra("n1"), &authz.Request{Verb: "patch", Path: "/api/v1/nodes/n1"}, false},
		"another agent":           {agent + "2", extra("n1"), ask("patch", "nodes", "", "n1"), false},
		"a token for no node":     {agent, nil, ask("patch", "nodes", "", "n1"), false},
		"a token for two nodes":   {agent, map[string][]string{"authentication.kubernetes.io/node-name": {"n1", "n2"}}, ask("patch", "nodes", "", "n1"), false},
		"the node itself, no SA":  {"system:node:n1", extra("n1"), ask("patch", "nodes", "", "n1"), false},
		"a person of a like name": {"system:serviceaccount:kube-system", extra("n1"), ask("patch", "nodes", "", "n1"), false},
	} {
		rule, ok := r.Allows(c.user, c.extra, c.q)
		if ok != c.want || ok && rule != "a" {
			t.Errorf("%s: %q %v", name, rule, ok)
		}
	}
	q := &authz.Request{}
	if n := testing.AllocsPerRun(100, func() { r.Allows("ada", nil, q) }); n != 0 {
		t.Errorf("%v allocations for a question of somebody else", n)
	}
	gone := rules()
	gone.Delete(&accessv1alpha1.NodeRule{ObjectMeta: metav1.ObjectMeta{Name: "a"}})
	gone.Delete(&accessv1alpha1.NodeRule{ObjectMeta: metav1.ObjectMeta{Name: "b"}})
	if _, ok := gone.Allows(agent, extra("n1"), ask("patch", "nodes", "", "n1")); ok {
		t.Error("a rule that is gone allows")
	}
	if _, ok := (&noderule.Rules{}).Allows(agent, extra("n1"), ask("patch", "nodes", "", "n1")); ok {
		t.Error("no rules allow")
	}
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	r := rules()
	old := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "uid", ResourceVersion: "5", Labels: map[string]string{"keep": "x"}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: "theirs", Effect: corev1.TaintEffectNoExecute}}},
	}
	with := func(change func(*corev1.Node)) *corev1.Node {
		n := old.DeepCopy()
		n.ResourceVersion, n.ManagedFields = "6", []metav1.ManagedFieldsEntry{{Manager: "agent"}}
		change(n)
		return n
	}
	taint := func(key string, effect corev1.TaintEffect) corev1.Taint {
		return corev1.Taint{Key: key, Effect: effect}
	}
	marked := with(func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, taint("example.com/ends", corev1.TaintEffectNoSchedule))
	})
	for name, c := range map[string]struct {
		node, old *corev1.Node
		want      bool
	}{
		"nothing":           {with(func(*corev1.Node) {}), old, true},
		"the taint added":   {marked, old, true},
		"the taint removed": {with(func(*corev1.Node) {}), marked, true},
		"the taint first": {with(func(n *corev1.Node) {
			n.Spec.Taints = append([]corev1.Taint{taint("example.com/ends", corev1.TaintEffectNoSchedule)}, n.Spec.Taints...)
		}), old, true},
		"the label": {with(func(n *corev1.Node) { n.Labels["example.com/state"] = "ends" }), old, true},
		"both":      {with(func(n *corev1.Node) { n.Labels["example.com/state"] = "ends"; n.Spec.Taints = marked.Spec.Taints }), old, true},
		"another effect": {with(func(n *corev1.Node) {
			n.Spec.Taints = append(n.Spec.Taints, taint("example.com/ends", corev1.TaintEffectNoExecute))
		}), old, false},
		"another taint": {with(func(n *corev1.Node) {
			n.Spec.Taints = append(n.Spec.Taints, taint("other", corev1.TaintEffectNoSchedule))
		}), old, false},
		"another taint beside": {with(func(n *corev1.Node) {
			n.Spec.Taints = append(marked.Spec.Taints, taint("other", corev1.TaintEffectNoSchedule))
		}), old, false},
		"theirs removed": {with(func(n *corev1.Node) { n.Spec.Taints = nil }), old, false},
		"theirs replaced": {with(func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{taint("example.com/ends", corev1.TaintEffectNoSchedule)}
		}), old, false},
		"another label":   {with(func(n *corev1.Node) { n.Labels["other"] = "x" }), old, false},
		"a label removed": {with(func(n *corev1.Node) { n.Labels = nil }), old, false},
		"an annotation":   {with(func(n *corev1.Node) { n.Annotations = map[string]string{"a": "b"} }), old, false},
		"unschedulable":   {with(func(n *corev1.Node) { n.Spec.Unschedulable = true }), old, false},
		"an owner":        {with(func(n *corev1.Node) { n.OwnerReferences = []metav1.OwnerReference{{Name: "x"}} }), old, false},
		"a finalizer":     {with(func(n *corev1.Node) { n.Finalizers = []string{"x/y"} }), old, false},
		"the status":      {with(func(n *corev1.Node) { n.Status.Phase = corev1.NodePending }), old, false},
	} {
		err := r.Admit(&resource.Change{Caller: resource.Caller{Name: agent, Extra: extra("n1")}, Operation: resource.Update, Object: c.node, Old: c.old})
		if (err == nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), "taint example.com/ends, label example.com/state")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Effects left out are all.
	any := &noderule.Rules{}
	any.Put(&accessv1alpha1.NodeRule{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: accessv1alpha1.NodeRuleSpec{
		Agents: []accessv1alpha1.NodeRuleAgent{{Namespace: "kube-system", Name: "handler"}}, Taint: &accessv1alpha1.NodeRuleTaint{Key: "example.com/ends"}}})
	all := with(func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, taint("example.com/ends", corev1.TaintEffectNoExecute))
	})
	if err := any.Admit(&resource.Change{Caller: resource.Caller{Name: agent, Extra: extra("n1")}, Operation: resource.Update, Object: all, Old: old}); err != nil {
		t.Errorf("any effect: %v", err)
	}
	// A node that was deleted and created anew is another one.
	reborn := old.DeepCopy()
	reborn.UID = "other"
	for name, c := range map[string]resource.Change{
		"a node of the same name": {Operation: resource.Update, Object: reborn, Old: reborn},
		"a deletion":              {Operation: resource.Delete, Old: old},
		"a creation":              {Operation: resource.Create, Object: old},
		"something else":          {Operation: resource.Update, Object: runtime.Object(&corev1.Pod{}), Old: old},
	} {
		c.Caller = resource.Caller{Name: agent, Extra: extra("n1")}
		if err := r.Admit(&c); fault.KindOf(err) != fault.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
}
