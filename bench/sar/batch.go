package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/bench/rbac/policyset"
)

const (
	accessReviewPath = "/apis/access.gatehouse.dev/v1alpha1/accessreviews"
	// batches are how many different ones are asked in turn.
	batches = 64
)

// measureBatches asks Gatehouse many questions in one request. The answers are
// compared with those of the engine first. A stock server has nothing to
// compare the times with.
func measureBatches(ctx context.Context, o options, s *side) error {
	if o.batch == 0 {
		return nil
	}
	bodies, want, err := newBatches(o)
	if err != nil {
		return err
	}
	err = parallel(ctx, o.inFlight, len(bodies), func(ctx context.Context, i int) error {
		answer, err := s.client.post(ctx, accessReviewPath, bodies[i], http.StatusCreated)
		if err != nil {
			return err
		}
		return compareBatch(answer, want[i])
	})
	if err != nil {
		return fmt.Errorf("batch: %w", err)
	}
	var rounds []round
	for n := range o.rounds {
		r, err := measure(ctx, s.client, s.process, accessReviewPath, bodies, batchesInFlight, o.length)
		if err != nil {
			return fmt.Errorf("measure batches: %w", err)
		}
		rounds = append(rounds, r)
		fmt.Fprintf(os.Stderr, "%s: batch round %d: %.0f/s, p50 %v, %v CPU a request\n", s.name, n+1, r.perSecond, r.p50.Round(10*time.Microsecond), r.cpu)
	}
	m := median(rounds)
	fmt.Printf("\nAccessReview of %d questions, HTTP/2 and mutual TLS, JSON, %d in flight, median of %d rounds of %v\n\n", o.batch, batchesInFlight, o.rounds, o.length)
	fmt.Printf("   %.0f decisions/s (to reach: ≥ 80000), p50 of a request %v, server CPU a decision %v\n", m.perSecond*float64(o.batch), m.p50.Round(10*time.Microsecond), m.cpu/time.Duration(o.batch))
	return nil
}

// batchesInFlight keep two cores busy.
const batchesInFlight = 4

// newBatches makes reviews of one subject each, and what the engine answers.
// Questions about URLs are left out: a server grants some to everyone.
func newBatches(o options) (bodies [][]byte, want [][]bool, err error) {
	set := policyset.New(o.bindings, o.queries, 1)
	engine := authz.New()
	engine.Update(func(tx *authz.Tx) {
		for _, r := range set.Roles {
			tx.PutRole(r)
		}
		for _, b := range set.Bindings {
			tx.PutBinding(b)
		}
	})
	snapshot := engine.Snapshot()
	next := 0
	for range batches {
		subject := set.Queries[next]
		var questions []any
		var answers []bool
		for len(questions) < o.batch {
			q := set.Queries[next%len(set.Queries)]
			next++
			if !q.ResourceRequest {
				continue
			}
			questions = append(questions, map[string]any{"resourceAttributes": reviewOf(q)["spec"].(map[string]any)["resourceAttributes"]})
			q.User, q.Groups = subject.User, subject.Groups
			answers = append(answers, snapshot.Decide(&q).Allowed())
		}
		next %= len(set.Queries)
		body, err := json.Marshal(map[string]any{"apiVersion": "access.gatehouse.dev/v1alpha1", "kind": "AccessReview", "spec": map[string]any{
			"subject":   map[string]any{"user": subject.User, "groups": subject.Groups},
			"questions": questions,
		}})
		if err != nil {
			return nil, nil, err
		}
		bodies, want = append(bodies, body), append(want, answers)
	}
	return bodies, want, nil
}

func compareBatch(answer []byte, want []bool) error {
	var review struct {
		Status struct{ Answers []struct{ Allowed bool } }
	}
	if err := json.Unmarshal(answer, &review); err != nil {
		return err
	}
	if len(review.Status.Answers) != len(want) {
		return fmt.Errorf("%d answers to %d questions", len(review.Status.Answers), len(want))
	}
	for i, a := range review.Status.Answers {
		if a.Allowed != want[i] {
			return fmt.Errorf("answer %d is %v, the engine's %v", i, a.Allowed, want[i])
		}
	}
	return nil
}
