package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write puts text into a file of the test's.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// kubectl auth can-i --list shows what is denied, and single questions agree.
func TestListShowsDenials(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	k.namespace("denials")
	k.run("create", "role", "dev", "-n", "denials", "--verb=get,list", "--resource=configmaps,secrets")
	k.run("create", "rolebinding", "dev", "-n", "denials", "--role=dev", "--user=dora")
	k.feed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: dora-no-secrets}
spec:
  effect: Deny
  subjects: [{kind: User, name: dora}]
  rules: [{apiGroups: [""], resources: [secrets], verbs: ["*"]}]
  sites: [gatehouse]
  namespaces: {names: [denials]}
`, "apply", "-f", "-")
	eventually(t, commandWithin, "the deny counts", func() bool {
		return k.exec("", "auth", "can-i", "get", "secrets", "-n", "denials", "--as=dora").Code == 1
	})
	got := k.exec("", "auth", "can-i", "--list", "-n", "denials", "--as=dora")
	if got.Code != 0 || !strings.Contains(got.Stdout, "[deny:*]") || !strings.Contains(got.Stderr, `denied by AccessPolicy "dora-no-secrets": * secrets`) {
		t.Errorf("%v", got)
	}
	for _, line := range strings.Split(got.Stdout, "\n") {
		if strings.HasPrefix(line, "secrets ") && strings.Contains(line, "get") {
			t.Errorf("secrets are listed as granted: %s", line)
		}
		if strings.HasPrefix(line, "configmaps ") && !strings.Contains(line, "[get list]") {
			t.Errorf("configmaps: %s", line)
		}
	}
	if got := k.exec("", "auth", "can-i", "list", "secrets", "-n", "denials", "--as=dora"); got.Code != 1 || !strings.Contains(got.Stdout, "dora-no-secrets") {
		t.Errorf("a single question: %v", got)
	}
	k.can(true, "list", "configmaps", "-n", "denials", "--as=dora")
}

// What somebody may do: with kubectl and with the command, complete and in order.
func TestWhatCan(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	k.namespace("what-can")
	k.run("create", "rolebinding", "view", "-n", "what-can", "--clusterrole=view", "--user=wanda")
	k.feed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: wanda-lists}
spec:
  effect: Allow
  subjects: [{kind: User, name: wanda}]
  rules: [{apiGroups: [""], resources: [secrets], verbs: [list]}]
  sites: [gatehouse]
  labelSelector: [{key: team, operator: In, values: [a]}]
---
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: wanda-not}
spec:
  effect: Deny
  subjects: [{kind: User, name: wanda}]
  rules: [{apiGroups: [""], resources: [pods], verbs: ["*"]}]
  sites: [gatehouse]
`, "apply", "-f", "-")
	const question = `
apiVersion: access.gatehouse.dev/v1alpha1
kind: WhatCanReview
spec: {subject: {user: wanda}, namespace: what-can}
`
	order := []string{"AccessPolicy/wanda-not", "RoleBinding/view", "AccessPolicy/wanda-lists"}
	eventually(t, commandWithin, "the policies count", func() bool {
		out := k.feed(question, "create", "--validate=ignore", "-f", "-", "-o", `jsonpath={range .status.entitlements[*]}{.by.kind}/{.by.name} {end}`)
		return strings.TrimSpace(out) == strings.Join(order, " ")
	})
	got := command(t, g.Kubeconfig, "what-can", "wanda", "-n", "what-can")
	if got.Code != 0 || !strings.Contains(got.Stdout, "Deny") || !strings.Contains(got.Stdout, "labels team in (a)") {
		t.Errorf("%v", got)
	}
	if got := command(t, g.Kubeconfig, "what-can", "nobody-at-all", "-n", "what-can"); got.Code != 1 {
		t.Errorf("somebody without rights: %v", got)
	}
	// Only who may ask about others may ask.
	withoutRight := k.exec(question, "create", "--validate=ignore", "-f", "-", "--as=wanda")
	if withoutRight.Code != 1 || !strings.Contains(withoutRight.Stderr, "whatcanreviews") {
		t.Errorf("%v", withoutRight)
	}
}

// What a manifest would change is said before it is applied, and is what it
// changes.
func TestWhatIf(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	k.namespace("what-if")
	k.run("create", "serviceaccount", "bot", "-n", "what-if")
	manifest := write(t, "binding.yaml", `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: readers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects:
- {kind: User, apiGroup: rbac.authorization.k8s.io, name: iris}
- {kind: Group, apiGroup: rbac.authorization.k8s.io, name: "system:serviceaccounts:what-if"}
`)
	type impact struct {
		Subjects []struct {
			Subject      struct{ Kind, Name, Namespace string }
			MemberOf     string
			Gains, Loses []struct {
				Namespace string
				By        []string
				Rules     []struct{ Verbs, Resources []string }
			}
		}
		Notes []string
	}
	ask := func(code int, args ...string) (out impact) {
		t.Helper()
		got := command(t, g.Kubeconfig, append([]string{"what-if", "-f", manifest, "-n", "what-if", "--output", "json"}, args...)...)
		if got.Code != code {
			t.Fatalf("%v", got)
		}
		if err := json.Unmarshal([]byte(got.Stdout), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	var said impact
	eventually(t, commandWithin, "the account is known", func() bool {
		said = ask(1)
		names := map[string]bool{}
		for _, s := range said.Subjects {
			names[s.Subject.Kind+"/"+s.Subject.Name] = true
		}
		return names["User/iris"] && names["Group/system:serviceaccounts:what-if"] && names["ServiceAccount/bot"]
	})
	for _, s := range said.Subjects {
		if len(s.Gains) != 1 || len(s.Loses) != 0 || s.Gains[0].Namespace != "what-if" || strings.Join(s.Gains[0].Rules[0].Verbs, ",") != "get,list" {
			t.Errorf("%+v", s)
		}
	}
	k.can(false, "get", "configmaps", "-n", "what-if", "--as=iris")
	k.run("apply", "-n", "what-if", "-f", manifest)
	eventually(t, commandWithin, "the binding counts", func() bool {
		return k.exec("", "auth", "can-i", "get", "configmaps", "-n", "what-if", "--as=iris").Code == 0
	})
	if again := ask(0); len(again.Subjects) != 0 {
		t.Errorf("applied again: %+v", again)
	}
	if gone := ask(1, "--delete"); len(gone.Subjects) != len(said.Subjects) || len(gone.Subjects[0].Loses) != 1 {
		t.Errorf("deleted: %+v", gone)
	}
	table := command(t, g.Kubeconfig, "what-if", "-f", manifest, "-n", "what-if", "--delete")
	if table.Code != 1 || !strings.Contains(table.Stdout, "User/iris") || !strings.Contains(table.Stdout, "loses") {
		t.Errorf("%v", table)
	}

	// With kubectl, and by those only who may read what the answer tells.
	review := `{"apiVersion":"access.gatehouse.dev/v1alpha1","kind":"ImpactReview","spec":{"delete":[{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"readers","namespace":"what-if"}}]}}`
	if out := k.feed(review, "create", "--validate=ignore", "-f", "-", "-o", "jsonpath={.status.subjects[*].subject.name}"); !strings.Contains(out, "iris") {
		t.Errorf("kubectl: %s", out)
	}
	k.run("create", "clusterrole", "asker", "--verb=create", "--resource=impactreviews.access.gatehouse.dev")
	k.run("create", "clusterrolebinding", "asker", "--clusterrole=asker", "--user=nosy")
	eventually(t, commandWithin, "the right to ask counts", func() bool {
		got := k.exec(review, "create", "--validate=ignore", "-f", "-", "--as=nosy")
		return got.Code == 1 && strings.Contains(got.Stderr, "cannot list roles")
	})
	for _, wrong := range []string{"{}", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}`, "::"} {
		if got := command(t, g.Kubeconfig, "what-if", "-f", write(t, "wrong.yaml", wrong)); got.Code != 2 || got.Stderr == "" {
			t.Errorf("%s: %v", wrong, got)
		}
	}
}

// One AccessPolicy lets a user of a stock cluster list what a selector picks,
// and nothing wider.
func TestListsBySelectorAtASite(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	_, flags := connect(t, g, "selector-site", "--mode", "full")
	cluster := startCluster(t, flags...)
	c := as(t, cluster)
	c.namespace("shop")
	c.run("create", "secret", "generic", "ours", "-n", "shop")
	c.run("label", "secret", "ours", "-n", "shop", "team=a")
	c.run("create", "secret", "generic", "theirs", "-n", "shop")
	const who = "--as=tina"
	c.fails(1, []string{"Forbidden"}, "get", "secrets", "-n", "shop", "-l", "team=a", who)
	k.feed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: site-team-a-secrets}
spec:
  effect: Allow
  subjects: [{kind: User, name: tina}]
  rules: [{apiGroups: [""], resources: [secrets], verbs: [list, watch]}]
  sites: [selector-site]
  labelSelector: [{key: team, operator: In, values: [a]}]
`, "apply", "-f", "-")
	eventually(t, commandWithin, "the policy counts in the cluster", func() bool {
		return c.exec("", "get", "secrets", "-n", "shop", "-l", "team=a", who).Code == 0
	})
	c.shows([]string{"ours"}, "get", "secrets", "-n", "shop", "-l", "team=a", who)
	for _, wider := range [][]string{
		{"get", "secrets", "-n", "shop"},
		{"get", "secrets", "-n", "shop", "-l", "team in (a,b)"},
		{"get", "secrets", "-A"},
		{"get", "secret", "ours", "-n", "shop"},
	} {
		c.fails(1, []string{"Forbidden"}, append(wider, who)...)
	}
	// What somebody would gain there is said of the site.
	got := command(t, g.Kubeconfig, "what-if", "--delete", "-f", write(t, "policy.yaml", "apiVersion: access.gatehouse.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: site-team-a-secrets}\n"))
	if got.Code != 1 || !strings.Contains(got.Stdout, "User/tina") || !strings.Contains(got.Stdout, "at site selector-site") || !strings.Contains(got.Stdout, "labels team in (a)") {
		t.Errorf("%v", got)
	}
}
