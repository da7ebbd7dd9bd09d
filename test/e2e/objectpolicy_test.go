package e2e

import (
	"strings"
	"testing"
)

// Access policies that read the object of a change: nothing is let through by
// authorization that admission does not look at.
func TestObjectPolicies(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	const ns = "object-policies"
	k.namespace(ns)
	k.run("create", "role", "worker", "-n", ns, "--verb=get,list,create,update,patch,delete,deletecollection", "--resource=pods")
	k.run("create", "rolebinding", "worker", "-n", ns, "--role=worker", "--user=oscar")
	policy := func(name, effect, resource, verbs, condition string) string {
		return strings.NewReplacer("NAME", name, "EFFECT", effect, "RESOURCE", resource, "VERBS", verbs, "CONDITION", condition, "NS", ns).Replace(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: NAME}
spec:
  effect: EFFECT
  subjects: [{kind: User, name: oscar}]
  rules: [{apiGroups: [""], resources: [RESOURCE], verbs: [VERBS]}]
  sites: [gatehouse]
  namespaces: {names: [NS]}
  condition: CONDITION
  message: see the handbook
`)
	}
	for _, wrong := range []struct{ condition, says string }{
		{`object.metadata.name`, "spec.condition"}, {`objet.metadata.name == "x"`, "spec.condition"}, {`object.metadata.name +`, "spec.condition"},
	} {
		k.failsFed(policy("object-wrong", "Deny", "pods", "create", "'"+wrong.condition+"'"), 1, []string{wrong.says}, "create", "-f", "-")
	}
	k.feed(policy("object-deny", "Deny", "pods", "create, update, patch, delete, deletecollection",
		`'oldObject != null && has(oldObject.metadata.labels.keep) || object != null && has(object.metadata.labels.x) && object.metadata.labels.x == "blue"'`), "create", "-f", "-")
	k.feed(policy("object-allow", "Allow", "configmaps", "get, create, update, patch, delete",
		`'object.metadata.name.startsWith("oscar-")'`), "create", "-f", "-")

	pod := func(name, labels string) string {
		return `{apiVersion: v1, kind: Pod, metadata: {name: ` + name + `, namespace: ` + ns + `, labels: {` + labels + `}}, spec: {containers: [{name: c, image: i}]}}`
	}
	promptly(t, effectWithin, "the policies count", func() bool {
		return k.exec("", "create", "configmap", "oscar-first", "-n", ns, "--as=oscar").Code == 0 &&
			k.exec(pod("refused", "x: blue"), "create", "--dry-run=server", "-f", "-", "--as=oscar").Code != 0
	})
	refusal := []string{"forbidden", `denied by AccessPolicy "object-deny": see the handbook`}
	// A deny: only of what it is about, by whatever way the object comes.
	k.failsFed(pod("labelled", "x: blue"), 1, refusal, "create", "-f", "-", "--as=oscar")
	k.failsFed(pod("labelled", "x: blue"), 1, refusal, "apply", "--server-side", "-f", "-", "--as=oscar")
	k.feed(pod("plain", "x: red"), "create", "-f", "-", "--as=oscar")
	k.fails(1, refusal, "label", "pod", "plain", "-n", ns, "x=blue", "--overwrite", "--as=oscar")
	k.run("label", "pod", "plain", "-n", ns, "keep=yes", "--as=oscar")
	k.fails(1, refusal, "delete", "pod", "plain", "-n", ns, "--as=oscar")
	k.fails(1, refusal, "delete", "pods", "--all", "-n", ns, "--as=oscar")
	k.run("get", "pods", "-n", ns, "--as=oscar")
	k.run("get", "pod", "plain", "-n", ns)
	k.feed(pod("by-the-administrator", "x: blue"), "create", "-f", "-")

	// An allow: only of what it is about, and of nothing where no admission
	// looks.
	k.fails(1, []string{"forbidden"}, "create", "configmap", "stray", "-n", ns, "--as=oscar")
	k.fails(1, []string{"forbidden"}, "get", "configmap", "oscar-first", "-n", ns, "--as=oscar")
	k.fails(1, []string{"forbidden"}, "delete", "configmap", "oscar-first", "-n", ns, "--as=oscar")
	k.fails(1, []string{"forbidden"}, "create", "configmap", "stray", "-n", ns, "--as=oscar", "--dry-run=server")
	if code := command(t, g.Kubeconfig, "can-i", "create", "configmaps", "-n", ns, "--as", "oscar").Code; code != 1 {
		t.Errorf("a review says yes (%d) on a promise that nobody keeps", code)
	}
}
