package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

var configMaps = schema.GroupResource{Resource: "configmaps"}

// ConfigMaps that clients of Kubernetes expect.
const (
	// rootCAMap is in every namespace: the authorities of the API's
	// certificate, for pods that mount it beside a token.
	rootCAMap = "kube-root-ca.crt"
	rootCAKey = "ca.crt"
	// delegationMap is in kube-system: what a server that delegates its
	// authentication must trust.
	delegationMap = "extension-apiserver-authentication"

	descriptionKey = "kubernetes.io/description"
	rootCAText     = "Contains a CA bundle that can be used to verify the API of this control plane. No other use is meant."
)

// publisher keeps the ConfigMaps of public trust in place: made in each new
// namespace, and mended when somebody changes or deletes one, or when an
// authority is rotated. All replicas do it; what is done twice stays done.
type publisher struct {
	client kubernetes.Interface
	trust  *trust
	// proxyNames are the common names that an authenticating proxy may have;
	// proxyCAs are further authorities of proxies, in PEM.
	proxyNames []string
	proxyCAs   []byte
	log        *slog.Logger
	wake       chan struct{}

	mu      sync.Mutex // guards what follows
	known   map[string]bool
	pending map[string]bool
}

func newPublisher(client kubernetes.Interface, t *trust, proxyNames []string, proxyCAs []byte, log *slog.Logger) *publisher {
	return &publisher{
		client: client, trust: t, proxyNames: proxyNames, proxyCAs: proxyCAs, log: log,
		wake: make(chan struct{}, 1), known: map[string]bool{}, pending: map[string]bool{},
	}
}

func (p *publisher) add(namespaces ...string) {
	p.mu.Lock()
	for _, n := range namespaces {
		p.pending[n] = true
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// all has every namespace looked at again.
func (p *publisher) all() {
	p.mu.Lock()
	maps.Copy(p.pending, p.known)
	p.mu.Unlock()
	p.add()
}

// publishedNamespaces and publishedMaps are the publisher's feeds.
type publishedNamespaces struct{ *publisher }

func (p publishedNamespaces) Replace(objs []resource.Object) error {
	p.mu.Lock()
	clear(p.known)
	p.mu.Unlock()
	for _, o := range objs {
		_ = p.Put(o)
	}
	return nil
}

func (p publishedNamespaces) Put(o resource.Object) error {
	if o.GetDeletionTimestamp() != nil {
		return p.Delete(o)
	}
	p.mu.Lock()
	fresh := !p.known[o.GetName()]
	p.known[o.GetName()] = true
	p.mu.Unlock()
	if fresh {
		p.add(o.GetName())
	}
	return nil
}

func (p publishedNamespaces) Delete(o resource.Object) error {
	p.mu.Lock()
	delete(p.known, o.GetName())
	p.mu.Unlock()
	return nil
}

type publishedMaps struct{ *publisher }

func (p publishedMaps) Replace([]resource.Object) error { p.all(); return nil }
func (p publishedMaps) Put(o resource.Object) error     { return p.Delete(o) }

func (p publishedMaps) Delete(o resource.Object) error {
	if n := o.GetName(); n == rootCAMap || n == delegationMap && o.GetNamespace() == metav1.NamespaceSystem {
		p.add(o.GetNamespace())
	}
	return nil
}

func (p *publisher) run(ctx context.Context) {
	tick := time.NewTicker(keyInterval) // authorities rotate
	defer tick.Stop()
	var last string
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if now := p.fingerprint(); now != last {
				last = now
				p.all()
			}
			continue
		case <-p.wake:
		}
		p.mu.Lock()
		names := p.pending
		p.pending = map[string]bool{}
		p.mu.Unlock()
		for namespace := range names {
			if err := p.tend(ctx, namespace); err != nil && ctx.Err() == nil {
				p.log.Warn("trust not published", "namespace", namespace, "error", err)
				time.AfterFunc(time.Second, func() { p.add(namespace) })
			}
		}
	}
}

// fingerprint changes with what is published.
func (p *publisher) fingerprint() string {
	data, err := p.delegation()
	if err != nil {
		return ""
	}
	ca, _ := p.trust.serving.BundlePEM()
	return data["client-ca-file"] + data["requestheader-client-ca-file"] + string(ca)
}

func (p *publisher) tend(ctx context.Context, namespace string) error {
	p.mu.Lock()
	known := p.known[namespace]
	p.mu.Unlock()
	if !known {
		return nil
	}
	ca, err := p.trust.serving.BundlePEM()
	if err != nil {
		return err
	}
	err = p.ensure(ctx, namespace, rootCAMap, map[string]string{rootCAKey: string(ca)}, map[string]string{descriptionKey: rootCAText})
	if err != nil || namespace != metav1.NamespaceSystem {
		return err
	}
	data, err := p.delegation()
	if err != nil {
		return err
	}
	return p.ensure(ctx, namespace, delegationMap, data, nil)
}

// delegation is what a server that delegates authentication reads, by the keys
// that Kubernetes uses.
func (p *publisher) delegation() (map[string]string, error) {
	client, err := p.trust.client.BundlePEM()
	if err != nil {
		return nil, err
	}
	proxies, err := p.trust.requestHeader.BundlePEM()
	if err != nil {
		return nil, err
	}
	list := func(values ...string) string {
		text, _ := json.Marshal(append([]string{}, values...)) // strings always encode
		return string(text)
	}
	return map[string]string{
		"client-ca-file":                     string(client),
		"requestheader-client-ca-file":       string(proxies) + string(p.proxyCAs),
		"requestheader-username-headers":     list("X-Remote-User"),
		"requestheader-uid-headers":          list("X-Remote-Uid"),
		"requestheader-group-headers":        list("X-Remote-Group"),
		"requestheader-extra-headers-prefix": list("X-Remote-Extra-"),
		"requestheader-allowed-names":        list(p.proxyNames...),
	}, nil
}

// ensure makes a map be as it should, whatever somebody made of it.
func (p *publisher) ensure(ctx context.Context, namespace, name string, data, annotations map[string]string) error {
	api := p.client.CoreV1().ConfigMaps(namespace)
	got, err := api.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = api.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}, Data: data}, metav1.CreateOptions{})
		// A namespace that is gone, or going, needs none.
		if apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		return err
	}
	if err != nil || maps.Equal(got.Data, data) && len(got.BinaryData) == 0 || got.DeletionTimestamp != nil {
		return err
	}
	got.Data, got.BinaryData = data, nil
	if len(annotations) > 0 && got.Annotations == nil {
		got.Annotations = map[string]string{}
	}
	maps.Copy(got.Annotations, annotations)
	_, err = api.Update(ctx, got, metav1.UpdateOptions{})
	if apierrors.IsInvalid(err) {
		// Somebody made a false one immutable; the watch brings its end.
		err = api.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &got.UID}})
	}
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // the watch brings what it became
	}
	return err
}
