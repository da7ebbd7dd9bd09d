package e2e

import (
	"strings"
	"testing"
)

// One policy allows a list by what it selects, and nothing wider.
func TestListsBySelector(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	k.namespace("selectors")
	k.run("create", "secret", "generic", "ours", "-n", "selectors")
	k.run("label", "secret", "ours", "-n", "selectors", "team=a")
	k.run("create", "secret", "generic", "theirs", "-n", "selectors")
	k.feed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: team-a-secrets}
spec:
  effect: Allow
  subjects: [{kind: User, name: tina}]
  rules: [{apiGroups: [""], resources: [secrets], verbs: [list, watch]}]
  sites: [gatehouse]
  namespaces: {names: [selectors]}
  labelSelector: [{key: team, operator: In, values: [a]}]
`, "apply", "-f", "-")
	as := "--as=tina"
	promptly(t, effectWithin, "the policy counts", func() bool {
		return k.exec("", "get", "secrets", "-n", "selectors", "-l", "team=a", as).Code == 0
	})
	k.shows([]string{"ours"}, "get", "secrets", "-n", "selectors", "-l", "team=a", as)
	k.shows([]string{"ours"}, "get", "secrets", "-n", "selectors", "-l", "team=a,tier!=x", as)
	for _, wider := range [][]string{
		{"get", "secrets", "-n", "selectors"},
		{"get", "secrets", "-n", "selectors", "-l", "team in (a,b)"},
		{"get", "secrets", "-n", "selectors", "-l", "team"},
		{"get", "secrets", "-n", "selectors", "-l", "team!=b"},
		{"get", "secrets", "-A", "-l", "team=a"},
		{"get", "secrets", "-n", "default", "-l", "team=a"},
		{"get", "secret", "ours", "-n", "selectors"},
	} {
		k.fails(1, []string{"Forbidden"}, append(wider, as)...)
	}

	// A deny that selects is touched by every request that could meet it.
	k.feed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: not-team-a}
spec:
  effect: Deny
  subjects: [{kind: User, name: tom}]
  rules: [{apiGroups: [""], resources: [configmaps], verbs: [list]}]
  sites: [gatehouse]
  labelSelector: [{key: team, operator: In, values: [a]}]
`, "apply", "-f", "-")
	k.run("create", "rolebinding", "tom", "-n", "selectors", "--clusterrole=view", "--user=tom")
	promptly(t, effectWithin, "the grant counts", func() bool {
		return k.exec("", "get", "configmaps", "-n", "selectors", "-l", "team=b", "--as=tom").Code == 0
	})
	eventually(t, commandWithin, "the deny counts", func() bool {
		return strings.Contains(k.exec("", "get", "configmaps", "-n", "selectors", "--as=tom").Stderr, "not-team-a")
	})
	k.fails(1, []string{"Forbidden", "not-team-a"}, "get", "configmaps", "-n", "selectors", "--as=tom")
	k.fails(1, []string{"Forbidden", "not-team-a"}, "get", "configmaps", "-n", "selectors", "-l", "team=a", "--as=tom")
}

// Nobody writes a policy that gives more than they hold.
func TestPolicyEscalation(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	k.run("create", "clusterrole", "policy-writer", "--verb=create,update,patch,get", "--resource=accesspolicies.access.gatehouse.dev,bans.access.gatehouse.dev")
	k.run("create", "clusterrolebinding", "paul-writes-policy", "--clusterrole=policy-writer", "--user=paul")
	k.can(true, "create", "accesspolicies.access.gatehouse.dev", "--as=paul")
	k.failsFed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: self-service}
spec:
  effect: Allow
  subjects: [{kind: User, name: paul}]
  rules: [{apiGroups: [""], resources: [secrets], verbs: [get]}]
  sites: [gatehouse]
`, 1, []string{"forbidden", "attempting to grant", "secrets"}, "create", "-f", "-", "--as=paul")
	k.failsFed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: Ban
metadata: {name: coup}
spec: {subject: {kind: Group, name: "system:masters"}, reason: coup}
`, 1, []string{"forbidden"}, "create", "-f", "-", "--as=paul")
	k.failsFed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: wrong}
spec:
  effect: Deny
  subjects: []
  roles: [no-such-role]
  sites: ["*", gatehouse]
  condition: request.verb + 1
`, 1, []string{"spec.subjects", "spec.roles[0]", "spec.sites[0]", "spec.condition"}, "create", "-f", "-")
}
