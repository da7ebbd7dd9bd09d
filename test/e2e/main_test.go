package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// commandWithin bounds one command, or one wait for an effect that nobody
// promised a time for. It only has to end a story that hangs: machines that run
// this beside other work are slow.
const commandWithin = 2 * time.Minute

// effectWithin is how soon a change of policy counts, here and in a connected
// cluster.
const effectWithin = time.Second

// The servers that all stories use and none may stop.
var servers struct {
	gatehouse func() (*harness.Gatehouse, error)
	stock     func() (*harness.Cluster, error)
	stop      []func() error // guarded by mu
	mu        sync.Mutex
}

func TestMain(m *testing.M) {
	if dataDir := os.Getenv(agedData); dataDir != "" {
		os.Exit(serveThreeDaysAgo(dataDir))
	}
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gatehouse-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Built before the time of any story begins.
	if _, err := harness.BuildGatehouse(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if _, err := harness.Upstream(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	onEnd := func(stop func() error) {
		servers.mu.Lock()
		defer servers.mu.Unlock()
		servers.stop = append(servers.stop, stop)
	}
	servers.gatehouse = sync.OnceValues(func() (*harness.Gatehouse, error) {
		g, err := harness.StartGatehouse(context.Background(), filepath.Join(dir, "gatehouse"))
		if err == nil {
			onEnd(func() error { return drain(g) })
		}
		return g, err
	})
	servers.stock = sync.OnceValues(func() (*harness.Cluster, error) {
		c, err := harness.StartCluster(context.Background(), filepath.Join(dir, "stock"))
		if err == nil {
			onEnd(func() error { c.Stop(); return nil })
		}
		return c, err
	})
	code := m.Run()
	for _, stop := range servers.stop {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	return code
}

// drain ends a control plane as an operator would, which must work at any time.
func drain(g *harness.Gatehouse) error {
	if code, err := g.Stop(commandWithin); err != nil || code != 0 {
		return fmt.Errorf("%v did not drain: code %d, %w\n%s", g, code, err, g.Log())
	}
	return nil
}

// shared is the control plane of all stories.
func shared(t *testing.T) *harness.Gatehouse {
	t.Helper()
	g, err := servers.gatehouse()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// stock is the stock kube-apiserver of all stories.
func stock(t *testing.T) *harness.Cluster {
	t.Helper()
	c, err := servers.stock()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// start is a control plane of the test's own, on an empty data directory.
func start(t *testing.T, args ...string) *harness.Gatehouse {
	t.Helper()
	g, err := harness.StartGatehouse(t.Context(), filepath.Join(t.TempDir(), "data"), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Kill()
		if t.Failed() {
			t.Logf("--- gatehouse ---\n%s", g.Log())
		}
	})
	return g
}

// startCluster is a stock kube-apiserver of the test's own.
func startCluster(t *testing.T, flags ...string) *harness.Cluster {
	t.Helper()
	c, err := harness.StartCluster(t.Context(), t.TempDir(), flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Stop()
		if t.Failed() {
			t.Logf("--- kube-apiserver ---\n%s", c.APIServer.Log())
		}
	})
	return c
}

// A kube runs kubectl in a test and fails the test when a command does not do
// what the story says.
type kube struct {
	t *testing.T
	k *harness.Kubectl
}

type hasKubectl interface {
	Kubectl() (*harness.Kubectl, error)
}

// as returns kubectl for the administrator of a server.
func as(t *testing.T, server hasKubectl) kube {
	t.Helper()
	k, err := server.Kubectl()
	if err != nil {
		t.Fatal(err)
	}
	return kube{t, k}
}

// withToken returns kubectl for the bearer of a token: the administrator's
// kubeconfig with the token in place of the certificate.
func withToken(t *testing.T, server hasKubectl, token string) kube {
	t.Helper()
	admin := as(t, server)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(admin.run("config", "view", "--raw", "--flatten")), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := harness.NewKubectl(path)
	if err != nil {
		t.Fatal(err)
	}
	bearer := kube{t, k}
	bearer.run("config", "set-credentials", "bearer", "--token="+token)
	bearer.run("config", "set-context", "--current", "--user=bearer")
	return bearer
}

func (k kube) exec(stdin string, args ...string) harness.Result {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), commandWithin)
	defer cancel()
	result, err := k.k.Run(ctx, stdin, args...)
	if err != nil {
		k.t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return result
}

// run runs a command that must succeed and returns what it printed.
func (k kube) run(args ...string) string {
	k.t.Helper()
	return k.feed("", args...)
}

// feed is run with standard input.
func (k kube) feed(stdin string, args ...string) string {
	k.t.Helper()
	got := k.exec(stdin, args...)
	if got.Code != 0 {
		k.t.Fatalf("kubectl %s: %v", strings.Join(args, " "), got)
	}
	return got.Stdout
}

// shows runs a command that must succeed and print all of the given texts.
func (k kube) shows(texts []string, args ...string) {
	k.t.Helper()
	out := k.run(args...)
	for _, text := range texts {
		if !strings.Contains(out, text) {
			k.t.Errorf("kubectl %s does not show %q:\n%s", strings.Join(args, " "), text, out)
		}
	}
}

// fails runs a command that must exit with the code and say all of the texts on
// either stream.
func (k kube) fails(code int, texts []string, args ...string) {
	k.t.Helper()
	k.failsFed("", code, texts, args...)
}

func (k kube) failsFed(stdin string, code int, texts []string, args ...string) {
	k.t.Helper()
	got := k.exec(stdin, args...)
	if got.Code != code {
		k.t.Errorf("kubectl %s: want exit code %d: %v", strings.Join(args, " "), code, got)
	}
	for _, text := range texts {
		if !strings.Contains(got.Stdout+got.Stderr, text) {
			k.t.Errorf("kubectl %s does not say %q: %v", strings.Join(args, " "), text, got)
		}
	}
}

// namespace creates a namespace and deletes it after the test.
func (k kube) namespace(name string) {
	k.t.Helper()
	k.run("create", "namespace", name)
}

// eventually repeats a check until it passes, for effects that reach the server
// through its own watch. It polls, because a user sees no signal either.
func eventually(t *testing.T, within time.Duration, what string, check func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		if check() {
			return time.Since(began)
		}
		if time.Since(began) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(pollEvery)
	}
}

// pollEvery is how long eventually and promptly wait between two looks.
const pollEvery = 20 * time.Millisecond

// promptly is eventually for an effect that is promised within a time. What
// counts is when an attempt began: one that was begun later than promised must
// not see what was before. When its answer came counts for nothing, since that
// is about the client, which a busy machine may not have run.
func promptly(t *testing.T, within time.Duration, what string, check func() bool) time.Duration {
	t.Helper()
	return promptlyAfter(t, time.Now(), within, what, check)
}

// promptlyAfter is promptly for an effect that is promised within a time after
// a moment.
func promptlyAfter(t *testing.T, moment time.Time, within time.Duration, what string, check func() bool) time.Duration {
	t.Helper()
	allowed := within
	for {
		allowed = max(allowed, time.Duration(float64(within)*crowd()))
		late := time.Since(moment)
		if check() {
			return time.Since(moment)
		}
		if late > allowed {
			t.Fatalf("asked after %v, and not yet: %s (promised within %v, allowed on this machine %v)", late, what, within, allowed)
		}
		time.Sleep(pollEvery)
	}
}

// crowd is how many threads want each processor now, at least one: a second
// that the server shares with others is not a second of its own.
func crowd() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 1
	}
	var load [3]float64
	var running, threads int
	if _, err := fmt.Sscanf(string(text), "%f %f %f %d/%d", &load[0], &load[1], &load[2], &running, &threads); err != nil {
		return 1
	}
	return max(1, float64(running)/float64(runtime.NumCPU()))
}

// replaceFile gives a file that a server watches new content, all at once.
func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
