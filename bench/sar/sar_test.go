package main

import (
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/bench/rbac/policyset"
	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// The whole bench in small, on the stock server: what is loaded is what the
// questions are about, so the server must give the answers of the engine.
func TestLoadAskAndMeasure(t *testing.T) {
	t.Parallel()
	cluster, err := harness.StartCluster(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	kubectl, err := cluster.Kubectl()
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(t.Context(), kubectl)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLoad(200, 400)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.load(t.Context(), l, 8); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(4 * settleWithin) // beside other tests
	for {
		allowed, err := c.answers(t.Context(), l.reviews, 8)
		if err != nil {
			t.Fatal(err)
		}
		different := differences(l, allowed)
		if len(different) == 0 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("%d answers differ from the engine's, the first about %+v", len(different), different[0])
		}
	}
	r, err := measure(t.Context(), c, cluster.APIServer, reviewPath, l.reviews, 8, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if r.perSecond <= 0 || r.p99 < r.p50 || r.p50 <= 0 {
		t.Errorf("measured %+v", r)
	}
	t.Logf("%+v", r)
}

// differences asks the engine the same and returns the questions on which it
// differs. It leaves out those about URLs, of which a server grants some to
// everyone.
func differences(l *load, allowed []bool) []authz.Request {
	set := policyset.New(200, len(allowed), 1)
	engine := authz.New()
	engine.Update(func(tx *authz.Tx) {
		for _, r := range set.Roles {
			tx.PutRole(r)
		}
		for _, b := range set.Bindings {
			tx.PutBinding(b)
		}
	})
	var different []authz.Request
	for i, q := range l.queries {
		if q.ResourceRequest && engine.Snapshot().Decide(&q).Allowed() != allowed[i] {
			different = append(different, q)
		}
	}
	return different
}
