package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

var shipped = flag.Int("events", 3000, "how many events a stock cluster ships while the control plane is killed")

// shippingKills is how often the control plane is killed meanwhile.
const shippingKills = 3

// shippingWorkers ask the cluster at the same time.
const shippingWorkers = 8

// A stock kube-apiserver ships its events while the control plane is killed and
// started again three times. What the cluster's own log file has, the record
// has, each event once; what the sender says it threw away, and nothing else,
// may be missing.
func TestShippingSurvivesKills(t *testing.T) {
	t.Parallel()
	g := start(t)
	dir, flags := connect(t, g, "shipping")
	file := filepath.Join(t.TempDir(), "audit.log")
	flags = append(flags, "--audit-log-path="+file, "--audit-log-maxsize=4096")
	if *shipped < 50_000 {
		// The ordinary run does not wait the usual ten seconds for a batch that
		// met a server that was down.
		flags = append(flags, "--audit-webhook-initial-backoff=2s")
	}
	cluster := startCluster(t, flags...)
	as(t, cluster).run("create", "configmap", "plans", "-n", "default", "--from-literal=k=v")

	var asked atomic.Int64
	var killed atomic.Bool // often enough
	done := make(chan struct{})
	var working sync.WaitGroup
	began := time.Now()
	for range shippingWorkers {
		c := adminClient(t, cluster)
		working.Go(func() {
			for asked.Load() < int64(*shipped) || !killed.Load() {
				code, answer, err := c.try(http.MethodGet, "/api/v1/namespaces/default/configmaps/plans", nil, nil)
				if err != nil || code != http.StatusOK {
					t.Errorf("ask the cluster: %d %v: %s", code, err, answer)
					return
				}
				asked.Add(1)
			}
		})
	}
	go func() { working.Wait(); close(done) }()
	for kill := 1; kill <= shippingKills; kill++ {
		at := int64(*shipped) * int64(kill) / (shippingKills + 1)
		eventually(t, 30*time.Minute, fmt.Sprint(at, " requests"), func() bool { return asked.Load() >= at || t.Failed() })
		g.Kill()
		if err := g.Restart(t.Context()); err != nil {
			killed.Store(true)
			t.Fatal(err)
		}
		t.Logf("kill %d after %d requests and %v, ready again after %v", kill, asked.Load(), time.Since(began).Round(time.Millisecond), g.Start.Round(time.Millisecond))
	}
	killed.Store(true)
	<-done
	if t.Failed() {
		t.FailNow()
	}
	rate := float64(asked.Load()) / time.Since(began).Seconds()
	// The cluster goes on recording what it asks itself; all that it had
	// recorded until now has to arrive.
	own := eventIDs(t, file)
	if len(own) < *shipped {
		t.Fatalf("the cluster's log file has %d events of %d requests", len(own), *shipped)
	}
	var got map[string]int
	missing, dropped := 0, 0
	eventually(t, 3*time.Minute, "every event that was not thrown away arrives", func() bool {
		got = eventIDs(t, recordFile(t, g, "--site", "shipping"))
		missing, dropped = 0, senderDropped(t, cluster)
		for id := range own {
			if got[id] == 0 {
				missing++
			}
		}
		if missing > dropped {
			time.Sleep(500 * time.Millisecond) // each look reads the whole record
		}
		return missing <= dropped
	})
	total := len(own)
	own = eventIDs(t, file)
	twice := 0
	for id, n := range got {
		if own[id] == 0 {
			t.Errorf("the cluster never recorded %s", id)
		}
		if n != 1 {
			twice++
		}
	}
	if twice > 0 {
		t.Errorf("%d events are on record more than once", twice)
	}
	// What it threw away is a gap with that count, once somebody asks it.
	kubeconfig, _ := watchKubeconfig(t, cluster)
	startWatch(t, g, "shipping", dir, kubeconfig)
	var told, gaps int
	inRecord(t, "the senders' count is on record", func() bool {
		told, gaps = gapsOf(t, g, "shipping")
		return told == senderDropped(t, cluster)
	})
	t.Logf("%d gaps tell of %d events", gaps, told)
	t.Logf("cluster's log file: %d events, record: %d, thrown away by the sender: %d, missing: %d; %.0f requests a second", total, len(got), dropped, missing, rate)

	if err := drain(g); err != nil {
		t.Fatal(err)
	}
	verified := auditCommand(t, 0, "verify", "--data-dir", g.DataDir).Stdout
	if n := strings.Count(verified, "gap recorded at record"); n != shippingKills {
		t.Errorf("%d gaps recorded for %d kills:\n%s", n, shippingKills, verified)
	}
}

// senderDropped is how many events the cluster's webhook threw away, by its own
// metrics.
func senderDropped(t *testing.T, cluster *harness.Cluster) int {
	t.Helper()
	_, body := adminClient(t, cluster).send(http.MethodGet, "/metrics", http.Header{"Accept": {"text/plain"}}, nil)
	total := 0.0
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "apiserver_audit_error_total") {
			value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(strings.TrimSpace(line), ' '):]), 64)
			if err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			total += value
		}
	}
	return int(total)
}

// eventIDs reads events, one a line, and counts each audit id with its stage. A
// last line without its end is being written.
func eventIDs(t *testing.T, path string) map[string]int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ids := map[string]int{}
	for lines := bufio.NewReaderSize(f, 1<<20); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return ids
		}
		if err != nil {
			t.Fatal(err)
		}
		var e struct {
			AuditID, Stage string
			User           struct{ Username string }
		}
		if err := json.Unmarshal(line, &e); err != nil || e.AuditID == "" {
			t.Fatalf("%s: %v: %s", path, err, line)
		}
		if e.User.Username != "system:gatehouse" { // a gap, which nobody sent
			ids[e.AuditID+"/"+e.Stage]++
		}
	}
}

// recordFile writes the matching events of a record to a file, since they may
// be many.
func recordFile(t *testing.T, g *harness.Gatehouse, filters ...string) string {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "events"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.CommandContext(t.Context(), g.Path, append([]string{"audit", "query", "--data-dir", g.DataDir, "--output", "json", "--limit", "0"}, filters...)...)
	var complaint strings.Builder
	cmd.Stdout, cmd.Stderr = out, &complaint
	if err := cmd.Run(); err != nil && cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("audit query: %v: %s", err, complaint.String())
	}
	return out.Name()
}
