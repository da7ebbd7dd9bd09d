package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// auditCommand runs "gatehouse audit" and expects an exit code.
func auditCommand(t *testing.T, code int, args ...string) harness.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	got, err := harness.RunGatehouse(ctx, append([]string{"audit"}, args...)...)
	if err != nil || got.Code != code {
		t.Fatalf("audit %q: %v, want code %d: %v", args, err, code, got)
	}
	return got
}

// copyRecord copies the log of a data directory into a new one.
func copyRecord(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(filepath.Join(to, "audit"), os.DirFS(filepath.Join(from, "audit"))); err != nil {
		t.Fatal(err)
	}
	return to
}

// The log of a replica is registered apart from itself, so that its end cannot
// be cut off, nor the whole log taken away, without notice.
func TestRegisteredLogs(t *testing.T) {
	t.Parallel()
	g := start(t)
	k := as(t, g)
	k.run("create", "configmap", "early", "-n", "default")
	if err := drain(g); err != nil {
		t.Fatal(err)
	}
	early := copyRecord(t, g.DataDir)
	if err := g.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.run("create", "configmap", "late", "-n", "default")

	// Live: the server's registration excludes what the directory cannot.
	live := auditCommand(t, 0, "verify", "--data-dir", g.DataDir, "--kubeconfig", g.Kubeconfig).Stdout
	if strings.Contains(live, "not excluded: the public key") || !strings.Contains(live, "the log holds") {
		t.Errorf("verify of a live server: %s", live)
	}
	if err := drain(g); err != nil {
		t.Fatal(err)
	}
	if err := g.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	registered := filepath.Join(t.TempDir(), "logs.json")
	list := auditCommand(t, 0, "logs", "--kubeconfig", g.Kubeconfig, "--output", "json").Stdout
	if err := os.WriteFile(registered, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	var logs struct {
		Logs []map[string]any `json:"logs"`
	}
	if err := json.Unmarshal([]byte(list), &logs); err != nil || len(logs.Logs) != 1 {
		t.Fatalf("%v: %s", err, list)
	}
	id := logs.Logs[0]["id"].(string)

	// An older copy is sound by itself and cut off beside what is registered.
	auditCommand(t, 0, "verify", "--data-dir", early)
	for _, anchor := range [][]string{{"--registered", registered}, {"--kubeconfig", g.Kubeconfig}} {
		if got := auditCommand(t, 1, append([]string{"verify", "--data-dir", early}, anchor...)...); !strings.Contains(got.Stdout, "truncated:") {
			t.Errorf("the cut is not named: %v", got)
		}
	}

	// A replica that is registered and not there.
	other := make(map[string]any)
	for key, value := range logs.Logs[0] {
		other[key] = value
	}
	other["id"] = "00ff00ff00ff00ff"
	logs.Logs = append(logs.Logs, other)
	two, err := json.Marshal(logs)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(registered, two, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := auditCommand(t, 1, "verify", "--data-dir", g.DataDir, "--registered", registered); !strings.Contains(got.Stdout, "00ff00ff00ff00ff") {
		t.Errorf("the missing replica is not named: %v", got)
	}

	// Nobody without the right reads or retires.
	jane := withToken(t, g, strings.TrimSpace(k.run("create", "token", "default", "-n", "default")))
	jane.fails(1, []string{"orbidden"}, "get", "--raw", "/audit/logs")

	// The data directory with the older log does not start.
	if err := drain(g); err != nil {
		t.Fatal(err)
	}
	whole := filepath.Join(g.DataDir, "audit")
	if err := os.Rename(whole, whole+".kept"); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(whole, os.DirFS(filepath.Join(early, "audit"))); err != nil {
		t.Fatal(err)
	}
	refusesToStart(t, []string{"audit log", "cut off"}, "--data-dir", g.DataDir)
	if err := os.RemoveAll(whole); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(whole+".kept", whole); err != nil {
		t.Fatal(err)
	}

	// Retired, it leaves a final checkpoint and does not come back.
	if err := g.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	auditCommand(t, 2, "retire", "00ff00ff00ff00ff", "--kubeconfig", g.Kubeconfig)
	auditCommand(t, 0, "retire", id, "--data-dir", g.DataDir, "--kubeconfig", g.Kubeconfig)
	if got := auditCommand(t, 0, "logs", "--kubeconfig", g.Kubeconfig, "--output", "json"); !strings.Contains(got.Stdout, `"retired"`) {
		t.Errorf("not retired: %v", got)
	}
	g.Kill()
	refusesToStart(t, []string{"retired"}, "--data-dir", g.DataDir)
}

// A server answers questions about its record: all of it to whoever may read
// it, to a tenant only what is the tenant's.
func TestAskTheRecord(t *testing.T) {
	t.Parallel()
	g := start(t)
	k := as(t, g)
	for _, n := range []string{"mine", "theirs"} {
		k.run("create", "namespace", n)
		k.run("label", "namespace", n, "gatehouse.dev/domain="+n)
		k.run("create", "serviceaccount", "in-"+n, "-n", n)
	}
	k.feed(`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: asker}, rules: [
	  {nonResourceURLs: [/audit/events, /audit/export], verbs: [get]}, {apiGroups: [federation.gatehouse.dev], resources: [domains], resourceNames: [mine], verbs: [audit]}]}`, "apply", "-f", "-")
	k.run("create", "clusterrolebinding", "asker", "--clusterrole=asker", "--serviceaccount=mine:in-mine")

	whole := auditCommand(t, 0, "query", "--kubeconfig", g.Kubeconfig, "--resource", "serviceaccounts", "--verb", "create", "--name", "in-theirs", "--output", "json").Stdout
	if !strings.Contains(whole, `"name":"in-theirs"`) {
		t.Errorf("not found: %s", whole)
	}
	auditCommand(t, 1, "query", "--kubeconfig", g.Kubeconfig, "--user", "nobody-at-all")
	raw := func(q string) []string { return []string{"get", "--raw", "/audit/events?" + q} }
	tenant := withToken(t, g, strings.TrimSpace(k.run("create", "token", "in-mine", "-n", "mine")))
	tenant.fails(1, []string{"may not read the record"}, raw("user=gatehouse-admin")...)
	tenant.fails(1, []string{"may not read the record"}, raw("domain=theirs")...)
	tenant.fails(1, []string{"may not read the record"}, raw("namespace=mine")...)
	tenant.fails(1, []string{`"everything" is not a parameter`}, raw("domain=mine&everything=true")...)
	tenant.fails(1, []string{"more than once"}, raw("domain=mine&domain=theirs")...)
	seen := tenant.run(raw("domain=mine&limit=1000")...)
	if !strings.Contains(seen, `"name":"in-mine"`) || strings.Contains(seen, "theirs") {
		t.Errorf("a tenant sees: %s", seen)
	}

	// The same with proofs: whoever gets the bundle needs nothing else.
	dir := t.TempDir()
	file := filepath.Join(dir, "incident.jsonl")
	_, key := registeredLog(t, g)
	auditCommand(t, 0, "export", "--kubeconfig", g.Kubeconfig, "--resource", "serviceaccounts", "--verb", "create", "--out", file)
	if got := auditCommand(t, 0, "verify", "--bundle", file, "--key", key).Stdout; !strings.Contains(got, "the bundle holds") {
		t.Errorf("verify of a bundle: %s", got)
	}
	bundle, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(bundle), "in-theirs") {
		t.Fatalf("%v: %s", err, bundle)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(bundle), "in-theirs", "in-others")), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := auditCommand(t, 1, "verify", "--bundle", file, "--key", key).Stdout; !strings.Contains(got, "altered: record") {
		t.Errorf("verify of an altered bundle: %s", got)
	}
	auditCommand(t, 1, "export", "--kubeconfig", g.Kubeconfig, "--user", "nobody-at-all")
	tenant.fails(1, []string{"may not read the record"}, "get", "--raw", "/audit/export?domain=theirs")
	tenant.fails(1, []string{"may not read the record"}, "get", "--raw", "/audit/export")
	own := filepath.Join(dir, "own.jsonl")
	if err := os.WriteFile(own, []byte(tenant.run("get", "--raw", "/audit/export?domain=mine&limit=1000")), 0o600); err != nil {
		t.Fatal(err)
	}
	auditCommand(t, 0, "verify", "--bundle", own, "--key", key)
	if mine, err := os.ReadFile(own); err != nil || !strings.Contains(string(mine), "in-mine") || strings.Contains(string(mine), "theirs") {
		t.Errorf("a tenant exports: %v %s", err, mine)
	}
	offline := filepath.Join(dir, "offline.jsonl")
	auditCommand(t, 0, "export", "--data-dir", g.DataDir, "--name", "in-mine", "--out", offline)
	auditCommand(t, 0, "verify", "--bundle", offline, "--key", key)
}
