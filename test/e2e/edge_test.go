package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// edgeFlags connects a cluster that asks a local decision point, and returns
// the flags of both programs.
func edgeFlags(t *testing.T, g *harness.Gatehouse, name string) (dir string, edge, apiserver []string) {
	t.Helper()
	address, err := harness.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state")
	dir, apiserver = connect(t, g, name, "--mode", "full", "--rbac", "shared", "--fail-closed",
		"--local", "--local-address", address, "--local-tls-dir", filepath.Join(state, "tls"))
	text, err := os.ReadFile(filepath.Join(dir, "gatehouse-edge.flags"))
	if err != nil {
		t.Fatal(err)
	}
	return state, append(strings.Fields(string(text)), "--state-dir="+state, "--name=edge-1"), apiserver
}

// startEdge runs gatehouse-edge authorize and waits until it decides.
func startEdge(t *testing.T, flags []string) *harness.Process {
	t.Helper()
	p := runEdge(t, flags)
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	if _, err := p.WaitLine(ctx, "ready https://"); err != nil {
		t.Fatal(err)
	}
	return p
}

func runEdge(t *testing.T, flags []string) *harness.Process {
	t.Helper()
	bin, err := harness.BuildGatehouse()
	if err != nil {
		t.Fatal(err)
	}
	p, err := harness.Start("gatehouse-edge", filepath.Join(filepath.Dir(bin), "gatehouse-edge"), nil, append([]string{"authorize"}, flags...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("--- gatehouse-edge ---\n%s", p.Log())
		}
	})
	return p
}

// unixClient speaks to a socket.
func unixClient(t *testing.T, socket string) client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return client{t: t, base: "http://local", http: &http.Client{Timeout: commandWithin, Transport: transport}}
}

// evaluate asks a question and returns the answer and the id of its record.
func evaluate(t *testing.T, local client, user, verb, resource string) (allowed bool, auditID string) {
	t.Helper()
	body := fmt.Sprintf(`{"subject":{"type":"user","id":%q},"action":{"name":%q},"resource":{"type":%q,"id":"lab/"}}`, user, verb, resource)
	resp, err := local.http.Post(local.base+"/access/v1/evaluation", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var answer struct{ Decision *bool }
	if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(text, &answer) != nil || answer.Decision == nil {
		t.Fatalf("evaluation: %d %s %v", resp.StatusCode, text, err)
	}
	return *answer.Decision, resp.Header.Get("Audit-Id")
}

// calls counts the answers that a caller gets while it asks again and again.
type calls struct {
	mu     sync.Mutex // guards the rest
	good   int
	others map[int]int
}

func (c *calls) goods() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.good
}

func (c *calls) run(ctx context.Context, b bearer, want ...int) {
	for ctx.Err() == nil {
		code, _, err := b.try(http.MethodGet, "/api/v1/namespaces/lab/configmaps", b.header, nil)
		if err != nil {
			code = -1
		}
		c.mu.Lock()
		if slices.Contains(want, code) {
			c.good++
		} else {
			if c.others == nil {
				c.others = map[int]int{}
			}
			c.others[code]++
		}
		c.mu.Unlock()
		time.Sleep(25 * time.Millisecond) // a caller, not a benchmark
	}
}

// The story of the local decision point: the cluster never notices that the
// control plane is killed.
func TestLocalDecisions(t *testing.T) {
	t.Parallel()
	g := start(t)
	state, flags, apiserver := edgeFlags(t, g, "edged")
	socket := filepath.Join(shortDir(t), "s")
	flags = append(flags, "--socket="+socket)
	edge := startEdge(t, flags)
	cluster := startCluster(t, apiserver...)
	here, there := as(t, g), as(t, cluster)
	here.namespace("lab")
	there.namespace("lab")
	there.run("create", "configmap", "plans", "-n", "lab", "--from-literal=k=v")
	here.run("create", "serviceaccount", "robot", "-n", "lab")
	here.run("create", "rolebinding", "robot-reads", "-n", "lab", "--clusterrole=view", "--serviceaccount=lab:robot")
	token := func() string {
		return strings.TrimSpace(here.run("create", "token", "robot", "-n", "lab", "--audience", "gatehouse:site:edged"))
	}
	stolen, kept, unseen, unseenStolen := token(), token(), token(), token()
	// Tokens that nobody shows until the control plane is gone.
	here.run("create", "serviceaccount", "leaver", "-n", "lab")
	leavers := strings.TrimSpace(here.run("create", "token", "leaver", "-n", "lab", "--audience", "gatehouse:site:edged"))
	elsewhere := strings.TrimSpace(here.run("create", "token", "robot", "-n", "lab"))
	here.run("delete", "serviceaccount", "leaver", "-n", "lab")
	thief, owner := tokenClient(t, cluster, stolen), tokenClient(t, cluster, kept)
	eventually(t, commandWithin, "both tokens work", func() bool {
		return thief.lists("lab") == http.StatusOK && owner.lists("lab") == http.StatusOK
	})

	// A delegation counts where it is decided beside the cluster, too.
	delegatesAtSite(t, g, cluster, "edged", func(e event, giver, receiver string) bool {
		return e.Annotations["decision.gatehouse.dev/point"] == "edge-1" && strings.Contains(e.raw, "gatehouse:"+receiver) &&
			e.Annotations["decision.gatehouse.dev/on-behalf-of"] == giver &&
			e.Annotations["decision.gatehouse.dev/delegation-chain"] == fmt.Sprintf(`[{"delegation":"at-edged","from":%q,"to":%q}]`, giver, receiver)
	})

	// A ban counts in the cluster within the second, for one token.
	revoke(t, g, "credential", credentialID(t, unseenStolen))
	name := revoke(t, g, "credential", credentialID(t, stolen))
	took := promptly(t, effectWithin, "the stolen token is refused in the cluster", func() bool {
		return thief.lists("lab") != http.StatusOK
	})
	t.Logf("refused in the cluster %v after the command returned", took.Round(time.Millisecond))
	if code := owner.lists("lab"); code != http.StatusOK {
		t.Errorf("the other token of the account: %d", code)
	}
	eventually(t, commandWithin, "the ban names the acknowledgement of the site", func() bool {
		return strings.Contains(here.run("get", "ban", name, "-o", "jsonpath={.status.sites}"), `"acknowledged"`)
	})
	local := unixClient(t, socket)
	const robot = "gatehouse:system:serviceaccount:lab:robot"
	if allowed, _ := evaluate(t, local, robot, "list", "configmaps"); !allowed {
		t.Error("AuthZEN refuses what the cluster allows")
	}

	// The control plane is killed. kube-apiserver forgets a token that it
	// verified after ten seconds, so the calls go on for longer.
	ctx, cancel := context.WithCancel(t.Context())
	var allowed, refused calls
	var asking sync.WaitGroup
	asking.Go(func() { allowed.run(ctx, owner, http.StatusOK) })
	asking.Go(func() { refused.run(ctx, thief, http.StatusForbidden, http.StatusUnauthorized) })
	g.Kill()
	killed := time.Now()
	withToken(t, cluster, kept).shows([]string{"plans"}, "get", "configmaps", "-n", "lab")
	withToken(t, cluster, stolen).fails(1, nil, "get", "configmaps", "-n", "lab")
	withToken(t, cluster, kept).fails(1, []string{"Forbidden"}, "get", "secrets", "-n", "lab")
	ids := map[string]int{}
	for i := range 50 {
		verb := []string{"list", "delete"}[i%2]
		can, id := evaluate(t, local, robot, verb, "configmaps")
		if can != (verb == "list") {
			t.Errorf("%s: %v", verb, can)
		}
		ids[id] = 0
	}
	// Tokens that the cluster never saw: what holds for them is known here.
	for _, tc := range []struct {
		what, token string
		code        int
	}{
		{"good", unseen, http.StatusOK}, {"banned", unseenStolen, http.StatusUnauthorized},
		{"of an account that is gone", leavers, http.StatusUnauthorized}, {"for another place", elsewhere, http.StatusUnauthorized},
	} {
		if code := tokenClient(t, cluster, tc.token).lists("lab"); code != tc.code {
			t.Errorf("a token that was never shown, %s: %d, want %d", tc.what, code, tc.code)
		}
	}
	// As long as kube-apiserver remembers, and more.
	eventually(t, commandWithin, "enough calls", func() bool {
		return time.Since(killed) > 12*time.Second && allowed.goods() >= 100 && refused.goods() >= 100
	})
	cancel()
	asking.Wait()
	t.Logf("while the control plane was away: %d calls allowed and %v otherwise, %d refused and %v otherwise",
		allowed.good, allowed.others, refused.good, refused.others)
	if len(allowed.others)+len(refused.others) > 0 {
		t.Errorf("the cluster noticed: %v, %v", allowed.others, refused.others)
	}

	// Killed and started again it decides by what it kept.
	edge.Kill()
	edge = startEdge(t, flags)
	there.shows([]string{"plans"}, "get", "configmaps", "-n", "lab", "--as="+robot, "--as-group=system:authenticated")
	withToken(t, cluster, unseen).shows([]string{"plans"}, "get", "configmaps", "-n", "lab")
	there.fails(1, []string{"Forbidden"}, "get", "secrets", "-n", "lab", "--as="+robot, "--as-group=system:authenticated")
	if can, id := evaluate(t, local, robot, "list", "configmaps"); can {
		ids[id] = 0
	} else {
		t.Error("what was kept does not decide")
	}

	// What was kept and then changed does not, and the cluster fails closed.
	edge.Kill()
	files, err := filepath.Glob(filepath.Join(state, "policy", "policy-*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v %v", files, err)
	}
	policy, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Replace(policy, []byte("robot-reads"), []byte("robot-write"), 1)
	if bytes.Equal(forged, policy) || os.WriteFile(files[0], forged, 0o600) != nil {
		t.Fatal("the policy was not changed")
	}
	edge = runEdge(t, flags)
	eventually(t, commandWithin, "it says that it does not decide", func() bool {
		code, body, err := local.try(http.MethodGet, "/readyz", nil, nil)
		return err == nil && code == http.StatusServiceUnavailable && strings.Contains(string(body), "no policy in force")
	})
	there.fails(1, nil, "get", "configmaps", "-n", "lab", "--as="+robot, "--as-group=system:authenticated")
	there.run("get", "configmaps", "-n", "lab") // the cluster's own administrator never asks

	// The control plane is back: policy is followed again, and what was decided
	// meanwhile is on record, once.
	if err := g.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	if _, err := edge.WaitLine(ctx, "ready https://"); err != nil {
		t.Fatal(err)
	}
	if code := owner.lists("lab"); code != http.StatusOK {
		t.Errorf("after the control plane is back: %d", code)
	}
	eventually(t, commandWithin, "the decisions made meanwhile are on record", func() bool {
		for id := range ids {
			ids[id] = 0
		}
		all := record(t, g, "--site", "edged")
		// The cluster's own events took the same way.
		if !all.has(func(e event) bool {
			return e.RequestURI == "/api/v1/namespaces/lab/configmaps" && e.User.Username == robot && e.ResponseStatus.Code == http.StatusOK
		}) {
			return false
		}
		for _, e := range all {
			if _, ok := ids[e.AuditID]; ok && e.Annotations["decision.gatehouse.dev/point"] == "edge-1" {
				ids[e.AuditID]++
			}
		}
		for _, n := range ids {
			if n == 0 {
				return false
			}
		}
		return true
	})
	for id, n := range ids {
		if n != 1 {
			t.Errorf("decision %s is on record %d times", id, n)
		}
	}
	if len(ids) != 51 {
		t.Errorf("%d decisions", len(ids))
	}
	if code, err := edge.Stop(commandWithin); err != nil || code != 0 {
		t.Errorf("stop: %d %v", code, err)
	}
}
