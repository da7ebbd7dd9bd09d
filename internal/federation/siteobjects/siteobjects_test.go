package siteobjects_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation/objectwire"
	"github.com/gatehouse-dev/gatehouse/internal/federation/siteobjects"
)

// memory is a store.
type memory struct {
	mu       sync.Mutex
	values   map[string][]byte
	writes   int
	removals int
	down     bool
}

func (m *memory) Put(_ context.Context, name string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return fault.New(fault.Unavailable, "the store does not answer")
	}
	m.values[name], m.writes = value, m.writes+1
	return nil
}

func (m *memory) Remove(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.removals++
	maps.DeleteFunc(m.values, func(k string, _ []byte) bool {
		return k == name || strings.HasSuffix(name, "/") && strings.HasPrefix(k, name)
	})
	return nil
}

type world struct {
	t     *testing.T
	store *memory
	now   time.Time
	r     *siteobjects.Registry
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, store: &memory{values: map[string][]byte{}}, now: time.Unix(1_700_000_000, 0)}
	w.r = siteobjects.New(w.store, func() time.Time { return w.now })
	return w
}

func group(node string, pods ...objectwire.Source) objectwire.Group {
	return objectwire.Group{Name: "n/" + node, Sources: pods}
}

func pod(name string, needs ...string) objectwire.Source {
	return objectwire.Source{Kind: "Pod", Namespace: "ns", Name: name, UID: "u-" + name, Needs: needs}
}

// sends posts groups and then the inventory, as the watcher does, until nothing
// is wanted.
func (w *world) sends(groups ...objectwire.Group) {
	w.t.Helper()
	inventory := map[string]string{}
	for i := range groups {
		groups[i].Sort()
		inventory[groups[i].Name] = groups[i].Digest()
	}
	answer, err := w.r.Accept(w.t.Context(), "blue", &objectwire.Post{Inventory: inventory})
	if err != nil {
		w.t.Fatal(err)
	}
	var wanted []objectwire.Group
	for _, g := range groups {
		for _, name := range answer.Want {
			if g.Name == name {
				wanted = append(wanted, g)
			}
		}
	}
	if len(wanted) != len(answer.Want) {
		w.t.Fatalf("wants %v", answer.Want)
	}
	if len(wanted) == 0 {
		return
	}
	if answer, err = w.r.Accept(w.t.Context(), "blue", &objectwire.Post{Groups: wanted, Inventory: inventory}); err != nil || len(answer.Want) > 0 {
		w.t.Fatalf("%v %v", answer, err)
	}
}

func (w *world) asks(r *siteobjects.Registry, node, verb, resource, name string) (bool, string) {
	q := &authz.Request{ResourceRequest: true, Verb: verb, Resource: resource, Namespace: "ns", Name: name}
	q.Resource, q.Subresource, _ = strings.Cut(resource, "/")
	if q.Resource == "nodes" || q.Resource == "persistentvolumes" {
		q.Namespace = ""
	}
	allowed, reason, ok := r.Decide("blue", "system:node:"+node, []string{"system:nodes"}, q)
	if !ok {
		w.t.Fatal("no node")
	}
	return allowed, reason
}

func (w *world) check(want bool, node, verb, resource, name string) {
	w.t.Helper()
	if got, reason := w.asks(w.r, node, verb, resource, name); got != want || reason == "" {
		w.t.Errorf("%s %s %s %s: %v %q", node, verb, resource, name, got, reason)
	}
}

func TestNodesOfASite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, reason := w.asks(w.r, "a", "get", "secrets", "s"); !strings.Contains(reason, `no objects of site "blue" are known`) {
		t.Errorf("before anything came: %s", reason)
	}
	volume := objectwire.Group{Name: "v/0f", Sources: []objectwire.Source{{Kind: "PersistentVolume", Name: "pv", Claim: "ns/claim", Needs: []string{"Secret/ns/disk"}}}}
	a, b := group("a", pod("web", "Secret/ns/s", "ServiceAccount/ns/runner", "PersistentVolumeClaim/ns/claim")), group("b", pod("db", "Secret/ns/other"))
	w.sends(a, b, volume)
	w.check(true, "a", "get", "secrets", "s")
	w.check(true, "a", "watch", "secrets", "s")
	w.check(false, "b", "get", "secrets", "s")
	w.check(true, "b", "get", "secrets", "other")
	w.check(true, "a", "get", "secrets", "disk")
	w.check(false, "b", "get", "secrets", "disk")
	w.check(true, "a", "get", "persistentvolumes", "pv")
	w.check(true, "a", "create", "serviceaccounts/token", "runner")
	w.check(false, "b", "create", "serviceaccounts/token", "runner")
	// Only the site's admission sees objects, so names of others are refused.
	w.check(true, "a", "patch", "nodes", "a")
	w.check(false, "a", "patch", "nodes", "b")
	w.check(false, "a", "patch", "nodes/status", "b")
	w.check(true, "a", "create", "nodes", "")
	w.check(true, "a", "delete", "pods", "web")
	w.check(false, "a", "delete", "pods", "db")
	w.check(false, "a", "patch", "pods/status", "db")
	w.check(false, "a", "create", "pods/eviction", "db")
	w.check(true, "a", "create", "pods", "")
	if _, _, ok := w.r.Decide("blue", "ada", []string{"system:nodes"}, &authz.Request{}); ok {
		t.Error("a person is taken for a node")
	}
	if allowed, _, _ := w.r.Decide("red", "system:node:a", []string{"system:nodes"}, &authz.Request{ResourceRequest: true, Verb: "get", Resource: "secrets", Namespace: "ns", Name: "s"}); allowed {
		t.Error("the objects of one site count at another")
	}

	// The pod moves: deleted, and created anew on the other node.
	w.sends(group("b", pod("db", "Secret/ns/other"), pod("web", "Secret/ns/s")), volume)
	w.check(false, "a", "get", "secrets", "s")
	w.check(true, "b", "get", "secrets", "s")

	// Another replica, and this one after a restart, know the same.
	other := siteobjects.New(w.store, func() time.Time { return w.now })
	other.Reset(w.store.values)
	if got, reason := w.asks(other, "b", "get", "secrets", "s"); !got {
		t.Errorf("after a restart: %s", reason)
	}
	if st, ok := other.Status("blue"); !ok || !st.Current || st.Groups != 2 || st.Sources != 3 {
		t.Errorf("status %+v", st)
	}
	other.Reset(nil)
	if got, _ := w.asks(other, "b", "get", "secrets", "s"); got {
		t.Error("what the store lost is still believed")
	}
	other.Apply("blue/n/b", []byte("damaged"))
	if got, _ := w.asks(other, "b", "get", "secrets", "s"); got {
		t.Error("damage is believed")
	}

	// Silence makes it stale, and says so.
	w.now = w.now.Add(siteobjects.StaleAfter + time.Second)
	if got, reason := w.asks(w.r, "b", "get", "secrets", "s"); got || !strings.Contains(reason, "are not current") {
		t.Errorf("stale: %v %s", got, reason)
	}
	if st, _ := w.r.Status("blue"); st.Current {
		t.Error("the status calls it current")
	}
	// The watcher comes back: nothing has to be sent again.
	before := w.store.writes
	w.sends(group("b", pod("db", "Secret/ns/other"), pod("web", "Secret/ns/s")), volume)
	if w.store.writes != before+1 {
		t.Errorf("%d values written, want the confirmation alone", w.store.writes-before)
	}
	w.check(true, "b", "get", "secrets", "s")
	w.sends(group("b", pod("db", "Secret/ns/other"), pod("web", "Secret/ns/s")), volume)
	if w.store.writes != before+1 {
		t.Error("a confirmation so soon costs a write")
	}

	if err := w.r.Forget(t.Context(), "blue"); err != nil || len(w.store.values) != 0 {
		t.Errorf("forgotten: %v, %d values left", err, len(w.store.values))
	}
	w.check(false, "b", "get", "secrets", "s")
}

func TestIncompleteIsNotConfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := group("a", pod("web", "Secret/ns/s")), group("b", pod("db"))
	answer, err := w.r.Accept(t.Context(), "blue", &objectwire.Post{Groups: []objectwire.Group{a}, Inventory: map[string]string{"n/a": a.Digest(), "n/b": b.Digest()}})
	if err != nil || len(answer.Want) != 1 || answer.Want[0] != "n/b" {
		t.Fatalf("%v %v", answer, err)
	}
	w.check(false, "a", "get", "secrets", "s")
	w.store.down = true
	if _, err := w.r.Accept(t.Context(), "blue", &objectwire.Post{Groups: []objectwire.Group{b}}); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("the store is down: %v", err)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	many := make([]objectwire.Source, objectwire.MaxSources+1)
	needs := make([]string, objectwire.MaxNeeds+1)
	for i := range needs {
		needs[i] = fmt.Sprintf("Secret/ns/s%d", i)
	}
	digest := strings.Repeat("0", 32)
	inventory := map[string]string{}
	for i := range objectwire.MaxGroups + 1 {
		inventory[fmt.Sprintf("n/x%d", i)] = digest
	}
	for name, p := range map[string]objectwire.Post{
		"groups":            {Groups: make([]objectwire.Group, objectwire.MaxGroups+1)},
		"inventory":         {Inventory: inventory},
		"no node":           {Groups: []objectwire.Group{{Name: "n/"}}},
		"a path":            {Groups: []objectwire.Group{{Name: "n/../state"}}},
		"a slash":           {Groups: []objectwire.Group{{Name: "n/a/b"}}},
		"the state":         {Groups: []objectwire.Group{{Name: "state"}}},
		"other volumes":     {Groups: []objectwire.Group{{Name: "v/zz"}}},
		"sources":           {Groups: []objectwire.Group{{Name: "n/a", Sources: many}}},
		"kind":              {Groups: []objectwire.Group{group("a", objectwire.Source{Kind: "Secret", Namespace: "ns", Name: "s"})}},
		"volume at a node":  {Groups: []objectwire.Group{group("a", objectwire.Source{Kind: "PersistentVolume", Name: "s", Claim: "a/b"})}},
		"pod among volumes": {Groups: []objectwire.Group{{Name: "v/00", Sources: []objectwire.Source{pod("x")}}}},
		"no namespace":      {Groups: []objectwire.Group{group("a", objectwire.Source{Kind: "Pod", Name: "s"})}},
		"no claim":          {Groups: []objectwire.Group{{Name: "v/00", Sources: []objectwire.Source{{Kind: "PersistentVolume", Name: "s"}}}}},
		"needs":             {Groups: []objectwire.Group{group("a", pod("x", needs...))}},
		"need":              {Groups: []objectwire.Group{group("a", pod("x", "Secret/s"))}},
		"need of a kind":    {Groups: []objectwire.Group{group("a", pod("x", "Node/ns/s"))}},
		"need of nothing":   {Groups: []objectwire.Group{group("a", pod("x", "Secret/ns/"))}},
		"a long name":       {Groups: []objectwire.Group{group("a", pod(strings.Repeat("x", 300)))}},
		"digest":            {Inventory: map[string]string{"n/a": "short"}},
		"name in inventory": {Inventory: map[string]string{"state": digest}},
	} {
		if _, err := w.r.Accept(t.Context(), "blue", &p); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(w.store.values) != 0 {
		t.Errorf("kept %d values", len(w.store.values))
	}
}

// large is a group of about 3 MB that packs to a few kilobytes.
func large(node string) objectwire.Group {
	g := group(node)
	needs := make([]string, 400)
	for i := range needs {
		needs[i] = fmt.Sprintf("Secret/ns/s%d", i)
	}
	for i := range 500 {
		g.Sources = append(g.Sources, pod(fmt.Sprint("p", i), needs...))
	}
	return g
}

// What packs well does not take more memory than what does not, neither here
// nor in a replica that reads it later.
func TestSiteIsBoundedUnpacked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.r.Load("blue", 7<<20, 10<<20)
	var refused error
	for i := 0; i < 10 && refused == nil; i++ {
		_, refused = w.r.Accept(t.Context(), "blue", &objectwire.Post{Groups: []objectwire.Group{large(fmt.Sprint("x", i))}})
	}
	if fault.KindOf(refused) != fault.Exhausted || len(w.store.values) < 2 {
		t.Fatalf("%d groups, then %v", len(w.store.values), refused)
	}
	if _, err := w.r.Accept(t.Context(), "green", &objectwire.Post{Groups: []objectwire.Group{large("x")}}); err != nil {
		t.Errorf("another site: %v", err)
	}
	// A group that is known may be replaced, and one that goes makes room.
	again := large("x0")
	again.Sources[0].Name = "other"
	for _, g := range []objectwire.Group{again, group("x1"), large("y")} {
		if _, err := w.r.Accept(t.Context(), "blue", &objectwire.Post{Groups: []objectwire.Group{g}}); err != nil {
			t.Errorf("%s: %v", g.Name, err)
		}
	}
}

// The store is not flooded with changes, nor with removals of nothing.
func TestSiteThatFloods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	post := func(i int) error {
		_, err := w.r.Accept(t.Context(), "blue", &objectwire.Post{Groups: []objectwire.Group{group("a", pod(fmt.Sprint("p", i)))}})
		return err
	}
	w.r.Load("blue", 1<<20, 1<<20)
	var err error
	writes := 0
	for ; err == nil && writes < 2_000; writes++ {
		err = post(writes)
	}
	if fault.KindOf(err) != fault.Exhausted {
		t.Fatalf("%d writes at once: %v", writes, err)
	}
	w.now = w.now.Add(time.Second)
	if err := post(writes + 1); err != nil {
		t.Errorf("a second later: %v", err)
	}
	removed := w.store.removals
	if _, err := w.r.Accept(t.Context(), "green", &objectwire.Post{Groups: []objectwire.Group{group("a"), group("b")}}); err != nil || w.store.removals != removed {
		t.Errorf("removals of nothing reach the store: %v", err)
	}
}

func FuzzPost(f *testing.F) {
	f.Add("n/a", "Pod", "ns", "p", "Secret/ns/s")
	f.Add("v/0f", "PersistentVolume", "", "pv", "")
	f.Fuzz(func(t *testing.T, name, kind, namespace, object, need string) {
		p := objectwire.Post{Groups: []objectwire.Group{{Name: name, Sources: []objectwire.Source{{Kind: kind, Namespace: namespace, Name: object, Needs: []string{need}}}}}}
		if p.Check() != nil {
			return
		}
		w := newWorld(t)
		if _, err := w.r.Accept(t.Context(), "blue", &p); err != nil {
			t.Fatal(err)
		}
		other := siteobjects.New(w.store, time.Now)
		other.Reset(w.store.values)
		if st, _ := other.Status("blue"); st.Groups != 1 || st.Sources != 1 {
			t.Fatalf("%+v", st)
		}
	})
}
