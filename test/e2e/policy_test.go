package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// command runs a client command of the control plane.
func command(t *testing.T, kubeconfig string, args ...string) harness.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	got, err := harness.RunGatehouse(ctx, append(args, "--kubeconfig", kubeconfig)...)
	if err != nil {
		t.Fatalf("gatehouse %s: %v", strings.Join(args, " "), err)
	}
	return got
}

// revoke bans and returns the name of the ban.
func revoke(t *testing.T, g *harness.Gatehouse, args ...string) string {
	t.Helper()
	got := command(t, g.Kubeconfig, append([]string{"revoke", "--reason", "story"}, args...)...)
	if got.Code != 0 {
		t.Fatalf("gatehouse revoke %s: %v", strings.Join(args, " "), got)
	}
	return strings.TrimSpace(got.Stdout)
}

// credentialID is the id of a token that the control plane minted.
func credentialID(t *testing.T, token string) string {
	t.Helper()
	return "JTI=" + claims(t, token)["jti"].(string)
}

// One token is turned off; the other of the same account goes on.
func TestBannedToken(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	k.namespace("banned-token")
	k.run("create", "serviceaccount", "robot", "-n", "banned-token")
	k.run("create", "rolebinding", "robot", "-n", "banned-token", "--clusterrole=view", "--serviceaccount=banned-token:robot")
	stolen := strings.TrimSpace(k.run("create", "token", "robot", "-n", "banned-token"))
	kept := strings.TrimSpace(k.run("create", "token", "robot", "-n", "banned-token"))
	thief, owner := tokenClient(t, g, stolen), tokenClient(t, g, kept)
	eventually(t, commandWithin, "both tokens work", func() bool {
		return thief.lists("banned-token") == http.StatusOK && owner.lists("banned-token") == http.StatusOK
	})

	// A watch of each stands open.
	k.run("create", "configmap", "before", "-n", "banned-token")
	watches := map[string]*harness.Process{}
	for name, token := range map[string]string{"thief": stolen, "owner": kept} {
		w, err := withToken(t, g, token).k.Start("get", "configmaps", "-n", "banned-token", "--watch", "-o", "name")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Kill)
		watches[name] = w
		ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
		if _, err := w.WaitLine(ctx, "configmap/before"); err != nil {
			t.Fatal(err)
		}
		cancel()
	}

	name := revoke(t, g, "credential", credentialID(t, stolen))
	took := promptly(t, effectWithin, "the stolen token is refused", func() bool {
		return thief.lists("banned-token") == http.StatusUnauthorized
	})
	t.Logf("refused %v after the command returned", took.Round(time.Millisecond))
	if code := owner.lists("banned-token"); code != http.StatusOK {
		t.Errorf("the other token of the account: %d", code)
	}
	withToken(t, g, stolen).fails(1, []string{unauthorized}, "get", "configmaps", "-n", "banned-token")
	// kubectl ends its watch when the server does.
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	if _, err := watches["thief"].Wait(ctx); err != nil {
		t.Errorf("the watch of the banned token stands open: %v", err)
	}
	k.run("create", "configmap", "after", "-n", "banned-token")
	if _, err := watches["owner"].WaitLine(ctx, "configmap/after"); err != nil {
		t.Errorf("the watch of the other token: %v", err)
	}
	if strings.Contains(watches["thief"].Log(), "configmap/after") {
		t.Error("the banned token goes on watching")
	}

	// Lifted, the token is good again.
	k.shows([]string{name, "JTI=", "lifted"}, "get", "bans")
	k.run("delete", "ban", name)
	promptly(t, effectWithin, "the token is good again", func() bool { return thief.lists("banned-token") == http.StatusOK })

	// A ban ends by itself. One that was over before anybody looked, on a
	// machine that is busy, shows nothing: the next is longer.
	for life := 2 * time.Second; ; life *= 2 {
		name := revoke(t, g, "credential", credentialID(t, stolen), "--until", life.String())
		end := time.Now().Add(life)
		refused := false
		for !refused && time.Now().Before(end) {
			refused = thief.lists("banned-token") == http.StatusUnauthorized
		}
		if refused {
			promptlyAfter(t, end, effectWithin, "the ban ends", func() bool { return thief.lists("banned-token") == http.StatusOK })
			break
		}
		if life > time.Minute {
			t.Fatalf("a ban of %v never counts", life)
		}
		k.run("delete", "ban", name, "--ignore-not-found")
	}
}

// Watches end with the right they rest on.
func TestWatchEndsWithItsRight(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	k.namespace("watch-ends")
	k.run("create", "serviceaccount", "robot", "-n", "watch-ends")
	k.run("create", "rolebinding", "robot", "-n", "watch-ends", "--clusterrole=view", "--serviceaccount=watch-ends:robot")
	robot := tokenClient(t, g, strings.TrimSpace(k.run("create", "token", "robot", "-n", "watch-ends")))
	eventually(t, commandWithin, "the grant counts", func() bool { return robot.lists("watch-ends") == http.StatusOK })
	ended := make(chan time.Time, 1)
	go func() {
		_, _, _ = robot.try(http.MethodGet, "/api/v1/namespaces/watch-ends/configmaps?watch=true&timeoutSeconds=25", robot.header, nil)
		ended <- time.Now()
	}()
	select {
	case <-ended:
		t.Fatal("the watch ended at once")
	case <-time.After(2 * time.Second):
	}
	k.run("delete", "rolebinding", "robot", "-n", "watch-ends")
	lost, busiest := time.Now(), crowd()
	at := <-ended
	busiest = max(busiest, crowd())
	t.Logf("the watch ended %v after the right was taken away", at.Sub(lost).Round(time.Millisecond))
	if allowed := time.Duration(float64(effectWithin) * busiest); at.Sub(lost) > allowed {
		t.Errorf("the watch stood open for %v, allowed %v", at.Sub(lost), allowed)
	}
}

// Bans and denials bind administrators, whom only a recovery frees.
func TestAdministratorsAreBound(t *testing.T) {
	t.Parallel()
	g := start(t)
	k := as(t, g)
	k.namespace("bound")

	// A deny binds them, and nobody can override it.
	k.feed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: no-secrets}
spec:
  effect: Deny
  subjects: [{kind: Group, name: system:masters}]
  rules: [{apiGroups: [""], resources: [secrets], verbs: ["*"]}]
  sites: [gatehouse]
`, "apply", "-f", "-")
	eventually(t, commandWithin, "the deny counts", func() bool {
		got := k.exec("", "auth", "can-i", "get", "secrets", "-n", "bound")
		return got.Code == 1 && strings.Contains(got.Stdout, "no-secrets")
	})
	k.run("create", "clusterrolebinding", "more", "--clusterrole=cluster-admin", "--user=gatehouse-admin")
	k.feed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: a-secrets-after-all}
spec:
  effect: Allow
  subjects: [{kind: User, name: gatehouse-admin}, {kind: Group, name: system:masters}]
  rules: [{apiGroups: ["*"], resources: ["*"], verbs: ["*"]}]
  sites: ["*"]
`, "apply", "-f", "-")
	k.fails(1, []string{"Forbidden", "no-secrets"}, "get", "secrets", "-n", "bound")
	k.fails(1, []string{"Forbidden", "no-secrets"}, "get", "secrets", "-A")
	k.fails(1, []string{"forbidden", "no-secrets"}, "create", "secret", "generic", "s", "-n", "bound")
	k.run("get", "configmaps", "-n", "bound") // and everything else goes on

	// A ban binds them altogether, under any name.
	if got := command(t, g.Kubeconfig, "revoke", "subject", "group/system:masters", "--reason", "story"); got.Code != 0 {
		t.Fatalf("revoke: %v", got)
	}
	promptly(t, effectWithin, "the administrators are refused", func() bool {
		return k.exec("", "get", "namespaces").Code != 0
	})
	k.fails(1, []string{unauthorized}, "get", "namespaces")
	k.fails(1, []string{unauthorized}, "get", "namespaces", "--as=somebody", "--as-group=system:masters")
	if got := command(t, g.Kubeconfig, "revoke", "subject", "user/ada", "--reason", "story"); got.Code != 1 {
		t.Errorf("a banned administrator bans: %v", got)
	}

	// The way back needs the machine, and is recorded.
	if err := drain(g); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "recovery.kubeconfig")
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	got, err := harness.RunGatehouse(ctx, "admin", "recover", "--data-dir", g.DataDir, "--listen", strings.TrimPrefix(g.URL, "https://"), "--out", out, "--reason", "locked out")
	if err != nil || got.Code != 0 || !strings.Contains(got.Stderr, "AccessPolicy/no-secrets") || !strings.Contains(got.Stderr, "Ban/revoked-subject-") {
		t.Fatalf("recover: %v %v", err, got)
	}
	if err := g.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	recovered, err := harness.NewKubectl(out)
	if err != nil {
		t.Fatal(err)
	}
	k = kube{t, recovered}
	k.can(true, "*", "*", "--all-namespaces")
	k.run("get", "secrets", "-n", "bound")
	k.shows([]string{"a-secrets-after-all"}, "get", "accesspolicies")
	if !record(t, g).has(func(e event) bool {
		return e.Verb == "recover" && strings.Contains(e.annotations(), "AccessPolicy/no-secrets")
	}) {
		t.Error("the record does not say what the recovery deleted")
	}
}

// Whoever is banned is not impersonated either.
func TestBannedSubjectIsNotImpersonated(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	k.namespace("banned-as")
	k.run("create", "rolebinding", "barred", "-n", "banned-as", "--clusterrole=view", "--user=barred")
	k.can(true, "get", "configmaps", "-n", "banned-as", "--as=barred")
	name := revoke(t, g, "subject", "user/barred")
	promptly(t, effectWithin, "barred is refused", func() bool {
		return k.exec("", "get", "configmaps", "-n", "banned-as", "--as=barred").Code == 1
	})
	k.fails(1, []string{"Forbidden", name, "story"}, "get", "configmaps", "-n", "banned-as", "--as=barred")
	k.run("get", "configmaps", "-n", "banned-as", "--as=somebody", "--as-group=system:masters")
}

func TestRevokeUsage(t *testing.T) {
	t.Parallel()
	g := shared(t)
	for _, args := range [][]string{
		{"revoke", "credential", "--reason", "r"},
		{"revoke", "credential", "JTI=1"},
		{"revoke", "credential", "SHA=1", "--reason", "r"},
		{"revoke", "subject", "ada", "--reason", "r"},
		{"revoke", "subject", "user/ada", "--reason", "r", "--until", "yesterday"},
		{"revoke", "subject", "user/ada", "--reason", "r", "--until", "-1h"},
		{"revoke", "subject", "user/ada", "--reason", "r", "--output", "xml"},
		{"revoke", "site", "Not A Name", "--reason", "r"},
	} {
		if got := command(t, g.Kubeconfig, args...); got.Code != 2 || got.Stderr == "" {
			t.Errorf("gatehouse %s: %v", strings.Join(args, " "), got)
		}
	}
}

// A connected stock cluster refuses what is banned, and says that it heard.
func TestBanAtSite(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	_, flags := connect(t, g, "ban-site", "--mode", "full", "--rbac", "shared")
	cluster := startCluster(t, flags...)
	k.namespace("at-site")
	as(t, cluster).namespace("at-site")
	k.run("create", "serviceaccount", "robot", "-n", "at-site")
	k.run("create", "rolebinding", "robot", "-n", "at-site", "--clusterrole=view", "--serviceaccount=at-site:robot")
	mint := func() string {
		return strings.TrimSpace(k.run("create", "token", "robot", "-n", "at-site", "--audience", "gatehouse:site:ban-site"))
	}
	stolen, kept := mint(), mint()
	thief, owner := tokenClient(t, cluster, stolen), tokenClient(t, cluster, kept)
	eventually(t, commandWithin, "both tokens work in the cluster", func() bool {
		return thief.lists("at-site") == http.StatusOK && owner.lists("at-site") == http.StatusOK
	})
	name := revoke(t, g, "credential", credentialID(t, stolen))
	took := promptly(t, effectWithin, "the cluster refuses the stolen token", func() bool {
		code := thief.lists("at-site")
		return code == http.StatusForbidden || code == http.StatusUnauthorized
	})
	t.Logf("the cluster refused %v after the command returned", took.Round(time.Millisecond))
	if code := owner.lists("at-site"); code != http.StatusOK {
		t.Errorf("the other token in the cluster: %d", code)
	}
	eventually(t, commandWithin, "the site acknowledged", func() bool {
		return k.run("get", "ban", name, "-o", `jsonpath={.status.sites[?(@.name=="ban-site")].acknowledged}`) != ""
	})
	k.shows([]string{"SiteMastersNeverAsk", "OpenStreamsLiveOn", "OpenWithoutControlPlane"}, "get", "ban", name, "-o", "yaml")

	// A token ends with its account, though the cluster remembers it.
	k.run("delete", "serviceaccount", "robot", "-n", "at-site")
	promptly(t, effectWithin, "the token of a deleted account is refused", func() bool {
		code := owner.lists("at-site")
		return code == http.StatusForbidden || code == http.StatusUnauthorized
	})

	// A site that is turned off has no doors left.
	revoke(t, g, "site", "ban-site")
	if out := k.run("get", "site", "ban-site", "-o", "jsonpath={.spec.credentials}"); strings.Contains(out, "X509") {
		t.Errorf("certificates of a revoked site: %s", out)
	}
}

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

// The questions of administrators, asked by command and by kubectl.
func TestQuestions(t *testing.T) {
	t.Parallel()
	g := start(t)
	k := as(t, g)
	k.namespace("questions")
	k.run("create", "role", "reader", "-n", "questions", "--verb=get,list", "--resource=pods")
	k.run("create", "rolebinding", "quentin-reads", "-n", "questions", "--role=reader", "--user=quentin")
	k.feed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: questions-deny}
spec:
  effect: Deny
  subjects: [{kind: User, name: quentin}]
  rules: [{apiGroups: [""], resources: [secrets], verbs: ["*"]}]
  sites: [gatehouse]
---
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: questions-allow}
spec:
  effect: Allow
  subjects: [{kind: Group, name: quality}]
  rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
  sites: [gatehouse]
  namespaces: {names: [questions]}
`, "apply", "-f", "-")
	ask := func(code int, texts []string, args ...string) {
		t.Helper()
		got := command(t, g.Kubeconfig, args...)
		if got.Code != code {
			t.Errorf("gatehouse %s: %v", strings.Join(args, " "), got)
		}
		for _, text := range texts {
			if !strings.Contains(got.Stdout+got.Stderr, text) {
				t.Errorf("gatehouse %s does not say %q: %v", strings.Join(args, " "), text, got)
			}
		}
	}
	eventually(t, commandWithin, "the policies count", func() bool {
		return command(t, g.Kubeconfig, "can-i", "get", "pods", "-n", "questions", "--as", "quentin").Code == 0 &&
			command(t, g.Kubeconfig, "can-i", "get", "pods", "-n", "questions", "--as", "x", "--as-group", "quality").Code == 0
	})
	ask(0, []string{"yes", "system:masters"}, "can-i", "get", "secrets", "-A")
	ask(1, []string{"no", "questions-deny"}, "can-i", "get", "secrets", "-n", "questions", "--as", "quentin")
	ask(1, []string{`"denied": true`}, "can-i", "get", "secrets", "-n", "questions", "--as", "quentin", "-o", "json")

	file := filepath.Join(t.TempDir(), "questions")
	if err := os.WriteFile(file, []byte("get pods\n\nlist pods web\ndelete pods\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask(1, []string{"yes", "delete pods in namespace questions"}, "can-i", "--file", file, "-n", "questions", "--as", "quentin")
	ask(0, []string{"yes", "no"}, "can-i", "--file", file, "--any", "-n", "questions", "--as", "quentin")

	ask(0, []string{"User/quentin", "Group/quality", "Group/system:masters", "questions-allow"}, "who-can", "get", "pods", "-n", "questions")
	ask(1, []string{"Group/system:masters"}, "who-can", "smell", "pods", "-n", "questions")

	ask(0, []string{"allowed", "RoleBinding", "quentin-reads", "rule: get,list pods"}, "explain", "get", "pods", "-n", "questions", "--as", "quentin")
	ask(1, []string{"denied", "questions-deny"}, "explain", "get", "secrets", "-n", "questions", "--as", "quentin")
	ask(1, []string{"nothing grants it", "quentin-reads", "lacks the verb"}, "explain", "delete", "pods", "-n", "questions", "--as", "quentin")
	ask(1, []string{"kind: RoleBinding", "name: quentin-reads"}, "explain", "delete", "pods", "-n", "questions", "--as", "quentin", "-o", "yaml")

	for _, wrong := range [][]string{
		{"can-i", "get"}, {"can-i"}, {"can-i", "get", "/x", "y"}, {"can-i", "get", "pods", "--any"}, {"can-i", "get", "pods", "-o", "xml"},
		{"can-i", "get", "pods", "--file", file}, {"can-i", "--file", "no-such"}, {"explain", "get", "pods", "--as-uid", "1"}, {"who-can", "get"},
	} {
		ask(2, nil, wrong...)
	}
	got, err := harness.RunGatehouse(t.Context(), "can-i", "get", "pods", "--kubeconfig", "no-such")
	if err != nil || got.Code != 2 {
		t.Errorf("no kubeconfig: %v %v", err, got)
	}

	// Whoever may not ask about others may still ask about themselves.
	k.run("create", "serviceaccount", "curious", "-n", "questions")
	curious := withToken(t, g, strings.TrimSpace(k.run("create", "token", "curious", "-n", "questions")))
	config := filepath.Join(t.TempDir(), "curious")
	if err := os.WriteFile(config, []byte(curious.run("config", "view", "--raw", "--flatten", "--minify")), 0o600); err != nil {
		t.Fatal(err)
	}
	for code, args := range map[int][]string{
		0: {"can-i", "get", "/version"},
		1: {"can-i", "get", "pods", "-n", "questions"},
	} {
		if got := command(t, config, args...); got.Code != code {
			t.Errorf("%v: %v", args, got)
		}
	}
	if got := command(t, config, "can-i", "get", "pods", "-n", "questions", "--as", "quentin"); got.Code != 1 || !strings.Contains(got.Stderr, "forbidden") {
		t.Errorf("about others: %v", got)
	}

	// The same by kubectl.
	out := k.feed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessReview
spec:
  subject: {user: quentin}
  questions:
  - resourceAttributes: {verb: get, resource: pods, namespace: questions}
  - resourceAttributes: {verb: get, resource: secrets, namespace: questions}
`, "create", "--validate=ignore", "-f", "-", "-o", "jsonpath={.status.all} {.status.any} {.status.answers[*].allowed}")
	if out != "false true true false" {
		t.Errorf("kubectl create: %s", out)
	}
}

// An AuthZEN client asks over HTTPS.
func TestAuthZEN(t *testing.T) {
	t.Parallel()
	g := start(t)
	k := as(t, g)
	k.feed(`
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: authzen-story}
spec:
  effect: Allow
  subjects: [{kind: User, name: zoe}]
  rules: [{apiGroups: [""], resources: [record], resourceNames: ["101"], verbs: [view]}]
  sites: [gatehouse]
---
apiVersion: access.gatehouse.dev/v1alpha1
kind: AccessPolicy
metadata: {name: authzen-story-own}
spec:
  effect: Allow
  subjects: [{kind: User, name: zoe}]
  rules: [{apiGroups: [""], resources: [record], verbs: [edit]}]
  sites: [gatehouse]
  condition: object.resource.properties.owner == request.user
`, "apply", "-f", "-")
	admin := adminClient(t, g)
	post := func(path, body string) string {
		t.Helper()
		code, answer := admin.send(http.MethodPost, path, nil, []byte(body))
		return fmt.Sprintf("%d %s", code, answer)
	}
	const question = `{"subject":{"type":"user","id":"zoe"},"action":{"name":"view"},"resource":{"type":"record","id":"101"}}`
	promptly(t, effectWithin, "the policy counts", func() bool {
		return strings.Contains(post("/access/v1/evaluation", question), `"decision":true`)
	})
	for _, tc := range []struct{ path, body, want string }{
		{"/access/v1/evaluation", strings.Replace(question, "101", "102", 1), `200 {"decision":false`},
		{"/access/v1/evaluation", `{"subject":{"type":"user","id":"zoe"},"action":{"name":"edit"},"resource":{"type":"record","id":"7","properties":{"owner":"zoe"}}}`, `200 {"decision":true`},
		{"/access/v1/evaluation", `{"subject":{"type":"user","id":"zoe"},"action":{"name":"edit"},"resource":{"type":"record","id":"7","properties":{"owner":"ann"}}}`, `200 {"decision":false`},
		{"/access/v1/evaluation", `{"subject":{"type":"user"},"action":{"name":"edit"},"resource":{"type":"record","id":"7"}}`, `400 "subject.id: is required"`},
		{"/access/v1/evaluation", `{`, `400 "the request is not valid JSON`},
		{"/access/v1/evaluations", `{"subject":{"type":"user","id":"zoe"},"action":{"name":"view"},"evaluations":[{"resource":{"type":"record","id":"101"}},{"resource":{"type":"record","id":"9"}}]}`, `200 {"evaluations":[{"decision":true`},
		{"/access/v1/search/subject", `{"subject":{"type":"user"},"action":{"name":"view"},"resource":{"type":"record","id":"101"}}`, `"results":[{"type":"user","id":"zoe"}]`},
		{"/access/v1/search/resource", `{"subject":{"type":"user","id":"zoe"},"action":{"name":"view"},"resource":{"type":"record"}}`, `"results":[{"type":"record","id":"101"}]`},
		{"/access/v1/search/action", `{"subject":{"type":"user","id":"zoe"},"resource":{"type":"record","id":"101"}}`, `"results":[{"name":"view"}]`},
	} {
		if got := post(tc.path, tc.body); !strings.Contains(got, tc.want) {
			t.Errorf("%s %s: %s", tc.path, tc.body, got)
		}
	}
	var metadata map[string]string
	admin.get("/.well-known/authzen-configuration", &metadata)
	if metadata["policy_decision_point"] != g.URL || metadata["access_evaluations_endpoint"] != g.URL+"/access/v1/evaluations" {
		t.Errorf("discovery: %v", metadata)
	}

	// As many questions as one request may hold.
	var batch strings.Builder
	batch.WriteString(`{"subject":{"type":"user","id":"zoe"},"action":{"name":"view"},"evaluations":[`)
	for i := range 10_000 {
		if i > 0 {
			batch.WriteByte(',')
		}
		fmt.Fprintf(&batch, `{"resource":{"type":"record","id":"%d"}}`, i)
	}
	batch.WriteString("]}")
	began := time.Now()
	got := post("/access/v1/evaluations", batch.String())
	t.Logf("10,000 questions in one request took %v", time.Since(began).Round(time.Millisecond))
	if strings.Count(got, `"decision":true`) != 1 || strings.Count(got, `"decision":false`) != 9_999 {
		t.Errorf("a batch: %.200s", got)
	}

	// Everybody may ask about themselves, and only about themselves.
	k.namespace("authzen")
	k.run("create", "serviceaccount", "asker", "-n", "authzen")
	asker := tokenClient(t, g, strings.TrimSpace(k.run("create", "token", "asker", "-n", "authzen")))
	for body, want := range map[string]int{
		`{"subject":{"type":"serviceaccount","id":"authzen/asker"},"action":{"name":"get"},"resource":{"type":"pods","id":"authzen/x"}}`: http.StatusOK,
		question: http.StatusForbidden,
		`{"subject":{"type":"serviceaccount","id":"authzen/asker","properties":{"groups":["system:masters"]}},"action":{"name":"get"},"resource":{"type":"pods","id":"authzen/x"}}`: http.StatusForbidden,
	} {
		if code, answer := asker.send(http.MethodPost, "/access/v1/evaluation", asker.header, []byte(body)); code != want {
			t.Errorf("%s: %d %s", body, code, answer)
		}
	}
	nobody := bareClient(t, g)
	for _, path := range []string{"/access/v1/evaluation", "/access/v1/search/action"} {
		if code, answer := nobody.send(http.MethodPost, path, nil, []byte(question)); code != http.StatusUnauthorized {
			t.Errorf("without a credential: %d %s", code, answer)
		}
	}
}
