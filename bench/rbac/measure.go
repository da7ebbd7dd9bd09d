package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"time"

	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/bench/rbac/policyset"
	"github.com/gatehouse-dev/gatehouse/bench/rbac/upstream"
)

// result is one row of both tables.
type result struct {
	bindings     int
	theirs, ours spread
	mean         time.Duration // ours, without a clock around each question
	allocs       float64       // ours, for each question
	compared     int           // questions both were asked

	build             time.Duration
	bytesPerBinding   int
	change, changeP99 time.Duration // one binding removed or added
	roleChange        time.Duration
	whoCan            time.Duration
	holders           int
}

// spread is the medians by outcome and the percentiles of all.
type spread struct{ deny, allow, p50, p99 time.Duration }

func newSpread(deny, allow []time.Duration) spread {
	return spread{percentile(deny, 50), percentile(allow, 50), percentile(slices.Concat(deny, allow), 50), percentile(slices.Concat(deny, allow), 99)}
}

func byOutcome(took []time.Duration, allowed []bool) spread {
	var deny, allow []time.Duration
	for i, d := range took {
		if allowed[i] {
			allow = append(allow, d)
		} else {
			deny = append(deny, d)
		}
	}
	return newSpread(deny, allow)
}

func percentile(d []time.Duration, p int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Sorted(slices.Values(d))
	return d[min(len(d)-1, len(d)*p/100)]
}

func measure(ctx context.Context, bindings, queries int, budget time.Duration, seed uint64) (result, error) {
	r := result{bindings: bindings}
	set := policyset.New(bindings, queries, seed)
	snap, engine := r.fill(set)
	r.decide(snap, set)
	r.upkeep(engine, set)
	err := r.compare(ctx, snap, set, budget)
	return r, err
}

// fill builds the engine from nothing and weighs it. The engine gets strings
// of its own, so that what it retains is counted.
func (r *result) fill(set *policyset.Set) (*authz.Snapshot, *authz.Engine) {
	bindings := make([]authz.Binding, len(set.Bindings))
	for i, b := range set.Bindings {
		b.Name = strings.Clone(b.Name)
		b.Subjects = slices.Clone(b.Subjects)
		for j := range b.Subjects {
			b.Subjects[j].Name = strings.Clone(b.Subjects[j].Name)
		}
		bindings[i] = b
	}
	before := heap()
	e := authz.New()
	start := time.Now()
	e.Update(func(t *authz.Tx) {
		for i := range set.Roles {
			t.PutRole(set.Roles[i])
		}
		for i := range bindings {
			t.PutBinding(bindings[i])
		}
	})
	r.build = time.Since(start)
	// The clones of names are inside before; weigh them as the engine's.
	names := uint64(0)
	for i := range bindings {
		names += size(bindings[i].Name)
	}
	for _, n := range distinctNames(set) {
		names += size(n)
	}
	r.bytesPerBinding = int(heap()-before+names) / len(bindings)
	runtime.KeepAlive(bindings)
	return e.Snapshot(), e
}

func distinctNames(set *policyset.Set) []string {
	seen := map[string]bool{}
	var out []string
	for i := range set.Bindings {
		for _, s := range set.Bindings[i].Subjects {
			if s.Kind != authz.ServiceAccount && !seen[s.Name] { // those of service accounts are joined anew
				seen[s.Name] = true
				out = append(out, s.Name)
			}
		}
	}
	return out
}

// size is what the allocator takes for a string.
func size(s string) uint64 { return (uint64(len(s)) + 15) &^ 15 }

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// clock is what reading the clock around a question adds to its time; it is
// taken off the times of both engines.
var clock = func() time.Duration {
	took := make([]time.Duration, 10_000)
	for i := range took {
		start := time.Now()
		took[i] = time.Since(start)
	}
	return percentile(took, 50)
}()

// passes is how often each question is asked with a clock around it. Its best
// time counts, of both engines: what else the machine does only adds.
const passes = 5

// decide asks our engine every question: once to warm up, in passes with a
// clock around each, and then without.
func (r *result) decide(snap *authz.Snapshot, set *policyset.Set) {
	for i := range set.Queries {
		snap.Decide(&set.Queries[i])
	}
	best := make([]time.Duration, len(set.Queries))
	allowed := make([]bool, len(best))
	for pass := range passes {
		for i := range set.Queries {
			start := time.Now()
			d := snap.Decide(&set.Queries[i])
			took := time.Since(start) - clock
			if allowed[i] = d.Allowed(); pass == 0 || took < best[i] {
				best[i] = took
			}
		}
	}
	r.ours = byOutcome(best, allowed)

	var before, after runtime.MemStats
	r.mean = time.Hour
	runtime.ReadMemStats(&before)
	for range 3 {
		start := time.Now()
		for i := range set.Queries {
			snap.Decide(&set.Queries[i])
		}
		r.mean = min(r.mean, time.Since(start)/time.Duration(len(set.Queries)))
	}
	runtime.ReadMemStats(&after)
	r.allocs = float64(after.Mallocs-before.Mallocs) / float64(3*len(set.Queries))
}

// upkeep changes single bindings and roles, each change a snapshot of its own,
// and asks who can.
func (r *result) upkeep(e *authz.Engine, set *policyset.Set) {
	rnd := rand.New(rand.NewPCG(3, 3))
	var took []time.Duration
	for range 500 {
		b := set.Bindings[rnd.IntN(len(set.Bindings))]
		for _, change := range []func(*authz.Tx){
			func(t *authz.Tx) { t.DeleteBinding(b.Namespace, b.Name) },
			func(t *authz.Tx) { t.PutBinding(b) },
		} {
			start := time.Now()
			e.Update(change)
			took = append(took, time.Since(start))
		}
	}
	r.change, r.changeP99 = percentile(took, 50), percentile(took, 99)

	took = took[:0]
	for range 200 {
		old := set.Roles[rnd.IntN(len(set.Roles))]
		changed := old
		changed.Rules = slices.Concat(old.Rules, []authz.Rule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}})
		for _, role := range []authz.Role{changed, old} {
			start := time.Now()
			e.Update(func(t *authz.Tx) { t.PutRole(role) })
			took = append(took, time.Since(start))
		}
	}
	r.roleChange = percentile(took, 50)

	snap := e.Snapshot()
	asked := set.Queries[:min(2000, len(set.Queries))]
	took = make([]time.Duration, len(asked))
	holders := make([]int, len(asked))
	for pass := range passes {
		for i := range asked {
			start := time.Now()
			h := snap.WhoCan(&asked[i])
			if d := time.Since(start) - clock; pass == 0 || d < took[i] {
				took[i] = d
			}
			holders[i] = h.Len()
		}
	}
	r.whoCan = percentile(took, 50)
	slices.Sort(holders)
	r.holders = holders[len(holders)/2]
}

// compare asks the upstream authorizer as many of the questions as the budget
// allows, and checks that the answers are the same.
func (r *result) compare(ctx context.Context, snap *authz.Snapshot, set *policyset.Set, budget time.Duration) error {
	u, err := upstream.New(set.Roles, set.Bindings)
	if err != nil {
		return err
	}
	ask := make([]*authorizer.AttributesRecord, len(set.Queries))
	for i := range ask {
		ask[i] = upstream.Attributes(&set.Queries[i])
	}
	runtime.GC()
	for i, end := 0, time.Now().Add(budget/4); i < len(ask) && time.Now().Before(end); i++ {
		u.Allows(ctx, ask[i])
	}
	// The first pass finds how many questions there is time for.
	var best []time.Duration
	var allowed []bool
	outcomes := map[bool]int{}
	end := time.Now().Add(budget / passes)
	for i := range ask {
		start := time.Now()
		allows := u.Allows(ctx, ask[i])
		best, allowed = append(best, time.Since(start)-clock), append(allowed, allows)
		if ours := snap.Decide(&set.Queries[i]); ours.Allowed() != allows {
			return fmt.Errorf("%d bindings: upstream allows %v, ours %v %s: %+v", r.bindings, allows, ours.Allowed(), ours.Reason(), set.Queries[i])
		}
		outcomes[allows]++
		if time.Now().After(end) && outcomes[true] > 20 && outcomes[false] > 20 {
			break
		}
	}
	for range passes - 1 {
		for i := range best {
			start := time.Now()
			u.Allows(ctx, ask[i])
			best[i] = min(best[i], time.Since(start)-clock)
		}
	}
	r.theirs, r.compared = byOutcome(best, allowed), len(best)
	return nil
}
