package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// Whoever holds the machine gets back in when no administrator can, on a
// stopped server only, and it stands in the record.
func TestRecovery(t *testing.T) {
	t.Parallel()
	g := start(t)
	out := filepath.Join(t.TempDir(), "recovery.kubeconfig")
	recovery := func(args ...string) harness.Result {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
		defer cancel()
		got, err := harness.RunGatehouse(ctx, append([]string{"admin", "recover", "--data-dir", g.DataDir, "--listen", strings.TrimPrefix(g.URL, "https://"), "--out", out}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	const reason = "the only key went overboard"
	if got := recovery("--reason", reason); got.Code == 0 {
		t.Errorf("it worked beside a running server: %v", got)
	}
	if err := drain(g); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(g.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	if got := recovery(); got.Code != 2 || !strings.Contains(got.Stderr, "--reason") {
		t.Errorf("it worked without a reason: %v", got)
	}
	if got := recovery("--reason", reason); got.Code != 0 || strings.TrimSpace(got.Stdout) != out {
		t.Fatalf("recover: %v", got)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the kubeconfig: %v %v", info, err)
	}
	if err := g.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	kubectl, err := harness.NewKubectl(out)
	if err != nil {
		t.Fatal(err)
	}
	k := kube{t, kubectl}
	k.shows([]string{"gatehouse-recovery-"}, "auth", "whoami")
	k.can(true, "*", "*", "--all-namespaces")
	if !record(t, g).has(func(e event) bool { return strings.Contains(e.raw, reason) }) {
		t.Error("the record lacks the recovery and its reason")
	}
}
