package e2e

import (
	"context"
	"net/http"
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
