package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// noticesWithin is how soon a replica must stop deciding when etcd is away:
// five seconds, and some for a loaded machine.
const noticesWithin = 15 * time.Second

// startReplicas starts two replicas of one control plane.
func startReplicas(t *testing.T, config string) (first, second *harness.Gatehouse) {
	t.Helper()
	replica := func(rootKey string) *harness.Gatehouse {
		dir := filepath.Join(t.TempDir(), "data")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if rootKey != "" {
			data, err := os.ReadFile(rootKey)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "root.key"), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		g, err := harness.StartGatehouse(t.Context(), dir, "--config", config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { g.Kill() })
		return g
	}
	first = replica("")
	return first, replica(filepath.Join(first.DataDir, "root.key"))
}

// Two replicas on one etcd cluster are one control plane, and neither decides
// on policy that may be out of date.
func TestReplicasOnAnExternalEtcd(t *testing.T) {
	t.Parallel()
	store := startEtcd(t)
	config := configure(t, store)
	first, second := startReplicas(t, config)
	here, there := as(t, first), as(t, second)

	// Written on one, decided on the other.
	here.namespace("lab")
	here.run("create", "serviceaccount", "robot", "-n", "lab")
	here.run("create", "configmap", "plans", "-n", "lab", "--from-literal=k=v")
	token := strings.TrimSpace(here.run("create", "token", "robot", "-n", "lab"))
	c := tokenClient(t, second, token)
	if got := c.lists("lab"); got != http.StatusForbidden {
		t.Fatalf("a token of the first replica at the second: %d", got)
	}
	here.run("create", "rolebinding", "robot-reads", "-n", "lab", "--clusterrole=view", "--serviceaccount=lab:robot")
	promptly(t, effectWithin, "the grant counts on the other replica", func() bool { return c.lists("lab") == http.StatusOK })
	there.run("delete", "rolebinding", "robot-reads", "-n", "lab")
	c = tokenClient(t, first, token)
	promptly(t, effectWithin, "the revocation counts on the other replica", func() bool { return c.lists("lab") == http.StatusForbidden })

	// Without a word from etcd no replica decides.
	if err := syscall.Kill(store.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	took := promptly(t, noticesWithin, "decisions are refused while etcd is silent", func() bool { return c.lists("lab") == http.StatusServiceUnavailable })
	// It is not ready, but it lives: starting it anew would not help.
	probe := bareClient(t, first)
	if code, body := probe.send(http.MethodGet, "/readyz", nil, nil); code < 500 {
		t.Errorf("/readyz while etcd is silent: %d %.200s", code, body)
	}
	if code, body := probe.send(http.MethodGet, "/livez", nil, nil); code != http.StatusOK {
		t.Errorf("/livez while etcd is silent: %d %.200s", code, body)
	}
	if _, code := adminClient(t, first).ask(sar1, question("ada", "get", "configmaps", "lab")); code != http.StatusServiceUnavailable {
		t.Errorf("a review while etcd is silent: %d", code)
	}
	if err := syscall.Kill(store.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	back := eventually(t, commandWithin, "decisions go on once etcd is back", func() bool { return c.lists("lab") == http.StatusForbidden })

	t.Logf("refused %v after etcd fell silent, deciding %v after it came back", took.Round(time.Millisecond), back.Round(time.Millisecond))

	// A replica with another root key must not start.
	dir := filepath.Join(t.TempDir(), "other")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	refusesToStart(t, []string{"root key"}, "--config", config, "--data-dir", dir)
}
