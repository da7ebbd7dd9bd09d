package kubeapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-logr/logr"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/klog/v2"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/clusterrole"
	"github.com/gatehouse-dev/gatehouse/internal/resource/configmap"
	"github.com/gatehouse-dev/gatehouse/internal/resource/event"
	"github.com/gatehouse-dev/gatehouse/internal/resource/namespace"
	"github.com/gatehouse-dev/gatehouse/internal/resource/role"
	"github.com/gatehouse-dev/gatehouse/internal/resource/secret"
	"github.com/gatehouse-dev/gatehouse/internal/resource/serviceaccount"
	"github.com/gatehouse-dev/gatehouse/internal/resource/subjectaccessreview"
	"github.com/gatehouse-dev/gatehouse/internal/resource/validatingadmissionpolicy"
	"github.com/gatehouse-dev/gatehouse/internal/resource/validatingadmissionpolicybinding"
	"github.com/gatehouse-dev/gatehouse/internal/storage/etcd"
)

// server is the one frame of all tests: each uses namespaces and names of its
// own.
type server struct {
	frame  *kubeapi.Frame
	url    string
	client *clientv3.Client
	record *record
	minted *counter
}

var shared *server

func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard())
	os.Exit(func() int {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		dir, err := os.MkdirTemp("", "kubeapi")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		var stop func()
		if shared, stop, err = serve(ctx, dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		code := m.Run()
		cancel()
		stop()
		return code
	}())
}

func serve(ctx context.Context, dir string) (s *server, stop func(), err error) {
	log := slog.New(slog.DiscardHandler)
	e, err := etcd.Embed(ctx, dir, log, func(reason string) { panic(reason) })
	if err != nil {
		return nil, nil, err
	}
	s = &server{record: &record{}, minted: &counter{}}
	if s.client, err = etcd.Connect(ctx, etcd.Endpoints{URLs: []string{e.Endpoint()}}, log); err != nil {
		return nil, nil, err
	}
	root, err := keys.GenerateRoot()
	if err != nil {
		return nil, nil, err
	}
	ring, err := keys.NewKeyring(root)
	if err != nil {
		return nil, nil, err
	}
	s.frame, err = kubeapi.New(ctx, kubeapi.Config{
		Kinds: kinds(s.minted),
		Etcd:  kubeapi.EtcdEndpoints{URLs: []string{e.Endpoint()}}, Sealer: ring.Resources(),
		Version: "0.0.0", ExternalAddress: "127.0.0.1:1", Audiences: []string{"gatehouse"},
		Authenticate: byHeader, Authorizer: rights{}, Recorder: s.record, AuditPolicy: policy.Default(),
		Fresh: func() error { return nil }, Recordable: func() error { return nil }, Log: log,
	})
	if err != nil {
		return nil, nil, err
	}
	ran := make(chan error, 1)
	go func() { ran <- s.frame.Run(ctx) }()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	srv := &http.Server{Handler: s.frame.Handler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(listener) }()
	s.url = "http://" + listener.Addr().String()
	for deadline := time.Now().Add(time.Minute); ; {
		if a, err := s.send(ctx, request{path: "/readyz"}); err == nil && a.code == http.StatusOK {
			break
		} else if time.Now().After(deadline) {
			return nil, nil, fmt.Errorf("not ready within a minute: %w, %s", err, a.body)
		}
		select {
		case err := <-ran:
			return nil, nil, fmt.Errorf("the frame ended: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return s, func() {
		srv.Close()
		<-ran
		s.client.Close()
		e.Close()
	}, nil
}

func kinds(minted *counter) []resource.Kind {
	return []resource.Kind{
		namespace.New(func(context.Context, resource.Caller, string, string) error { return nil }),
		configmap.New(), secret.New(), event.New(),
		serviceaccount.New(func(_ context.Context, _ resource.Caller, _ *corev1.ServiceAccount, in *authenticationv1.TokenRequest, dryRun bool) error {
			if !dryRun {
				minted.add()
				in.Status.Token = "a-token"
			}
			return nil
		}),
		role.New(func(_ context.Context, by resource.Caller, r, _ *rbacv1.Role) error { return escalates(by, r.Rules) }),
		clusterrole.New(func(_ context.Context, by resource.Caller, r, _ *rbacv1.ClusterRole) error {
			return escalates(by, r.Rules)
		}),
		validatingadmissionpolicy.New(kubeapi.CompileExpressions, func(context.Context, resource.Caller, admissionregistrationv1.ParamKind) error { return nil }),
		validatingadmissionpolicybinding.New(func(context.Context, resource.Caller, string, admissionregistrationv1.ParamRef) error { return nil }),
		subjectaccessreview.New(func(context.Context, resource.Caller, *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
			return authorizationv1.SubjectAccessReviewStatus{Allowed: true, Reason: "asked"}, nil
		}),
	}
}

// climber may write roles and grant no wildcard.
const climber = "climber"

func escalates(by resource.Caller, rules []rbacv1.PolicyRule) error {
	for _, r := range rules {
		if by.Name == climber && slices.Contains(r.Verbs, "*") {
			return fault.New(fault.Denied, "attempting to grant more than you have")
		}
	}
	return nil
}

type counter struct {
	mu sync.Mutex // guards n
	n  int
}

func (c *counter) add() { c.mu.Lock(); c.n++; c.mu.Unlock() }
func (c *counter) get() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// callerHeader stands for a credential.
const callerHeader = "Test-Caller"

func byHeader(r *http.Request) (resource.Caller, bool, error) {
	name := r.Header.Get(callerHeader)
	if name == "forged" {
		return resource.Caller{}, false, fault.New(fault.Unauthenticated, "forged")
	}
	return resource.Caller{Name: name, Groups: []string{"system:authenticated"}}, name != "", nil
}

// rights lets everybody do everything but for two callers.
type rights struct{}

func (rights) Decide(_ context.Context, c resource.Caller, q *authz.Request) (bool, string, error) {
	switch {
	case c.Name == "nobody", c.Name == "system:apiserver", slices.Contains(c.Groups, "system:masters"):
		return false, "no rights", nil
	case strings.HasPrefix(q.Verb, "impersonate"):
		return c.Name == "boss", "", nil
	}
	return true, "everybody", nil
}

// record keeps what the frame records.
type record struct {
	mu     sync.Mutex // guards the rest
	events []audit.Event
	full   []string // paths of which nothing can be recorded
}

// refuse makes recording fail for requests of a path.
func (r *record) refuse(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full = append(r.full, path)
}

func (r *record) Append(_ context.Context, ev *audit.Event, _ audit.Durability) error {
	if err := ev.Validate(); err != nil {
		return err
	}
	var held audit.Event
	if err := json.Unmarshal(ev.AppendJSON(nil), &held); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, path := range r.full {
		if strings.HasPrefix(ev.RequestURI, path) {
			return fault.New(fault.Unavailable, "the disk is full")
		}
	}
	r.events = append(r.events, held)
	return nil
}

// of returns the events with this text in their URI, oldest first.
func (r *record) of(part string) (out []audit.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ev := range r.events {
		if strings.Contains(ev.RequestURI, part) {
			out = append(out, ev)
		}
	}
	return out
}

// request is one call; the caller is "admin" and the body JSON unless it says
// otherwise.
type request struct {
	as, method, path, mediaType string
	body                        any
	header                      http.Header
}

type answer struct {
	code int
	body []byte
}

func (s *server) send(ctx context.Context, in request) (answer, error) {
	var body io.Reader
	switch b := in.body.(type) {
	case nil:
	case string:
		body = strings.NewReader(b)
	default:
		out, err := json.Marshal(b)
		if err != nil {
			return answer{}, err
		}
		body = strings.NewReader(string(out))
	}
	if in.method == "" {
		in.method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, in.method, s.url+in.path, body)
	if err != nil {
		return answer{}, err
	}
	if in.as == "" {
		in.as = "admin"
	}
	if in.as != "-" {
		req.Header.Set(callerHeader, in.as)
	}
	if in.mediaType == "" {
		in.mediaType = "application/json"
	}
	if body != nil {
		req.Header.Set("Content-Type", in.mediaType)
	}
	for k, v := range in.header {
		req.Header[k] = v
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, out}, err
}

// do sends a request that must be answered with code.
func do(t *testing.T, code int, in request) answer {
	t.Helper()
	return shared.do(t, code, in)
}

func (s *server) do(t *testing.T, code int, in request) answer {
	t.Helper()
	a, err := s.send(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if a.code != code {
		t.Fatalf("%s %s: %d, want %d: %s", in.method, in.path, a.code, code, a.body)
	}
	return a
}

func as[T any](t *testing.T, a answer) T {
	t.Helper()
	var out T
	if err := json.Unmarshal(a.body, &out); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return out
}

// newNamespace makes the test's own.
func newNamespace(t *testing.T, name string) string {
	t.Helper()
	do(t, 201, request{method: "POST", path: "/api/v1/namespaces", body: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}})
	return "/api/v1/namespaces/" + name
}

// eventually waits for what happens in the background.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !check(); {
		if time.Now().After(deadline) {
			t.Fatal("not within a minute: " + what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
