package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// gapsOf sums up the gaps of a site that its own senders told.
func gapsOf(t *testing.T, g *harness.Gatehouse, site string) (missing, gaps int) {
	t.Helper()
	for _, e := range record(t, g, "--site", site, "--verb", "gap") {
		if !strings.HasPrefix(e.Annotations["audit.gatehouse.dev/gap-sender"], "kube-apiserver ") || e.User.Username != "system:gatehouse" {
			continue
		}
		if count := e.Annotations["audit.gatehouse.dev/gap-count"]; count != "" {
			n, err := strconv.Atoi(count)
			if err != nil {
				t.Fatalf("%v: %s", err, e.raw)
			}
			missing, gaps = missing+n, gaps+1
		}
	}
	return missing, gaps
}

// A stock kube-apiserver with a small buffer discards events, first because it
// may not send as fast as it makes them, then because nobody takes them. Each
// loss is on record as a gap, with exactly the number of events that the
// cluster's own log file has and the record has not.
func TestStockSenderDiscards(t *testing.T) {
	t.Parallel()
	g := start(t)
	dir, flags := connect(t, g, "lossy")
	file := filepath.Join(t.TempDir(), "audit.log")
	cluster := startCluster(t, append(flags,
		"--audit-log-path="+file, "--audit-log-maxsize=4096",
		"--audit-webhook-batch-buffer-size=20", "--audit-webhook-batch-max-size=10", "--audit-webhook-batch-throttle-qps=5", "--audit-webhook-batch-throttle-burst=5",
		"--audit-webhook-initial-backoff=20ms")...)
	kubeconfig, _ := watchKubeconfig(t, cluster)
	load := func() {
		t.Helper()
		var wg sync.WaitGroup
		for range 8 {
			c := adminClient(t, cluster)
			wg.Go(func() {
				for range 100 {
					if code, answer, err := c.try(http.MethodGet, "/api/v1/namespaces/default/configmaps?limit=1", nil, nil); err != nil || code != http.StatusOK {
						t.Errorf("ask the cluster: %d %v: %s", code, err, answer)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	// The numbers agree once all that was not thrown away has arrived.
	agree := func(least int) (missing, gaps int) {
		t.Helper()
		var looked time.Time
		lost := -1
		eventually(t, commandWithin, fmt.Sprint("gaps say what is missing, at least ", least), func() bool {
			if time.Since(looked) < 300*time.Millisecond {
				return false // each look reads the whole record
			}
			defer func() { looked = time.Now() }()
			own := eventIDs(t, file)
			got := eventIDs(t, recordFile(t, g, "--site", "lossy"))
			lost = 0
			for id := range own {
				if got[id] == 0 {
					lost++
				}
			}
			missing, gaps = gapsOf(t, g, "lossy")
			return missing == lost && missing >= least
		})
		return missing, gaps
	}

	// It may send fifty a second.
	full := 0
	eventually(t, commandWithin, "the sender discards", func() bool {
		load()
		full = senderDropped(t, cluster)
		return full >= 100 || t.Failed()
	})
	edge := startWatch(t, g, "lossy", dir, kubeconfig)
	first, n := agree(full)
	if n == 0 {
		t.Fatal("no gap")
	}
	t.Logf("buffer full: %d events missing, in %d gaps", first, n)

	// Nobody takes them: the sender gives up on batches, too. The watcher
	// knows nothing of what was told before, and the control plane starts anew.
	edge.Kill()
	if err := drain(g); err != nil {
		t.Fatal(err)
	}
	load()
	if err := g.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	startWatch(t, g, "lossy", dir, kubeconfig)
	all, n := agree(first + 100)
	gave := false
	for _, e := range record(t, g, "--site", "lossy", "--verb", "gap") {
		gave = gave || strings.Contains(e.Annotations["audit.gatehouse.dev/gap"], "gave up")
	}
	if !gave {
		t.Error("no gap says that the sender gave up")
	}
	t.Logf("and nobody there: %d events missing, in %d gaps", all, n)

	// The Site says how sure that is.
	eventually(t, commandWithin, "the condition tells", func() bool {
		said := as(t, g).run("get", "site", "lossy", "-o", `jsonpath={.status.conditions[?(@.type=="AuditAccounted")]}`)
		return strings.Contains(said, `"status":"True"`) && strings.Contains(said, fmt.Sprintf("1 kube-apiservers, which discarded %d events", all))
	})
}
