package siteobjects_test

import (
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/federation/objectwire"
	"github.com/gatehouse-dev/gatehouse/internal/federation/siteobjects"
)

// What tokens are bound to is known from the first confirmation on, at every
// replica, and from none that is too old.
func TestThingsOfTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	node := objectwire.Source{Kind: "Node", Name: "one", UID: "u-one"}
	is := func(r *siteobjects.Registry, kind authn.ObjectKind, name string, want ...string) {
		t.Helper()
		namespace := "ns"
		if kind == authn.NodeObject {
			namespace = ""
		}
		uids, current := r.SiteObject("blue", kind, namespace, name)
		slices.Sort(uids)
		if !current || !slices.Equal(uids, want) {
			t.Errorf("%s: %q, current %v, want %q", name, uids, current, want)
		}
	}
	if _, current := w.r.SiteObject("blue", authn.PodObject, "ns", "web"); current {
		t.Error("current before anything was told")
	}
	w.sends(group("one", node, pod("web"), pod("db")))
	is(w.r, authn.PodObject, "web", "u-web")
	is(w.r, authn.NodeObject, "one", "u-one")
	is(w.r, authn.PodObject, "other")
	if _, current := w.r.SiteObject("red", authn.PodObject, "ns", "web"); current {
		t.Error("another site answers")
	}
	// Created anew elsewhere, it stands in both for a moment.
	again := pod("web")
	again.UID = "u-web-2"
	w.sends(group("one", node, pod("web"), pod("db")), group("two", again))
	is(w.r, authn.PodObject, "web", "u-web", "u-web-2")
	w.sends(group("one", node, pod("db")), group("two", again))
	is(w.r, authn.PodObject, "web", "u-web-2")
	// Another replica, and this one after a restart, have it from the store.
	other := siteobjects.New(w.store, func() time.Time { return w.now })
	other.Reset(w.store.values)
	is(other, authn.PodObject, "web", "u-web-2")
	is(other, authn.NodeObject, "one", "u-one")
	w.sends(group("two", again))
	is(w.r, authn.NodeObject, "one")
	is(w.r, authn.PodObject, "db")
	w.now = w.now.Add(siteobjects.StaleAfter + time.Second)
	if _, current := w.r.SiteObject("blue", authn.PodObject, "ns", "web"); current {
		t.Error("current though nobody confirms it")
	}
	w.sends(group("two", again))
	is(w.r, authn.PodObject, "web", "u-web-2")
	if allowed, _ := w.asks(w.r, "two", "get", "nodes", "one"); allowed {
		t.Error("a node that was told of gives a right to another")
	}
	// A node stands in its own group alone.
	stray := objectwire.Post{Groups: []objectwire.Group{group("two", node)}}
	if err := stray.Check(); err == nil {
		t.Error("a node in the group of another passes")
	}
}
