package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// program runs a helper to its end.
func program(t *testing.T, path string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// background runs a program until the test ends.
func background(t *testing.T, path string, args ...string) *harness.Process {
	t.Helper()
	p, err := harness.Start(filepath.Base(path), path, nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// line waits for a line and returns what follows the prefix.
func line(t *testing.T, p *harness.Process, prefix string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	got, err := p.WaitLine(ctx, prefix)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(got, prefix)
}

// behindTLS is an HTTPS address of a server that speaks HTTP, and the file with
// its authority.
func behindTLS(t *testing.T, to string) (address, ca string) {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(u))
	front.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	front.StartTLS()
	t.Cleanup(front.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return front.URL, ca
}

// registeredLog returns id and public key of the only log of a control plane.
func registeredLog(t *testing.T, g *harness.Gatehouse) (id, key string) {
	t.Helper()
	var logs struct {
		Logs []struct {
			ID   string
			Keys []string
		}
	}
	out := auditCommand(t, 0, "logs", "--kubeconfig", g.Kubeconfig, "--output", "json").Stdout
	if err := json.Unmarshal([]byte(out), &logs); err != nil || len(logs.Logs) != 1 || len(logs.Logs[0].Keys) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	return logs.Logs[0].ID, logs.Logs[0].Keys[0]
}

// The log is watched by a witness of other people's making and by one of ours,
// and each of its faces but the first is found out.
func TestWitnesses(t *testing.T) {
	t.Parallel()
	tools, err := harness.Litewitness()
	if err != nil {
		t.Fatal(err)
	}
	// The witnesses want the log's key, the log their addresses: it is there
	// first, without them.
	config := filepath.Join(t.TempDir(), "config.yaml")
	head := "apiVersion: config.gatehouse.dev/v1alpha1\nkind: Configuration\n"
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(head+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	g := start(t, "--config", config)
	_, logKey := registeredLog(t, g)
	if err := drain(g); err != nil {
		t.Fatal(err)
	}
	early := copyData(t, g.DataDir)

	// Theirs: litewitness, its key in an ssh agent.
	dir, err := os.MkdirTemp("", "w") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, database := filepath.Join(dir, "agent"), filepath.Join(dir, "db")
	fingerprint := line(t, background(t, filepath.Join(tools, "witness"), "agent", socket), "key ")
	address, err := harness.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	lite := background(t, filepath.Join(tools, "litewitness"), "-db", database, "-ssh-agent", socket, "-key", fingerprint, "-name", "litewitness.example/w", "-listen", address)
	eventually(t, commandWithin, "litewitness listens", func() bool {
		resp, err := http.Get("http://" + address + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	var theirs string
	eventually(t, commandWithin, "litewitness names its key", func() bool {
		var ok bool
		_, theirs, ok = strings.Cut(lite.Log(), "vkey=")
		return ok
	})
	theirs = strings.Trim(strings.Fields(theirs)[0], `"`)
	if out, err := program(t, filepath.Join(tools, "witness"), "add-log", database, logKey); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	liteURL, liteCA := behindTLS(t, "http://"+address)

	// Ours.
	state := filepath.Join(t.TempDir(), "state")
	own := background(t, g.Path, "audit", "witness", "--name", "witness.example/w1", "--state", state, "--log", logKey, "--listen", "127.0.0.1:0")
	ours := line(t, own, "witness ")
	ownURL, ownCA := behindTLS(t, line(t, own, "ready "))

	write(fmt.Sprintf("audit:\n  witnesses:\n  - {url: %q, key: %q, caFile: %q}\n  - {url: %q, key: %q, caFile: %q}\n", liteURL, theirs, liteCA, ownURL, ours, ownCA))
	if err := g.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := as(t, g)
	signed := func(what string) {
		t.Helper()
		eventually(t, commandWithin, what, func() bool {
			metrics := k.run("get", "--raw", "/metrics")
			return strings.Contains(metrics, `gatehouse_audit_witnessed_timestamp_seconds{witness="litewitness.example/w"}`) &&
				strings.Contains(metrics, `gatehouse_audit_witnessed_timestamp_seconds{witness="witness.example/w1"}`)
		})
	}
	signed("both witnesses sign")
	k.run("create", "configmap", "later", "-n", "default")
	if err := drain(g); err != nil {
		t.Fatal(err)
	}
	late := copyData(t, g.DataDir)
	if err := g.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	signed("both witnesses sign what came later")
	if err := drain(g); err != nil {
		t.Fatal(err)
	}

	// What they signed verifies here and with other people's code.
	both := []string{"--witness", theirs, "--witness", ours}
	out := auditCommand(t, 0, append([]string{"verify", "--data-dir", g.DataDir, "--key", logKey}, both...)...).Stdout
	for _, text := range []string{"witness litewitness.example/w signed", "witness witness.example/w1 signed"} {
		if !strings.Contains(out, text) {
			t.Errorf("verify does not say %q: %s", text, out)
		}
	}
	files, err := filepath.Glob(filepath.Join(g.DataDir, "audit", "witnessed", "*.checkpoint"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v: %q", err, files)
	}
	verified := 0
	for _, file := range files {
		for _, key := range []string{theirs, ours} {
			if out, err := program(t, filepath.Join(tools, "witness"), "verify", key, logKey, file); err == nil && strings.HasPrefix(out, "gatehouse/") {
				verified++
			}
		}
	}
	if verified != 2 {
		t.Errorf("torchwood verifies %d of 2 cosignatures", verified)
	}
	if out, err := program(t, filepath.Join(tools, "witness"), "verify", theirs, logKey, filepath.Join(late, "audit", "checkpoint")); err == nil {
		t.Errorf("a checkpoint that nobody cosigned: %s", out)
	}

	// Somebody puts the data directory of the first day back and goes on from
	// there: the log has another face. Its registration went back with it, so
	// that only the witnesses remember.
	fork, err := harness.StartGatehouse(t.Context(), early, "--config", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fork.Kill)
	f := as(t, fork)
	for i := range 20 {
		f.run("create", "configmap", fmt.Sprint("forged-", i), "-n", "default")
	}
	eventually(t, commandWithin, "both witnesses refuse", func() bool {
		named := map[string]bool{}
		for line := range strings.Lines(fork.Log()) {
			for _, witness := range []string{"witness=litewitness.example/w", "witness=witness.example/w1"} {
				if strings.Contains(line, "audit log is not witnessed") && strings.Contains(line, witness) {
					named[witness] = true
				}
			}
		}
		return len(named) == 2
	})
	if err := drain(fork); err != nil {
		t.Fatal(err)
	}
	// By itself the fork is sound.
	auditCommand(t, 0, "verify", "--data-dir", early, "--key", logKey)
	// Without a witness's signature it is not enough for who asks for one.
	if out := auditCommand(t, 1, append([]string{"verify", "--data-dir", early, "--key", logKey}, both...)...).Stdout; !strings.Contains(out, "no checkpoint of this log that witness") {
		t.Errorf("a fork without witnesses: %s", out)
	}
	// With those of the other face it contradicts them, as it does the
	// checkpoint that our witness keeps.
	if err := os.CopyFS(filepath.Join(early, "audit", "witnessed"), os.DirFS(filepath.Join(g.DataDir, "audit", "witnessed"))); err != nil {
		t.Fatal(err)
	}
	if out := auditCommand(t, 1, append([]string{"verify", "--data-dir", early, "--key", logKey}, both...)...).Stdout; !strings.Contains(out, "fork:") && !strings.Contains(out, "truncated:") {
		t.Errorf("the other face: %s", out)
	}
	kept, err := filepath.Glob(filepath.Join(state, "checkpoints", "*.checkpoint"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("%v: %q", err, kept)
	}
	if err := os.RemoveAll(filepath.Join(early, "audit", "witnessed")); err != nil {
		t.Fatal(err)
	}
	auditCommand(t, 1, "verify", "--data-dir", early, "--key", logKey, "--checkpoint", kept[0], "--witness", ours)
	auditCommand(t, 0, "verify", "--data-dir", g.DataDir, "--key", logKey, "--checkpoint", kept[0], "--witness", ours)
}

// copyData copies a whole data directory.
func copyData(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if out, err := program(t, "cp", "-a", from, to); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return to
}
