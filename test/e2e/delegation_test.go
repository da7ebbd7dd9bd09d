package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// delegate renders a Delegation of "get one ConfigMap" in a namespace.
func delegate(name, namespace, to string, end time.Time, more ...string) string {
	return fmt.Sprintf(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: Delegation
metadata: {name: %s}
spec:
  to: {kind: ServiceAccount, namespace: %s, name: %s}
  rules: [{apiGroups: [""], resources: [configmaps], resourceNames: [settings], verbs: [get]}]
  sites: [gatehouse]
  namespaces: {names: [%s]}
  notAfter: %q
%s`, name, namespace, to, namespace, end.UTC().Format(time.RFC3339), strings.Join(more, "\n"))
}

// Somebody hands on "get one ConfigMap" for an hour; it works, is on record with
// both names, and ends with everything it rests on.
func TestDelegation(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	const ns = "handover"
	k.namespace(ns)
	people := map[string]kube{}
	tokens, clients := map[string]string{}, map[string]bearer{}
	k.run("create", "clusterrole", "delegator", "--verb=create,get,delete", "--resource=delegations.access.gatehouse.dev")
	k.run("create", "clusterrolebinding", "delegators", "--clusterrole=delegator", "--group=system:serviceaccounts:"+ns)
	k.feed(strings.ReplaceAll(`
{apiVersion: v1, kind: ServiceAccount, metadata: {name: alice, namespace: NS}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: bob, namespace: NS}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: carol, namespace: NS}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: NS}, data: {colour: green}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: other, namespace: NS}}
`, "NS", ns), "create", "-f", "-")
	for _, name := range []string{"alice", "bob", "carol"} {
		tokens[name] = strings.TrimSpace(k.run("create", "token", name, "-n", ns))
		people[name], clients[name] = withToken(t, g, tokens[name]), tokenClient(t, g, tokens[name])
	}
	user := func(name string) string { return "system:serviceaccount:" + ns + ":" + name }
	k.run("create", "role", "reader", "-n", ns, "--verb=get", "--resource=configmaps")
	grant := func() {
		k.run("create", "rolebinding", "alice-reads", "-n", ns, "--role=reader", "--serviceaccount="+ns+":alice")
	}
	grant()
	reads := func(name, what string) bool {
		code, _ := clients[name].send(http.MethodGet, "/api/v1/namespaces/"+ns+"/configmaps/"+what, clients[name].header, nil)
		return code == http.StatusOK
	}
	gains := func(name, why string) {
		t.Helper()
		promptly(t, effectWithin, name+" reads: "+why, func() bool { return reads(name, "settings") })
	}
	loses := func(name, why string) {
		t.Helper()
		promptly(t, effectWithin, name+" does not read: "+why, func() bool { return !reads(name, "settings") })
	}
	promptly(t, effectWithin, "the giver reads", func() bool { return reads("alice", "settings") })
	if reads("bob", "settings") {
		t.Fatal("the receiver reads before anything was handed on")
	}
	hour := time.Now().Add(time.Hour)

	// What the giver does not hold, it cannot hand on.
	people["bob"].failsFed(delegate("own", ns, "carol", hour), 1, []string{"forbidden", "attempting to delegate permissions not currently held", `"configmaps"`}, "create", "-f", "-")
	people["alice"].failsFed(delegate("more", ns, "bob", hour, "  roles: [edit]"), 1, []string{"forbidden", "not currently held"}, "create", "-f", "-")
	people["alice"].failsFed(delegate("forged", ns, "bob", hour, "  from: {user: gatehouse-admin, groups: [\"system:masters\"]}"), 1, []string{"forbidden", "cannot impersonate"}, "create", "-f", "-")

	people["alice"].feed(delegate("one-hour", ns, "bob", hour), "create", "-f", "-")
	gains("bob", "alice handed it on")
	if reads("bob", "other") {
		t.Error("the receiver reads another object")
	}
	people["bob"].fails(1, []string{"forbidden"}, "get", "configmaps", "-n", ns)
	k.shows([]string{user("alice"), "ServiceAccount/" + ns + "/bob"}, "get", "delegation", "one-hour")
	k.shows([]string{user("alice") + " " + user("alice") + " system:authenticated system:serviceaccounts system:serviceaccounts:" + ns},
		"get", "delegation", "one-hour", "-o", "jsonpath={.spec.author} {.spec.from.user} {.spec.from.groups[*]}")
	// kubectl reads and then writes; the server may write the status between.
	eventually(t, commandWithin, "kubectl replace finds its object as it read it", func() bool {
		got := k.exec(delegate("one-hour", ns, "carol", hour), "replace", "-f", "-")
		if !strings.Contains(got.Stderr, "cannot be changed") && !strings.Contains(got.Stderr, "has been modified") {
			t.Fatalf("a changed delegation: %v", got)
		}
		return got.Code == 1 && strings.Contains(got.Stderr, "spec") && strings.Contains(got.Stderr, "cannot be changed")
	})
	if got := command(t, g.Kubeconfig, "explain", "get", "configmaps/settings", "-n", ns, "--as", user("bob")); got.Code != 0 ||
		!strings.Contains(got.Stdout, `Delegation "one-hour" from "`+user("alice")) || !strings.Contains(got.Stdout, "alice-reads") {
		t.Errorf("explain: %v", got)
	}

	// It is not to be handed on.
	further := func(name, from, to, parent string, more ...string) string {
		return delegate(name, ns, to, hour, append(more, "  parent: "+parent)...)
	}
	people["bob"].failsFed(further("further", "bob", "carol", "one-hour"), 1, []string{"spec.parent", "may not be handed on"}, "create", "-f", "-")
	people["alice"].feed(delegate("open", ns, "bob", hour, "  mayDelegate: true"), "create", "-f", "-")
	people["bob"].failsFed(further("back", "bob", "alice", "open"), 1, []string{"spec.to.name", "already stands in the chain"}, "create", "-f", "-")
	people["bob"].failsFed(delegate("longer", ns, "carol", hour.Add(time.Minute), "  parent: open"), 1, []string{"spec.notAfter", "must not be after the end of the parent"}, "create", "-f", "-")
	people["carol"].failsFed(further("stolen", "carol", "bob", "open"), 1, []string{"spec.parent", "was not given to the author"}, "create", "-f", "-")
	people["bob"].feed(further("further", "bob", "carol", "open"), "create", "-f", "-")
	gains("carol", "bob handed it on")

	// Both names are on record, and the chain.
	out := auditCommand(t, 0, "query", "--kubeconfig", g.Kubeconfig, "--user", user("carol"), "--verb", "get", "--resource", "configmaps", "--name", "settings", "--output", "json").Stdout
	chained := false
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var e struct {
			User        struct{ Username string }
			Annotations map[string]string
		}
		if json.Unmarshal([]byte(line), &e) != nil || e.Annotations["authorization.k8s.io/decision"] != "allow" {
			continue
		}
		chained = chained || e.User.Username == user("carol") && e.Annotations["audit.gatehouse.dev/on-behalf-of"] == user("alice") &&
			e.Annotations["audit.gatehouse.dev/delegation-chain"] == fmt.Sprintf(`[{"delegation":"further","from":%q,"to":%q},{"delegation":"open","from":%q,"to":%q}]`,
				user("bob"), user("carol"), user("alice"), user("bob")) &&
			strings.Contains(e.Annotations["authorization.k8s.io/reason"], `Delegation "further" from "`+user("bob")+`", who has it by Delegation "open"`)
	}
	if !chained {
		t.Errorf("no event names the chain:\n%s", out)
	}

	// The giver loses it, and with it everybody behind.
	k.run("delete", "rolebinding", "alice-reads", "-n", ns)
	loses("bob", "the giver's binding is gone")
	eventually(t, commandWithin, "the status says so", func() bool {
		return strings.Contains(k.run("get", "delegation", "one-hour", "--no-headers"), "GiverLacks")
	})
	loses("carol", "the first giver's binding is gone")
	grant()
	gains("carol", "the giver has it again")
	deny := func(name string) string {
		return fmt.Sprintf(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: not-%s}
spec:
  effect: Deny
  subjects: [{kind: ServiceAccount, namespace: %s, name: %s}]
  rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
  sites: [gatehouse]
  message: ask the owner of the settings
`, name, ns, name)
	}
	for _, name := range []string{"bob", "carol"} {
		k.feed(deny(name), "create", "-f", "-")
		loses("carol", name+" is denied")
		if name == "carol" {
			people["carol"].fails(1, []string{"forbidden", "ask the owner of the settings"}, "get", "configmap", "settings", "-n", ns)
		}
		k.run("delete", "accesspolicy", "not-"+name)
		gains("carol", "the denial of "+name+" is lifted")
	}
	for _, what := range [][]string{{"subject", "serviceaccount/" + ns + "/bob"}, {"credential", credentialID(t, tokens["alice"])}} {
		ban := revoke(t, g, what...)
		loses("carol", strings.Join(what, " ")+" is banned")
		k.run("delete", "ban", ban)
		gains("carol", "the ban is lifted")
	}
	// Another of the same name is not the delegation that was handed on.
	k.run("delete", "delegation", "open")
	loses("carol", "the parent is gone")
	k.run("delete", "delegation", "one-hour")
	loses("bob", "both are gone")
	people["alice"].feed(delegate("open", ns, "bob", hour, "  mayDelegate: true"), "create", "-f", "-")
	gains("bob", "the namesake gives to its own receiver")
	if reads("carol", "settings") {
		t.Error("a delegation is revived by a namesake of its parent")
	}
	k.run("delete", "delegation", "open")
	loses("bob", "the namesake is gone")

	// It ends by itself, and with the account that gave it.
	// One that was over before anybody looked, on a machine that is busy, shows
	// nothing: the next is longer.
	for life := 4 * time.Second; ; life *= 2 {
		end := time.Now().Add(life)
		made := people["alice"].exec(delegate(fmt.Sprint("short-", life), ns, "bob", end), "create", "-f", "-")
		gained := false
		for made.Code == 0 && !gained && time.Now().Before(end) {
			gained = reads("bob", "settings")
		}
		if gained {
			promptlyAfter(t, end, effectWithin, "the delegation ends", func() bool { return !reads("bob", "settings") })
			break
		}
		if life > time.Minute {
			t.Fatalf("a delegation of %v never counts: %v", life, made)
		}
	}
	people["alice"].feed(delegate("last", ns, "bob", hour), "create", "-f", "-")
	gains("bob", "once more")
	k.run("delete", "serviceaccount", "alice", "-n", ns)
	loses("bob", "the giver's account is deleted")
	k.run("create", "serviceaccount", "alice", "-n", ns)
	if reads("bob", "settings") {
		t.Error("a namesake of the giver revives the delegation")
	}
}

// An administrator hands on for somebody whom it may impersonate.
func TestDelegationOnBehalf(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	const ns = "on-behalf"
	k.namespace(ns)
	k.run("create", "configmap", "settings", "-n", ns)
	k.run("create", "serviceaccount", "receiver", "-n", ns)
	k.run("create", "role", "reader", "-n", ns, "--verb=get", "--resource=configmaps")
	k.run("create", "rolebinding", "reader", "-n", ns, "--role=reader", "--group=on-behalf-team")
	receiver := withToken(t, g, strings.TrimSpace(k.run("create", "token", "receiver", "-n", ns)))
	hour := time.Now().Add(time.Hour)
	k.failsFed(delegate("on-behalf-alone", ns, "receiver", hour, "  from: {user: olga}"), 1, []string{"forbidden", "not currently held"}, "create", "-f", "-")
	k.feed(delegate("on-behalf", ns, "receiver", hour, "  from: {user: olga, groups: [on-behalf-team]}"), "create", "-f", "-")
	promptly(t, effectWithin, "the receiver reads", func() bool {
		return receiver.exec("", "get", "configmap", "settings", "-n", ns).Code == 0
	})
	k.shows([]string{"olga gatehouse-admin"}, "get", "delegation", "on-behalf", "-o", "jsonpath={.spec.from.user} {.spec.author}")
}
