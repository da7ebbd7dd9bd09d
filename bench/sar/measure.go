package main

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// A round is what one stretch of load measured.
type round struct {
	perSecond float64
	p50, p99  time.Duration
	cpu       time.Duration // of the server, for each request
}

// measure sends reviews for the given time with a fixed number in flight and
// charges the server's CPU time to the requests it answered.
func measure(ctx context.Context, c *client, server *harness.Process, path string, reviews [][]byte, inFlight int, length time.Duration) (round, error) {
	before, err := server.Usage()
	if err != nil {
		return round{}, err
	}
	began := time.Now()
	until := began.Add(length)
	var next atomic.Int64
	var mu sync.Mutex
	var took []time.Duration // guarded by mu
	var failed error         // guarded by mu; the first
	var workers sync.WaitGroup
	for range inFlight {
		workers.Go(func() {
			var mine []time.Duration
			var err error
			for err == nil && time.Now().Before(until) {
				review := reviews[int(next.Add(1))%len(reviews)]
				sent := time.Now()
				_, err = c.post(ctx, path, review, http.StatusCreated)
				mine = append(mine, time.Since(sent))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			if failed == nil {
				failed = err
			}
		})
	}
	workers.Wait()
	elapsed := time.Since(began)
	if failed != nil {
		return round{}, failed
	}
	after, err := server.Usage()
	if err != nil {
		return round{}, err
	}
	slices.Sort(took)
	n := len(took)
	return round{
		perSecond: float64(n) / elapsed.Seconds(),
		p50:       took[n/2],
		p99:       took[n*99/100],
		cpu:       (after.CPU - before.CPU) / time.Duration(n),
	}, nil
}

// median of the rounds, figure by figure: a burst of other work on the machine
// spoils one round and not the result.
func median(rounds []round) round {
	return round{
		perSecond: middle(rounds, func(r round) float64 { return r.perSecond }),
		p50:       middle(rounds, func(r round) time.Duration { return r.p50 }),
		p99:       middle(rounds, func(r round) time.Duration { return r.p99 }),
		cpu:       middle(rounds, func(r round) time.Duration { return r.cpu }),
	}
}

func middle[T float64 | time.Duration](rounds []round, of func(round) T) T {
	values := make([]T, len(rounds))
	for i, r := range rounds {
		values[i] = of(r)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
