// Command authzen puts AuthZEN evaluations of Gatehouse beside "opa run
// --server": the same generated policy and questions, the same load generator,
// HTTP/2 over TLS for both, in alternating rounds on one machine. Every question
// is asked once before, and a wrong answer ends the run.
//
// Gatehouse runs as installed, with authentication by certificate and the audit
// on; OPA with neither, as it starts by default. The load generator shares the
// machine's cores with both, so trust the ratios, and of them the processor time
// most. OPA is built from the version in go.mod.
package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-dev/gatehouse/bench/peers/world"
	"github.com/gatehouse-dev/gatehouse/test/harness"
)

type options struct {
	bindings, questions, inFlight, rounds int
	length                                time.Duration
}

// side is one server.
type side struct {
	name    string
	process *harness.Process
	base    string
	path    string
	client  *http.Client
	bodies  [][]byte
	rounds  []round
}

type round struct {
	perSecond float64
	p50, p99  time.Duration
	cpu       time.Duration // of the server, for each request
}

func main() {
	var o options
	flag.IntVar(&o.bindings, "bindings", 10_000, "bindings to load")
	flag.IntVar(&o.questions, "questions", 2_000, "distinct questions to ask")
	flag.IntVar(&o.inFlight, "in-flight", 32, "requests in flight")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds for each server")
	flag.DurationVar(&o.length, "length", 5*time.Second, "length of a round")
	flag.Parse()
	if err := run(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, "authzen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "gatehouse-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w := world.New(o.bindings, o.questions, 1)
	opa, err := startOPA(ctx, dir, w)
	if err != nil {
		return fmt.Errorf("opa: %w", err)
	}
	defer opa.process.Kill()
	ours, err := startGatehouse(ctx, dir, w, o.inFlight)
	if err != nil {
		return fmt.Errorf("gatehouse: %w", err)
	}
	defer ours.process.Kill()
	sides := []*side{ours, opa}
	for _, s := range sides {
		if err := check(ctx, s, w, o.inFlight); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for range o.rounds {
		for _, s := range sides {
			r, err := measure(ctx, s, o.inFlight, o.length)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			s.rounds = append(s.rounds, r)
		}
	}
	report(o, sides)
	return nil
}

// startOPA builds OPA and starts it with the data as files.
func startOPA(ctx context.Context, dir string, w *world.World) (*side, error) {
	program := filepath.Join(dir, "opa")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/open-policy-agent/opa")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build (run it in bench/peers): %w", err)
	}
	data, err := json.Marshal(w.Data())
	if err != nil {
		return nil, err
	}
	cert, key, config, err := certificate()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"data.json": data, "rbac.rego": []byte(world.Rego), "opa.crt": cert, "opa.key": key}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, err
		}
	}
	address, err := harness.FreeAddress()
	if err != nil {
		return nil, err
	}
	process, err := harness.Start("opa", program, os.Environ(), "run", "--server", "--addr=https://"+address, "--log-level=error", "--disable-telemetry",
		"--tls-cert-file="+filepath.Join(dir, "opa.crt"), "--tls-private-key-file="+filepath.Join(dir, "opa.key"),
		filepath.Join(dir, "data.json"), filepath.Join(dir, "rbac.rego"))
	if err != nil {
		return nil, err
	}
	s := &side{name: "opa", process: process, base: "https://" + address, path: "/v1/data/rbac/allow", client: client(config)}
	for i := range w.Questions {
		q := &w.Questions[i]
		groups := append([]string{}, q.Groups...)
		body, err := json.Marshal(map[string]any{"input": map[string]any{"user": q.User, "groups": groups, "verb": q.Verb, "resource": q.Resource, "namespace": q.Namespace, "name": q.Name}})
		if err != nil {
			return nil, err
		}
		s.bodies = append(s.bodies, body)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if r, err := s.client.Get(s.base + "/health"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return s, nil
			}
		}
		if time.Now().After(deadline) {
			process.Kill()
			return nil, errors.New("is not ready")
		}
	}
}

func client(config *tls.Config) *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: config}}
}

// certificate makes one for 127.0.0.1, and what trusts it.
func certificate() (cert, key []byte, config *tls.Config, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "opa"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		&tls.Config{RootCAs: roots}, nil
}

// startGatehouse starts a control plane and creates the policy in it.
func startGatehouse(ctx context.Context, dir string, w *world.World, inFlight int) (*side, error) {
	g, err := harness.StartGatehouse(ctx, filepath.Join(dir, "gatehouse"))
	if err != nil {
		return nil, err
	}
	k, err := harness.NewKubectl(g.Kubeconfig)
	if err != nil {
		return nil, err
	}
	base, config, err := k.Endpoint(ctx)
	if err != nil {
		return nil, err
	}
	s := &side{name: "gatehouse", process: g.Process, base: base, path: "/access/v1/evaluation", client: client(config)}
	for _, step := range objects(w) {
		if err := parallel(inFlight, len(step), func(i int) error {
			body, err := json.Marshal(step[i].body)
			if err != nil {
				return err
			}
			_, err = s.post(ctx, step[i].path, body, http.StatusCreated)
			return err
		}); err != nil {
			g.Kill()
			return nil, err
		}
	}
	for i := range w.Questions {
		q := &w.Questions[i]
		body, err := json.Marshal(map[string]any{
			"subject":  map[string]any{"type": "user", "id": q.User, "properties": map[string]any{"groups": append([]string{}, q.Groups...)}},
			"action":   map[string]any{"name": q.Verb},
			"resource": map[string]any{"type": q.Resource, "id": q.Namespace + "/" + q.Name},
		})
		if err != nil {
			return nil, err
		}
		s.bodies = append(s.bodies, body)
	}
	return s, nil
}

type object struct {
	path string
	body map[string]any
}

// objects are the policy, in the order in which it must be created.
func objects(w *world.World) [3][]object {
	const group, path = "rbac.authorization.k8s.io", "/apis/rbac.authorization.k8s.io/v1"
	var out [3][]object
	made := map[string]bool{}
	for name, rules := range w.Roles {
		var list []any
		for _, r := range rules {
			rule := map[string]any{"verbs": r.Verbs, "apiGroups": []string{""}, "resources": []string{r.Resource}}
			if len(r.Names) > 0 {
				rule["resourceNames"] = r.Names
			}
			list = append(list, rule)
		}
		out[1] = append(out[1], object{path + "/clusterroles", map[string]any{"apiVersion": group + "/v1", "kind": "ClusterRole", "metadata": map[string]any{"name": name}, "rules": list}})
	}
	for _, b := range w.Bindings {
		subject := map[string]any{"apiGroup": group, "kind": "User", "name": b.Subject}
		if b.Group {
			subject["kind"] = "Group"
		}
		o := object{path + "/clusterrolebindings", map[string]any{"apiVersion": group + "/v1", "kind": "ClusterRoleBinding", "metadata": map[string]any{"name": b.Name},
			"roleRef": map[string]any{"apiGroup": group, "kind": "ClusterRole", "name": b.Role}, "subjects": []any{subject}}}
		if b.Namespace != "" {
			o.path = path + "/namespaces/" + b.Namespace + "/rolebindings"
			o.body["kind"] = "RoleBinding"
			o.body["metadata"].(map[string]any)["namespace"] = b.Namespace
			if !made[b.Namespace] {
				made[b.Namespace] = true
				out[0] = append(out[0], object{"/api/v1/namespaces", map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": b.Namespace}}})
			}
		}
		out[2] = append(out[2], o)
	}
	return out
}

func (s *side) post(ctx context.Context, path string, body []byte, want int) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != want {
		err = fmt.Errorf("POST %s: %s: %.300s", path, resp.Status, answer)
	}
	return answer, err
}

// check asks every question once.
func check(ctx context.Context, s *side, w *world.World, inFlight int) error {
	return parallel(inFlight, len(s.bodies), func(i int) error {
		answer, err := s.post(ctx, s.path, s.bodies[i], http.StatusOK)
		if err != nil {
			return err
		}
		var got struct {
			Decision *bool `json:"decision"` // AuthZEN
			Result   *bool `json:"result"`   // OPA
		}
		if err := json.Unmarshal(answer, &got); err != nil {
			return err
		}
		value := got.Decision
		if value == nil {
			value = got.Result
		}
		if value == nil || *value != w.Questions[i].Allowed {
			return fmt.Errorf("wrong answer %.200s to %s, want %v", answer, s.bodies[i], w.Questions[i].Allowed)
		}
		return nil
	})
}

// parallel calls do for 0..n-1 from so many goroutines, until one fails.
func parallel(inFlight, n int, do func(int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var workers sync.WaitGroup
	for range inFlight {
		workers.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	workers.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func measure(ctx context.Context, s *side, inFlight int, length time.Duration) (round, error) {
	before, err := s.process.Usage()
	if err != nil {
		return round{}, err
	}
	began := time.Now()
	var mu sync.Mutex
	var took []time.Duration // guarded by mu
	var next atomic.Int64
	err = parallel(inFlight, inFlight, func(int) error {
		var mine []time.Duration
		for time.Since(began) < length {
			sent := time.Now()
			if _, err := s.post(ctx, s.path, s.bodies[int(next.Add(1))%len(s.bodies)], http.StatusOK); err != nil {
				return err
			}
			mine = append(mine, time.Since(sent))
		}
		mu.Lock()
		defer mu.Unlock()
		took = append(took, mine...)
		return nil
	})
	if err != nil {
		return round{}, err
	}
	elapsed := time.Since(began)
	after, err := s.process.Usage()
	if err != nil {
		return round{}, err
	}
	slices.Sort(took)
	n := len(took)
	return round{float64(n) / elapsed.Seconds(), took[n/2], took[n*99/100], (after.CPU - before.CPU) / time.Duration(n)}, nil
}

func report(o options, sides []*side) {
	fmt.Printf("AuthZEN evaluations beside OPA, HTTP/2 over TLS, %d bindings, %d in flight; medians of %d rounds\n", o.bindings, o.inFlight, o.rounds)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "server\trequests/s\tp50\tp99\tCPU/request\t")
	var middle [2]round
	for i, s := range sides {
		r := round{
			median(s.rounds, func(r round) float64 { return r.perSecond }), median(s.rounds, func(r round) time.Duration { return r.p50 }),
			median(s.rounds, func(r round) time.Duration { return r.p99 }), median(s.rounds, func(r round) time.Duration { return r.cpu }),
		}
		middle[i] = r
		fmt.Fprintf(t, "%s\t%.0f\t%v\t%v\t%v\t\n", s.name, r.perSecond, r.p50.Round(10*time.Microsecond), r.p99.Round(10*time.Microsecond), r.cpu.Round(time.Microsecond))
	}
	t.Flush()
	fmt.Printf("%.1f times the requests at %.2f of the processor time\n", middle[0].perSecond/middle[1].perSecond, float64(middle[0].cpu)/float64(middle[1].cpu))
}

func median[T float64 | time.Duration](rounds []round, of func(round) T) T {
	values := make([]T, len(rounds))
	for i, r := range rounds {
		values[i] = of(r)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
