package main

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

func TestGenerateIsRepeatable(t *testing.T) {
	t.Parallel()
	a, b := generate(200, 100), generate(200, 100)
	if !reflect.DeepEqual(a, b) {
		t.Error("two sets of one size differ")
	}
	if len(a.bindings) != 200 || len(a.roles) != 10 || len(a.queries) != 100 {
		t.Errorf("%d bindings, %d roles, %d queries", len(a.bindings), len(a.roles), len(a.queries))
	}
}

// The whole bench in small, on the stock server: what is loaded is asked for,
// and the queries made from bindings are allowed.
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
	p := generate(100, 40)
	if err := c.load(t.Context(), p, 8); err != nil {
		t.Fatal(err)
	}
	reviews := make([][]byte, len(p.queries))
	for i, q := range p.queries {
		if reviews[i], err = json.Marshal(q.review()); err != nil {
			t.Fatal(err)
		}
	}
	until := time.Now().Add(settleWithin)
	for {
		allowed, err := c.answers(t.Context(), reviews, 8)
		if err != nil {
			t.Fatal(err)
		}
		granted := 0
		for i := 0; i < len(allowed); i += 2 {
			if allowed[i] {
				granted++
			}
		}
		if granted == len(allowed)/2 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("%d of %d granted queries are allowed", granted, len(allowed)/2)
		}
	}
	r, err := measure(t.Context(), c, cluster.APIServer, reviews, 8, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if r.perSecond <= 0 || r.p99 < r.p50 || r.p50 <= 0 {
		t.Errorf("measured %+v", r)
	}
	t.Logf("%+v", r)
}
