package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// podNeeding is a pod on a node of a stock cluster.
func podNeeding(node, name, secret string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: farm}
spec:
  nodeName: %s
  serviceAccountName: runner
  automountServiceAccountToken: false
  containers: [{name: main, image: "registry.example/x:1", envFrom: [{secretRef: {name: %s}}]}]
`, name, node, secret)
}

// watchKubeconfig lets gatehouse-edge watch into a cluster, as its manifest says,
// and returns what it needs for that, and a kubectl that may as much.
func watchKubeconfig(t *testing.T, cluster *harness.Cluster) (path string, watcher kube) {
	t.Helper()
	manifest, err := harness.Start("gatehouse-edge", edgeProgram(t), nil, "watch", "manifest")
	if err != nil {
		t.Fatal(err)
	}
	if code, err := manifest.Wait(t.Context()); err != nil || code != 0 {
		t.Fatalf("manifest: %d %v", code, err)
	}
	there := as(t, cluster)
	there.feed(manifest.Log(), "apply", "-f", "-")
	watcher = withToken(t, cluster, strings.TrimSpace(there.run("create", "token", "gatehouse-watch", "-n", "gatehouse")))
	path = filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(watcher.run("config", "view", "--raw", "--flatten")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, watcher
}

// startWatch runs gatehouse-edge watch until the test ends, and returns when the
// control plane has everything.
func startWatch(t *testing.T, g *harness.Gatehouse, site, dir, kubeconfig string) *harness.Process {
	t.Helper()
	edge, err := harness.Start("gatehouse-edge", edgeProgram(t), nil, "watch", "--server", g.URL, "--site", site, "--dir", dir, "--kubeconfig", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		edge.Kill()
		if t.Failed() {
			t.Logf("--- gatehouse-edge ---\n%s", edge.Log())
		}
	})
	if _, err := edge.WaitLine(t.Context(), "ready "+site); err != nil {
		t.Fatal(err)
	}
	return edge
}

// The nodes of a connected cluster that has no Node authorizer of its own get
// what their pods need, known from gatehouse-edge watch.
func TestNodesOfASite(t *testing.T) {
	t.Parallel()
	g := start(t)
	here := as(t, g)
	dir, flags := connect(t, g, "farm", "--mode", "full")
	path := filepath.Join(dir, "authorization.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	without := strings.Replace(string(text), "- type: Node\n  name: node\n", "", 1)
	if without == string(text) {
		t.Fatalf("no Node authorizer in\n%s", text)
	}
	if err := os.WriteFile(path, []byte(without), 0o600); err != nil {
		t.Fatal(err)
	}
	cluster := startCluster(t, flags...)
	there := as(t, cluster)
	there.namespace("farm")
	there.run("create", "serviceaccount", "runner", "-n", "farm")
	for _, name := range []string{"mine", "theirs"} {
		there.run("create", "secret", "generic", name, "-n", "farm", "--from-literal=k=v")
	}
	there.feed(podNeeding("worker-1", "web", "mine")+"---"+podNeeding("worker-2", "db", "theirs"), "create", "-f", "-")
	as1 := func(args ...string) []string {
		return append(args, "-n", "farm", "--as=system:node:worker-1", "--as-group=system:nodes")
	}
	can := func(name string) bool { return there.exec("", as1("get", "secret", name)...).Code == 0 }

	// The Site has to say so, and the watcher to have told.
	there.fails(1, []string{forbidden}, as1("get", "secret", "mine")...)
	here.run("patch", "site", "farm", "--type=merge", "-p", `{"spec":{"authorization":{"nodes":"Needed"}}}`)
	eventually(t, commandWithin, "the refusal says what is missing", func() bool {
		return strings.Contains(there.exec("", as1("get", "secret", "mine")...).Stderr, `no objects of site "farm" are known`)
	})

	// The watcher is allowed what its manifest says, and nothing else.
	kubeconfig, watcher := watchKubeconfig(t, cluster)
	watcher.fails(1, []string{forbidden}, "get", "secrets", "-n", "farm")
	watcher.fails(1, []string{forbidden}, "get", "endpointslices", "-n", "default")
	edge := startWatch(t, g, "farm", dir, kubeconfig)

	if !can("mine") {
		t.Error("the node does not read what its pod needs")
	}
	there.fails(1, []string{forbidden, `no relationship found between node "worker-1" and this object`}, as1("get", "secret", "theirs")...)
	there.fails(1, []string{forbidden}, as1("get", "secrets")...)
	there.shows([]string{"web"}, as1("get", "pods", "--field-selector", "spec.nodeName=worker-1")...)
	there.fails(1, []string{forbidden}, as1("get", "pods")...)
	there.fails(1, []string{forbidden}, as1("delete", "pod", "db")...)
	there.fails(1, []string{forbidden}, as1("delete", "node", "worker-1")...)

	// Changes there count here, and do not wait.
	there.feed(podNeeding("worker-1", "more", "theirs"), "create", "-f", "-")
	took := eventually(t, commandWithin, "the new pod opens its secret", func() bool { return can("theirs") })
	t.Logf("open %v after the pod", took.Round(time.Millisecond))
	there.run("delete", "pod", "more", "-n", "farm", "--force", "--grace-period=0")
	took = eventually(t, commandWithin, "the secret closes with the pod", func() bool { return !can("theirs") })
	t.Logf("closed %v after the pod", took.Round(time.Millisecond))
	eventually(t, commandWithin, "the Site tells that its objects are current", func() bool {
		return strings.Contains(here.run("get", "site", "farm", "-o", `jsonpath={.status.conditions[?(@.type=="ObjectsCurrent")].status}`), "True")
	})

	tokensOfSite(t, g, here, there)

	// A restart of the control plane forgets nothing, though nobody tells it
	// again.
	edge.Kill()
	if err := drain(g); err != nil {
		t.Fatal(err)
	}
	if err := g.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !can("mine") || can("theirs") {
		t.Error("the restart forgot what nodes need")
	}
}

// Tokens of the control plane that are bound to a pod, to a node or to the whole
// of a connected cluster end with it, as the watcher tells.
func tokensOfSite(t *testing.T, g *harness.Gatehouse, here, there kube) {
	t.Helper()
	anybody, admin := bareClient(t, g), adminClient(t, g)
	here.run("create", "serviceaccount", "robot", "-n", "default")
	there.feed(podNeeding("worker-1", "batch", "mine")+"---\n{apiVersion: v1, kind: Node, metadata: {name: worker-1}}\n", "create", "-f", "-")
	const pod, node = `{"apiVersion":"v1","kind":"Pod","name":"batch"}`, `{"apiVersion":"v1","kind":"Node","name":"worker-1"}`
	const site = `{"apiVersion":"federation.gatehouse.dev/v1alpha1","kind":"Site","name":"farm"}`
	request := func(ref, annotations string) string {
		return `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","metadata":{"annotations":{` + annotations + `}},"spec":{"audiences":["gatehouse"],"boundObjectRef":` + ref + `}}`
	}
	const path, ofFarm, inFarm = "/api/v1/namespaces/default/serviceaccounts/robot/token", `"authentication.gatehouse.dev/site-name":"farm"`, `,"authentication.gatehouse.dev/site-namespace":"farm"`
	tokens := map[string]string{}
	for name, body := range map[string]string{"pod": request(pod, ofFarm+inFarm), "node": request(node, ofFarm), "site": request(site, "")} {
		eventually(t, commandWithin, "a token bound to the "+name, func() bool {
			got := here.exec(body, "create", "--raw", path, "-f", "-")
			var out struct{ Status struct{ Token string } }
			if got.Code == 0 && json.Unmarshal([]byte(got.Stdout), &out) != nil {
				t.Fatalf("token request: %s", got.Stdout)
			}
			tokens[name] = out.Status.Token
			if tokens[name] == "" && !strings.Contains(got.Stderr, "not found") { // the watcher may not have told yet
				t.Fatalf("token request for a %s: %v", name, got)
			}
			return tokens[name] != ""
		})
	}
	works := func(name string) bool {
		_, body := admin.send(http.MethodPost, tr1, nil, []byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"`+tokens[name]+`"}}`))
		_, code := anybody.whoami(bearerOf(tokens[name]))
		good := strings.Contains(string(body), `"authenticated":true`)
		return good && code == http.StatusCreated
	}
	for name := range tokens {
		if !works(name) {
			t.Errorf("the token bound to the %s does not work", name)
		}
	}
	who, _ := anybody.whoami(bearerOf(tokens["pod"]))
	if x := who.Status.UserInfo.Extra; fmt.Sprint(x["authentication.gatehouse.dev/site-name"], x["authentication.gatehouse.dev/site-pod-name"], x["authentication.kubernetes.io/pod-name"]) != "[farm] [batch] []" {
		t.Errorf("whoami: %v", x)
	}
	for text, body := range map[string]string{
		"not found":             request(strings.Replace(pod, "batch", "ghost", 1), ofFarm+inFarm),
		"are known":             request(`{"apiVersion":"v1","kind":"Secret","name":"mine"}`, ofFarm),
		"does not match":        request(strings.Replace(node, `"name"`, `"uid":"old","name"`, 1), ofFarm),
		`\"nowhere\" not found`: request(pod, `"authentication.gatehouse.dev/site-name":"nowhere"`),
	} {
		if code, got := admin.send(http.MethodPost, path, nil, []byte(body)); code < 400 || code >= 500 || !strings.Contains(string(got), text) {
			t.Errorf("want %q: %d %s", text, code, got)
		}
	}
	// Whoever may not get the Site is told nothing of what is in it.
	here.run("create", "role", "minter", "-n", "default", "--verb=create", "--resource=serviceaccounts/token")
	here.run("create", "rolebinding", "minter", "-n", "default", "--role=minter", "--user=minter")
	eventually(t, commandWithin, "the minter is refused a node", func() bool {
		got := here.exec(request(node, ofFarm), "create", "--raw", path, "-f", "-", "--as=minter")
		return got.Code != 0 && strings.Contains(got.Stderr, `may not bind a token to site`)
	})

	there.run("delete", "pod", "batch", "-n", "farm", "--force", "--grace-period=0")
	took := eventually(t, commandWithin, "the token ends with the pod", func() bool { return !works("pod") })
	t.Logf("ended %v after the pod", took.Round(time.Millisecond))
	there.run("delete", "node", "worker-1")
	eventually(t, commandWithin, "the token ends with the node", func() bool { return !works("node") })
	if !works("site") {
		t.Error("the token of the whole site ended, too")
	}
	here.feed("{apiVersion: access.gatehouse.dev/v1alpha1, kind: Ban, metadata: {name: no-farm}, spec: {subject: {kind: Site, name: farm}, reason: story}}", "create", "-f", "-")
	eventually(t, commandWithin, "the token ends with the site", func() bool { return !works("site") })
	here.run("delete", "ban", "no-farm")
	eventually(t, commandWithin, "the token is good again", func() bool { return works("site") })
}
