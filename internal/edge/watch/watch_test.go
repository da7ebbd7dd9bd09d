package watch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/edge/watch"
	"github.com/gatehouse-dev/gatehouse/internal/federation/objectwire"
	"github.com/gatehouse-dev/gatehouse/internal/federation/siteobjects"
)

// cluster is a kube-apiserver that lists what it was given and streams what it
// is told.
type cluster struct {
	t      *testing.T
	mu     sync.Mutex // guards what follows
	pods   []corev1.Pod
	denied bool
	lists  int
	// metrics is what it says of itself, servers the list of all.
	metrics, servers string

	events chan string // of the watch of pods; closing one ends it
	done   chan struct{}
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		c.t.Errorf("the watcher changes the cluster: %s %s", r.Method, r.URL)
	}
	switch r.URL.Path {
	case "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes":
		if c.servers == "" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, c.servers)
		return
	case "/metrics":
		c.mu.Lock()
		defer c.mu.Unlock()
		_, _ = io.WriteString(w, c.metrics)
		return
	}
	pods := r.URL.Path == "/api/v1/pods"
	if !pods && r.URL.Path != "/api/v1/nodes" && r.URL.Path != "/api/v1/persistentvolumes" && r.URL.Path != "/apis/storage.k8s.io/v1/volumeattachments" {
		c.t.Errorf("the watcher reads %s", r.URL)
	}
	if r.URL.Query().Get("watch") == "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.denied {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"kind":"Status","message":"no"}`)
			return
		}
		items := []corev1.Pod{}
		more := ""
		if pods {
			c.lists++
			// Two pages, to see both.
			at := len(c.pods) / 2
			if items = c.pods[:at]; r.URL.Query().Get("continue") != "" {
				items = c.pods[at:]
			} else {
				more = "next"
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"metadata": metav1.ListMeta{ResourceVersion: "7", Continue: more}, "items": items})
		return
	}
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	if !pods {
		select {
		case <-r.Context().Done():
		case <-c.done:
		}
		return
	}
	for {
		select {
		case e := <-c.events:
			if e == "" {
				return
			}
			_, _ = io.WriteString(w, e)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		case <-c.done:
			return
		}
	}
}

func pod(name, node, secret string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "u", ResourceVersion: "8"},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{
			Env:     []corev1.EnvVar{{Name: "PASSWORD", Value: "hunter2"}},
			EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: secret}}}},
		}}},
	}
}

func event(kind string, p corev1.Pod) string {
	data, _ := json.Marshal(map[string]any{"type": kind, "object": p}) // a pod
	return string(data) + "\n"
}

// plane is the control plane's side of the door.
type plane struct {
	t        *testing.T
	registry *siteobjects.Registry
	mu       sync.Mutex // guards what follows
	down     bool
	posts    int
	totals   chan string // of audit events
}

type nowhere struct{}

func (nowhere) Put(context.Context, string, []byte) error { return nil }
func (nowhere) Remove(context.Context, string) error      { return nil }

func (p *plane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if r.URL.Path == "/sites/blue/audit/totals" {
		select {
		case p.totals <- string(body): // the first
		default:
		}
		_, _ = io.WriteString(w, "{}")
		return
	}
	if r.URL.Path != "/sites/blue/objects" || err != nil {
		p.t.Errorf("%s %v", r.URL, err)
	}
	if strings.Contains(string(body), "hunter2") || strings.Contains(string(body), "PASSWORD") {
		p.t.Errorf("more than names left the cluster: %s", body)
	}
	if p.down {
		http.Error(w, `{"message":"away"}`, http.StatusServiceUnavailable)
		return
	}
	p.posts++
	var in objectwire.Post
	if err := json.Unmarshal(body, &in); err != nil {
		p.t.Error(err)
	}
	answer, err := p.registry.Accept(r.Context(), "blue", &in)
	if err != nil {
		p.t.Errorf("refused: %v", err)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (p *plane) needs(node, secret string) bool {
	allowed, _, _ := p.registry.Decide("blue", "system:node:"+node, []string{"system:nodes"},
		&authz.Request{ResourceRequest: true, Verb: "get", Resource: "secrets", Namespace: "ns", Name: secret})
	return allowed
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !check(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestWatcher(t *testing.T) {
	t.Parallel()
	c := &cluster{t: t, pods: []corev1.Pod{pod("a", "n1", "s1"), pod("b", "n2", "s2")}, denied: true, events: make(chan string), done: make(chan struct{})}
	p := &plane{t: t, registry: siteobjects.New(nowhere{}, time.Now)}
	there, here := httptest.NewServer(c), httptest.NewTLSServer(p)
	t.Cleanup(func() { close(c.done); there.Close(); here.Close() })
	confirmed := make(chan struct{})
	w, err := watch.New(watch.Config{
		ClusterURL: there.URL, Cluster: there.Client(), Server: here.URL + "/", Site: "blue", Client: here.Client(),
		Confirmed: func() { close(confirmed) }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()

	// What may not be read is not confirmed, and nothing counts.
	select {
	case <-confirmed:
		t.Fatal("confirmed before anything was read")
	case <-time.After(500 * time.Millisecond):
	}
	c.mu.Lock()
	c.denied = false
	c.mu.Unlock()
	<-confirmed
	if !p.needs("n1", "s1") || !p.needs("n2", "s2") || p.needs("n1", "s2") {
		t.Error("the list did not arrive")
	}

	c.events <- event("ADDED", pod("c", "n1", "s3"))
	eventually(t, "the new pod arrives", func() bool { return p.needs("n1", "s3") })
	c.events <- event("BOOKMARK", corev1.Pod{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "9"}})
	c.events <- event("MODIFIED", pod("c", "n1", "s4"))
	eventually(t, "the changed pod arrives", func() bool { return p.needs("n1", "s4") && !p.needs("n1", "s3") })
	c.events <- event("DELETED", pod("c", "n1", "s4"))
	eventually(t, "the deletion arrives", func() bool { return !p.needs("n1", "s4") })

	// While the control plane is away, what happens is kept.
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	c.events <- event("ADDED", pod("d", "n2", "s5"))
	time.Sleep(300 * time.Millisecond)
	p.mu.Lock()
	p.down = false
	p.mu.Unlock()
	eventually(t, "what happened meanwhile arrives", func() bool { return p.needs("n2", "s5") })

	// A watch that has to begin anew, with what is there now.
	c.mu.Lock()
	c.pods = []corev1.Pod{pod("a", "n1", "s1"), pod("e", "n3", "s6")}
	c.mu.Unlock()
	c.events <- fmt.Sprintln(`{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}`)
	eventually(t, "the second list arrives", func() bool { return p.needs("n3", "s6") && !p.needs("n2", "s5") && p.needs("n1", "s1") })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := watch.Config{ClusterURL: "https://c", Cluster: http.DefaultClient, Server: "https://x", Site: "blue", Client: http.DefaultClient, Log: slog.Default()}
	for name, change := range map[string]func(*watch.Config){
		"a server without TLS": func(c *watch.Config) { c.Server = "http://x" },
		"no site":              func(c *watch.Config) { c.Site = "" },
		"no client":            func(c *watch.Config) { c.Client = nil },
		"no cluster":           func(c *watch.Config) { c.Cluster = nil },
		"no URL":               func(c *watch.Config) { c.ClusterURL = "" },
		"no log":               func(c *watch.Config) { c.Log = nil },
	} {
		c := good
		change(&c)
		if _, err := watch.New(c); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := watch.New(good); err != nil {
		t.Error(err)
	}
}
