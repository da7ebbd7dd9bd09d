package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/gatehouse-dev/gatehouse/internal/config"
	"github.com/gatehouse-dev/gatehouse/internal/server"
	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// agedData names the data directory in the environment of a process that is
// to be a control plane of three days ago: no program lets its clock be set, so
// the test's own is started again for that.
const agedData = "GATEHOUSE_E2E_THREE_DAYS_AGO"

// serveThreeDaysAgo is that process.
func serveThreeDaysAgo(dataDir string) int {
	klog.SetLogger(logr.Discard())
	cfg, err := config.Load("", config.Flags{DataDir: dataDir, Listen: "127.0.0.1:0"})
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		err = server.Run(ctx, server.Options{
			Config: cfg, Version: "test", Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
			Ready: func(url string) { fmt.Println("ready", url) },
			Fatal: func(reason string) { panic(reason) },
			Now:   func() time.Time { return time.Now().Add(-72 * time.Hour) },
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// threeDaysAgo runs a control plane of three days ago until do is over.
func threeDaysAgo(t *testing.T, dataDir string, do func(g *harness.Gatehouse)) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := harness.Start("gatehouse of three days ago", program, []string{agedData + "=" + dataDir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	line, err := p.WaitLine(ctx, "ready https://")
	if err != nil {
		t.Fatal(err)
	}
	do(&harness.Gatehouse{Process: p, DataDir: dataDir, URL: strings.TrimPrefix(line, "ready "), Kubeconfig: filepath.Join(dataDir, "admin.kubeconfig")})
	if code, err := p.Stop(time.Minute); err != nil || code != 0 {
		t.Fatalf("it does not end: %d %v", code, err)
	}
}

// What need not be kept is dropped by class when the server looks: the log
// verifies, what was dropped is recorded, answers say what they lack, and what
// must be kept is there.
func TestRetention(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	// Enough that a segment ends and is sealed.
	const lists, each = 7, 10_000
	threeDaysAgo(t, data, func(g *harness.Gatehouse) {
		k := as(t, g)
		k.run("create", "namespace", "keepsake")
		k.fails(1, []string{"forbidden"}, "get", "secrets", "--as", "stranger")
		dir, _ := connect(t, g, "blue")
		c := bareClient(t, g, pair(t, dir, "site"))
		at := time.Now().Add(-72 * time.Hour)
		for list := range lists {
			items := make([]string, each)
			for i := range items {
				items[i] = auditEvent(fmt.Sprintf("read-%d-%d", list, i), at, "")
			}
			if code, body := c.send(http.MethodPost, "/sites/blue/audit", nil, eventList(items...)); code != http.StatusOK {
				t.Fatalf("%d %s", code, body)
			}
		}
	})

	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: config.gatehouse.dev/v1alpha1\nkind: Configuration\naudit: {retention: {read: 1d}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := harness.StartGatehouse(t.Context(), data, "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Kill()
		if t.Failed() {
			t.Logf("--- gatehouse ---\n%s", g.Log())
		}
	})
	k := as(t, g)
	var dropped int
	eventually(t, commandWithin, "reads are dropped", func() bool {
		for line := range strings.Lines(k.run("get", "--raw", "/metrics")) {
			if value, found := strings.CutPrefix(line, `gatehouse_audit_dropped_records_total{class="read"} `); found {
				var n float64
				if _, err := fmt.Sscan(value, &n); err != nil {
					t.Fatal(err)
				}
				dropped = int(n)
			}
		}
		return dropped > 0
	})
	if dropped < 60_000 || dropped > lists*each+1000 {
		t.Errorf("%d records were dropped", dropped)
	}

	// Which, why and how many is recorded, and a question says what it lacks.
	why := fmt.Sprintf(`\"dropped\":%d`, dropped)
	ask := func(args ...string) harness.Result {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
		defer cancel()
		got, err := harness.RunGatehouse(ctx, append([]string{"audit", "query", "--output", "json"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for name, from := range map[string][]string{"server": {"--kubeconfig", g.Kubeconfig}, "files": {"--data-dir", g.DataDir}} {
		if got := ask(append(from, "--verb", "retain")...); got.Code != 0 || !strings.Contains(got.Stdout, why) || !strings.Contains(got.Stdout, `24h0m0s`) {
			t.Errorf("%s: the record of what was dropped, want %s: %v", name, why, got)
		}
		if got := ask(append(from, "--user", "kim", "--audit-id", "read-0-7")...); got.Code != 1 || !strings.Contains(got.Stderr, fmt.Sprintf("up to %d records were dropped by retention", dropped)) {
			t.Errorf("%s: a dropped read: %v", name, got)
		}
		if got := ask(append(from, "--since", "1h", "--user", "kim")...); strings.Contains(got.Stderr, "dropped") {
			t.Errorf("%s: the last hour lacks nothing: %v", name, got)
		}
		// Changes and denials of the same segment are kept.
		if got := ask(append(from, "--verb", "create", "--resource", "namespaces", "--name", "keepsake")...); got.Code != 0 {
			t.Errorf("%s: a change is gone: %v", name, got)
		}
		if got := ask(append(from, "--decision", "forbid", "--resource", "secrets")...); got.Code != 0 {
			t.Errorf("%s: a denial is gone: %v", name, got)
		}
	}
	k.shows([]string{"keepsake"}, "get", "--raw", "/audit/events?verb=create&resource=namespaces&name=keepsake")

	// The tree is what it was: live, and offline on a copy.
	copied := copyRecord(t, g.DataDir)
	for name, from := range map[string]string{"live": g.DataDir, "copy": copied} {
		if got := auditCommand(t, 0, "verify", "--data-dir", from).Stdout; !strings.Contains(got, fmt.Sprintf("retention dropped %d records", dropped)) || !strings.Contains(got, "read") {
			t.Errorf("verify %s: %s", name, got)
		}
	}
	if err := drain(g); err != nil {
		t.Error(err)
	}
}
