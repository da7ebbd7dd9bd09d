package kubeapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi/openapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Config says what the frame serves and whom it asks.
type Config struct {
	// Kinds are served in this order.
	Kinds []resource.Kind
	// Etcd is where objects are stored; Sealer encrypts the sealed kinds.
	Etcd   EtcdEndpoints
	Sealer Sealer
	// Version of the product, for /version.
	Version string
	// ExternalAddress is the host:port that discovery names.
	ExternalAddress string
	// Audiences that the control plane answers to.
	Audiences []string

	Authenticate Authenticate
	Authorizer   Authorizer
	// ReadsObjects reports whether the answers of Authorizer may depend on the
	// object of a change, so that it must be asked again with it. Nil is always.
	ReadsObjects func() bool
	// Admit is asked, in this order, about every change that is allowed.
	Admit       []Admit
	Recorder    audit.Recorder
	AuditPolicy AuditPolicy
	// Fresh returns an error, of kind Unavailable, while no decision can be
	// made; every request is then refused with 503.
	Fresh func() error
	// Recordable returns an error, of kind Unavailable, while no change can be
	// recorded; changes are then refused with 503.
	Recordable func() error
	// Notes are lines that /readyz?verbose shows beside its checks: what is
	// worth knowing and fails nothing. Nil shows none.
	Notes func() []string
	// Ready lists further conditions of /readyz.
	Ready []Check
	Log   *slog.Logger
}

// Check is a named condition of readiness; nil is ready.
type Check struct {
	Name  string
	Check func(*http.Request) error
}

// Frame serves the API. Get one from [New], attach feeds, then Run it.
type Frame struct {
	cfg     Config
	server  *genericapiserver.GenericAPIServer
	stores  map[schema.GroupResource]*store
	subs    map[string]*substore // by "resource/subresource"
	shared  informers.SharedInformerFactory
	loop    *loopback
	backend *auditBackend
	cancel  context.CancelFunc
}

// New opens the storage of every kind and builds the handler chain. It serves
// nothing until Run.
func New(ctx context.Context, cfg Config) (*Frame, error) {
	t, err := newTypes(cfg.Kinds)
	if err != nil {
		return nil, err
	}
	if cfg.ReadsObjects == nil {
		cfg.ReadsObjects = func() bool { return true }
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &Frame{cfg: cfg, stores: map[schema.GroupResource]*store{}, subs: map[string]*substore{}, loop: &loopback{}, cancel: cancel}
	f.backend = &auditBackend{recorder: cfg.Recorder, drained: make(chan struct{})}
	ok := false
	defer func() {
		if !ok {
			f.close()
		}
	}()

	gc := f.genericConfig(t)
	opts := &restOptions{types: t, at: cfg.Etcd, sealer: cfg.Sealer, tracker: gc.StorageObjectCountTracker, kinds: map[schema.GroupResource]*resource.Stored{}}
	for _, k := range cfg.Kinds {
		if s, ok := k.(*resource.Stored); ok {
			opts.kinds[groupResource(s.Names)] = s
		}
	}
	gc.RESTOptionsGetter = opts
	for _, k := range cfg.Kinds {
		s, ok := k.(*resource.Stored)
		if !ok {
			continue
		}
		st, err := newStore(t, s, opts)
		if err != nil {
			return nil, err
		}
		f.stores[groupResource(s.Names)] = st
	}

	client, err := kubernetes.NewForConfig(f.loop.config())
	if err != nil {
		return nil, fmt.Errorf("client of the frame: %w", err)
	}
	f.shared = informers.NewSharedInformerFactory(client, resync)
	if ns, ok := f.stores[schema.GroupResource{Resource: "namespaces"}]; ok {
		// Registered first, so that every consumer shares the one that reads
		// the storage directly.
		f.shared.InformerFor(&corev1.Namespace{}, func(kubernetes.Interface, time.Duration) cache.SharedIndexInformer {
			return cache.NewSharedIndexInformer(listWatch{ns}, &corev1.Namespace{}, resync, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
		})
	}
	gc.AdmissionControl, err = admissionChain(ctx, f.loop.config(), f.shared, frameAuthorizer{to: cfg.Authorizer}, restMapper(cfg.Kinds), gc.EffectiveVersion, objectPolicies{cfg.Authorizer, cfg.ReadsObjects}, cfg.Admit)
	if err != nil {
		return nil, err
	}
	f.server, err = gc.Complete(f.shared).New("gatehouse", genericapiserver.NewEmptyDelegate())
	if err != nil {
		return nil, fmt.Errorf("build API server: %w", err)
	}
	if err := f.install(t); err != nil {
		return nil, err
	}
	f.Handle(definitionsPath, http.HandlerFunc(noDefinitions))
	f.loop.serve(f.server.Handler)
	ok = true
	return f, nil
}

// genericConfig fills in what the library leaves to its host.
func (f *Frame) genericConfig(t *types) *genericapiserver.Config {
	gc := genericapiserver.NewConfig(t.codecs)
	gc.EffectiveVersion = effectiveVersion(f.cfg.Version)
	gc.ExternalAddress = f.cfg.ExternalAddress
	gc.LoopbackClientConfig = f.loop.config()
	gc.EnableProfiling = false
	gc.Authentication.Authenticator = withLoopback(requestAuthenticator(f.cfg.Authenticate))
	gc.Authentication.APIAudiences = f.cfg.Audiences
	admitted := map[schema.GroupResource]bool{}
	for _, k := range f.cfg.Kinds {
		admitted[groupResource(resource.NamesOf(k))] = true
	}
	gc.Authorization.Authorizer = frameAuthorizer{f.cfg.Authorizer, admitted}
	gc.BuildHandlerChainFunc = func(api http.Handler, c *genericapiserver.Config) http.Handler {
		return f.withService(f.withLengths(withMaker(genericapiserver.DefaultBuildHandlerChain(api, c)), t.codecs), t.codecs)
	}
	gc.AuditBackend = f.backend
	gc.AuditPolicyRuleEvaluator = policyEvaluator{f.cfg.AuditPolicy}
	gc.ShutdownWatchTerminationGracePeriod = watchDrain
	gc.MaxRequestBodyBytes = maxBodyBytes
	namer := openapinamer.NewDefinitionNamer(t.naming)
	gc.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(openapi.GetOpenAPIDefinitions, namer)
	gc.OpenAPIConfig.Info.Title, gc.OpenAPIConfig.Info.Version = "Gatehouse", f.cfg.Version
	gc.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(openapi.GetOpenAPIDefinitions, namer)
	gc.OpenAPIV3Config.Info.Title, gc.OpenAPIV3Config.Info.Version = "Gatehouse", f.cfg.Version
	for _, c := range f.cfg.Ready {
		gc.ReadyzChecks = append(gc.ReadyzChecks, healthz.NamedCheck(c.Name, c.Check))
	}
	return gc
}

const (
	// watchDrain is how long watches may end by themselves when the server
	// stops.
	watchDrain = time.Second
	// maxBodyBytes bounds a request body: the largest ConfigMap and its
	// metadata, as upstream.
	maxBodyBytes = 3 << 20
)

// install adds every kind's routes, group by group.
func (f *Frame) install(t *types) error {
	groups := map[string]*genericapiserver.APIGroupInfo{}
	var order []string
	at := func(gv schema.GroupVersion) map[string]rest.Storage {
		g, ok := groups[gv.Group]
		if !ok {
			info := genericapiserver.NewDefaultAPIGroupInfo(gv.Group, t.scheme, t.params, t.codecs)
			g = &info
			groups[gv.Group] = g
			order = append(order, gv.Group)
		}
		m, ok := g.VersionedResourcesStorageMap[gv.Version]
		if !ok {
			m = map[string]rest.Storage{}
			g.VersionedResourcesStorageMap[gv.Version] = m
		}
		return m
	}
	for _, k := range f.cfg.Kinds {
		n := resource.NamesOf(k)
		m := at(n.GroupVersion)
		switch k := k.(type) {
		case *resource.Answered:
			m[n.Resource] = &review{k}
		case *resource.Stored:
			s := f.stores[groupResource(n)]
			m[n.Resource] = s
			if k.Keeps {
				m[n.Resource] = uncollected{s}
			}
			for _, sub := range k.Subresources {
				ss := s.sub(t, sub)
				f.subs[n.Resource+"/"+sub.Name] = ss
				m[n.Resource+"/"+sub.Name] = ss
			}
			for _, a := range k.Actions {
				m[n.Resource+"/"+a.Name] = &action{store: s, action: a}
			}
		}
	}
	for _, group := range order {
		g := groups[group]
		var err error
		if group == "" {
			err = f.server.InstallLegacyAPIGroup(genericapiserver.DefaultLegacyAPIPrefix, g)
		} else {
			err = f.server.InstallAPIGroup(g)
		}
		if err != nil {
			return fmt.Errorf("install API group %q: %w", group, err)
		}
	}
	return nil
}

// Handler is the frame's whole chain, for requests from a network.
func (f *Frame) Handler() http.Handler {
	return fromNetwork(withNotes(f.server.Handler, f.cfg.Notes))
}

// Follow feeds a kind into sink until ctx ends. synced, which may be nil, is
// called after the first Replace.
func (f *Frame) Follow(ctx context.Context, gr schema.GroupResource, sink Sink, synced func()) error {
	s, ok := f.stores[gr]
	if !ok {
		return fmt.Errorf("follow %s: not a stored kind", gr)
	}
	feed(ctx, s, sink, synced)
	return nil
}

// Run starts what works in the background and returns when ctx has ended and
// every request has drained.
func (f *Frame) Run(ctx context.Context) error {
	defer f.close()
	prepared := f.server.PrepareRun()
	failed := make(chan error, 1)
	go func() {
		// Without a listener of its own the library never returns from here;
		// the audit backend's Shutdown tells that requests have drained.
		failed <- prepared.RunWithContext(ctx)
	}()
	empty := make(chan struct{})
	go func() {
		defer close(empty)
		newEmptier(f).run(ctx)
	}()
	defer func() { <-empty }()
	select {
	case err := <-failed:
		return fmt.Errorf("run API server: %w", err)
	case <-f.backend.drained:
		return nil
	}
}

func (f *Frame) close() {
	f.cancel()
	if f.server != nil {
		f.server.Destroy()
	}
	for _, s := range f.stores {
		s.Destroy()
	}
}
