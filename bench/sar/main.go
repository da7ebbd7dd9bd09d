// Command sar measures SubjectAccessReview, and then TokenReview with tokens
// that each server minted, over HTTP/2 and mutual TLS: Gatehouse beside a stock
// kube-apiserver, with the same bindings, the same queries and the same load
// generator, in alternating rounds on one machine. It also measures the start
// and the idle memory of Gatehouse, and its reviews of many questions at once.
//
// Gatehouse runs as installed, audit on; the stock server runs with its audit
// off, which is its default. The answers of both are compared query by query
// first, and a difference ends the run. The load generator shares the
// machine's cores with the servers, so trust the ratios, and of them the CPU
// time most. Start at run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/test/harness"
)

type options struct {
	bindings, queries, tokens, batch, inFlight, rounds, starts int
	length, idle                                               time.Duration
	upstream                                                   bool
}

func main() {
	var o options
	flag.IntVar(&o.bindings, "bindings", 10_000, "role bindings to load")
	flag.IntVar(&o.queries, "queries", 20_000, "distinct reviews to ask")
	flag.IntVar(&o.tokens, "tokens", 2_000, "distinct tokens to review, 0 to leave that out")
	flag.IntVar(&o.batch, "batch", 1000, "questions in an access review of many, at most 10000, 0 to leave that out")
	flag.IntVar(&o.inFlight, "in-flight", 32, "requests in flight")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds for each server")
	flag.IntVar(&o.starts, "starts", 3, "starts on an empty data directory")
	flag.DurationVar(&o.length, "length", 8*time.Second, "length of a round")
	flag.DurationVar(&o.idle, "idle", 10*time.Second, "rest before the idle memory is read")
	flag.BoolVar(&o.upstream, "upstream", true, "measure a stock kube-apiserver too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "sar:", err)
		os.Exit(1)
	}
}

// A side is one of the two servers under load.
type side struct {
	name    string
	process *harness.Process
	client  *client
	rounds  []round
	loading time.Duration
	memory  harness.Usage
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "gatehouse-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	start, idle, err := measureStart(ctx, o, dir)
	if err != nil {
		return err
	}

	sides, stop, err := startSides(ctx, o, dir)
	defer stop()
	if err != nil {
		return err
	}
	l, err := newLoad(o.bindings, o.queries)
	if err != nil {
		return err
	}
	for _, s := range sides {
		began := time.Now()
		if err := s.client.load(ctx, l, o.inFlight); err != nil {
			return fmt.Errorf("load %s: %w", s.name, err)
		}
		s.loading = time.Since(began)
		fmt.Fprintf(os.Stderr, "%s: %d bindings and %d roles created in %v\n", s.name, len(l.steps[2]), len(l.steps[1]), s.loading.Round(time.Millisecond))
	}
	if err := compare(ctx, sides, l, o.inFlight); err != nil {
		return err
	}
	for i := range o.rounds {
		for _, s := range sides {
			r, err := measure(ctx, s.client, s.process, reviewPath, l.reviews, o.inFlight, o.length)
			if err != nil {
				return fmt.Errorf("measure %s: %w", s.name, err)
			}
			s.rounds = append(s.rounds, r)
			fmt.Fprintf(os.Stderr, "%s: round %d: %.0f/s, p50 %v, p99 %v, %v CPU a request\n", s.name, i+1, r.perSecond, r.p50.Round(10*time.Microsecond), r.p99.Round(10*time.Microsecond), r.cpu)
		}
	}
	for _, s := range sides {
		if s.memory, err = s.process.Usage(); err != nil {
			return err
		}
	}
	report(o, sides, start, idle)
	if err := measureTokens(ctx, o, sides); err != nil {
		return err
	}
	return measureBatches(ctx, o, sides[0])
}

// measureStart starts Gatehouse on empty data directories, takes the median
// time to ready, and the memory of the last one after a rest.
func measureStart(ctx context.Context, o options, dir string) (time.Duration, int64, error) {
	var times []time.Duration
	var idle int64
	for i := range o.starts {
		g, err := harness.StartGatehouse(ctx, filepath.Join(dir, fmt.Sprintf("start-%d", i)))
		if err != nil {
			return 0, 0, err
		}
		times = append(times, g.Start)
		if i == o.starts-1 {
			select {
			case <-time.After(o.idle):
			case <-ctx.Done():
			}
			usage, err := g.Usage()
			if err != nil {
				g.Kill()
				return 0, 0, err
			}
			idle = usage.Resident
		}
		if code, err := g.Stop(30 * time.Second); err != nil || code != 0 {
			return 0, 0, errors.Join(err, fmt.Errorf("gatehouse drained with code %d", code))
		}
	}
	slices.Sort(times)
	return times[len(times)/2], idle, ctx.Err()
}

// startSides starts the servers. stop ends those that started, whatever the
// error says.
func startSides(ctx context.Context, o options, dir string) (sides []*side, stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, s := range stops {
			s()
		}
	}
	add := func(name string, process *harness.Process, kubectl *harness.Kubectl) error {
		c, err := dial(ctx, kubectl)
		sides = append(sides, &side{name: name, process: process, client: c})
		return err
	}
	g, err := harness.StartGatehouse(ctx, filepath.Join(dir, "gatehouse"))
	if err != nil {
		return nil, stop, err
	}
	stops = append(stops, g.Kill)
	kubectl, err := g.Kubectl()
	if err == nil {
		err = add("gatehouse", g.Process, kubectl)
	}
	if err != nil || !o.upstream {
		return sides, stop, err
	}
	cluster, err := harness.StartCluster(ctx, filepath.Join(dir, "cluster"))
	if err != nil {
		return nil, stop, err
	}
	stops = append(stops, cluster.Stop)
	if kubectl, err = cluster.Kubectl(); err == nil {
		err = add("kube-apiserver", cluster.APIServer, kubectl)
	}
	return sides, stop, err
}

// settleWithin is how long the servers may take to agree after the loading:
// each learns of the last bindings through its own watch.
const settleWithin = 15 * time.Second

// compare asks both servers every query, until they agree. It is the warm-up,
// too.
func compare(ctx context.Context, sides []*side, l *load, inFlight int) error {
	until := time.Now().Add(settleWithin)
	for {
		err := compareOnce(ctx, sides, l, inFlight)
		if different := (*differentError)(nil); !errors.As(err, &different) || time.Now().After(until) {
			return err
		}
	}
}

// A differentError is a query that the servers answer differently.
type differentError struct {
	query authz.Request
	first bool
}

func (e *differentError) Error() string {
	return fmt.Sprintf("the servers differ; gatehouse allows: %v: %+v", e.first, e.query)
}

func compareOnce(ctx context.Context, sides []*side, l *load, inFlight int) error {
	var first []bool
	for _, s := range sides {
		got, err := s.client.answers(ctx, l.reviews, inFlight)
		if err != nil {
			return fmt.Errorf("ask %s: %w", s.name, err)
		}
		if first == nil {
			first = got
			continue
		}
		for i := range got {
			if got[i] != first[i] {
				return &differentError{query: l.queries[i], first: first[i]}
			}
		}
	}
	allowed := 0
	for _, yes := range first {
		if yes {
			allowed++
		}
	}
	fmt.Fprintf(os.Stderr, "%d queries answered alike, %d of them allowed\n", len(first), allowed)
	return nil
}

func report(o options, sides []*side, start time.Duration, idle int64) {
	fmt.Printf("\nSubjectAccessReview, HTTP/2 and mutual TLS, JSON, %d bindings, %d in flight, median of %d rounds of %v\n\n", o.bindings, o.inFlight, o.rounds, o.length)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\treviews/s\tp50\tp99\tserver CPU a review\tmemory after\tloading\t")
	var medians []round
	for _, s := range sides {
		m := median(s.rounds)
		medians = append(medians, m)
		fmt.Fprintf(w, "%s\t%.0f\t%v\t%v\t%v\t%d MB\t%v\t\n", s.name, m.perSecond, m.p50.Round(10*time.Microsecond), m.p99.Round(10*time.Microsecond), m.cpu.Round(time.Microsecond), s.memory.Resident>>20, s.loading.Round(100*time.Millisecond))
	}
	if len(medians) == 2 {
		a, b := medians[0], medians[1]
		fmt.Fprintf(w, "ratio\t%.1f×\t%.2f\t%.2f\t1/%.1f\t%.2f\t%.2f\t\n",
			a.perSecond/b.perSecond, ratio(a.p50, b.p50), ratio(a.p99, b.p99), ratio(b.cpu, a.cpu),
			float64(sides[0].memory.Resident)/float64(sides[1].memory.Resident), ratio(sides[0].loading, sides[1].loading))
		fmt.Fprintln(w, "to reach\t≥ 6×\t\t\t≤ 1/10\t\t\t")
	}
	w.Flush()
	fmt.Printf("\ngatehouse, empty data directory: ready after %v (median of %d; to reach: ≤ 1.5s), idle memory %d MB (to reach: ≤ 130 MB)\n", start.Round(time.Millisecond), o.starts, idle>>20)
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }
