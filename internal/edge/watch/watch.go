// Package watch follows the pods and volumes of a Kubernetes cluster and tells
// the control plane, through the site's doors, which node needs which objects,
// and how many audit events the kube-apiservers threw away.
//
// It owns: reading the cluster (list and watch of nodes, pods, persistent volumes and
// volume attachments, the addresses and the metrics of the kube-apiservers,
// nothing else and never a change), and sending what differs from what the
// control plane has. It refuses to send anything but names and counts: what a
// pod runs, its environment and its secrets stay in the cluster.
//
// While it does not see all of the cluster it confirms nothing, and the control
// plane lets the rules that need the objects rest. Start at [New].
package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
	"github.com/gatehouse-dev/gatehouse/internal/federation/objectwire"
)

// Config is what a watcher needs.
type Config struct {
	// ClusterURL and Cluster reach the API of the cluster, with a credential
	// that may list and watch; requests of Cluster must not time out by
	// themselves.
	ClusterURL string
	Cluster    *http.Client
	// Server is the https URL of the control plane, Site the name of the site,
	// and Client shows the certificate of the site.
	Server, Site string
	Client       *http.Client
	// Confirmed is called after the control plane first has everything; it may
	// be nil.
	Confirmed func()
	Log       *slog.Logger
}

const (
	// confirmEvery is how often everything is compared.
	confirmEvery = 15 * time.Second
	// gather is how long changes are collected before they are sent.
	gather = 200 * time.Millisecond
	// maxPost bounds the groups of one post, in bytes of JSON.
	maxPost = 1 << 20
	// retryFirst and retryLast bound the wait after a fault.
	retryFirst, retryLast = time.Second, 30 * time.Second
)

// Watcher works until its context ends.
type Watcher struct {
	cfg  Config
	door string // all doors begin so

	pinnedMu sync.Mutex              // guards pinned
	pinned   map[string]*http.Client // one for each kube-apiserver

	// What follows belongs to the goroutine of Run.
	items  []map[string]item            // by kind of object, then its key
	groups map[string]map[string]source // by group, then kind and key
	dirty  map[string]bool
	seeing []bool // by kind: listed, and watched since
}

type source = objectwire.Source

// item is one object and the group that it belongs to.
type item struct {
	group string
	source
}

// New checks the configuration; it reaches for no network.
func New(cfg Config) (*Watcher, error) {
	if !strings.HasPrefix(cfg.Server, "https://") || cfg.Site == "" || cfg.Client == nil || cfg.Log == nil || cfg.Cluster == nil || cfg.ClusterURL == "" {
		return nil, errors.New("watch: an https URL, a site, a client, a cluster and a log are required")
	}
	w := &Watcher{
		cfg: cfg, door: strings.TrimSuffix(cfg.Server, "/") + "/sites/" + cfg.Site,
		groups: map[string]map[string]source{}, dirty: map[string]bool{}, seeing: make([]bool, len(kinds)),
	}
	for range kinds {
		w.items = append(w.items, map[string]item{})
	}
	return w, nil
}

// news is what the reader of one kind has seen.
type news struct {
	kind int
	// all replaces everything of the kind; otherwise put is one object, or key
	// names one that is gone.
	all  []item
	list bool
	put  *item
	key  string
	// blind says that the kind is not watched now.
	blind bool
}

// Run follows the cluster until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in := make(chan news, 256)
	var readers sync.WaitGroup
	readers.Go(func() { w.totals(ctx) })
	for i := range kinds {
		r := reader{kind: i, of: kinds[i], cfg: &w.cfg, out: in}
		readers.Go(func() { r.run(ctx) })
	}
	defer func() {
		cancel()
		readers.Wait()
	}()
	tick := time.NewTicker(confirmEvery)
	defer tick.Stop()
	send := time.NewTimer(gather)
	defer send.Stop()
	// pending: the timer will come; news must not put it off.
	wait, confirmed, pending := retryFirst, false, true
	for {
		due := false
		select {
		case <-ctx.Done():
			return nil
		case n := <-in:
			whole := w.sees()
			w.take(n)
			if !pending && (len(w.dirty) > 0 || !whole && w.sees()) {
				send.Reset(gather)
				pending = true
			}
			continue
		case <-send.C:
			pending = false
		case <-tick.C:
			due = true
		}
		if !w.sees() {
			continue
		}
		err := w.flush(ctx)
		if err == nil && (due || !confirmed) {
			if err = w.confirm(ctx); err == nil && !confirmed {
				confirmed = true
				if w.cfg.Confirmed != nil {
					w.cfg.Confirmed()
				}
			}
		}
		if err == nil {
			wait = retryFirst
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		w.cfg.Log.Warn("control plane not told", "error", err, "again", wait)
		send.Reset(wait)
		pending = true
		wait = min(2*wait, retryLast)
	}
}

// sees reports whether every kind was listed and is watched.
func (w *Watcher) sees() bool { return !slices.Contains(w.seeing, false) }

func (w *Watcher) take(n news) {
	w.seeing[n.kind] = !n.blind
	switch {
	case n.list:
		gone := maps.Clone(w.items[n.kind])
		for i := range n.all {
			delete(gone, n.all[i].key())
			w.put(n.kind, n.all[i])
		}
		for key := range gone {
			w.remove(n.kind, key)
		}
	case n.put != nil:
		w.put(n.kind, *n.put)
	case n.key != "":
		w.remove(n.kind, n.key)
	}
}

func (i *item) key() string { return i.Namespace + "/" + i.Name }

func (w *Watcher) put(kind int, i item) {
	slices.Sort(i.Needs)
	key := i.key()
	if old, ok := w.items[kind][key]; ok {
		if old.group == i.group && old.UID == i.UID && old.Claim == i.Claim && slices.Equal(old.Needs, i.Needs) {
			return
		}
		w.remove(kind, key)
	}
	w.items[kind][key] = i
	g := w.groups[i.group]
	if g == nil {
		g = map[string]source{}
		w.groups[i.group] = g
	}
	g[i.Kind+"/"+key] = i.source
	w.dirty[i.group] = true
}

func (w *Watcher) remove(kind int, key string) {
	old, ok := w.items[kind][key]
	if !ok {
		return
	}
	delete(w.items[kind], key)
	g := w.groups[old.group]
	delete(g, old.Kind+"/"+key)
	if len(g) == 0 {
		delete(w.groups, old.group)
	}
	w.dirty[old.group] = true
}

// group makes what is sent of one.
func (w *Watcher) group(name string) objectwire.Group {
	g := objectwire.Group{Name: name}
	for _, s := range w.groups[name] {
		g.Sources = append(g.Sources, s)
	}
	g.Sort()
	return g
}

// flush sends what changed.
func (w *Watcher) flush(ctx context.Context) error {
	names := slices.Sorted(maps.Keys(w.dirty))
	if err := w.send(ctx, names); err != nil {
		return err
	}
	clear(w.dirty)
	return nil
}

func (w *Watcher) send(ctx context.Context, names []string) error {
	var post objectwire.Post
	size := 0
	for i, name := range names {
		g := w.group(name)
		data, err := json.Marshal(g)
		if err != nil {
			return fmt.Errorf("write objects: %w", err)
		}
		post.Groups, size = append(post.Groups, g), size+len(data)
		if size < maxPost && i < len(names)-1 {
			continue
		}
		if _, err := w.post(ctx, &post); err != nil {
			return err
		}
		post.Groups, size = nil, 0
	}
	return nil
}

// confirm compares everything and sends what the control plane lacks.
func (w *Watcher) confirm(ctx context.Context) error {
	inventory := map[string]string{}
	for name := range w.groups {
		g := w.group(name)
		inventory[name] = g.Digest()
	}
	answer, err := w.post(ctx, &objectwire.Post{Inventory: inventory})
	if err != nil || len(answer.Want) == 0 {
		return err
	}
	w.cfg.Log.Info("control plane lacks objects", "groups", len(answer.Want))
	if err := w.send(ctx, answer.Want); err != nil {
		return err
	}
	if answer, err = w.post(ctx, &objectwire.Post{Inventory: inventory}); err == nil && len(answer.Want) > 0 {
		err = fmt.Errorf("%d groups do not arrive as they were sent", len(answer.Want))
	}
	return err
}

// nodeGroup and volumeGroup name the group of an object.
func nodeGroup(node string) string { return "n/" + node }

func volumeGroup(name string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // it never fails
	return fmt.Sprintf("v/%02x", h.Sum32()&0xff)
}

// itemOf turns what the graph needs to know of an object into what is sent.
func itemOf(s nodegraph.Source, ok bool) (item, bool) {
	if !ok {
		return item{}, false
	}
	group := nodeGroup(s.Node)
	if s.Kind == nodegraph.Volume {
		group = volumeGroup(s.Name)
	}
	return item{group, objectwire.From(&s)}, true
}
