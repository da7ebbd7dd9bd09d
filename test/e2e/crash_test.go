package e2e

import (
	"bytes"
	"encoding/base64"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

var soak = flag.Duration("soak", 0, "go on killing and restarting for this long")

// crashRounds is how often the ordinary run kills the control plane.
const crashRounds = 2

// A writer creates objects and changes them, one after the other, and remembers
// what was acknowledged.
type writer struct {
	namespace string
	acked     map[string]int // object → the last acknowledged value
	sent      map[string]int // object → the last value sent
	answers   atomic.Int64   // how many writes were acknowledged
}

// work writes until the server is gone.
func (w *writer) work(c client) {
	for i := 0; ; i++ {
		name := fmt.Sprintf("c-%d-%d", len(w.sent), i)
		value := 0
		method, path := http.MethodPost, "/api/v1/namespaces/"+w.namespace+"/configmaps"
		for known := range w.acked {
			if rand.IntN(3) > 0 {
				name, value = known, w.sent[known]+1
				method, path = http.MethodPut, path+"/"+known
			}
			break
		}
		w.sent[name] = value
		body := object("v1", "ConfigMap", name, fmt.Sprintf(`,"data":{"k":"%d"}`, value))
		code, answer, err := c.try(method, path, nil, []byte(body))
		if err != nil {
			return
		}
		if code != http.StatusCreated && code != http.StatusOK {
			// A server on its way down may refuse; it must not pretend.
			if code >= 500 {
				continue
			}
			c.t.Errorf("%s %s: %d: %s", method, path, code, answer)
			return
		}
		w.acked[name] = value
		w.answers.Add(1)
	}
}

// publishedCA is the ConfigMap that the control plane puts into each namespace.
const publishedCA = "kube-root-ca.crt"

// check compares what the server has with what it acknowledged. A value that was
// sent but not acknowledged may have been stored.
func (w *writer) check(t *testing.T, c client) {
	t.Helper()
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Data     map[string]string
		}
	}
	c.get("/api/v1/namespaces/"+w.namespace+"/configmaps", &list)
	stored := map[string]string{}
	for _, item := range list.Items {
		if item.Metadata.Name == publishedCA {
			continue
		}
		stored[item.Metadata.Name] = item.Data["k"]
		if _, ours := w.sent[item.Metadata.Name]; !ours {
			t.Errorf("%s/%s was never written", w.namespace, item.Metadata.Name)
		}
	}
	for name, acked := range w.acked {
		got, ok := stored[name]
		if !ok {
			t.Errorf("%s/%s was acknowledged and is gone", w.namespace, name)
			continue
		}
		var value int
		if _, err := fmt.Sscan(got, &value); err != nil || value < acked || value > w.sent[name] {
			t.Errorf("%s/%s holds %q, acknowledged %d, sent %d", w.namespace, name, got, acked, w.sent[name])
		}
		w.acked[name] = value
	}
}

// Killed at any moment, the control plane loses nothing that it acknowledged,
// and starts again with the same authorities and keys.
func TestCrash(t *testing.T) {
	t.Parallel()
	g := start(t)
	k := as(t, g)
	k.namespace("crash")
	k.run("create", "serviceaccount", "survivor", "-n", "crash")
	token := strings.TrimSpace(k.run("create", "token", "survivor", "-n", "crash", "--duration=1h"))
	survivor := withToken(t, g, token)
	k.run("create", "rolebinding", "survivor", "-n", "crash", "--clusterrole=view", "--serviceaccount=crash:survivor")

	writers := make([]*writer, 4)
	for i := range writers {
		writers[i] = &writer{namespace: fmt.Sprintf("crash-%d", i), acked: map[string]int{}, sent: map[string]int{}}
		k.namespace(writers[i].namespace)
	}
	began := time.Now()
	for round := 0; round < crashRounds || time.Since(began) < *soak; round++ {
		var working sync.WaitGroup
		answers := func() (sum int64) {
			for _, w := range writers {
				sum += w.answers.Load()
			}
			return sum
		}
		before := answers()
		for _, w := range writers {
			c := adminClient(t, g)
			working.Go(func() { w.work(c) })
		}
		eventually(t, commandWithin, "there is something to lose", func() bool { return answers() > before })
		time.Sleep(time.Second + rand.N(time.Second)) // the moment of the crash is the point
		g.Kill()
		working.Wait()
		if err := g.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		acked := 0
		for _, w := range writers {
			w.check(t, adminClient(t, g))
			acked += len(w.acked)
		}
		survivor.shows([]string{"system:serviceaccount:crash:survivor"}, "auth", "whoami")
		survivor.run("get", "configmaps", "-n", "crash")
		t.Logf("round %d: %d objects, ready again after %v", round+1, acked, g.Start.Round(time.Millisecond))
		if acked == 0 || t.Failed() {
			t.Fatalf("round %d: %d objects acknowledged", round+1, acked)
		}
	}
	if err := drain(g); err != nil {
		t.Fatal(err)
	}
	got, err := harness.RunGatehouse(t.Context(), "audit", "verify", "--data-dir", g.DataDir)
	if err != nil || got.Code != 0 {
		t.Errorf("the record does not verify after the crashes: %v %v", err, got)
	}
}

// files calls visit with every file below dir.
func files(t *testing.T, dir string, visit func(path string, info fs.FileInfo, content []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err == nil {
			visit(path, info, content)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Secrets are not in clear in anything on disk, the record included.
func TestNothingSecretOnDisk(t *testing.T) {
	t.Parallel()
	g := start(t)
	k := as(t, g)
	k.namespace("quiet")
	const secretMark, openMark = "swordfish-4711-below-the-waves", "lighthouse-4711-above-the-waves"
	k.run("create", "secret", "generic", "s", "-n", "quiet", "--from-literal=password="+secretMark)
	k.run("create", "configmap", "c", "-n", "quiet", "--from-literal=k="+openMark)
	k.run("create", "serviceaccount", "robot", "-n", "quiet")
	token := strings.TrimSpace(k.run("create", "token", "robot", "-n", "quiet"))
	withToken(t, g, token).run("auth", "whoami")
	k.run("patch", "secret", "s", "-n", "quiet", "-p", `{"stringData":{"password":"again-`+secretMark+`"}}`)
	k.shows([]string{base64.StdEncoding.EncodeToString([]byte("again-" + secretMark))}, "get", "secret", "s", "-n", "quiet", "-o", "yaml")
	g.Kill()

	marks := map[string][]byte{
		"the secret":           []byte(secretMark),
		"the secret in base64": []byte(base64.StdEncoding.EncodeToString([]byte(secretMark))[:36]),
		"the patched secret":   []byte(base64.StdEncoding.EncodeToString([]byte("again-" + secretMark))[:36]),
		"the token":            []byte(strings.Split(token, ".")[2]),
	}
	allowedKeys := map[string]bool{"admin.kubeconfig": true}
	open := false
	files(t, g.DataDir, func(path string, info fs.FileInfo, content []byte) {
		name, err := filepath.Rel(g.DataDir, path)
		if err != nil {
			t.Fatal(err)
		}
		for what, mark := range marks {
			if bytes.Contains(content, mark) {
				t.Errorf("%s holds %s in clear", name, what)
			}
		}
		if bytes.Contains(content, []byte("PRIVATE KEY-----")) && !allowedKeys[name] {
			t.Errorf("%s holds a private key in clear", name)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v, which lets others read it", name, info.Mode())
		}
		open = open || bytes.Contains(content, []byte(openMark))
	})
	// The search itself must be able to find something.
	if !open {
		t.Error("the value of a configmap is nowhere on disk: the search proves nothing")
	}
}

// A namespace that is deleted takes everything in it along.
func TestNamespaceDeletion(t *testing.T) {
	t.Parallel()
	k := as(t, shared(t))
	k.namespace("doomed")
	in := func(args ...string) []string { return append(args, "-n", "doomed") }
	k.run(in("create", "configmap", "c")...)
	k.run(in("create", "secret", "generic", "s")...)
	k.run(in("create", "serviceaccount", "runner")...)
	k.run(in("create", "role", "r", "--verb=get", "--resource=pods")...)
	k.run(in("create", "rolebinding", "b", "--role=r", "--user=ada")...)
	k.feed(pod("p", "doomed"), "create", "-f", "-")
	// Something holds one object, and so the namespace, until it has cleaned up.
	k.run(in("patch", "configmap", "c", "--type=merge", "-p", `{"metadata":{"finalizers":["cleanup.example/hold"]}}`)...)
	k.run("delete", "namespace", "doomed", "--wait=false")
	k.shows([]string{"Terminating"}, "get", "namespace", "doomed")
	k.fails(1, []string{"forbidden", "because it is being terminated"}, in("create", "configmap", "late")...)
	eventually(t, commandWithin, "the rest is deleted", func() bool {
		return k.run(in("get", "secrets,roles,rolebindings,pods", "-o", "name")...) == ""
	})
	k.run(in("patch", "configmap", "c", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)...)
	k.run("wait", "--for=delete", "namespace/doomed", "--timeout=60s")
	k.namespace("doomed")
	for _, kind := range []string{"configmaps", "secrets", "serviceaccounts", "roles", "rolebindings", "pods"} {
		// Every namespace has its default account and the authority to trust.
		left := strings.NewReplacer("serviceaccount/default\n", "", "configmap/"+publishedCA+"\n", "").Replace(k.run(in("get", kind, "-o", "name")...))
		if left != "" {
			t.Errorf("left after the deletion: %s", left)
		}
	}
	k.fails(1, []string{"forbidden"}, "delete", "namespace", "kube-system")
}
